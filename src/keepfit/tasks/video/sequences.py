"""Sequences: error maps of short clips with synthetic or real events, made once, from which the head learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keepfit.errors import BackendError
from keepfit.tasks.video.features import CELL, Floats
from keepfit.tasks.video.head import STRIDE
from keepfit.tasks.video.preparation import PAST, Preparation
from keepfit.tasks.video.synthetic import HARD_NEGATIVES, NONE, Injected

LENGTH = 24
"""Frames of a sequence."""
RUN_UP = max(PAST)
"""Frames before a sequence that its first frames have as their past."""
BATCH = 6
REAL = "real"
"""The family of a clip that people labelled as anomalous: somewhere in it, nobody said where and when."""
UNKNOWN = 255
"""In `Sequences.cells`: nobody said where and when."""
MARKED = 0.05
"""Share of a heat map cell that an event must cover for the cell to be called anomalous."""

Progress = Callable[[float], None]
Draw = Callable[[int, np.random.Generator], Injected]
"""A clip by its number, with something in it or nothing."""
MapsOf = Callable[[int, NDArray[np.uint8]], NDArray[np.float16]]
"""(number of a clip, its frames) -> its normalised error maps."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """n sequences; their maps stay on disk until they are asked for."""

    folder: Path
    cells: NDArray[np.uint8]
    """1 in the cells of the heat map that hold an event, UNKNOWN in real ones, shape (n, LENGTH, r, c)."""
    families: tuple[str, ...]
    """What was put into each."""

    def __len__(self) -> int:
        return len(self.families)

    def maps(self, chosen: Sequence[int]) -> NDArray[np.float32]:
        """Normalised error maps of some sequences, shape (chosen, LENGTH, channels, rows, columns)."""
        return np.stack([np.load(self.folder / f"{i:05d}.npy", allow_pickle=False) for i in chosen]).astype(np.float32)

    @property
    def truth(self) -> NDArray[np.uint8]:
        """1 for frames with an event, shape (n, LENGTH)."""
        return np.asarray((self.cells == 1).any(axis=(2, 3)), np.uint8)


class Maps(Protocol):
    """What ErrorMaps makes of pictures, or something to compare it with."""

    def of(self, now: Floats, past: Floats) -> Floats:
        """now (n, H, W) and past (n, 4, H, W) prepared pictures -> (n, channels, rows, columns)."""


class Extractor:
    """Clips in, normalised error maps out."""

    def __init__(self, preparation: Preparation, maps: Maps, normal: Callable[[Floats], Floats]) -> None:
        self.preparation, self.maps, self.normal = preparation, maps, normal

    def of(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Of RUN_UP + LENGTH frames the maps of the last LENGTH."""
        return self.normal(errors(self.preparation, self.maps, images)[RUN_UP:]).astype(np.float16)


def errors(preparation: Preparation, maps: Maps, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Error maps of an unbroken stretch (t, h, w), not normalised: (t, channels, rows, columns)."""
    pictures = preparation.pictures(images)
    past = np.stack([[pictures[max(0, i - back)] for back in PAST] for i in range(len(pictures))])
    return maps.of(pictures, past)


def make(
    draw: Draw, maps_of: MapsOf, count: int, seed: int, folder: Path,
    progress: Progress = lambda share: None,
) -> Sequences:  # fmt: skip
    """Draw clips 0 to `count` of RUN_UP + LENGTH frames and keep their maps in the folder; what is there is opened.

    Killed and called again it goes on after the last finished one. Raises BackendError when the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells, families = [], []
    try:
        for number in range(count):
            note = folder / f"{number:05d}.npz"
            if not note.is_file():
                injected = draw(number, np.random.default_rng((seed, number)))
                maps = maps_of(number, injected.images)
                np.save(folder / f"{number:05d}.npy", maps)
                partial = folder / "unfinished.npz"
                marked = cells_of(injected.mask[RUN_UP:], maps.shape[2:])
                if injected.family == REAL:
                    marked[:] = UNKNOWN
                np.savez(partial, cells=marked, family=np.array(injected.family))
                partial.rename(note)
            with np.load(note, allow_pickle=False) as one:
                cells.append(one["cells"])
                families.append(str(one["family"]))
            progress((number + 1) / count)
    except OSError as error:
        raise BackendError(f"{folder} cannot be written ({error}); make room on the disk and start again") from error
    return Sequences(folder, np.stack(cells), tuple(families))


def cells_of(mask: NDArray[np.bool_], grid: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask (t, h, w) in the cells of the heat map: (t, r, c), 1 where enough of it is covered."""
    size = CELL * STRIDE
    rows, columns = -(-grid[-2] // STRIDE), -(-grid[-1] // STRIDE)
    t, height, width = mask.shape
    padded = np.zeros((t, rows * size, columns * size), np.bool_)
    padded[:, :height, :width] = mask[:, : rows * size, : columns * size]
    share = padded.reshape(t, rows, size, columns, size).mean(axis=(2, 4))
    found = np.asarray(share >= MARKED)
    for moment in np.flatnonzero(mask.any(axis=(1, 2)) & ~found.any(axis=(1, 2))):  # small, but there
        found[moment] |= share[moment] == share[moment].max()
    return np.asarray(found, np.uint8)


class SequenceBatches:
    """Batches of sequences in a planned order; see training.trainer.Batches."""

    def __init__(self, sequences: Sequences, chosen: Sequence[int], epochs: float, seed: int | None) -> None:
        """`seed` None: once through, in order."""
        self._sequences = sequences
        order = list(chosen)
        if seed is not None:
            rng = np.random.default_rng(seed)
            wanted = max(BATCH, round(epochs * len(order)))
            passes = -(-wanted // max(1, len(order)))
            order = np.concatenate([rng.permutation(chosen) for _ in range(passes)])[:wanted].tolist()
        self._plan = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        chosen = self._plan[number]
        return {
            "maps": torch.from_numpy(self._sequences.maps(chosen)),
            "labels": torch.from_numpy(labels_of(self._sequences.cells[chosen])),
            "weights": torch.from_numpy(weights_of(self._sequences.truth[chosen])),
        }


def labels_of(cells: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1, 0, and -1 where nobody knows."""
    return np.where(cells == UNKNOWN, np.float32(-1), cells.astype(np.float32))


def weights_of(truth: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1, but 0 for the frames after an event whose past still shows it: (n, t) -> (n, t).

    >>> weights_of(np.array([[0, 1, 0, 0]], np.uint8)).tolist()
    [[1.0, 1.0, 0.0, 0.0]]
    """
    weights = np.ones(truth.shape, np.float32)
    for back in range(1, RUN_UP + 1):
        weights[:, back:][(truth[:, :-back] == 1) & (truth[:, back:] == 0)] = 0
    return weights


def is_event(family: str) -> bool:
    """Whether a family of this name is one of synthetic events (not a hard negative, not nothing, not real)."""
    return family not in (NONE, REAL) and family not in HARD_NEGATIVES
