"""Refusing: what makes a training useless is said before it costs minutes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from keepfit.errors import InvalidInput
from keepfit.tasks.video.cameras import Camera
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.model import MOST_FASTER
from keepfit.tasks.video.preparation import MOVED, Preparation
from keepfit.tasks.video.thresholding import calibrate

LOOKED_AT = 200
"""About so many frames, spread over the part that is learnt, in which something must stand out."""
LEAST_PIXELS = 50


def refuse_all(cameras: Mapping[str, Camera], fps: float, alarms_per_day: float, unbroken: int) -> None:
    """Look at every camera before anything is learnt; `fps` is the model's rate.

    Raises InvalidInput as `refuse`, or where the sizes of the cameras differ, or a rate from the model's.
    """
    for name, camera in cameras.items():
        refuse(camera.parts, camera.preparation, fps, alarms_per_day, unbroken)
        if not 1 / MOST_FASTER < camera.fps / fps < MOST_FASTER:
            raise InvalidInput(
                f"camera {name or 'of this video'} has {camera.fps:.3g} frames a second and the model {fps:.3g}; give "
                "video of about one rate",
                "video",
            )
    sizes = {name: camera.parts["fit"].images.shape[:0:-1] for name, camera in cameras.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name or 'one'} {width} x {height}" for name, (width, height) in sizes.items())
        raise InvalidInput(
            f"the cameras have pictures of several sizes ({told}); the cameras of one model must have one size", "video"
        )


def refuse(
    parts: Mapping[str, Material], preparation: Preparation, fps: float, alarms_per_day: float, unbroken: int
) -> None:
    """Look at the parts `fit`, `head` and `calibrate` before anything is learnt.

    Raises InvalidInput where they are of several sizes, where nothing stands out from the background, where `head` has
    fewer than `unbroken` frames in a row, where `calibrate` is too short for a threshold, or where the budget of alarms
    makes none.
    """
    sizes = {f"{part.images.shape[2]} x {part.images.shape[1]}" for part in parts.values()}
    if len(sizes) > 1:
        raise InvalidInput(
            f"the videos are of several sizes ({', '.join(sorted(sizes))}); give videos of one camera in one size",
            "video",
        )
    learnt = parts["fit"].images
    pictures = preparation.pictures(learnt[:: max(1, len(learnt) // LOOKED_AT)])
    if int(np.count_nonzero(np.abs(pictures) > MOVED)) < LEAST_PIXELS:
        raise InvalidInput(
            "nothing moves in this video, or it is too dark to see, so there is nothing to learn from; give one that "
            "shows the usual life",
            "video",
        )
    longest = max((len(stretch) for stretch in parts["head"].stretches()), default=0)
    if longest < unbroken:
        raise InvalidInput(
            f"the part that the head learns from has no unbroken stretch of {unbroken} frames (the longest has "
            f"{longest}); give a longer video, or one with fewer cuts",
            "video",
        )
    held = parts["calibrate"]
    calibrate(np.zeros(len(held)), fps, held.starts, alarms_per_day)
