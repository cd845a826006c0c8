"""The class map: which classes were accepted, renamed, merged, split or retired, by whom and since when."""

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
ACCEPT, RENAME, MERGE, SPLIT, RETIRE = "accept", "rename", "merge", "split", "retire"
L = LABELS.c


@dataclass(frozen=True)
class ClassChange:
    """What a person has decided about classes."""

    at: datetime
    """Since when it holds in the world, which may be before it was noted."""
    actor: str
    action: str
    """accept, rename, merge, split or retire."""
    names: tuple[str, ...]
    into: str | None = None
    """The class that those of a rename or merge are from then on."""
    parts: tuple[str, ...] = ()
    """The classes that the one of a split is from then on."""
    noted: datetime | None = None
    """When it was noted; None: then."""

    @property
    def told(self) -> datetime:
        """When it was noted."""
        return self.noted or self.at

    @property
    def results(self) -> tuple[str, ...]:
        """The classes that come of it."""
        if self.action == ACCEPT:
            return self.names
        return self.parts if self.into is None else (self.into,)

    def __str__(self) -> str:
        names, made = (", ".join(map(repr, some)) for some in (self.names, self.results))
        return f"{self.action} {names}" + (f" into {made}" if self.results and self.action != ACCEPT else "")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "at": self.at.isoformat(), "actor": self.actor, "action": self.action, "names": list(self.names),
            "into": self.into, "parts": list(self.parts), "noted": self.told.isoformat(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClassChange:
        """What `to_json` gave, in this release or an earlier one."""
        at = datetime.fromisoformat(values["at"])
        noted = datetime.fromisoformat(values["noted"]) if "noted" in values else None
        names, parts = tuple(values["names"]), tuple(values.get("parts", ()))
        return cls(at, values["actor"], values["action"], names, values["into"], parts, noted)


@dataclass(frozen=True)
class ClassMap:
    """Every change, in the order in which they hold. Applied when rows and labels are read: nothing stored is altered.

    Old labels of a class that was split cannot be told apart: they are of none of its parts, until somebody labels
    the example again. A split that undoes a merge gives labels back to the class that they were given as.
    """

    changes: tuple[ClassChange, ...] = ()

    def read(self, name: str, at: datetime) -> str | None:
        """What a label given at `at` means today; None where its class was retired, or split.

        A name that was accepted anew after it had been given up is another class from then on.
        """
        return self.traced(name, at)[0]

    def ended(self, name: str, at: datetime) -> ClassChange | None:
        """The retirement or split in which what was called so at `at` has ended; None where it goes on."""
        return self.traced(name, at)[1]

    def traced(self, name: str, at: datetime) -> tuple[str | None, ClassChange | None]:
        """See `read` and `ended`."""
        start = 0
        for place, change in enumerate(self.changes):
            if change.action == ACCEPT and name in change.names and change.at <= at:
                start = place + 1
        trail = [name]
        for change in self.changes[start:]:
            if change.action == ACCEPT or trail[-1] not in change.names:
                continue
            back = next((one for one in reversed(trail) if one in change.parts), None)
            now = back if change.into is None else change.into
            if now is None:
                return None, change
            trail.append(now)
        return trail[-1], None

    def as_of(self, moment: datetime | None) -> ClassMap:
        """The map without the changes that hold since later than a moment (None: with all)."""
        return self if moment is None else ClassMap(tuple(one for one in self.changes if one.at <= moment))

    def told(self, as_of: datetime | None = None) -> dict[str, Any]:
        """Which map this is, for the JSON of whatever was counted by it: `class_map`."""
        newest = self.changes[-1].at.isoformat() if self.changes else None
        asked = None if as_of is None else as_of.isoformat()
        return {"as_of": asked, "changes": len(self.changes), "newest": newest}

    def known(self) -> frozenset[str]:
        """The classes that people have accepted or made of others, and not given up since."""
        found: set[str] = set()
        for change in self.changes:
            found = found - set(change.names) | set(change.results)
        return frozenset(found)

    def given_up(self) -> frozenset[str]:
        """The names that were renamed, merged, split or retired, and not accepted or made since."""
        found: set[str] = set()
        for change in self.changes:
            found = (found | set(change.names)) - set(change.results)
        return frozenset(found)

    def known_beside(self, learnt: Sequence[str]) -> frozenset[str]:
        """The classes that may be learnt: those accepted, and those learnt before and not given up."""
        return self.known() | (frozenset(learnt) - self.given_up())

    def refusal(self, name: str, at: datetime) -> str | None:
        """Why a label of this name given at `at` cannot be taken; None where it can, as a class of today."""
        ended = self.ended(name, at)
        if ended is None or ended.at > at:
            return None
        since = f"since {ended.at:%Y-%m-%d %H:%M} UTC ({ended.actor})"
        if ended.action == RETIRE:
            return f"{name!r} is retired {since}, and labels of it are refused; give one of the classes that there are"
        parts = ", ".join(map(repr, ended.parts))
        return f"{name!r} is split into {parts} {since}; say which of them it is"

    def offered(self, labels: Sequence[str], at: datetime) -> tuple[str, ...]:
        """The classes of today to choose from, where these were the classes at `at`."""
        found: list[str] = []
        for name in labels:
            now, ended = self.traced(name, at)
            found += [now] if now is not None else ended.parts if ended is not None else []
        return tuple(dict.fromkeys(found))

    def checked(self, change: ClassChange, existing: frozenset[str]) -> ClassMap:
        """The map with one more change. Raises InvalidInput for one that makes no sense with the existing classes."""
        if not all(name.strip() for name in (*change.names, *change.results)):
            raise InvalidInput("a class needs a name", "class")
        self._check_dates(change)
        if change.action == ACCEPT:
            if there := sorted(set(change.names) & existing):
                raise InvalidInput(f"{there[0]!r} is a class already", "class")
        else:
            self._check_names(change, existing)
            if len(existing - set(change.names) | set(change.results)) < 2:
                words = "accept another one first" if change.action == RETIRE else "leave one of them out"
                raise InvalidInput(f"two classes must remain; {words}", "class")
        return ClassMap(tuple(sorted((*self.changes, change), key=lambda one: one.at)))

    def _check_names(self, change: ClassChange, existing: frozenset[str]) -> None:
        if missing := sorted(set(change.names) - existing):
            known = ", ".join(map(repr, sorted(existing)))
            raise InvalidInput(f"there is no class {missing[0]!r}; there are {known}", "class")
        if change.action == RENAME and change.into in existing:
            raise InvalidInput(f"{change.into!r} is a class already; to make one of both, use merge", "class")
        if circle := set(change.names) & set(change.results):
            raise InvalidInput(f"{min(circle)!r} would become itself; give what comes of it another name", "class")
        if change.action == MERGE and len(change.names) + (change.into in existing) < 2:
            raise InvalidInput("it takes two classes to merge; to give one another name, use rename", "class")
        if change.action == SPLIT and (len(change.names) != 1 or len(set(change.parts)) < 2):
            raise InvalidInput("one class is split into two or more, each with a name of its own", "class")
        for made in change.results:
            if made in self.given_up() and self.read(made, change.at) not in change.names:
                raise InvalidInput(
                    f"{made!r} was given up, and what was answered then still bears the name; take another", "class"
                )

    def _check_dates(self, change: ClassChange) -> None:
        """A change holds from a moment that has come, and after every change that it builds on."""
        if change.at > change.told:
            raise InvalidInput(
                f"{change.at:%Y-%m-%d %H:%M} UTC has not come yet; give the change a date of the past, or note it then",
                "from",
            )
        mine = {*change.names, *change.results}
        for one in self.changes:
            if one.at > change.at and mine & {*one.names, *one.results}:
                raise InvalidInput(
                    f"an earlier change of these classes ({one}) holds since {one.at:%Y-%m-%d %H:%M} UTC, which is "
                    "later than this one would; give a later --from, or undo that one first",
                    "from",
                )

    def undone(self, learnt: Sequence[str]) -> tuple[ClassChange, ClassMap]:
        """The change that was noted last, and the map without it.

        Raises InvalidInput when there is none, or the version that answers was trained by it: what it answered and
        what people said since bear the new names.
        """
        if not self.changes:
            raise InvalidInput("no change of classes was noted, so there is nothing to undo", "class")
        place = max(range(len(self.changes)), key=lambda number: (self.changes[number].told, number))
        last, left = self.changes[place], ClassMap(self.changes[:place] + self.changes[place + 1 :])
        if last.action != RETIRE and set(last.results) & set(learnt) and (
            last.action == ACCEPT or not set(last.names) & set(learnt)
        ):  # fmt: skip
            raise InvalidInput(f"the version that answers was trained by it ({last}); {BACK[last.action]}", "class")
        return last, left


BACK = {
    ACCEPT: "retire the class instead",
    RENAME: "rename it back instead",
    MERGE: "split it again instead, which gives the labels from before back to their classes",
    SPLIT: "merge its parts instead",
}
"""The way back where a change has been learnt."""


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
    audit.append(conn, model, Deed(change.actor, f"class {change.action}", change.told), "classes", audited(change))
    return after


def undo(conn: Connection, model: str, actor: str, at: datetime, learnt: Sequence[str]) -> ClassChange:
    """Takes back the change that was noted last, and tells the audit. Raises InvalidInput."""
    one_at_a_time(conn, NAME, model)
    last, left = read_map(conn, model).undone(learnt)
    put_value(conn, model, NAME, [one.to_json() for one in left.changes])
    audit.append(conn, model, Deed(actor, "class undo", at), "classes", {"undone": last.action, **audited(last)})
    return last


def audited(change: ClassChange) -> dict[str, Any]:
    """What the audit is told of a change."""
    told = {"names": list(change.names), "into": change.into, "from": change.at.isoformat()}
    return {**told, **({"parts": list(change.parts)} if change.parts else {})}


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
