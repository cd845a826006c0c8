"""Tally: how many answers passed, by model, version and who gave them; counted as they are recorded."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from keepfit.data.records import Prediction


@dataclass(frozen=True)
class Kind:
    """What is counted together."""

    model: str
    version: int
    stage: str
    """model, cache, first or stream."""
    shadow: bool
    """Nobody heard it."""


class Tally:
    """Counts that only grow; from any thread."""

    def __init__(self) -> None:
        self._counts: Counter[Kind] = Counter()
        self._lock = threading.Lock()

    def note(self, model: str, predictions: Iterable[Prediction]) -> None:
        """Count some answers of a model."""
        kinds = [Kind(model, p.model_version, p.stage, p.shadow) for p in predictions]
        with self._lock:
            self._counts.update(kinds)

    def counts(self) -> dict[Kind, int]:
        """What was counted so far."""
        with self._lock:
            return dict(self._counts)
