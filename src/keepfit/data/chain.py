"""The audit chain as values: an entry, the hash that seals it with all before it, and where a chain is broken.

The form of what is hashed never changes: chains that were written long ago must still be checked.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from keepfit.data.stored_types import microseconds, plain
from keepfit.errors import InvalidInput

BEGIN = "begin"
"""The action of the first entry, which says what was there before it."""
_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")
_MOST_MOVED = 100
"""So many misfits are tried in each other's places; more are only called edited."""


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what; `hash` covers everything else here, the number and the previous entry's hash included."""

    seq: int
    model: str
    """Empty for what concerns the whole installation."""
    at: datetime
    actor: str
    action: str
    """A short verb: deploy, roll back, promote, approve, retrain, event, decision, token add, forget ..."""
    subject: str
    """What it was done to: "deployment 12", "token ann", "version 3"."""
    details: Mapping[str, Any] = field(default_factory=dict)
    previous: str = ""
    """The hash of the entry before; empty for the first."""
    hash: str = ""

    def seal(self) -> str:
        """The hash that belongs to it."""
        return digest(
            {
                "seq": self.seq, "model": self.model, "at": microseconds(self.at), "actor": self.actor,
                "action": self.action, "subject": self.subject, "details": self.details, "previous": self.previous,
            }
        )  # fmt: skip

    def sealed(self) -> AuditEntry:
        """The same with its hash."""
        return replace(self, hash=self.seal())

    def to_json(self) -> dict[str, Any]:
        """Plain values, with its time as it is."""
        return {
            "seq": self.seq, "model": self.model, "at": self.at, "actor": self.actor, "action": self.action,
            "subject": self.subject, "details": dict(self.details), "previous": self.previous, "hash": self.hash,
        }  # fmt: skip

    @property
    def head(self) -> Head:
        """Its number and hash."""
        return Head(self.seq, self.hash)


@dataclass(frozen=True)
class Head:
    """The last entry of a chain; kept elsewhere it proves later that nothing was cut off."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def read(cls, text: str) -> Head:
        """What `str` gave. Raises InvalidInput.

        >>> Head.read(f"3:{'a' * 64}").seq
        3
        """
        found = _HEAD.fullmatch(text.strip())
        if found is None:
            raise InvalidInput(f"{text!r} is no head of a chain; give NUMBER:HASH as `keepfit audit verify` prints it")
        return cls(int(found[1]), found[2])


@dataclass(frozen=True)
class Flaw:
    """Something that is not as it was written."""

    kind: str
    """Of the chain: edited, moved, removed, relinked, cut. Of what it tells of: changed, unchained, gone."""
    seq: int | None
    """The entry where it shows, if one."""
    subject: str
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": self.kind, "seq": self.seq, "subject": self.subject, "sentence": self.sentence}


def canonical(value: Any) -> bytes:
    """One way to write a value: JSON with sorted names, no spaces, ASCII only.

    >>> canonical({"b": 1, "a": (2, "ä")})
    b'{"a":[2,"\\\\u00e4"],"b":1}'
    """
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def broken_links(entries: Iterable[AuditEntry]) -> Iterator[tuple[Flaw, AuditEntry]]:
    """What is wrong with a chain that is walked from its first entry, with the entry where it shows; streaming."""
    before: AuditEntry | None = None
    for entry in entries:
        due = 1 if before is None else before.seq + 1
        if entry.seq != due:
            yield Flaw("removed", due, f"entry {due}", missing(due, entry.seq - 1)), entry
        elif before is None and entry.action != BEGIN:
            yield Flaw("removed", 1, "entry 1", "the beginning of the chain was removed: entry 1 is another's"), entry
        if entry.hash != entry.seal():
            yield Flaw("edited", entry.seq, f"entry {entry.seq}", f"{titled(entry)} was edited"), entry
        elif entry.seq == due and entry.previous != ("" if before is None else before.hash):
            sentence = f"{titled(entry)} does not continue entry {due - 1}: that was written anew, or entries between"
            yield Flaw("relinked", entry.seq, f"entry {entry.seq}", f"{sentence} were removed"), entry
        before = entry


def missing(first: int, last: int) -> str:
    """A sentence for a gap.

    >>> missing(3, 3), missing(3, 5)
    ('entry 3 was removed', 'entries 3 to 5 were removed')
    """
    return f"entry {first} was removed" if last <= first else f"entries {first} to {last} were removed"


def titled(entry: AuditEntry) -> str:
    """An entry for people.

    >>> from datetime import UTC
    >>> titled(AuditEntry(3, "m", datetime(2025, 1, 1, tzinfo=UTC), "ann", "deploy", "deployment 12"))
    'entry 3 (deploy deployment 12 by ann)'
    """
    return f"entry {entry.seq} ({entry.action} {entry.subject} by {entry.actor})"


def moved(misfits: Sequence[AuditEntry]) -> dict[int, int]:
    """Of entries whose hash does not fit: those that would fit in another's place, by number, with their own number."""
    if len(misfits) > _MOST_MOVED:
        return {}
    places = [entry.seq for entry in misfits]
    found = {}
    for entry in misfits:
        for place in places:
            if place != entry.seq and replace(entry, seq=place).seal() == entry.hash:
                found[entry.seq] = place
    return found
