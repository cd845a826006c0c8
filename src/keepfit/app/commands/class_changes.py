"""`keepfit classes add | split | undo | map | accuracy`: what changes classes, and what is counted by which map."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project
from keepfit.data.columns import parse_time
from keepfit.data.records import Window
from keepfit.errors import InvalidInput
from keepfit.intervals import Interval, wilson

FromOption = Annotated[
    str | None, typer.Option("--from", help="Since when it holds, such as 2026-03-01 (UTC unless it says); now.")
]
AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="By the class map of this moment; the newest unless given.")
]
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def moment(words: str | None, option: str) -> datetime | None:
    """A time of an option. Raises InvalidInput."""
    if words is None:
        return None
    found = parse_time(words)
    if found is None:
        raise InvalidInput(f"{option}: {words!r} is no time; write one like 2026-03-01T12:00", option)
    return found


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
        shown.add_row(show.minute(one.at), escape(str(one)), escape(one.actor), show.minute(one.told))
    Console().print(shown)


def accuracy(
    since: Annotated[str | None, typer.Option(help="Answers from then on.")] = None,
    until: Annotated[str | None, typer.Option(help="Answers before then.")] = None,
    as_of: AsOfOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """How often answers of a span were right, in all and by class, and by which class map that was counted."""
    home = Project(project, model)
    found = counted(home, moment(since, "since"), moment(until, "until"), moment(as_of, "as-of"))
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


def counted(home: Project, since: datetime | None, until: datetime | None, as_of: datetime | None) -> dict[str, Any]:
    """The share of right answers (95 % Wilson intervals), in all and by true class, and the class map."""
    now = home.home.clock.now()
    window = Window(since or LONG_AGO, until or now + timedelta(seconds=1))
    pairs = home.store.labelled(home.model, window, as_of=as_of)
    by_class: dict[str, list[bool]] = {}
    for said, label in pairs:
        by_class.setdefault(label.value, []).append(said.label == label.value)
    right = [one for some in by_class.values() for one in some]
    return {
        "accuracy": share(right) if right else None,
        "classes": {name: share(some) for name, some in sorted(by_class.items())},
        "class_map": home.store.classes(home.model).as_of(as_of).told(as_of),
    }


def share(right: list[bool]) -> dict[str, Any]:
    """With its interval."""
    low_high: Interval = wilson(sum(right), len(right))
    return {"value": sum(right) / len(right), "low": low_high.low, "high": low_high.high, "n": len(right)}
