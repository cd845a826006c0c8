"""Light: the empty scene of a stream as it is now, followed where nothing is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.video.preparation import Floats, Preparation
from keepfit.tasks.video.regions import TILE, differing

FOLLOWED = 1_000
"""Frames in which a still place takes on two thirds of a lasting change: under two minutes at ten a second."""


def followed(preparation: Preparation, images: NDArray[np.uint8], pictures: Floats, before: Floats) -> Preparation:
    """The preparation of the next frames: where nothing was the empty scene moves a little towards these frames.

    images (n, h, w) as they came, pictures (n, H, W) prepared, before (n, H, W) two frames before each. A running mean.
    What stands somewhere differs, however long it stands, and is never learnt; its neighbours are followed, since they
    would differ one day, too, and theirs after them. Where gating is off nothing is followed.
    """
    if not preparation.still or not len(images):
        return preparation
    still = ~differing(pictures, before, preparation.still).any(axis=0)
    height, width = preparation.background.shape
    pixels = still.repeat(TILE, axis=0).repeat(TILE, axis=1)[:height, :width]
    share = 1 - (1 - 1 / FOLLOWED) ** len(images)
    moved = np.float32(share) * pixels * (images.mean(axis=0, dtype=np.float32) - preparation.empty)
    return replace(preparation, light=preparation.empty + moved - preparation.background)
