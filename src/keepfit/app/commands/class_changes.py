"""`keepfit classes add | split | undo | map | accuracy`: what changes classes, and what is counted by which map."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.amounts import minute
from keepfit.app.changing import moment
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project

FromOption = Annotated[
    str | None, typer.Option("--from", help="Since when it holds, such as 2026-03-01 (UTC unless it says); now.")
]
AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="By the class map of this moment; the newest unless given.")
]


def several(words: list[str]) -> tuple[str, ...]:
    """Names that were given one by one, or as one word with commas.

    >>> several(["a,b"]), several(["a", "b, c"])
    (('a', 'b'), ('a', 'b, c'))
    """
    if len(words) == 1 and "," in words[0]:
        return tuple(part.strip() for part in words[0].split(","))
    return tuple(words)


def class_map(
    as_of: AsOfOption = None, project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False
) -> None:
    """Every change of classes in the order in which they hold: since when, by whom, and when it was noted."""
    home = Project(project, model)
    at = moment(as_of, "as-of")
    classes = home.store.classes(home.model).as_of(at)
    if json:
        show.out({"class_map": classes.told(at), "changes": [one.to_json() for one in classes.changes]})
        return
    if not classes.changes:
        Console().print("No change of classes was noted.")
        return
    shown = show.table("since (UTC)", "change", "by", "noted (UTC)")
    for one in classes.changes:
        shown.add_row(minute(one.at), escape(str(one)), escape(one.actor), minute(one.told))
    Console().print(shown)


def accuracy(
    since: Annotated[str | None, typer.Option(help="Answers from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="Answers before then.")] = None,
    as_of: AsOfOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """How often answers of a span were right, in all and by class, and by which class map that was counted."""
    home = Project(project, model)
    found = home.class_accuracy(moment(since, "since"), moment(until, "until"), moment(as_of, "as-of"))
    if json:
        show.out(found)
        return
    shown = show.table("class", "right", "labels", "low", "high")
    for name, one in [("all", found["accuracy"]), *found["classes"].items()]:
        if one is not None:
            shown.add_row(escape(name), f"{one['value']:.3f}", str(one["n"]), f"{one['low']:.3f}", f"{one['high']:.3f}")
    Console().print(shown)
    told = found["class_map"]
    newest = "no change yet" if told["newest"] is None else f"{told['changes']} changes, the newest of {told['newest']}"
    show.text(f"Counted by the class map as of {told['as_of'] or 'now'}: {newest}.")
