"""Material: the frames that a training reads in any order, decoded once and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.clips import Clip, runs
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.seeking import read_between
from keepfit.tasks.video.stored import start_finder


@dataclass(frozen=True, eq=False)
class Material:
    """n frames of one camera. `images` is mapped from disk, not held in memory."""

    images: NDArray[np.uint8]
    """Shape (n, h, w)."""
    starts: NDArray[np.bool_]
    """Shape (n,): true where a frame does not follow the one before it."""
    windows: tuple[tuple[int, int], ...]
    """For each clip that was asked for, in order: its first frame and its end in `images`."""

    def __len__(self) -> int:
        return len(self.starts)

    def stretches(self) -> list[NDArray[np.uint8]]:
        """The unbroken stretches, each (t, h, w)."""
        begins = [*np.flatnonzero(self.starts).tolist(), len(self)]
        return [self.images[a:b] for a, b in pairwise(begins)]


@dataclass(frozen=True, eq=False)
class Take:
    """Frames of one camera, and how its pictures are prepared."""

    material: Material
    preparation: Preparation


def gather(clips: Sequence[Clip], videos: Path, long_side: int, target: Path) -> Material:
    """Decode the clips, which must be sorted by file and first frame, into `target` (a raw file of bytes).

    Raises InvalidInput when the videos differ in size or a clip has fewer frames than it names, BackendError when the
    disk is full.
    """
    starts: list[bool] = []
    windows: list[tuple[int, int]] = []
    size: tuple[int, int] | None = None
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("wb") as file:
            for run in ([clips[i] for i in places] for places in runs(clips)):
                begun, is_start = len(starts), start_finder(videos / run[0].name)
                windows += [(begun + clip.first - run[0].first, begun + clip.stop - run[0].first) for clip in run]
                for frame in read_between(videos / run[0].name, long_side, run[0].first, run[-1].stop):
                    size = size or frame.image.shape
                    if frame.image.shape != size:
                        raise InvalidInput(
                            f"{run[0].name} is {_size(frame.image.shape)}, the video before it {_size(size)}; "
                            "give videos of one camera in one size",
                            "video",
                        )
                    file.write(frame.image.tobytes())
                    starts.append(is_start(frame))
                if len(starts) < windows[-1][1]:
                    raise InvalidInput(f"{run[-1]} has fewer frames than it names; import the video again", "video")
    except OSError as error:
        raise BackendError(f"{target} cannot be written ({error}); make room on the disk and start again") from error
    if size is None:
        raise InvalidInput("there are no frames to learn from; give a longer video", "video")
    images = np.memmap(target, np.uint8, "r", shape=(len(starts), *size))
    return Material(images, np.array(starts, np.bool_), tuple(windows))


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
