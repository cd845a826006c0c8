"""Draws: the clips that a head learns from, by number: labelled events first, then synthetic ones of each camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.video import head_training
from keepfit.tasks.video.features import ErrorMaps
from keepfit.tasks.video.normality import Normal
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.sequences import LENGTH, REAL, RUN_UP, Extractor
from keepfit.tasks.video.synthetic import FAMILIES, Injected, sample

FRAMES = RUN_UP + LENGTH
"""Of a clip."""
Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Source:
    """What clips of one camera are drawn from, and how its pictures are seen."""

    stretches: Sequence[Images]
    """Unbroken normal frames that the denoiser has not learnt, each (t, h, w)."""
    events: Sequence[Images]
    """The last frames of what people labelled as anomalies, each (FRAMES, h, w)."""
    preparation: Preparation
    maps: ErrorMaps
    normal: Normal


class Draws:
    """Clips of several cameras; the same number and generator give the same clip."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = list(sources.values())
        self._events = [(source, images) for source in self._sources for images in source.events]

    @property
    def events(self) -> int:
        """The labelled ones, which have the first numbers."""
        return len(self._events)

    def clip(self, number: int, rng: np.random.Generator) -> Injected:
        """See sequences.Draw."""
        if number < self.events:
            images = np.array(self._events[number][1])
            return Injected(images, np.zeros(images.shape, np.bool_), REAL)
        source = self.source(number)
        return sample(source.stretches, source.preparation.background, FRAMES, FAMILIES, rng)

    def maps(self, number: int, images: Images) -> NDArray[np.float16]:
        """See sequences.MapsOf."""
        source = self.source(number)
        return Extractor(source.preparation, source.maps, source.normal).of(images)

    def source(self, number: int) -> Source:
        """The camera of a clip. Every HELD_OUT-th clip is kept from the head, so cameras change in steps of as many."""
        if number < self.events:
            return self._events[number][0]
        return self._sources[number // head_training.HELD_OUT % len(self._sources)]
