"""Input drift by betting: wagers that the traffic is not like the reference, summed into a change detector.

Each column of `Ranks` has a mean within known bounds while nothing has changed, so a wager `1 + b (x / high - 1)` on
more cannot be expected to win (likewise on less), whatever the past was: predictive two-sample testing by betting
(arXiv 2112.09162). The Shiryaev-Roberts sum of such wagers reaches N after N predictions at the earliest, on average,
while nothing has changed (Shin, Ramdas, Rinaldo, arXiv 2203.03532). So the run length is the user's number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.monitoring.blocks import BlockLength
from keepfit.monitoring.packing import packed, unpacked
from keepfit.monitoring.seasons import Seasons

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

STAKES: Doubles = np.array([0.05, 0.1, 0.2, 0.4])
"""Shares of the capital: small ones see small changes, large ones see large changes soon."""
FORMAT = 1
NARROWEST, WIDEST = 0.0005, 0.9995
"""Bounds of a mean are kept within."""
RECENT = 200.0
"""Observations over which the present mean of a column is taken."""
NAMED = 0.1
"""A feature that holds this share of the evidence is named in the alarm."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What the means of the columns are while nothing has changed; each of shape (c,)."""

    low: Doubles
    high: Doubles
    deviation: Doubles
    feature: Ints
    """Columns of one feature share its part of the wagers."""


@dataclass(frozen=True)
class Alarm:
    """The evidence reached the run length."""

    place: int
    """Of the observation at which it did, in the chunk that was given."""
    evidence: dict[int, float]
    """By column: its share of the evidence; only columns of features that hold a tenth of it."""
    more: dict[int, bool]
    """By the same columns: whether the mean is above what it was."""


