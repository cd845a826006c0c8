"""Which classes may be learnt: labels of others are held back until a person accepts the class, and it is proposed."""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.classes import ClassMap, Labelled, Spoken
from keepfit.data.narrowing import renamed
from keepfit.data.records import LabelledExample
from keepfit.data.snapshot import Snapshot
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.monitoring.trust import is_apart

PROPOSE, GROW, IGNORE = "propose", "grow", "ignore"
SPOKEN = "classes_spoken"
"""Under this name the store keeps how often whom gave which unknown class."""
MOST_CLASSES, MOST_PEOPLE = 200, 200
"""So many unknown classes are remembered, those given last, and so many people of each."""
FEWEST = 3
"""Labels of a class before it is proposed: fewer may be slips."""


@dataclass(frozen=True)
class Known:
    """The class map, and what the settings say of classes that are not in it."""

    classes: ClassMap
    new: str = GROW

    def base(self, folder: Path, base: Snapshot) -> Snapshot:
        """Data with its classes as they are called today."""
        return renamed(folder, base, self.classes) if self.classes.changes else base

    def fresh(
        self, rows: Sequence[LabelledExample], learnt: Sequence[str]
    ) -> tuple[list[LabelledExample], dict[str, int]]:
        """Labels from life as their classes are called today; and how many were held back, by class."""
        called = [(row, self.classes.read(row.label.value, row.label.time)) for row in rows]
        today = [replace(row, label=replace(row.label, value=now)) for row, now in called if now is not None]
        if self.new == GROW:
            return today, {}
        known = self.classes.known_beside(learnt)
        held = Counter(row.label.value for row in today if row.label.value not in known)
        return [row for row in today if row.label.value in known], dict(sorted(held.items()))


@dataclass(frozen=True)
class Proposals:
    """Says once, and again at each doubling, that a class is labelled that the model does not know."""

    model: str
    store: RecordStore
    new: str
    learnt: Callable[[], Sequence[str]]
    """The classes of the version that answers."""
    clock: Clock

    def propose(self) -> list[Decision]:
        """Looks at the labels since the last look, and remembers what it saw of unknown classes, by labeller.

        Each proposal is a stored decision. Nothing where the settings ignore or grow them.
        """
        if self.new != PROPOSE:
            return []
        kept = self.store.get(self.model, SPOKEN) or {"after": 0, "classes": {}}
        newest, spoken = self.store.spoken_classes(self.model, int(kept["after"]))
        if not spoken:
            return []
        classes = self.store.classes(self.model)
        known = classes.known_beside(self.learnt()) | classes.given_up()
        seen: dict[str, Any] = {name: people for name, people in kept["classes"].items() if name not in known}
        fresh = list(dict.fromkeys(one.name for one in spoken if one.name not in known))
        for one in spoken:
            if one.name not in known:
                added(seen.setdefault(one.name, {}), one)
        apart = {one.actor for one in self.store.labellers(self.model) if one.apart}
        given = [heard(name, seen[name], apart) for name in fresh]
        found = [self._stored(labelled) for labelled in given if labelled.labels >= FEWEST]
        newest_last = sorted(seen.items(), key=lambda pair: max(last for *_, last in pair[1].values()))
        self.store.put(self.model, SPOKEN, {"after": newest, "classes": dict(newest_last[-MOST_CLASSES:])})
        return found

    def _stored(self, one: Labelled) -> Decision:
        people = f"{one.people} {'person' if one.people == 1 else 'people'}"
        words = (
            f"class {one.name!r} was labelled {one.labels} times by {people} since {one.first:%Y-%m-%d %H:%M} UTC, and "
            f"the model does not know it: accept it with `keepfit classes accept {one.name}`, and it is learnt at the "
            "next training"
        )
        evidence = {"class": one.name, "labels": one.labels, "people": one.people, "since": one.first.isoformat()}
        decision = Decision(Outcome.HOLD, (words,), evidence)
        doubled = hashlib.sha256(f"{self.model} {one.name} {one.labels.bit_length()}".encode()).hexdigest()[:24]
        self.store.add_decision(self.model, "class", decision, self.clock.now(), id=f"class-{doubled}")
        return decision


def added(people: dict[str, Any], one: Spoken) -> None:
    """One more labeller of a class, or one who gave it again."""
    first, last = one.first.isoformat(), one.last.isoformat()
    if one.actor in people:
        n, earlier, later = people[one.actor]
        people[one.actor] = [n + one.labels, min(earlier, first), max(later, last)]
    elif len(people) < MOST_PEOPLE:
        people[one.actor] = [one.labels, first, last]


def heard(name: str, people: Mapping[str, Any], apart: Collection[str]) -> Labelled:
    """What is known of a class from those who are not set apart."""
    said = [pair for actor, pair in people.items() if not is_apart(actor, apart)]
    moments = [datetime.fromisoformat(at) for _, first, last in said or people.values() for at in (first, last)]
    return Labelled(name, sum(n for n, *_ in said), len(said), min(moments), max(moments))


def last_held_back(store: RecordStore, model: str) -> dict[str, int]:
    """By class: the rows that the newest training left out since nobody has accepted it, and nobody has since."""
    trainings = (one for one in store.decisions(model, "class", limit=1000) if "unaccepted" in one.decision.evidence)
    newest = next(trainings, None)
    if newest is None:
        return {}
    classes = store.classes(model)
    done = classes.known() | classes.given_up()
    return {name: n for name, n in newest.decision.evidence["unaccepted"].items() if name not in done}


def held_back(unknown: dict[str, int]) -> Decision:
    """What a training did not learn from, since nobody has accepted the class."""
    listed = ", ".join(f"{name!r} ({count})" for name, count in unknown.items())
    accept = ", ".join(f"`keepfit classes accept {shlex.quote(name)}`" for name in unknown)
    words = f"labels of classes that nobody has accepted are not learnt from: {listed}; accept them with {accept}"
    return Decision(Outcome.HOLD, (words,), {"unaccepted": unknown})


def unknown_classes(store: RecordStore, model: str, learnt: Callable[[], Sequence[str]]) -> list[Labelled]:
    """Classes that people label, which are neither learnt nor accepted nor given up."""
    said = store.labelled_classes(model)
    if not said:
        return []
    classes = store.classes(model)
    known = classes.known_beside(learnt()) | classes.given_up()
    return [one for one in said if one.name not in known]
