"""Which part of a snapshot each text of a file goes to."""

from __future__ import annotations

from collections import Counter

from keepfit.data.census import RANK, Census
from keepfit.data.splits import Split, hash_point, split_of

LEAST_CLASS = 2
"""A class with fewer rows can be neither learnt nor tested: its rows are left out."""
LEAST_TEXTS = 10
"""From so many texts on no part stays empty."""


class Allocation:
    """The split column where there is one, else the hash of the group.

    A part that the column lacks is taken out of its train part, by hash. When chance leaves a part of a small file
    empty, the texts with the smallest hashes fill it.
    """

    def __init__(self, census: Census, shares: tuple[float, float] = (0.1, 0.1)) -> None:
        kept = census.kept_classes()
        self.classes = {label: n for label, n in sorted(kept.items()) if n >= LEAST_CLASS}
        self.left_out = {label: n for label, n in sorted(kept.items()) if n < LEAST_CLASS}
        self._census = census
        self._parts: dict[str, Split] = {}
        given = {group: census.part_of(group) for group in census.groups() if self.label_of(group) is not None}
        validation, test = shares
        named = set(given.values()) - {None}
        if named:
            validation, test = (0.0 if part in named else share for part, share in zip(RANK[1:], shares, strict=True))
        pool = []
        for group, part in given.items():
            if part is None or part is Split.TRAIN:
                pool.append(group)
                self._parts[group] = split_of(group, validation, test)
            else:
                self._parts[group] = part
        self._fill_empty(pool)

    def _fill_empty(self, pool: list[str]) -> None:
        present = set(self._parts.values())
        if len(pool) < LEAST_TEXTS or present >= set(RANK):
            return
        smallest = (group for group in sorted(pool, key=hash_point) if self._parts[group] is Split.TRAIN)
        for part in (Split.TEST, Split.VALIDATION):
            if part not in present:
                self._parts[next(smallest)] = part

    def label_of(self, group: str) -> str | None:
        """The label that counts; None when the text is left out (contradictory, or of a class too rare)."""
        label = self._census.label_of(group)
        return label if label in self.classes else None

    def part_of(self, group: str) -> Split | None:
        """The part of a text that is kept."""
        return self._parts.get(group)

    def named_part(self, group: str) -> Split | None:
        """The part that the split column says of a text."""
        return self._census.part_of(group)

    def texts(self) -> dict[Split, Counter[str]]:
        """Distinct texts by part and class."""
        found: dict[Split, Counter[str]] = {part: Counter() for part in RANK}
        for group, part in self._parts.items():
            found[part][self.label_of(group) or ""] += 1
        return found
