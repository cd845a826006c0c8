"""The train part of a snapshot as arrays: what a choice of data may look at, and never the test part."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keepfit.data.asked import alike_from_all
from keepfit.data.records import MEASURING, LabelledExample
from keepfit.data.snapshot import Snapshot, Split
from keepfit.data.splits import SnapshotRow, hash_point
from keepfit.evaluation.windows import FOLDS, Past

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

RANDOM = frozenset(source.value for source in MEASURING)
SMALLEST_SHARE = 0.1
"""A label that was asked for with less than this share of the usual chance counts as if it had been this."""


@dataclass(frozen=True, eq=False)
class TrainPart:
    """n rows, in the order of their ids."""

    rows: tuple[SnapshotRow, ...]
    classes: tuple[str, ...]
    propensities: Mapping[str, float]
    """By the example's id, where its label was asked for by chance."""
    picked: frozenset[str] = frozenset()
    """Ids of examples that were asked about only because the model was unsure, or because two versions disagreed."""

    @classmethod
    def of(
        cls, snapshot: Snapshot, labelled: Sequence[LabelledExample], parts: Mapping[str, Collection[str]]
    ) -> TrainPart:
        """Reads the snapshot once. `parts`: which parts of the queue drew an example, as far as that is known."""
        rows = (row for row in snapshot.stored() if row.split is Split.TRAIN)
        propensities = {one.example.id: one.label.propensity or 1.0 for one in labelled}
        picked = (
            one.example.id for one in labelled if not alike_from_all(one.label.source, parts.get(one.example.id, ()))
        )
        return cls(tuple(sorted(rows, key=lambda row: row.id)), snapshot.labels, propensities, frozenset(picked))

    @cached_property
    def past(self) -> Past:
        """Times, classes by number, and weights."""
        number = {label: i for i, label in enumerate(self.classes)}
        return Past(
            np.array([row.time.timestamp() for row in self.rows], np.float64),
            np.array([number[row.label] for row in self.rows], np.int64),
            np.array([row.weight for row in self.rows], np.float64),
        )

    @cached_property
    def random(self) -> Ints:
        """Places of the labels that were drawn alike from all answers, oldest first: what they say needs no weights.

        Each had the same chance, that of the part which draws alike; what other parts drew besides is not among them.
        """
        return np.array([i for i in self.drawn if self.rows[i].id not in self.picked], np.int64)

    @cached_property
    def drawn(self) -> Ints:
        """Places of the labels that were drawn by any chance, oldest first; they stand for all with `inverse` only."""
        drawn = [i for i, row in enumerate(self.rows) if row.fresh and row.source in RANDOM]
        return np.array(sorted(drawn, key=lambda i: (self.past.times[i], self.rows[i].id)), np.int64)

    def inverse(self, places: Ints) -> Doubles:
        """One over the chance with which each label was asked for, scaled to a mean of one.

        No label counts more than ten times as much as the one with the chance in the middle.
        """
        if not len(places):
            return np.zeros(0)
        chances = np.array([self.propensities.get(self.rows[i].id, 1.0) for i in places], np.float64)
        weights = 1.0 / np.maximum(chances, SMALLEST_SHARE * np.median(chances))
        return np.asarray(weights / weights.mean())

    def folds(self, places: Ints, folds: int = FOLDS) -> Ints:
        """The fold of each, by its group; the split was made by another hash."""
        return np.array([int(hash_point(_salted(self.rows[i].group)) * folds) for i in places], np.int64)

    def sample(self, most: int) -> tuple[Ints, Doubles]:
        """At most so many places, the newest labels from life first, the others by hash; and what each stands for."""
        fresh = np.array([i for i, row in enumerate(self.rows) if row.fresh], np.int64)
        newest = fresh[np.argsort(-self.past.times[fresh], kind="stable")[: most // 2]]
        others = np.setdiff1d(np.arange(len(self.rows)), newest)
        room = most - len(newest)
        if len(others) <= room:
            return np.arange(len(self.rows)), np.ones(len(self.rows))
        by_chance = np.argsort([hash_point(_salted(self.rows[i].id)) for i in others], kind="stable")[:room]
        places = np.concatenate([newest, others[by_chance]])
        stands = np.concatenate([np.ones(len(newest)), np.full(room, len(others) / room)])
        order = np.argsort(places)
        return places[order], stands[order]


def _salted(name: str) -> str:
    return hashlib.sha256(f"choice {name}".encode("utf-8", "surrogatepass")).hexdigest()
