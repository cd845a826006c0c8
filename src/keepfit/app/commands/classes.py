"""`keepfit classes`: the classes there are, those that wait to be accepted, and a person's word on them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.changing import learnt_by, noted
from keepfit.app.commands.class_changes import FromOption, accuracy, class_map, several
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project
from keepfit.data.classes import ACCEPT, MERGE, RENAME, RETIRE, SPLIT
from keepfit.errors import InvalidInput
from keepfit.pipelines.known import last_held_back, unknown_classes

NameArgument = Annotated[str, typer.Argument(help="A class.")]


def register(cli: typer.Typer) -> None:
    """Add `keepfit classes ...`."""
    group = typer.Typer(help="Classes: new ones, and names that change.", no_args_is_help=True)
    cli.add_typer(group, name="classes")
    for name, command in (("list", every), (ACCEPT, accept), (RENAME, rename), (MERGE, merge),
                          (SPLIT, split), (RETIRE, retire), ("add", add), ("undo", undo), ("map", class_map),
                          ("accuracy", accuracy)):  # fmt: skip
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
    name: NameArgument, since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """A new class: its labels are learnt from at the next training."""
    changed(Project(project, model), ACCEPT, (name,), None, json, since)


def rename(
    name: NameArgument, into: Annotated[str, typer.Argument(help="Its new name.")], since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From the next training on a class has another name; what was answered before keeps its words."""
    changed(Project(project, model), RENAME, (name,), into, json, since)


def merge(
    names: Annotated[
        list[str], typer.Argument(help="Classes that are one from now on, and last their name: A,B C or A B C.")
    ],
    into: Annotated[
        str | None, typer.Option(help="What they are called, where it is not the last name; one of them, or a new one.")
    ] = None,
    since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From the next training on several classes are one."""
    home = Project(project, model)
    if into is None:
        *first, into = names
        names = list(several(first))
        existing = home.store.classes(home.model).known_beside(learnt_by(home))
        if into in existing and into not in names:
            raise InvalidInput(f"{into!r} is a class already; to merge into it, name it among the merged, too", "class")
    changed(home, MERGE, tuple(name for name in names if name != into), into, json, since)


def split(
    name: NameArgument,
    parts: Annotated[list[str], typer.Argument(help="The classes that it is from now on: B,C or B C.")],
    since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From now on labels say which part; old ones cannot be told apart, and are learnt from when they are given anew.

    The label queue asks for them first. What the version answers now is wrong for answers from then on, since it
    knows no part; answers from before are judged as before.
    """
    home = Project(project, model)
    changed(home, SPLIT, (name,), None, json, since, several(parts))


def add(
    names: Annotated[list[str], typer.Argument(help="New classes: A,B or A B.")], since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """New classes, before anybody has labelled them; labels of them are taken at once."""
    changed(Project(project, model), ACCEPT, several(names), None, json, since)


def undo(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """Take back the change that was noted last, unless the version that answers has learnt it."""
    home = Project(project, model)
    done = home.undo_classes()
    show.result({"undone": done.to_json()}, json, f"Undone: {done}. Nothing stored was altered by it.")


def retire(
    name: NameArgument, since: FromOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """From now on a class is not answered and its labels are refused; its rows are kept, and not learnt from."""
    changed(Project(project, model), RETIRE, (name,), None, json, since)


def changed(
    home: Project, action: str, names: tuple[str, ...], into: str | None, json: bool, since: str | None = None,
    parts: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Store the change and say so."""
    change, after = noted(home, action, names, into, since, parts)
    done: dict[str, Any] = {"change": change.to_json(), "class_map": after.told()}
    show.result(done, json, f"Noted: {change}. {HOLDS[action]}; `keepfit retrain` begins a training.")


HOLDS = {
    ACCEPT: "Labels of it are taken now, and it is learnt at the next training",
    RENAME: "It holds from the next training on, and labels of both names are taken",
    MERGE: "It holds from the next training on, and labels of all these names are taken",
    SPLIT: "Labels must say which part now; old labels of it are left out of training until they are given anew "
    "(`keepfit labels next` asks for them first)",
    RETIRE: "It is answered no more, and labels of it are refused",
}
