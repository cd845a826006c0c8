"""Refined: the thresholds of live cameras as the worker has judged them anew, at hand in this process."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.tasks.video.timeline import Threshold

log = logging.getLogger(__name__)
REFINED = "thresholds"
"""The name of the value in the store: a version, and of its cameras the thresholds."""
LEVEL = "level"
"""The measure of a stream's window from which they are judged: what it reached in enough frames in a row."""


class Refined:
    """The thresholds of one model's cameras. `refresh` reads the store, `of` only looks up; from any thread."""

    def __init__(self, store: RecordStore, model: str) -> None:
        self._store, self._model = store, model
        self._known: Mapping[tuple[int, str], Threshold] = {}

    def refresh(self) -> None:
        """Read what holds now; while the store is away what was known goes on holding."""
        try:
            kept = self._store.get(self._model, REFINED)
        except KeepfitError as error:
            log.warning("the thresholds of the cameras of %s could not be read: %s", self._model, error)
            return
        cameras = {} if kept is None else kept["cameras"]
        self._known = {(kept["version"], name): Threshold(**one) for name, one in cameras.items()}

    def of(self, version: int, camera: str) -> Threshold | None:
        """None where the version's own holds."""
        return self._known.get((version, camera))
