"""Retired: classes that are answered no more, from the moment at which a person has retired them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from keepfit.clock import Clock
from keepfit.data.classes import NAME
from keepfit.data.store import RecordStore
from keepfit.data.today import Today
from keepfit.errors import KeepfitError
from keepfit.tasks.mapped import mask_of, without
from keepfit.tasks.task import Floats

log = logging.getLogger(__name__)


class Retired:
    """Of one model. `refresh` reads the class map, `cleared` only looks up; from any thread.

    A version that was trained before goes on scoring a retired class. Its score becomes 0 and the others are divided
    by what is left of their sum: the answer of a model that knows that the class is impossible (conditioning).
    """

    def __init__(self, store: RecordStore, model: str, clock: Clock) -> None:
        self._store, self._model, self._clock = store, model, clock
        self._kept: Any = None
        self._known: tuple[Today | None, dict[tuple[int, tuple[str, ...]], Floats | None]] = (None, {})
        """The map, and by version and classes 1 for what is answered, 0 for what is not (k,), None where all is.

        Replaced together, so that no mask of an older map outlives it.
        """

    def refresh(self) -> None:
        """Read the map where it has changed; while the store is away what was known goes on holding."""
        try:
            kept = self._store.get(self._model, NAME)
            if kept != self._kept:
                self._known = (self._store.today(self._model), {})
                self._kept = kept
        except KeepfitError as error:
            log.warning("which classes of %s are retired could not be read: %s", self._model, error)

    def cleared(self, version: int, labels: Sequence[str], scores: Floats) -> Floats:
        """Scores (k,) of a version without its retired classes; as they are where it has none, or no other."""
        today, masks = self._known
        if today is None:
            return scores
        key = (version, tuple(labels))
        if key not in masks:
            masks[key] = mask_of(today, version, labels, self._clock.now())
        return scores if (mask := masks[key]) is None else without(scores, mask)
