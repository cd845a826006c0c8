"""Changing classes: a person's word on them, what was learnt of them, and what is right by which class map."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from keepfit.app.people import actor
from keepfit.data.classes import ClassChange, ClassMap
from keepfit.data.records import Window
from keepfit.data.times import parse_time
from keepfit.errors import InvalidInput, NotFound, SettingsError
from keepfit.intervals import wilson

if TYPE_CHECKING:
    from keepfit.app.verbs import Verbs

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def moment(words: str | None, option: str) -> datetime | None:
    """A time of an option. Raises InvalidInput."""
    if words is None:
        return None
    found = parse_time(words)
    if found is None:
        raise InvalidInput(f"{option}: {words!r} is no time; write one like 2026-03-01T12:00", option)
    return found


def noted(
    home: Verbs, action: str, names: tuple[str, ...], into: str | None = None, since: str | None = None,
    parts: tuple[str, ...] = (),
) -> tuple[ClassChange, ClassMap]:  # fmt: skip
    """The stored change, and the map with it. Raises InvalidInput for one that makes no sense."""
    if home.traits.detects:
        raise SettingsError("a video model has the classes 0 and 1 for ever")
    now = home.home.clock.now()
    change = ClassChange(moment(since, "from") or now, actor(), action, names, into, parts, now)
    return change, home.store.change_classes(home.model, change, learnt_by(home))


def learnt_by(home: Verbs) -> Sequence[str]:
    """The classes of the version that answers; none before the first."""
    try:
        return home.registry.version(home.model, home.champion()).evaluation.labels
    except NotFound:
        return ()


def counted(home: Verbs, since: datetime | None, until: datetime | None, as_of: datetime | None) -> dict[str, Any]:
    """The share of right answers (95 % Wilson intervals), in all and by true class, and the class map."""
    now = home.home.clock.now()
    window = Window(since or LONG_AGO, until or now + timedelta(seconds=1))
    pairs = home.store.labelled(home.model, window, as_of=as_of)
    by_class: dict[str, list[bool]] = {}
    for said, label in pairs:
        by_class.setdefault(label.value, []).append(said.label == label.value)
    right = [one for some in by_class.values() for one in some]
    return {
        "accuracy": wilson(sum(right), len(right)).to_json() if right else None,
        "classes": {name: wilson(sum(some), len(some)).to_json() for name, some in sorted(by_class.items())},
        "class_map": home.store.classes(home.model).as_of(as_of).told(as_of),
    }
