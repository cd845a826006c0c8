"""The commands `backup` and `restore`: everything that a project knows, in one file; and a project from such a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.amounts import size
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.commands.retention import refuse_model
from keepfit.app.progress import stages_progress
from keepfit.app.project import Project


def register(cli: typer.Typer) -> None:
    """Add the commands to the root."""
    cli.command()(backup)
    cli.command()(restore)


def backup(
    target: Annotated[
        Path, typer.Argument(help="A file (.tar.zst, .tar.gz, .tgz, .tar), a new folder, or a folder for dated files.")
    ],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Write everything that the project knows into one file, while everything runs."""
    refuse_model("backup", model)
    home = Project(project)
    with stages_progress(json) as tell:
        done = home.backup(target, tell)
    home.close()
    show.result(done, json, made(done))


def restore(
    source: Annotated[Path, typer.Argument(help="What `keepfit backup` has written.")],
    to: Annotated[Path | None, typer.Option("--to", help="The folder; --project unless given.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of what is there, which stays beside it.")
    ] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a project from a backup; every file is verified before anything is changed."""
    refuse_model("restore", model)
    with stages_progress(json) as tell:
        done = Project.restore(source, to or project, replace, tell)
    show.result(done, json, restored(done))


def made(done: Mapping[str, Any]) -> str:
    """What a backup holds, for people."""
    lines = [
        f"{done['file']}: {done['files']} files, {size(done['bytes'])} ({size(done['written_bytes'])} written), the "
        f"state of {done['made']}."
    ]
    lines += [f"  not on this machine: {words}" for words in done["missing"]]
    lines += [f"  not in it: {words}" for words in done["not_in"]]
    return "\n".join(lines)


def restored(done: Mapping[str, Any]) -> str:
    """What was restored, for people."""
    audit = done["audit"]
    chain = f"the audit chain is whole ({audit['entries']} entries)" if audit["whole"] else (
        "the audit chain has flaws, as it had when the backup was made; keepfit audit verify shows them"
    )  # fmt: skip
    lines = [
        f"{done['folder']} is as it was at {done['made']}: {done['files']} files were verified, {chain}; settings: "
        f"{done['settings']}."
    ]
    lines += [f"  interrupted by this restore: retraining {job}; ask for it again" for job in done["interrupted"]]
    lines += [f"  scored from its beginning: batch {job}" for job in done["scored_anew"]]
    lines += [f"  has no files: {words}" for words in done["missing"]]
    lines += [f"  not in the backup: {words}" for words in done["not_in"]]
    return "\n".join([*lines, "Next: keepfit doctor, then keepfit up."])
