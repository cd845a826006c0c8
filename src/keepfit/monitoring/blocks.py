"""Block length: how many observations in a row must be averaged before one block says little about the next.

Wagers on a mean need observations that the past does not foretell. Frames of a video, or texts of one conversation,
are alike; their means over long enough blocks are not. The length is measured on the traffic, in constant memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitoring.packing import packed, unpacked

Doubles = NDArray[np.float64]

LEVELS = 12
"""Blocks of 1, 2, 4, ... 2,048 observations are tried."""
ENOUGH = 256
"""Blocks of a length that must have been seen before it is trusted."""
ALIKE = 0.15
"""The correlation of neighbouring blocks that is still small: the dead-band outweighs what it adds."""
LAG = 4
FORGET = 16_384
"""After so many blocks the older half counts half."""


class BlockLength:
    """Measures correlation between neighbours at every length at once.

    By differences rather than deviations from a mean (von Neumann 1941), so that a lasting change of the level, which
    is to be found, is not taken for correlation: neighbours that differ less than blocks four apart do are alike.
    """

    def __init__(self, columns: int) -> None:
        self._near, self._far = np.zeros((LEVELS, columns)), np.zeros((LEVELS, columns))
        self._tail, self._carry = np.zeros((LEVELS, LAG, columns)), np.zeros((LEVELS, columns))
        self._seen, self._carried, self._counted = np.zeros(LEVELS), np.zeros(LEVELS), np.zeros(LEVELS)

    def update(self, values: Doubles) -> None:
        """Take in observations in their order, shape (n, c)."""
        for level in range(LEVELS):
            if not len(values):
                return
            self._compare(level, values)
            if self._carried[level]:
                values = np.concatenate([self._carry[level][None], values])
            whole = len(values) // 2 * 2
            self._carried[level] = len(values) - whole
            if self._carried[level]:
                self._carry[level] = values[-1]
            values = (values[0:whole:2] + values[1:whole:2]) / 2

    def _compare(self, level: int, values: Doubles) -> None:
        joined = np.concatenate([self._tail[level], values])
        first = max(0, LAG - int(self._seen[level]))  # rows of the tail that are no observations yet
        known = joined[first:]
        if len(known) > LAG:
            self._near[level] += ((known[LAG:] - known[LAG - 1 : -1]) ** 2).sum(axis=0)
            self._far[level] += ((known[LAG:] - known[:-LAG]) ** 2).sum(axis=0)
            self._counted[level] += len(known) - LAG
        self._tail[level] = joined[-LAG:]
        self._seen[level] += len(values)
        if self._counted[level] > FORGET:
            self._near[level] /= 2
            self._far[level] /= 2
            self._counted[level] /= 2

    def correlation(self, level: int) -> float:
        """The largest over the columns between neighbouring blocks of 2**level observations."""
        moving = self._far[level] > 1e-12 * max(1.0, self._counted[level])
        return float(np.max(1 - self._near[level][moving] / self._far[level][moving], initial=0.0))

    def length(self) -> int | None:
        """The shortest that will do; None while it is not known."""
        for level in range(LEVELS):
            if self._counted[level] < ENOUGH:
                return None
            if self.correlation(level) <= ALIKE + 1.5 / self._counted[level] ** 0.5:
                return int(2**level)
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` goes on bit for bit."""
        counts = np.stack([self._seen, self._carried, self._counted])
        arrays = {"near": self._near, "far": self._far, "tail": self._tail, "carry": self._carry, "counts": counts}
        return {name: packed(array) for name, array in arrays.items()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> BlockLength:
        """What `to_json` gave."""
        made = cls(0)
        made._near, made._far = unpacked(plain["near"]), unpacked(plain["far"])
        made._tail, made._carry = unpacked(plain["tail"]), unpacked(plain["carry"])
        made._seen, made._carried, made._counted = unpacked(plain["counts"])
        return made
