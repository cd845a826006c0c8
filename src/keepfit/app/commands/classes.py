"""`keepfit classes`: the classes there are, those that wait to be accepted, and a person's word on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project, actor
from keepfit.data.classes import ACCEPT, MERGE, RENAME, RETIRE, ClassChange
from keepfit.errors import NotFound, SettingsError
from keepfit.pipelines.known import last_held_back, unknown_classes

NameArgument = Annotated[str, typer.Argument(help="A class.")]


def register(cli: typer.Typer) -> None:
    """Add `keepfit classes ...`."""
    group = typer.Typer(help="Classes: new ones, and names that change.", no_args_is_help=True)
    cli.add_typer(group, name="classes")
    for name, command in (("list", every), (ACCEPT, accept), (RENAME, rename), (MERGE, merge), (RETIRE, retire)):
        group.command(name)(command)


def every(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """The classes that the next training may learn, those that wait to be accepted, and every change so far."""
    home = Project(project, model)
    classes, learnt = home.store.classes(home.model), learnt_by(home)
    waiting = unknown_classes(home.store, home.model, lambda: learnt)
    known = sorted(classes.known_beside(learnt))
    said = {one.name for one in waiting} | set(known)
    held = {name: n for name, n in last_held_back(home.store, home.model).items() if name not in said}
    if json:
        proposed = [
            {"class": one.name, "labels": one.labels, "people": one.people, "since": one.first, "last": one.last}
            for one in waiting
        ]
        changes = [one.to_json() for one in classes.changes]
        left_out = [{"class": name, "rows": n} for name, n in held.items()]
        show.out({"classes": known, "proposed": proposed, "held_back": left_out, "changes": changes})
        return
    shown = show.table("class", "labels", "people", "since (UTC)", "")
    for name in known:
        shown.add_row(escape(name), "", "", "", "answered with" if name in learnt else "from the next training on")
    for one in waiting:
        words = f"keepfit classes accept {escape(one.name)}"
        shown.add_row(escape(one.name), str(one.labels), str(one.people), f"{one.first:%Y-%m-%d %H:%M}", words)
    for name, n in held.items():  # of files; what people labelled stands above
        words = f"left out of the last training; keepfit classes accept {escape(name)}"
        shown.add_row(escape(name), str(n), "", "", words)
    Console().print(shown)
    for change in classes.changes:
        show.text(f"{change.at:%Y-%m-%d %H:%M} UTC, {change.actor}: {change}")


def accept(
    name: NameArgument,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """A new class: its labels are learnt from at the next training."""
    changed(Project(project, model), ACCEPT, (name,), None, json)


def rename(
    name: NameArgument, into: Annotated[str, typer.Argument(help="Its new name.")],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From the next training on a class has another name; what was answered before keeps its words."""
    changed(Project(project, model), RENAME, (name,), into, json)


def merge(
    names: Annotated[list[str], typer.Argument(help="Classes that are one from now on.")],
    into: Annotated[str, typer.Option(help="What they are called; one of them, or a new name.")],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From the next training on several classes are one."""
    changed(Project(project, model), MERGE, tuple(name for name in names if name != into), into, json)


def retire(
    name: NameArgument,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From the next training on a class is no more; its rows and labels are kept, and not learnt from."""
    changed(Project(project, model), RETIRE, (name,), None, json)


def changed(home: Project, action: str, names: tuple[str, ...], into: str | None, json: bool) -> None:
    """Store the change and say so."""
    change = noted(home, action, names, into)
    done: dict[str, Any] = {"change": change.to_json()}
    words = f"Noted: {change}. It holds from the next training on; `keepfit retrain` begins one."
    show.result(done, json, words)


def noted(home: Project, action: str, names: tuple[str, ...], into: str | None) -> ClassChange:
    """The stored change. Raises InvalidInput for one that makes no sense."""
    if home.traits.detects:
        raise SettingsError("a video model has the classes 0 and 1 for ever")
    change = ClassChange(home.home.clock.now(), actor(), action, names, into)
    home.store.change_classes(home.model, change, learnt_by(home))
    return change


def learnt_by(home: Project) -> Sequence[str]:
    """The classes of the version that answers; none before the first."""
    try:
        return home.registry.version(home.model, home.champion()).evaluation.labels
    except NotFound:
        return ()
