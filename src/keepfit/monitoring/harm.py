"""The harm detector: is the risk above what is normal in its context, with a stated run length between false alarms?

Shiryaev-Roberts e-detectors (Shin, Ramdas & Rinaldo, arXiv 2203.03532) over wagers against "the risk of this answer is
its bound at most". A label that was asked for with the chance p stands for 1/p answers: with each label, 1/p is staked
anew and all stakes grow or shrink by the wager's factor, whose expectation is 1 at most while nothing is wrong. The
capital less what was staked then falls in expectation, so the expected number of answers until it reaches N is N at
least, however the label rate moves and however often one looks. Labels count in the order in which they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Doubles = NDArray[np.float64]

ODDS: Doubles = np.array([1.4, 2.0, 3.5])
"""Odds ratios of the risk that are wagered on: some points more, double, a break. Few, since each stake that is made in
vain delays the alarm; chosen by a simulation whose seeds `benchmarks.decisions.harm` does not use."""
ROOM = 0.98
"""A wager never stakes more than this share of what could be lost."""
LARGEST = 1e300
NEWEST = 50
"""Labels whose chances are remembered, to know which is small."""


@dataclass(frozen=True, eq=False)
class Proxy:
    """A control variate: the model's own expectation of being wrong, which every answer has, also unlabelled ones.

    Prediction-powered (Angelopoulos et al., arXiv 2301.09633): of each loss a `share` of what the proxy says beyond its
    mean over the answers among which the label was drawn is taken off. The mean stays, the noise falls by `explained`.
    """

    share: float = 0.0
    explained: float = 0.0
    """The share of the losses' variance that goes."""

    @classmethod
    def learn(cls, losses: ArrayLike, expected: ArrayLike, least: float = 0.02) -> Proxy:
        """From the reference, shapes (n,).

        No proxy where it explains less than `least` of the variance, or so little that it may be chance (below three
        standard errors of the correlation).
        """
        lost, proxy = np.asarray(losses, np.float64), np.asarray(expected, np.float64)
        if len(lost) < 2 or proxy.std() < 1e-9 or lost.std() < 1e-9:
            return cls()
        explained = float(np.corrcoef(lost, proxy)[0, 1]) ** 2
        least = max(least, 9.0 / len(lost))
        slope = float(np.cov(lost, proxy)[0, 1] / proxy.var(ddof=1))
        return cls(min(slope, 1.0), min(explained, 0.9)) if slope > 0 and explained >= least else cls()


@dataclass(frozen=True, eq=False)
class Observations:
    """Labels in the order of their arrival; all arrays of shape (n,)."""

    losses: Doubles
    """1 where the answer was wrong, else 0; or any loss within [0, 1]."""
    bounds: Doubles
    """The largest risk that is no harm, in the context of each."""
    chances: Doubles
    """With which the label was asked for; 1 where all outcomes become known."""
    surprise: Doubles
    """What the proxy said of it less its mean over the answers it was drawn from; 0 where there is none."""
    worth: Doubles
    """How many independent labels each is worth, within (0, 1]: below 1 where mistakes come in bursts as usual."""

    @classmethod
    def of(
        cls,
        losses: ArrayLike,
        bounds: ArrayLike,
        chances: ArrayLike = 1.0,
        surprise: ArrayLike = 0.0,
        worth: ArrayLike = 1.0,
    ) -> Observations:
        """Scalars stand for all; where nothing else is said, all outcomes are known and there is no proxy."""
        lost = np.asarray(losses, np.float64).ravel()
        given = (bounds, chances, surprise, worth)
        rest = (np.broadcast_to(np.asarray(values, np.float64), lost.shape) for values in given)
        return cls(lost, *rest)

    def __len__(self) -> int:
        return len(self.losses)

    def only(self, rows: slice) -> Observations:
        """Some of them."""
        return Observations(*(column[rows] for column in vars(self).values()))


