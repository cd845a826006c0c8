"""Forgetting: when somebody is forgotten, this process drops the answers that it remembers."""

from __future__ import annotations

import logging

from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.serving.cache import AnswerCache
from keepfit.serving.shadow import Shadow

log = logging.getLogger(__name__)
FORGOTTEN = "forgotten"
"""The name of the value in the store that changes whenever somebody is forgotten; it does not say who."""


class Forgetting:
    """What one model remembers. `refresh` looks whether the value has changed since the last look, and empties it."""

    def __init__(self, store: RecordStore, cache: AnswerCache, shadow: Shadow) -> None:
        self._store, self._cache, self._shadow = store, cache, shadow
        self._seen: object = None

    def refresh(self) -> None:
        """While the store is away nothing is dropped; at the next look it is."""
        try:
            now = self._store.get("", FORGOTTEN)
        except KeepfitError as error:
            log.warning("it could not be read whether somebody is to be forgotten: %s", error)
            return
        if now != self._seen:
            self._cache.clear()
            self._shadow.clear()
            self._seen = now
