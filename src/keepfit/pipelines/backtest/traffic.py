"""Traffic: labelled inputs in the order of their times, as a backtest replays them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput

Floats = NDArray[np.float32]
FEWEST = 200
"""Rows below which a backtest says nothing."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """n inputs with their truth. Raises InvalidInput when they cannot be replayed."""

    times: tuple[datetime, ...]
    """Not falling."""
    embeddings: Floats
    """Of a frozen network, shape (n, d)."""
    truth: NDArray[np.int64]
    """Indices into `classes`, shape (n,)."""
    classes: tuple[str, ...]
    measures: Mapping[str, Floats] = field(default_factory=dict)
    """By name (`length`, `unknown`), each of shape (n,)."""
    scale: float = 1.0
    """Answers in life that a row stands for: costs are of life."""

    def __post_init__(self) -> None:
        n = len(self.times)
        if len(self.embeddings) != n or len(self.truth) != n:
            raise ValueError("times, embeddings and truth must be of one length")
        if n < FEWEST:
            raise InvalidInput(f"there are {n} labelled rows with a time; a backtest needs at least {FEWEST}")
        if len(np.unique(self.truth)) < 2:
            only = self.classes[int(self.truth[0])]
            raise InvalidInput(f"all rows are of one class ({only!r}), so there is nothing to get wrong")
        if any(a > b for a, b in zip(self.times, self.times[1:], strict=False)):
            raise ValueError("rows must be in the order of their times")
        if self.times[0] == self.times[-1]:
            raise InvalidInput("all rows have the same time, so there is no past to train on and no future to test on")
        if self.scale <= 0:
            raise InvalidInput("a row must stand for more than no answer", "scale")

    def __len__(self) -> int:
        return len(self.times)

    @property
    def key(self) -> str:
        """The hash of all that heads are trained and tested on."""
        digest = hashlib.sha256()
        for array in (np.ascontiguousarray(self.embeddings), np.ascontiguousarray(self.truth)):
            digest.update(array.tobytes())
        digest.update("\x1f".join((*self.classes, *(t.isoformat() for t in self.times))).encode("utf-8", "replace"))
        return digest.hexdigest()

    def rarest(self) -> str:
        """The classes by their rows, for people."""
        counts = Counter(self.truth.tolist())
        return ", ".join(f"{self.classes[i]} {n}" for i, n in counts.most_common(6))
