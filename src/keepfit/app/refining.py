"""Refining, put together: what judges the thresholds of a video model's live cameras anew."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from keepfit.app.wiring import Home, version_folder
from keepfit.data.store import RecordStore
from keepfit.pipelines.refine import Refine
from keepfit.tasks.video.clips import window_frames
from keepfit.tasks.video.model import Facts
from keepfit.tasks.video.timeline import Threshold


def refiner(home: Home, name: str, store: RecordStore) -> Callable[[], None]:
    """One beat of it, for one model."""

    @lru_cache(maxsize=4)
    def facts(version: int) -> Facts:
        return Facts.read(version_folder(home, name, version))

    def terms(version: int, camera: str) -> tuple[Threshold, float]:
        known = facts(version)
        return known.view(camera).threshold, window_frames(known.fps) / known.fps

    return Refine(name, store, terms, home.clock).tick
