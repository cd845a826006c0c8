"""Looks: what else is measured at each beat of the watch, from the same windows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import numpy as np

from keepfit.data.records import Label, Prediction, Window
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.detectors import Components, DriftDetector
from keepfit.monitoring.measurement import TOO_FEW, Measurement
from keepfit.monitoring.monitor import COMPONENTS, thinned

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Beat:
    """One beat, as the watch sees it."""

    now: datetime
    version: int
    began: datetime
    """Since when the version has been serving."""
    reference: Reference
    window: Window
    predictions: Sequence[Prediction]
    """Of the window."""
    labelled: Sequence[tuple[Prediction, Label]]
    """Pairs whose labels came in within the label window, in the order of arrival."""


def mark_of(reference: Reference) -> str:
    """The same for the same rows, however often they are read from their file."""
    marked = hashlib.blake2b(reference.scores.tobytes(), digest_size=16)
    marked.update(reference.truth.tobytes())
    return marked.hexdigest()


class Look(Protocol):
    """Measures something; it may keep state in the store, and must give the same for the same beat."""

    def measure(self, beat: Beat) -> list[Measurement]:
        """What it saw; an empty list when there is nothing to say."""
        ...


def looked(looks: Sequence[Look], beat: Beat) -> list[Measurement]:
    """What all looks saw."""
    found: list[Measurement] = []
    for look in looks:
        try:
            found += look.measure(beat)
        except Exception:
            # harm must be seen also where one of these fails, whatever the reason
            log.exception("%s could not measure; the other measurements stand", type(look).__name__)
    return found


@dataclass
class ChosenDetectors:
    """The classical detectors that the settings name, each with its limit: measurements `detector:NAME`."""

    chosen: Mapping[str, tuple[DriftDetector, float]]
    """By name the detector and the score above which it is a breach."""
    minimum: int = 30
    _fitted: str = ""
    _components: Components | None = field(default=None, repr=False)

    def measure(self, beat: Beat) -> list[Measurement]:
        """Scores of the window: leading components of the embeddings, and the top score."""
        if not beat.predictions or not self.chosen:
            return []
        if self._fitted != (mark := mark_of(beat.reference)):
            kept = thinned(len(beat.reference.scores))
            self._components = Components(beat.reference.embeddings[kept], COMPONENTS)
            rows = self._rows(beat.reference.embeddings[kept], beat.reference.scores[kept])
            for detector, _ in self.chosen.values():
                detector.fit(rows)
            self._fitted = mark
        kept = thinned(len(beat.predictions))
        some = [beat.predictions[i] for i in kept]
        rows = self._rows(np.stack([p.embedding for p in some]), np.stack([p.scores for p in some]))
        return [self._measured(name, *pair, rows, beat) for name, pair in self.chosen.items()]

    def _rows(self, embeddings: np.ndarray, scores: np.ndarray) -> np.ndarray:
        assert self._components is not None
        return np.column_stack([self._components.project(embeddings), scores.max(axis=1, initial=0.0)])

    def _measured(self, name: str, detector: DriftDetector, limit: float, rows: np.ndarray, beat: Beat) -> Measurement:
        score, n = detector.score(rows), len(beat.predictions)
        note = "" if n >= self.minimum else f"{TOO_FEW}: {n} of {self.minimum}"
        return Measurement(
            f"detector:{name}", score, score, score, n, beat.window, beat.version,
            breached=score > limit and not note, limit=limit, note=note,
        )  # fmt: skip
