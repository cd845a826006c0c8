"""Clips with synthetic events, rendered from their names; the learning half and its evaluation use it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.clips import Clip, videos_near
from keepfit.tasks.video.model import Facts, Render, decoded
from keepfit.tasks.video.synthetic import FAMILIES, inject


def injecting_render(folder: Path, facts: Facts) -> Render:
    """Frames of stored videos, with the event that the clip's name asks for; see `answering.plain_render`."""
    videos = videos_near(folder)

    def render(clip: Clip, lead: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        images, starts = decoded(videos / clip.name, clip.first - lead, clip.stop, facts.long_side)
        if clip.family is None:
            return images, starts
        before = max(0, len(images) - len(clip))
        background = facts.view(clip.camera).background
        return np.concatenate([images[:before], with_event(images, before, background, clip)]), starts

    return render


def with_event(images: NDArray[np.uint8], before: int, background: NDArray[np.uint8], clip: Clip) -> NDArray[np.uint8]:
    """The frames from `before` on with an event of the clip's family; the next family where it finds nothing to move.

    Raises InvalidInput when no family does.
    """
    begin = FAMILIES.index(clip.family) if clip.family in FAMILIES else 0
    failure: InvalidInput | None = None
    for family in (*FAMILIES[begin:], *FAMILIES[:begin]):
        try:
            return inject(images[before:], background, family, np.random.default_rng(clip.seed), images).images
        except InvalidInput as error:
            failure = error
    raise InvalidInput(f"{clip} cannot be given an event ({failure}); give a video in which something moves", "video")
