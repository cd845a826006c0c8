"""Intervals: how far a measure of scores would vary with other clips, by the bootstrap over clips."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput

Array = NDArray[Any]
Ints = NDArray[np.int64]

Measure = Callable[[Array, Array, Array], float]
"""(scores, truth, clips) -> value."""

ROUNDS = 1000
MOST_REDRAWN = 100
"""Of the rounds: a bootstrap gives up when it had to draw again more often than this many times the rounds."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval by resampling clips; unpacks as value, low, high."""

    value: float
    low: float
    high: float
    redrawn: int = 0
    """Resamples that were drawn again since the measure was not defined on them (one class only)."""

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))


def clip_bootstrap(
    measure: Measure, scores: Array, truth: Array, clips: Array, rng: np.random.Generator, rounds: int = ROUNDS
) -> Estimate:
    """The measure, and the middle 95 % of it over resampled clips, for the frames of a clip are not independent.

    Where a resample has one class only it is drawn again, which leans towards resamples that are like the data; the
    result counts how often. With few clips the interval is rough, and too narrow rather than too wide.
    """
    return _resampled(
        lambda rows, drawn: measure(scores[rows], truth[rows], drawn), per_frame(clips, scores), rng, rounds
    )


def paired_clip_bootstrap(
    measure: Measure, a: Array, b: Array, truth: Array, clips: Array, rng: np.random.Generator
) -> Estimate:
    """The measure of `a` less that of `b`, both on the same resampled clips; otherwise as `clip_bootstrap`."""
    per_frame(b, a)

    def difference(rows: Ints, drawn: Ints) -> float:
        return measure(a[rows], truth[rows], drawn) - measure(b[rows], truth[rows], drawn)

    return _resampled(difference, per_frame(clips, a), rng, ROUNDS)


def _resampled(
    measured: Callable[[Ints, Ints], float], clips: Array, rng: np.random.Generator, rounds: int
) -> Estimate:
    """`measured` takes the frames drawn (repeats allowed) and their clips; a clip drawn twice counts as two."""
    frames = [np.flatnonzero(clips == clip) for clip in np.unique(clips)]
    value = measured(np.arange(len(clips)), np.asarray(clips, np.int64))
    if not math.isfinite(value):
        raise InvalidInput("The measure is not defined here; give frames of both classes.", "truth")
    values: list[float] = []
    redrawn = 0
    while len(values) < rounds:
        drawn = [frames[clip] for clip in rng.integers(0, len(frames), len(frames))]
        found = measured(np.concatenate(drawn), np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn]))
        if math.isfinite(found):
            values.append(found)
            continue
        redrawn += 1
        if redrawn > MOST_REDRAWN * rounds:
            raise InvalidInput("Hardly any resample has both classes; give more clips with both.", "clips")
    low, high = np.quantile(values, (0.025, 0.975))
    return Estimate(value, float(low), float(high), redrawn)


def per_frame(clips: Array, scores: Array) -> Array:
    """The clips themselves. Raises InvalidInput unless there is one for each score."""
    if np.shape(clips) != np.shape(scores):
        message = f"Scores {np.shape(scores)} and clips {np.shape(clips)} differ; give one of each per frame."
        raise InvalidInput(message, "clips")
    return clips
