"""`keepfit audit`: who changed what, and whether the record of it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import counting_progress
from keepfit.app.project import Project
from keepfit.data.audit import ROW
from keepfit.data.chain import AuditEntry, Head
from keepfit.data.inspection import Inspection
from keepfit.errors import SettingsError

audit = typer.Typer(help="Who changed what, chained by hash.", no_args_is_help=True)
NOT_COVERED = ("labels", "predictions", "examples", "snapshots", "model files", "costs")
COVERS = (
    "It covers deployments, decisions, tokens, and who did what.",
    f"It does not cover {', '.join(NOT_COVERED)}: who can write to the database or the disk can change these unseen.",
)
LONGEST = 200
"""Of what is shown of an entry's details."""
SHOWN = 20
"""Flaws that people are shown; --json has more."""


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.add_typer(audit, name="audit")


@audit.command()
def verify(
    head: Annotated[
        str | None, typer.Option(help="NUMBER:HASH that an earlier verify printed: is it still in the chain?")
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Look for entries that were edited, removed or moved, and for rows that are not as they say; exit code 1: some.

    The chain is one for the whole project.
    """
    if model is not None:
        raise SettingsError("the chain is one for the whole project; leave --model out")
    kept = None if head is None else Head.read(head)
    with counting_progress(json, "verifying") as progress:
        found = Project(project).store.verify_audit(kept, progress)
    show.result({**found.to_json(), "not_covered": list(NOT_COVERED)}, json, in_words(found))
    raise typer.Exit(0 if found.whole else 1)


def in_words(found: Inspection) -> str:
    """What was found, for people."""
    older = [f"{count} {kind}s" for kind, count in found.before.items()]
    lines = [f"Before the chain began: {', '.join(older)}; nothing vouches for these."] if older else []
    if found.whole:
        lines.append(f"The chain of {found.entries} entries is whole, and what it tells of is as it says.")
    else:
        first = f"The chain is broken first at entry {found.first_broken}. " if found.first_broken else ""
        lines.append(f"{first}{found.count} found in a chain of {found.entries} entries:")
        lines += [f"  - {flaw.sentence}" for flaw in found.flaws[:SHOWN]]
        lines += [f"  - and {found.count - SHOWN} more (--json)"] if found.count > SHOWN else []
    lines += COVERS
    if found.head is not None:
        lines.append(f"Keep the head elsewhere, to find out later whether the end was cut off:\n  {found.head}")
    return "\n".join(lines)


@audit.command("list")
def audit_list(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    before: Annotated[int | None, typer.Option(min=1, help="Only entries before this number: the next page.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Who changed what, newest first; with --model what concerns one model alone."""
    home = Project(project, model)
    entries(home.store.audit_entries(None if model is None else home.model, limit, before), json)


def entries(rows: Sequence[AuditEntry], json: bool) -> None:
    """Entries of the chain."""
    if json:
        show.out({"entries": [row.to_json() for row in rows]})
        return
    console = Console()
    for row in rows:
        where = f" ({row.model})" if row.model else ""
        line = f"{row.seq}  {show.moment(row.at)} UTC  {row.actor}: {row.action} {row.subject}{where}"
        console.print(escape(line), soft_wrap=True, highlight=False, emoji=False)
        if words := brief(row):
            console.print(escape(f"    {words}"), soft_wrap=True, highlight=False, emoji=False)
    if not rows:
        console.print("There is no entry.")


def brief(row: AuditEntry) -> str:
    """The details in a line: of a whole row its reason; no hashes."""
    kept = row.details.get(ROW) or {}
    told = {name: kept[name] for name in ("reason", "shares", "decision_id") if name in kept}
    told |= {name: value for name, value in row.details.items() if name != ROW and not name.endswith("sha256")}
    return "; ".join(f"{name} {value}" for name, value in told.items())[:LONGEST]