@dataclass(eq=False)
class HarmDetector:
    """One or many detectors side by side, each of a stream of its own: a dozen numbers for each, whatever it has seen.

    `capital` (..., k) is the Shiryaev-Roberts sum of each wager, `rise` (..., k) its cumulative sum since its last low,
    and `since` (..., k) the number of the label at which that was: where a change may have begun.
    """

    odds: Doubles = field(default_factory=lambda: ODDS)
    proxy: Proxy = field(default_factory=Proxy)
    capital: Doubles = field(default_factory=lambda: np.zeros(len(ODDS)))
    rise: Doubles = field(default_factory=lambda: np.zeros(len(ODDS)))
    since: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(ODDS), np.int64))
    seen: int = 0
    chances: tuple[float, ...] = ()
    """Of the newest labels, the chances with which they were asked for."""

    @property
    def evidence(self) -> Doubles:
        """The answers' worth of evidence, shape (...): at N, one false alarm in N answers is expected at most."""
        return np.asarray(self.capital.sum(axis=-1) / len(self.odds), np.float64)

    @property
    def began(self) -> int:
        """The number (from 0) of the label with which the harm that is most evident began; of a single stream."""
        return int(self.since[int(np.argmax(self.rise))])

    def watch(self, seen: Observations, needed: float) -> int | None:
        """Labels of a single stream; the number (from 0) of the first at which the evidence was `needed`, or None.

        All are taken in, whatever happens. Feeding them one by one or together gives the same, to the last bit.
        """
        if not len(seen):
            return None
        floors, stakes = self._floors(seen.chances)
        weights = seen.worth * floors / seen.chances
        factors = self.factors(seen.losses, seen.bounds, weights, seen.surprise)
        alarm = None
        for stake, factor in zip(stakes.tolist(), factors, strict=True):
            if self.observe(factor, stake) >= needed and alarm is None:
                alarm = self.seen - 1
        return alarm

    def observe(self, factor: Doubles, stake: ArrayLike = 1.0) -> Doubles:
        """One label of each stream: its `factors` (..., k), and one over the chance of the label. The evidence then."""
        self.capital += stake if isinstance(stake, float) else np.asarray(stake, np.float64)[..., None]
        self.capital *= factor
        np.minimum(self.capital, LARGEST, out=self.capital)
        low = self.rise <= 0.0
        self.since[low] = self.seen
        self.rise[low] = 0.0
        self.rise += np.log(factor)
        self.seen += 1
        return self.evidence

    def factors(
        self, losses: ArrayLike, bounds: ArrayLike, weights: ArrayLike = 1.0, surprise: ArrayLike = 0.0
    ) -> Doubles:
        """By what each label multiplies each wager's capital; arguments of shape (...), factors (..., k), all above 0.

        A stake on a loss above its bound is that of the likelihood ratio of the odds. Where the proxy takes noise away,
        more is staked, but never so much that the capital could be lost.
        weights: the smallest chance of a label divided by this one's, times its worth; within (0, 1].
        """
        bound = np.asarray(bounds, np.float64)[..., None]
        stakes = (self.odds - 1) / (1 - bound + self.odds * bound) / (1 - self.proxy.explained)
        stakes = np.minimum(stakes, ROOM / (bound + self.proxy.share))
        lost = np.asarray(losses, np.float64) - self.proxy.share * np.asarray(surprise, np.float64)
        weight = np.asarray(weights, np.float64)[..., None]
        return np.asarray(1.0 + stakes * weight * (lost[..., None] - bound), np.float64)

    def restart(self) -> None:
        """Forget the evidence, not the count."""
        self.capital, self.rise = np.zeros_like(self.capital), np.zeros_like(self.rise)

    def to_json(self) -> dict[str, Any]:
        """Plain values, to the last bit."""
        return {
            "odds": self.odds.tolist(), "proxy": [self.proxy.share, self.proxy.explained],
            "capital": self.capital.tolist(), "rise": self.rise.tolist(), "since": self.since.tolist(),
            "seen": self.seen, "chances": list(self.chances),
        }  # fmt: skip

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> HarmDetector:
        """The inverse of `to_json`."""
        return cls(
            np.array(plain["odds"], np.float64), Proxy(*plain["proxy"]), np.array(plain["capital"], np.float64),
            np.array(plain["rise"], np.float64), np.array(plain["since"], np.int64), int(plain["seen"]),
            tuple(plain["chances"]),
        )  # fmt: skip

    def _floors(self, chances: Doubles) -> tuple[Doubles, Doubles]:
        """Of each label the smallest chance among it and the newest before it, and what is staked with it, shapes (n,).

        Answers that are asked for with a larger chance count less, so that the wager is on the mean over all answers.
        The smallest chance of the time makes all weights 1 at most; over long times the rate as a whole moves. Staked
        is how many answers a label stood for among the newest before it: a stake must not know its own label.
        """
        before = np.concatenate([np.full(NEWEST - len(self.chances), np.inf), self.chances, chances])
        self.chances = tuple(before[-NEWEST:][np.isfinite(before[-NEWEST:])].tolist())
        recent = np.lib.stride_tricks.sliding_window_view(before, NEWEST + 1)
        known = np.isfinite(recent[:, :-1]).sum(axis=1)
        stakes = (1.0 / recent[:, :-1]).sum(axis=1) / np.maximum(known, 1)
        return np.asarray(recent.min(axis=1), np.float64), np.where(known, stakes, 1.0 / chances)


@dataclass(frozen=True)
class Shared:
    """One guarantee for several detectors: the whole gets half of it, slices share the other half as they appear."""

    answers: float
    """At most one false alarm in so many answers, all detectors together."""
    sliced: bool = False

    def needed(self, place: int = 0) -> float:
        """The evidence at which a detector alarms; place 0: the whole, k: the slice that appeared as number k.

        The shares, 1/2 and 1/(2 k (k + 1)), add up to 1, so the mean of all evidence with these weights is an
        e-detector itself, which is as large as `answers` whenever one of them alarms.

        >>> Shared(1e6).needed(), Shared(1e6, True).needed(), Shared(1e6, True).needed(2)
        (1000000.0, 2000000.0, 12000000.0)
        """
        if not self.sliced:
            return self.answers
        return 2.0 * self.answers * (place * (place + 1) if place else 1)