class InputBets:
    """The detector; its state is of constant size and is the same after `to_json` and `from_json`, bit for bit."""

    def __init__(self, bounds: Bounds, run_length: float) -> None:
        """`run_length`: predictions between two false alarms, on average at least. Raises ValueError below 1."""
        if run_length < 1:
            raise ValueError(f"the run length counts predictions: {run_length}")
        columns = len(bounds.low)
        self.bounds, self.run_length = bounds, run_length
        per_feature = np.bincount(bounds.feature, minlength=1)[bounds.feature]
        weight = 1 / (len(np.unique(bounds.feature)) * per_feature * 2 * len(STAKES))
        self._weights = np.tile(weight, 2 * len(STAKES))
        self._sums = np.zeros(2 * len(STAKES) * columns)
        self._blocks, self.seasons = BlockLength(columns), Seasons(bounds.deviation)
        self._part, self._parts, self._bin = np.zeros(columns), 0, 0
        self._length: int | None = None
        self._counted, self._due = 0.0, 0.0
        self.recent = 0.5 * (bounds.low + bounds.high)
        """The mean of each column over about the last RECENT observations, shape (c,)."""
        self.seen = 0.0
        """Predictions so far."""

    @property
    def evidence(self) -> float:
        """The sum of all wagers; an alarm at `run_length`."""
        return float(self._weights @ self._sums)

    @property
    def block(self) -> int | None:
        """Observations that are averaged before they are wagered on; None while that is being measured."""
        return self._blocks.length()

    def update(self, values: Doubles, counts: Doubles, bins: Ints) -> list[Alarm]:
        """Take in observations in their order: shape (n, c), each standing for so many predictions, in these bins.

        The evidence starts anew after each alarm, so a change that lasts raises one again and again.
        """
        if not len(values):
            return []
        found: list[Alarm] = []
        self.seen += float(counts.sum())
        share = 1 - (1 - 1 / RECENT) ** len(values)
        self.recent += share * (values.mean(axis=0) - self.recent)
        begin = 0
        while begin < len(values):
            if not self._parts:
                self._length = self._blocks.length()
            if self._length is None:
                break
            missing = self._length - self._parts
            whole = (len(values) - begin - missing) // self._length if len(values) - begin >= missing else -1
            end = len(values) if whole < 0 else begin + missing + whole * self._length
            found += self._wager(values[begin:end], counts[begin:end], bins[begin:end], begin, whole < 0)
            begin = end
        self._blocks.update(values)
        return found

    def _wager(self, values: Doubles, counts: Doubles, bins: Ints, begin: int, unfinished: bool) -> list[Alarm]:
        """Whole blocks, the first of which may have begun before; or a part of one."""
        assert self._length is not None
        if not self._parts:
            self._bin = int(bins[0])
        if unfinished:
            self._part += values.sum(axis=0)
            self._parts += len(values)
            self._counted += float(counts.sum())
            return []
        head = self._length - self._parts
        first = (self._part + values[:head].sum(axis=0)) / self._length
        means, sizes = first[None], np.array([self._counted + counts[:head].sum()])
        places, context = np.array([head - 1]), np.array([self._bin])
        if len(values) > head:
            means = np.concatenate([means, values[head:].reshape(-1, self._length, values.shape[1]).mean(axis=1)])
            sizes = np.append(sizes, counts[head:].reshape(-1, self._length).sum(axis=1))
            places = np.append(places, np.arange(head + self._length - 1, len(values), self._length))
            context = np.append(context, bins[head :: self._length])
        self._part, self._parts, self._counted = np.zeros_like(self._part), 0, 0.0
        found = self._play(self._factors(means, context), sizes, places + begin)
        if found:
            self.seasons.disturbed()
        self.seasons.add(means, context)
        return found

    def _factors(self, means: Doubles, bins: Ints) -> Doubles:
        """What each wager is multiplied by, shape (n, wagers)."""
        offset, slack = self.seasons.table()
        high = np.clip(self.bounds.high + offset + slack, NARROWEST, WIDEST)
        low = np.clip(self.bounds.low + offset - slack, NARROWEST, WIDEST)
        gains = np.concatenate([means / high[bins] - 1, (1 - means) / (1 - low[bins]) - 1], axis=1)
        return np.asarray(1 + STAKES[None, :, None] * gains[:, None, :], np.float64).reshape(len(means), -1)

    def _play(self, factors: Doubles, sizes: Doubles, places: Ints) -> list[Alarm]:
        found, sums, weights = [], self._sums, self._weights
        for number in range(len(factors)):
            # what is staked anew was fixed before the block came: the predictions since the block before
            sums += self._due
            sums *= factors[number]
            self._due = float(sizes[number])
            if weights @ sums >= self.run_length:
                found.append(self._alarm(int(places[number])))
                sums[:] = 0.0
        return found

    def _alarm(self, place: int) -> Alarm:
        held = (self._weights * self._sums).reshape(len(STAKES), 2, -1).sum(axis=0)
        columns = held.sum(axis=0) / held.sum()
        features = np.bincount(self.bounds.feature, columns)
        named = [c for c in np.argsort(-columns) if features[self.bounds.feature[c]] >= NAMED and columns[c] >= 0.02]
        return Alarm(
            place, {int(c): float(columns[c]) for c in named}, {int(c): bool(held[0, c] >= held[1, c]) for c in named}
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, of constant size."""
        numbers = [self._parts, self._bin, self._length, self._counted, self._due, self.seen]
        return {
            "format": FORMAT, "sums": packed(self._sums), "part": packed(self._part), "recent": packed(self.recent),
            "numbers": numbers, "blocks": self._blocks.to_json(), "seasons": self.seasons.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, plain: Mapping[str, Any], bounds: Bounds, run_length: float) -> InputBets:
        """What `to_json` gave. Raises ValueError when it is of another reference or another format."""
        made = cls(bounds, run_length)
        sums = unpacked(plain["sums"])
        if plain.get("format") != FORMAT or sums.shape != made._sums.shape:
            raise ValueError("this state belongs to another reference or another release")
        made._sums, made._part, made.recent = sums, unpacked(plain["part"]), unpacked(plain["recent"])
        made._parts, made._bin, made._length, made._counted, made._due, made.seen = plain["numbers"]
        made._blocks = BlockLength.from_json(plain["blocks"])
        made.seasons = Seasons.from_json(plain["seasons"], bounds.deviation)
        return made
