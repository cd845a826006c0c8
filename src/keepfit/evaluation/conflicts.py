"""Which old labels no longer hold where they lie: neighbourhoods in which newer labels say otherwise.

After the idea of Quilt (AAAI 2024): not all of the past is wrong after a change, only the segments whose labels,
given their content, conflict with the present. Here a segment is the old rows of one label in one neighbourhood
of the embedding space, and the conflict must be proven by a test with a stated level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.evaluation.clusters import distances, lloyd
from keepfit.evaluation.head import Floats, Ints

Flags = NDArray[np.bool_]

FEWEST = 8
"""Newer labels that a neighbourhood needs before it can deny anything."""
PER_CELL = 16
"""Newer labels for each neighbourhood, on average."""
MOST_CELLS = 48
SEED = 20250101


@dataclass(frozen=True)
class Conflict:
    """A segment that is denied: of the newer labels near it, only some say what all of it says."""

    label: int
    rows: int
    """Old rows of this label in the neighbourhood."""
    old: float
    """The share of this label among the old rows there."""
    same: int
    n: int
    """Of n newer labels there so many have this label."""
    chance: float
    """Of so few or fewer, if the share had stayed (one-sided)."""

    def to_json(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Plain values, with the label by name."""
        return {
            "label": labels[self.label], "rows": self.rows, "old_share": round(self.old, 4),
            "new_labels": self.n, "same": self.same, "p": self.chance,
        }  # fmt: skip


def conflicting(x: Floats, y: Ints, new: Flags, usable: Flags, level: float = 0.05) -> tuple[Flags, list[Conflict]]:
    """Old rows (n,) whose segment newer labels deny, and the segments.

    x (n, c) are coordinates, y (n,) classes; `new` marks the newer, randomly drawn labels, `usable` the old rows.
    Neighbourhoods are found without looking at labels, so if labels given content have not changed, each test is
    Fisher's exact one (1922) of a share that is the same in both, and the level, shared out over all tests
    (Bonferroni), bounds the chance of any false denial. A segment is denied only where its label was the
    rule and is not any more.
    """
    denied = np.zeros(len(y), bool)
    cells = neighbourhoods(x[new | usable], min(int(new.sum()) // PER_CELL, MOST_CELLS))
    cell = np.full(len(y), -1)
    cell[new | usable] = cells
    tests = [
        (number, int(label))
        for number in range(cells.max(initial=-1) + 1)
        if (new & (cell == number)).sum() >= FEWEST
        for label in np.unique(y[usable & (cell == number)])
    ]
    found = []
    for number, label in tests:
        here = cell == number
        conflict = _tested(y[usable & here], y[new & here], label)
        if conflict is not None and conflict.chance <= level / len(tests):
            denied |= usable & here & (y == label)
            found.append(conflict)
    return denied, found


def _tested(old: Ints, new: Ints, label: int) -> Conflict | None:
    """None unless the label was the rule among the old and is not among the new."""
    had, same = int((old == label).sum()), int((new == label).sum())
    if 2 * had <= len(old) or 2 * same >= len(new):
        return None
    chance = hypergeometric(same, len(new), had + same, len(old) + len(new))
    return Conflict(label, had, had / len(old), same, len(new), chance)


def hypergeometric(most: int, drawn: int, marked: int, whole: int) -> float:
    """The chance of at most so many marked ones among those drawn.

    >>> round(hypergeometric(0, 2, 2, 4), 4)
    0.1667
    """

    def choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    least = max(0, drawn + marked - whole)
    logs = (
        choose(marked, i) + choose(whole - marked, drawn - i) - choose(whole, drawn)
        for i in range(least, min(most, marked, drawn) + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))


def neighbourhoods(x: Floats, cells: int) -> Ints:
    """The cell (n,) of each row by k-means (Lloyd 1982) with a fixed seed; one cell where there are no more."""
    if cells < 2 or len(x) <= cells:
        return np.zeros(len(x), np.int64)
    points = x.astype(np.float64)
    # begun at random rows, so that cells hold about alike many: a test in a small one has no power
    centres = lloyd(points, points[np.random.default_rng(SEED).choice(len(x), cells, replace=False)])
    return np.asarray(distances(points, centres).argmin(axis=1), np.int64)
