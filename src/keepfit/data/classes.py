"""The class map: which classes were accepted, renamed, merged or retired, and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from keepfit.data import audit
from keepfit.data.audit import Deed
from keepfit.data.database import one_at_a_time
from keepfit.data.history import get_value, put_value
from keepfit.data.labellers import heard, labels_after
from keepfit.data.schema import LABELS
from keepfit.errors import InvalidInput

NAME = "classes"
"""Under this name the map lies in the store."""
ACCEPT, RENAME, MERGE, RETIRE = "accept", "rename", "merge", "retire"
L = LABELS.c


@dataclass(frozen=True)
class ClassChange:
    """What a person has decided about classes."""

    at: datetime
    actor: str
    action: str
    """accept, rename, merge or retire."""
    names: tuple[str, ...]
    into: str | None = None
    """The class that those of a rename or merge are from then on."""

    def __str__(self) -> str:
        names = ", ".join(map(repr, self.names))
        return f"{self.action} {names}" + ("" if self.into is None else f" into {self.into!r}")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "at": self.at.isoformat(), "actor": self.actor, "action": self.action, "names": list(self.names),
            "into": self.into,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClassChange:
        """What `to_json` gave."""
        at = datetime.fromisoformat(values["at"])
        return cls(at, values["actor"], values["action"], tuple(values["names"]), values["into"])


@dataclass(frozen=True)
class ClassMap:
    """Every change, oldest first. Applied when rows and labels are read to learn from: nothing stored is altered."""

    changes: tuple[ClassChange, ...] = ()

    def read(self, name: str, at: datetime) -> str | None:
        """What a label given at `at` means today; None where its class was retired.

        A name that was accepted anew after it had been given up is another class from then on.
        """
        start = 0
        for place, change in enumerate(self.changes):
            if change.action == ACCEPT and name in change.names and change.at <= at:
                start = place + 1
        now: str | None = name
        for change in self.changes[start:]:
            if now in change.names and change.action != ACCEPT:
                now = change.into
        return now

    def known(self) -> frozenset[str]:
        """The classes that people have accepted or made of others, and not given up since."""
        found: set[str] = set()
        for change in self.changes:
            if change.action == ACCEPT:
                found |= set(change.names)
            else:
                found = found - set(change.names) | ({change.into} if change.into is not None else set())
        return frozenset(found)

    def given_up(self) -> frozenset[str]:
        """The names that were renamed, merged or retired, and not accepted since."""
        found: set[str] = set()
        for change in self.changes:
            found = found - set(change.names) if change.action == ACCEPT else found | set(change.names)
            found -= {change.into} if change.into is not None else set()
        return frozenset(found)

    def known_beside(self, learnt: Sequence[str]) -> frozenset[str]:
        """The classes that may be learnt: those accepted, and those learnt before and not given up."""
        return self.known() | (frozenset(learnt) - self.given_up())

    def checked(self, change: ClassChange, existing: frozenset[str]) -> ClassMap:
        """The map with one more change. Raises InvalidInput for one that makes no sense with the existing classes."""
        if not all(name.strip() for name in (*change.names, *([] if change.into is None else [change.into]))):
            raise InvalidInput("a class needs a name", "class")
        missing = sorted(set(change.names) - existing)
        if change.action == ACCEPT and not missing:
            raise InvalidInput(f"{change.names[0]!r} is a class already", "class")
        if change.action != ACCEPT and missing:
            known = ", ".join(map(repr, sorted(existing)))
            raise InvalidInput(f"there is no class {missing[0]!r}; there are {known}", "class")
        if change.action == RENAME and change.into in existing:
            raise InvalidInput(f"{change.into!r} is a class already; to make one of both, use merge", "class")
        if change.into in self.given_up() and self.read(change.into, change.at) not in change.names:
            raise InvalidInput(
                f"{change.into!r} was given up, and what was answered then still bears the name; take another", "class"
            )
        if change.action == RETIRE and len(existing) - len(change.names) < 2:
            raise InvalidInput("two classes must remain; accept another one first", "class")
        if change.action == MERGE and len(existing - set(change.names) | {change.into}) < 2:
            raise InvalidInput("two classes must remain; leave one of them out", "class")
        return ClassMap((*self.changes, change))


@dataclass(frozen=True)
class Labelled:
    """How often a class was given as a label."""

    name: str
    labels: int
    people: int
    first: datetime
    last: datetime


def read_map(conn: Connection, model: str) -> ClassMap:
    """As it is now."""
    return ClassMap(tuple(map(ClassChange.from_json, get_value(conn, model, NAME) or [])))


def change_map(conn: Connection, model: str, change: ClassChange, existing: frozenset[str]) -> ClassMap:
    """Appends a change, and tells the audit. Raises InvalidInput for one that makes no sense."""
    one_at_a_time(conn, NAME, model)
    before = read_map(conn, model)
    after = before.checked(change, before.known_beside(sorted(existing)))
    put_value(conn, model, NAME, [one.to_json() for one in after.changes])
    told = {"names": list(change.names), "into": change.into}
    audit.append(conn, model, Deed(change.actor, f"class {change.action}", change.at), "classes", told)
    return after


@dataclass(frozen=True)
class Spoken:
    """How often somebody gave a class among some labels."""

    name: str
    actor: str
    labels: int
    first: datetime
    last: datetime


def spoken_classes(conn: Connection, model: str, after: int) -> tuple[int, list[Spoken]]:
    """The number of the newest label, and which classes were given since the one with number `after`, by whom."""
    fresh = labels_after(model, after)
    newest = conn.execute(select(L.seq).where(*fresh).order_by(L.seq.desc()).limit(1)).scalar()
    columns = (L.value, L.actor, func.count(), func.min(L.time), func.max(L.time))
    query = select(*columns).where(*fresh).group_by(L.value, L.actor).order_by(L.value, L.actor)
    return int(newest or after), [Spoken(*row) for row in conn.execute(query)]


def labelled_classes(conn: Connection, model: str) -> list[Labelled]:
    """Every class that was given as a label by anyone who is not set apart, the most frequent first."""
    number = func.count()
    query = (
        select(L.value, number, func.count(L.actor.distinct()), func.min(L.time), func.max(L.time))
        .where(L.model == model, heard(model)).group_by(L.value).order_by(number.desc(), L.value)
    )  # fmt: skip
    return [Labelled(*row) for row in conn.execute(query)]
