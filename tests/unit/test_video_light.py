"""The empty scene is followed where nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.tasks.video.features import CHANNELS, ErrorMaps
from keepfit.tasks.video.light import FOLLOWED, followed
from keepfit.tasks.video.normality import SURPRISES, Normal
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.regions import busy
from keepfit.tasks.video.stream import Parts, Stream

EMPTY = np.full((64, 80), 60, np.uint8)
STILL, CHUNK = 0.05, 10
Images = NDArray[np.uint8]


def evening(frames: int, darker: float, thing: bool = False) -> Iterator[Images]:
    """An empty scene that gets darker by so many levels, with something that stands in it, or nothing."""
    for first in range(0, frames, CHUNK):
        levels = 60 - darker * np.arange(first, first + CHUNK) / frames
        images = np.repeat(np.round(levels).astype(np.uint8), EMPTY.size).reshape(CHUNK, *EMPTY.shape)
        if thing:
            images[:, 16:32, 16:32] = 200
        yield images


def watched(preparation: Preparation, chunks: Iterator[Images]) -> tuple[Preparation, float]:
    """How the scene is seen at the end, and the share of the tiles of the last frames where something seems to be."""
    share = 0.0
    for images in chunks:
        pictures = preparation.pictures(images)
        share = float(busy(pictures, pictures, preparation.still or STILL).mean())
        preparation = followed(preparation, images, pictures, pictures)
    return preparation, share


def test_a_light_that_changes_slowly_is_followed() -> None:
    seen, share = watched(Preparation(EMPTY, STILL), evening(10 * FOLLOWED, 40))
    assert share == 0
    assert float(seen.empty.mean()) == pytest.approx(20, abs=6)


def test_a_light_that_changes_at_once_is_not_taken_for_the_empty_scene() -> None:
    seen, share = watched(Preparation(EMPTY, STILL), evening(CHUNK, 0))
    assert share == 0
    seen, share = watched(Preparation(EMPTY + np.uint8(40), STILL), evening(FOLLOWED, 0))
    assert share == 1
    assert np.array_equal(seen.empty, EMPTY + np.uint8(40))


def test_what_stands_there_is_never_learnt_while_the_light_around_it_is() -> None:
    seen, share = watched(Preparation(EMPTY, STILL), evening(10 * FOLLOWED, 30, thing=True))
    assert np.array_equal(seen.empty[16:32, 16:32], EMPTY[16:32, 16:32])
    assert float(seen.empty[48:, 48:].mean()) == pytest.approx(30, abs=6)
    assert 0 < share < 0.5


def test_without_gating_nothing_is_followed() -> None:
    preparation = Preparation(EMPTY)
    assert watched(preparation, evening(100, 10))[0] is preparation


class Asked:
    """Stands where the networks stand: the denoiser counts its questions, the head calls nothing abnormal."""

    precision, device = "fp32", "cpu"

    def __init__(self) -> None:
        self.questions = 0

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        if "maps" in inputs:
            cells = np.zeros((1, 2, 3), np.float32)
            return {"cells": cells, "memory_out": inputs["memory"], "cell_out": inputs["cell"]}
        self.questions += 1
        return {"denoised": inputs["noisy"]}


@pytest.mark.parametrize(("frames", "asked"), [(4 * FOLLOWED, False), (40, True)])
def test_a_stream_asks_nothing_of_an_evening_and_much_of_a_lamp_that_goes_out(frames: int, asked: bool) -> None:
    networks, preparation = Asked(), Preparation(EMPTY, STILL)
    ones = np.ones(SURPRISES, np.float32)
    normal = Normal(np.ones(CHANNELS, np.float32), ones[:1], ones[:, None], ones, ones)
    stream = Stream(Parts(preparation, ErrorMaps(networks, preparation), normal, networks, (1, 1)))
    for images in evening(frames, 20):
        stream.push(images, np.zeros(len(images), np.bool_))
    assert bool(networks.questions) is asked
