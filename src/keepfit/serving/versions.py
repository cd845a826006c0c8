"""Versions: the models in memory, loaded and warmed one at a time, and kept for a while after they served."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from keepfit.clock import Clock
from keepfit.data.records import Window
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput, KeepfitError
from keepfit.serving.batching import Batcher
from keepfit.serving.limits import ServingLimits
from keepfit.tasks.task import Model, predict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A loaded version."""

    version: int
    model: Model
    batcher: Batcher


class Versions:
    """Of one model name. `bring` is slow and may be called by several threads; the rest only looks up."""

    def __init__(
        self, name: str, store: RecordStore, load: Callable[[int], Model], clock: Clock, limits: ServingLimits
    ) -> None:
        self._name, self._store, self._load, self._clock, self._limits = name, store, load, clock, limits
        self._loaded: dict[int, Served] = {}
        self._retired: list[int] = []
        """Loaded versions that do not serve now, the latest first."""
        self._loading = threading.Lock()
        """One load at a time; never held while a warm version is switched to, so that going back waits for nobody."""

    def bring(self, number: int) -> Served:
        """The version, loaded and warmed; one that is in memory and well is taken as it is.

        Raises what `load` raises.
        """
        if (known := self._well(number)) is not None:
            return known
        with self._loading:
            if (known := self._well(number)) is not None:
                return known
            model = self._load(number)
            self._warm_up(model)
            batcher = Batcher(model, self._limits.batch_cost, self._limits.queue_items, f"{self._name} v{number}")
            self._loaded[number] = Served(number, model, batcher)
            return self._loaded[number]

    def holds(self, served: Served) -> bool:
        """Whether this very one is still in memory."""
        return self._loaded.get(served.version) is served

    def loaded(self) -> Mapping[int, Served]:
        """What is in memory now."""
        return dict(self._loaded)

    def retire(self, before: Collection[int], serving: Collection[int]) -> list[int]:
        """Keep the latest that served before, unload the others (they finish what they have); which those are."""
        gone = [version for version in before if version not in serving]
        self._retired = gone + [v for v in self._retired if v not in serving and v not in gone]
        kept = self._retired = self._retired[: self._limits.keep_warm]
        unloaded = [v for v in [*self._loaded] if v not in serving and v not in kept]
        for version in unloaded:
            self._loaded.pop(version).batcher.close()
        return unloaded

    def unload(self) -> None:
        """Let go of every version; each finishes what it has."""
        for served in self._loaded.values():
            served.batcher.close()
        self._loaded, self._retired = {}, []

    def close(self, timeout_s: float) -> None:
        """Let every version finish what it has; waits so long for each at most."""
        with self._loading:
            for served in self._loaded.values():
                served.batcher.close()
            for served in self._loaded.values():
                served.batcher.join(timeout_s)

    def _well(self, number: int) -> Served | None:
        served = self._loaded.get(number)
        return served if served is not None and served.batcher.trouble() is None else None

    def _warm_up(self, model: Model) -> None:
        """Answer recent contents, else a word, so that the first caller does not pay for the start.

        Old contents may be none any more (a stored video is gone), which is no fault of the version.
        """
        try:
            if recent := self._recent_contents():
                predict(model, recent)
                return
        except KeepfitError as error:
            log.warning("%s: a new version could not be warmed with recent contents: %s", self._name, error)
        try:
            contents = [model.read("warm up")]
        except InvalidInput:
            contents = []
        predict(model, contents)

    def _recent_contents(self) -> list[Any]:
        if not self._limits.warm_up:
            return []
        window = Window(datetime(1970, 1, 1, tzinfo=UTC), self._clock.now() + timedelta(days=1))
        return [example.content for example in self._store.examples(self._name, window, limit=self._limits.warm_up)]
