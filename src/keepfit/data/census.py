"""What one pass over a labelled file shows: classes, lengths, repeats, contradictions, faults."""

from __future__ import annotations

import re
from array import array
from collections import Counter

from keepfit.data.files import EMPTY_LABEL, EMPTY_TEXT, RawRow
from keepfit.data.splits import PART_NAMES, Split, content_group, parts_of

FAULT = re.compile("\ufffd|\u00c3[\u0080-\u00bf]|\u00c2[\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bb\u00bf|\u00f0\u0178")
"""U+FFFD, and what UTF-8 looks like when it was read as Windows-1252 and saved again ("Ã©", "â€™")."""
RANK = (Split.TRAIN, Split.VALIDATION, Split.TEST)
"""A text that is in several parts stays in the last of them, since a test part must not shrink or leak."""


class Census:
    """Counts, row by row. Memory: two numbers per row and about 150 bytes per distinct text."""

    def __init__(self) -> None:
        self.rows = self.empty = self.unlabelled = self.unreadable = self.faults = self.untimed = self.repeated_ids = 0
        self.first_unreadable = ""
        self.classes: Counter[str] = Counter()
        self.lengths = array("L")
        self.unknown_parts: Counter[str] = Counter()
        self._codes: dict[str, int] = {}
        self._names: list[str] = []
        self._groups: dict[bytes, int] = {}
        self._votes: dict[bytes, Counter[int]] = {}
        self._ids: set[int] = set()

    def add(self, row: RawRow, has_parts: bool = False, has_time: bool = False) -> None:
        """Count one row; `has_parts` and `has_time` say whether the file has such columns."""
        self.rows += 1
        if row.error is not None or row.content is None or row.label is None:
            self._add_bad(row)
            return
        text = "\n".join(parts_of(row.content))
        self.lengths.append(len(text))
        self.faults += FAULT.search(text) is not None or FAULT.search(row.label) is not None
        self.untimed += has_time and row.time is None
        self.classes[row.label] += 1
        if row.id is not None:
            self.repeated_ids += hash(row.id) in self._ids
            self._ids.add(hash(row.id))
        part = PART_NAMES.get(row.split or "") if has_parts else None
        if has_parts and part is None:
            self.unknown_parts[row.split or ""] += 1
        self._add_text(bytes.fromhex(content_group(row.content)), row.label, part)

    def _add_bad(self, row: RawRow) -> None:
        self.empty += row.error == EMPTY_TEXT
        self.unlabelled += row.error == EMPTY_LABEL
        if row.error not in {EMPTY_TEXT, EMPTY_LABEL}:
            self.unreadable += 1
            self.first_unreadable = self.first_unreadable or f"row {row.number} {row.error}"

    def _add_text(self, group: bytes, label: str, part: Split | None) -> None:
        """One int per text: the code of its label, a bit per part (from 20), the number of its rows (from 24)."""
        code = self._codes.setdefault(label, len(self._codes))
        if code == len(self._names):
            self._names.append(label)
        bit = 1 << 20 + RANK.index(part) if part else 0
        seen = self._groups.get(group)
        if seen is None:
            self._groups[group] = (1 << 24) | bit | code
            return
        if group in self._votes:
            self._votes[group][code] += 1
        elif seen & 0xFFFFF != code:
            self._votes[group] = Counter({seen & 0xFFFFF: seen >> 24, code: 1})
        self._groups[group] = (seen | bit) + (1 << 24)

    @property
    def texts(self) -> int:
        """Distinct texts."""
        return len(self._groups)

    @property
    def repeats(self) -> int:
        """Rows whose text occurred before."""
        return len(self.lengths) - len(self._groups)

    @property
    def contradictory(self) -> int:
        """Texts with two labels or more."""
        return len(self._votes)

    @property
    def leaks(self) -> int:
        """Texts that stand in more than one part of the split column."""
        return sum((seen >> 20 & 7).bit_count() > 1 for seen in self._groups.values())

    def groups(self) -> list[str]:
        """Every distinct text's group."""
        return [group.hex() for group in self._groups]

    def label_of(self, group: str) -> str | None:
        """The label that most rows of a text have; None when two have equally many."""
        key = bytes.fromhex(group)
        votes = self._votes.get(key)
        if votes is None:
            return self._names[self._groups[key] & 0xFFFFF]
        (best, n), (_, second) = votes.most_common(2)
        return self._names[best] if n > second else None

    def part_of(self, group: str) -> Split | None:
        """The part that the split column says; the last of train, validation, test when it says several."""
        bits = self._groups[bytes.fromhex(group)] >> 20 & 7
        return RANK[bits.bit_length() - 1] if bits else None

    def kept_classes(self) -> Counter[str]:
        """Rows per class without those that a text's majority contradicts."""
        kept = self.classes.copy()
        for group, votes in self._votes.items():
            winner = self.label_of(group.hex())
            for code, n in votes.items():
                if self._names[code] != winner:
                    kept[self._names[code]] -= n
        return kept
