"""Preparation: from grey frames to what the network sees; the same code while learning and while answering."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput

Floats = NDArray[np.float32]

MULTIPLE = 16
"""The network folds 4 x 4 pixels and halves the grid twice."""
PAST = (2, 4, 6, 8)
"""The frames that the condition shows, so many frames back. Nearer ones would let the network copy the anomaly."""
GREY_LEVELS = 255 / 2
"""Of 256, in one unit of a prepared picture."""
CLIP = 1.5
"""Pictures are cut off here."""
MOVED = 0.12
"""A pixel that differs by more than this from two frames before has moved."""


@dataclass(frozen=True, eq=False)
class Preparation:
    """Takes the background away, scales, and pads to the network's size by repeating the border."""

    background: NDArray[np.uint8]
    """The empty scene, shape (h, w)."""
    still: float = 0.0
    """Up to this mean difference from the empty scene nothing is there (see regions.busy); 0: no place is still."""
    light: Floats | None = None
    """How many grey levels brighter the empty scene is now, shape (h, w); None: as it was."""

    @cached_property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns added below and to the right."""
        height, width = self.background.shape
        return (0, -height % MULTIPLE), (0, -width % MULTIPLE)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a prepared picture."""
        (_, below), (_, beside) = self.padding
        return self.background.shape[0] + below, self.background.shape[1] + beside

    @cached_property
    def empty(self) -> Floats:
        """The empty scene in the light of now."""
        empty = self.background.astype(np.float32)
        return empty if self.light is None else empty + self.light

    def pictures(self, images: NDArray[np.uint8]) -> Floats:
        """(n, h, w) uint8 -> (n, H, W) float32. Raises InvalidInput when the size is another."""
        if images.shape[1:] != self.background.shape:
            raise InvalidInput(
                f"the pictures are {images.shape[2]} x {images.shape[1]} and the model has learnt "
                f"{self.background.shape[1]} x {self.background.shape[0]}; send video of the camera it was trained on",
                "video",
            )
        scaled = np.clip((images.astype(np.float32) - self.empty) / GREY_LEVELS, -CLIP, CLIP)
        return np.pad(scaled, ((0, 0), *self.padding), mode="edge")


def moved(now: Floats, before: Floats) -> NDArray[np.bool_]:
    """Where something has moved: (n, h, w), from pictures two frames apart."""
    return np.asarray(np.abs(now - before) > MOVED)


def tiles_moved(now: Floats, before: Floats, tile: int = 8) -> NDArray[np.bool_]:
    """The same by tiles: (n, h / tile, w / tile), true where four pixels or more have moved."""
    flags = moved(now, before)
    n, height, width = flags.shape
    blocks = flags.reshape(n, height // tile, tile, width // tile, tile)
    return np.asarray(blocks.sum(axis=(2, 4)) >= 4)


def foreground_rms(pictures: Floats, least: float = 0.16) -> float:
    """Root mean square of what stands out from the background: the network's `sigma_data`."""
    outstanding = pictures[np.abs(pictures) > least]
    return float(np.sqrt(np.mean(np.square(outstanding, dtype=np.float64)))) if outstanding.size > 100 else 0.3
