"""Stream: one camera's frames in order, with everything that is carried from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import Engine
from keepfit.tasks.video.features import ErrorMaps, Floats
from keepfit.tasks.video.light import followed
from keepfit.tasks.video.normality import Normal
from keepfit.tasks.video.preparation import PAST, Preparation, moved

LEAD = 24
"""Frames before a stretch that bring a fresh stream into the state that a long one would have."""
SMOOTHING = 1 / 3
"""Share of the newest frame in the running score: about five frames of memory."""
TOP = 4
"""The cells that say what the frame says."""


@dataclass(frozen=True, eq=False)
class Parts:
    """What answers about a frame, in the order of its way."""

    preparation: Preparation
    maps: ErrorMaps
    normal: Normal
    head: Engine
    memory: tuple[int, int]
    """Places and width of the head's memory."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What was said of n frames."""

    scores: NDArray[np.float32]
    """Smoothed frame logits, shape (n,)."""
    cells: NDArray[np.float16]
    """Cell logits, shape (n, r, c)."""
    facts: NDArray[np.float32]
    """Means of the picture and of its errors, shape (n, d): what drift is looked for in."""


class Stream:
    """Not for several threads. A start forgets everything that was before it, but for the light."""

    def __init__(self, parts: Parts) -> None:
        self._parts, self._preparation = parts, parts.preparation
        self._begin()

    def _begin(self) -> None:
        self._recent: list[Floats] = []
        shape = (1, *self._parts.memory)
        self._memory, self._cell = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._score: float | None = None

    def push(self, images: NDArray[np.uint8], starts: Sequence[bool] | NDArray[np.bool_]) -> Moments:
        """The next frames (n, h, w), with true in `starts` (n,) where nothing may be carried over."""
        flags = np.asarray(starts, np.bool_)
        edges = sorted({0, len(images), *np.flatnonzero(flags).tolist()})
        done = []
        for begin, end in pairwise(edges):
            if flags[begin]:
                self._begin()
            done.append(self._unbroken(images[begin:end]))
        return Moments(*(np.concatenate([getattr(m, name) for m in done]) for name in ("scores", "cells", "facts")))

    def _unbroken(self, images: NDArray[np.uint8]) -> Moments:
        pictures = self._preparation.pictures(images)
        known = [*self._recent, *pictures]
        offset = len(self._recent)
        past = np.stack([[known[max(0, offset + i - back)] for back in PAST] for i in range(len(pictures))])
        maps = self._parts.maps.of(pictures, past)
        normal = self._parts.normal(maps)
        cells = [self._step(one) for one in normal]
        self._recent = known[-max(PAST) :]
        self._preparation = followed(self._preparation, images, pictures, past[:, 0])
        scores = np.array([self._smooth(logit) for logit in frame_logits(np.stack(cells))], np.float32)
        return Moments(scores, np.stack(cells).astype(np.float16), facts(images, pictures, past[:, 0], normal))

    def _step(self, maps: Floats) -> Floats:
        answer = self._parts.head.infer({"maps": maps[None], "memory": self._memory, "cell": self._cell})
        self._memory, self._cell = answer["memory_out"], answer["cell_out"]
        return np.asarray(answer["cells"][0])

    def _smooth(self, logit: float) -> float:
        before = logit if self._score is None else self._score
        self._score = before + SMOOTHING * (logit - before)
        return self._score


def frame_logits(cells: Floats) -> NDArray[np.float64]:
    """Log of the mean of the exponentials of the highest cells: (n, r, c) -> (n,)."""
    flat = cells.reshape(len(cells), -1).astype(np.float64)
    count = min(TOP, flat.shape[1])
    top = np.sort(flat, axis=1)[:, -count:]
    highest = top[:, -1:]
    return np.asarray(highest[:, 0] + np.log(np.mean(np.exp(top - highest), axis=1)))


def facts(images: NDArray[np.uint8], pictures: Floats, before: Floats, normal: Floats) -> NDArray[np.float32]:
    """Brightness, contrast, motion, and of each error map and surprise the mean and the highest percent: (n, d)."""
    flat = images.reshape(len(images), -1)
    moving = moved(pictures, before).mean(axis=(1, 2))
    errors = normal.reshape(*normal.shape[:2], -1)
    # sorted, since a partition is slow where most values are alike, and of a still scene they are
    top = np.sort(errors, axis=2)[..., -max(1, errors.shape[2] // 100) :]
    columns = [flat.mean(axis=1) / 255, flat.std(axis=1) / 255, moving]
    return np.concatenate([np.stack(columns, axis=1), errors.mean(axis=2), top.mean(axis=2)], axis=1, dtype=np.float32)
