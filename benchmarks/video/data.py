"""The two real video sets as grey arrays with clip boundaries and truth: UCSD Ped2 and the coffee-room falls."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput, NotFound

Images = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Ped2Part:
    """n frames of several clips, one after another; a frame has h x w grey pixels, 0 to 255."""

    images: Images
    """Shape (n, h, w)."""
    starts: NDArray[np.bool_]
    """Shape (n,): true at the first frame of each clip; nothing is carried over it."""
    truth: NDArray[np.uint8]
    """Shape (n,): 1 where the frame is anomalous."""
    clips: tuple[str, ...]
    """Names of the clips, in order."""
    fps: float
    masks: NDArray[np.bool_] | None = None
    """Shape (n, h, w): true where the anomaly is; None for the training part, which has none."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def index(self) -> NDArray[np.int64]:
        """Which of `clips` each frame belongs to, shape (n,)."""
        return np.cumsum(self.starts, dtype=np.int64) - 1


@dataclass(frozen=True, eq=False)
class Ped2:
    """UCSD Ped2 (Mahadevan, Li, Bhalodia, Vasconcelos, CVPR 2010), without the test clips 07 to 12."""

    train: Ped2Part
    """16 clips, 2,550 frames, all normal."""
    test: Ped2Part
    """Test clips 01 to 06, 1,020 frames."""


@dataclass(frozen=True, eq=False)
class CoffeeClip:
    """One clip of the coffee-room falls (Le2i): somebody walks about and falls once."""

    name: str
    images: Images
    """Shape (n, h, w)."""
    truth: NDArray[np.uint8]
    """Shape (n,): 1 during the fall."""
    after_fall: NDArray[np.bool_]
    """Shape (n,): somebody lies there, and the label is 0 all the same; score these frames apart."""


def ped2(folder: Path) -> Ped2:
    """Both parts. `folder` is KEEPFIT_DATA; raises NotFound or InvalidInput where files lack or do not fit."""
    place = folder / "video" / "ucsd_ped2"
    return Ped2(part(place, "train"), part(place, "test_01_06"))


def part(folder: Path, name: str) -> Ped2Part:
    """One video with its NAME.json and, where there is one, NAME_masks.npz."""
    about = _json(_there(folder / f"{name}.json"))
    images = decoded(_there(folder / f"{name}.mp4"))
    starts, truth = _labels(about, name)
    if len(images) != len(starts):
        message = f"{name}.mp4 has {len(images)} frames and {name}.json {len(starts)}; take both from one copy."
        raise InvalidInput(message, "frames")
    clips = tuple(str(clip["name"]) for clip in about["clips"])
    return Ped2Part(images, starts, truth, clips, float(about["fps"]), _masks(folder / f"{name}_masks.npz", images))


def coffee(folder: Path) -> Iterator[CoffeeClip]:
    """The clips in order of their names, one in memory at a time. `folder` is KEEPFIT_DATA; errors as of `ped2`."""
    place = folder / "video" / "coffee_room_falls"
    with _there(place / "intervals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        name, frames = row["video"], int(row["frames"])
        images = decoded(_there(place / f"{name}.avi"))
        if len(images) != frames:
            message = f"{name}.avi has {len(images)} frames and intervals.csv {frames}; take both from one copy."
            raise InvalidInput(message, "frames")
        number, first, last = np.arange(frames), int(row["fall_first"]), int(row["fall_last"])
        truth = ((number >= first) & (number <= last)).astype(np.uint8)
        yield CoffeeClip(name, images, truth, number > last)


def decoded(file: Path) -> Images:
    """Every frame in grey at full resolution, shape (n, h, w); limited-range luma is stretched to 0 to 255."""
    try:
        with av.open(str(file)) as container:
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    except (av.FFmpegError, IndexError) as error:
        raise InvalidInput(f"{file.name} cannot be decoded as a video; copy it again.", "video") from error
    if not frames:
        raise InvalidInput(f"{file.name} holds no frames; copy it again.", "video")
    return np.stack(frames)


def _labels(about: Mapping[str, Any], name: str) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    total = sum(int(clip["frames"]) for clip in about["clips"])
    starts, truth = np.zeros(total, np.bool_), np.zeros(total, np.uint8)
    first = 0
    for clip in about["clips"]:
        if clip["first"] != first:
            raise InvalidInput(f"Clip {clip['name']} of {name}.json does not begin where the last one ends.", "first")
        starts[first] = True
        for begin, end in clip.get("anomaly_frames", []):
            if not 0 <= begin <= end < clip["frames"]:
                message = f"Clip {clip['name']} of {name}.json has an anomaly outside its frames; correct the interval."
                raise InvalidInput(message, "anomaly_frames")
            truth[first + begin : first + end + 1] = 1
        first += int(clip["frames"])
    return starts, truth


def _masks(file: Path, images: Images) -> NDArray[np.bool_] | None:
    if not file.is_file():
        return None
    try:
        with np.load(file) as stored:
            masks: NDArray[np.bool_] = stored["masks"].astype(np.bool_, copy=False)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{file.name} holds no array named masks; copy it again.", "masks") from error
    if masks.shape != images.shape:
        message = f"{file.name} has the shape {masks.shape}, the video {images.shape}; take both from one copy."
        raise InvalidInput(message, "masks")
    return masks


def _json(file: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{file.name} is not JSON; copy it again.", "json") from error
    return about


def _there(file: Path) -> Path:
    if not file.is_file():
        raise NotFound(f"{file.name} is missing; set KEEPFIT_DATA to the folder that holds video/{file.parent.name}/.")
    return file
