"""Cameras: what a training has of each camera, decoded once: its parts, its empty scene, its labelled events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.data.snapshot import Snapshot, Split
from keepfit.tasks.task import Report
from keepfit.tasks.video.clips import Clip
from keepfit.tasks.video.dividing import Divided, divide
from keepfit.tasks.video.frames import facts
from keepfit.tasks.video.material import Material, Take, gather
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.regions import noise_of
from keepfit.tasks.video.scene import median_background
from keepfit.training.recipe import VideoRecipe

PARTS = ("fit", "head", "calibrate")
MOST_SCENE_FRAMES = 600


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera of a training."""

    number: int
    """In the order of the names."""
    parts: Mapping[str, Material]
    """Frames that teach the denoiser, the head, and the threshold: PARTS."""
    preparation: Preparation
    events: tuple[Clip, ...]
    """Windows that people labelled as anomalies."""
    fps: float
    """Frames a second: the median of the videos that its threshold is chosen from."""

    def take(self, part: str) -> Take:
        """A part with how its pictures are prepared."""
        return Take(self.parts[part], self.preparation)


def cameras_of(
    snapshot: Snapshot, videos: Path, recipe: VideoRecipe, folder: Path, report: Report
) -> dict[str, Camera]:
    """The cameras of a snapshot by their names, in order; frames are kept in `folder`, as NAME.raw.

    Raises InvalidInput where one has too little, BackendError when the disk is full.
    """
    divided = divide(snapshot.rows(Split.TRAIN), snapshot.rows(Split.VALIDATION))

    def scene(material: Material) -> Preparation:
        empty = empty_scene(material)
        return replace(empty, still=noise_of(empty.pictures(spread(material)))) if recipe.gating else empty

    def gathered(number: int, windows: Divided) -> Camera:
        parts = {}
        for part in PARTS:
            clips: list[Clip] = getattr(windows, part)
            report({"progress": 0.0, "decoding": float(len(clips))}, 0)
            parts[part] = gather(clips, videos, recipe.long_side, folder / f"{part}-{number}.raw")
        rate = float(np.median([facts(videos / name).fps for name in {clip.name for clip in windows.calibrate}]))
        return Camera(number, parts, scene(parts["fit"]), tuple(windows.events), rate)

    return {name: gathered(number, windows) for number, (name, windows) in enumerate(divided.items())}


def spread(material: Material) -> NDArray[np.uint8]:
    """Some hundred frames, spread evenly."""
    return material.images[:: max(1, len(material) // MOST_SCENE_FRAMES)]


def empty_scene(material: Material) -> Preparation:
    """The median of frames spread over the part that is learnt."""
    return Preparation(median_background(spread(material)))


def last_frames(camera: Camera, frames: int, videos: Path, long_side: int, folder: Path) -> list[NDArray[np.uint8]]:
    """The last `frames` of each labelled event, each (frames, h, w); shorter ones are left out."""
    long = [replace(clip, first=max(0, clip.stop - frames)) for clip in camera.events]
    long = [clip for clip in long if len(clip) == frames]
    if not long:
        return []
    material = gather(long, videos, long_side, folder / f"events-{camera.number}.raw")
    return [material.images[first:stop] for first, stop in material.windows]
