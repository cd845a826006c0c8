"""The commands `prune` and `forget`: what may go, and who must be forgotten."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.amounts import size
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project
from keepfit.data.search import wiped
from keepfit.errors import BackendError, SettingsError

if TYPE_CHECKING:  # they are loaded when they are asked for
    from keepfit.pipelines.forget import Forgotten
    from keepfit.pipelines.keeping import Judged
    from keepfit.pipelines.prune import Pruned


def register(cli: typer.Typer) -> None:
    """Add the commands to the root."""
    cli.command()(prune)
    cli.command()(forget)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")] = False,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Give the room of deleted rows back to the disk; writers wait meanwhile.")
    ] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Delete what is over the limits of the section retention and not needed; the worker does it once a day, too."""
    refuse_model("prune", model)
    if vacuum and dry_run:
        raise SettingsError("--vacuum gives room back, and --dry-run changes nothing; leave one of them out")
    home = Project(project)
    done = home.prune(dry_run)
    returned = give_back(home) if vacuum else None
    value = {
        "dry_run": dry_run, "gone": [judged_json(one) for one in done.gone],
        "kept": [judged_json(one) for one in done.kept], "freed_bytes": done.freed, "database_bytes": done.inside,
        "vacuumed_bytes": returned,
    }  # fmt: skip
    show.result(value, json, pruned(done, dry_run, returned))


def forget(
    id: Annotated[str | None, typer.Option("--id", help="An example's own id, or the id of an answer.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="All that belongs to a user, a queue, a camera.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Remove one example or one key from everything that is kept, and prove it; exit 1: something was found after."""
    refuse_model("forget", model)
    home = Project(project)
    done = home.forget(id, key, dry_run)
    show.result(forgotten_json(done, dry_run), json, forgotten(done, dry_run))
    if done.searched is not None and done.searched.found:
        raise typer.Exit(1)


def refuse_model(command: str, model: str | None) -> None:
    """Snapshots, videos and files are shared by the models. Raises SettingsError rather than pass over an option."""
    if model is not None:
        raise SettingsError(f"keepfit {command} is for every model of the project; leave --model out")


def give_back(home: Project) -> int:
    """Vacuum the store; the bytes that the disk has got back. Raises BackendError when it is in use."""
    path = home.store.database.path
    if path is None:
        raise BackendError("--vacuum is for SQLite; PostgreSQL does it by itself (autovacuum)")
    before = path.stat().st_size
    if (trouble := wiped(path)) is not None:
        raise BackendError(trouble)
    return before - path.stat().st_size


def judged_json(one: Judged) -> dict[str, Any]:
    """One thing for programs."""
    thing = one.thing
    return {"kind": thing.kind, "name": thing.name, "model": thing.model or None, "count": thing.count,
            "bytes": thing.size, "because": one.because}  # fmt: skip


def pruned(done: Pruned, dry_run: bool, returned: int | None) -> str:
    """What went and what was kept against a limit, for people."""
    lines = [f"{'would go' if dry_run else 'gone'}: {one}" for one in done.gone]
    lines += [f"kept: {one}" for one in done.kept]
    lines = lines or ["Nothing is over its limit."]
    freed = "would be freed" if dry_run else "were freed"
    lines.append(f"{size(done.freed)} {freed} on the disk.")
    if done.inside:
        lines.append(f"About {size(done.inside)} within the database {freed} for new rows; --vacuum gives them back.")
    if returned is not None:
        lines.append(f"Vacuuming gave {size(returned)} back.")
    return "\n".join(lines)


def forgotten_json(done: Forgotten, dry_run: bool) -> dict[str, Any]:
    """What was forgotten, for programs; without a word of it."""
    searched = done.searched
    return {
        "dry_run": dry_run, "rows": asdict(done.rows), "snapshot_rows": done.snapshot_rows,
        "snapshots": dict(done.rewritten), "files": list(done.files), "records": list(done.records),
        "trained_on_it": list(done.trained), "remains": list(done.remains),
        "searched": None if searched is None else asdict(searched) | {"found": searched.found},
    }  # fmt: skip


def forgotten(done: Forgotten, dry_run: bool) -> str:
    """The same for people."""
    rows = done.rows
    verb = "Would remove" if dry_run else "Removed"
    lines = ["Nothing about it is kept here."] if done.nothing else [
        f"{verb} {rows.examples} examples, {rows.predictions} predictions, {rows.labels} labels, {rows.queued} from "
        f"the label queue, {done.snapshot_rows} rows of {len(done.rewritten)} snapshots; "
        f"quotations in {rows.quoting + len(done.records)} records."
    ]  # fmt: skip
    lines += [f"re-written: snapshot {old[:12]} is {new[:12]} now" for old, new in done.rewritten.items() if new]
    lines += [f"{'would delete' if dry_run else 'deleted'}: {file}" for file in done.files]
    lines += [f"changed: {record}" for record in done.records]
    if done.searched is not None:
        lines.append(f"{done.searched}.")
        lines += [f"  found {hit.count} in {hit.where}" for hit in done.searched.hits]
        lines += [f"  not readable: {name}" for name in done.searched.unread]
    lines += [f"remains: the weights of {version} were trained on it" for version in done.trained]
    lines += [f"remains: {sentence}" for sentence in done.remains]
    return "\n".join(lines)


def pins(home: Project, pin: int | None, unpin: int | None, json: bool) -> None:
    """`models --pin V` and `models --unpin V`. Raises SettingsError for both at once."""
    if pin is not None and unpin is not None:
        raise SettingsError("give either --pin or --unpin")
    if pin is not None:
        home.pin(pin)
        show.result({"pinned": pin}, json, f"Version {pin} keeps its files. To undo this: keepfit models --unpin {pin}")
    elif unpin is not None:
        home.unpin(unpin)
        show.result({"unpinned": unpin}, json, f"Version {unpin} may be pruned when it is over the limits.")
