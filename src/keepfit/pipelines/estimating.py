"""Accuracy without labels in life: an estimate for each window, refuted or corrected by the labels that came in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepfit.data.records import MEASURING, Label, Prediction
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.labelfree.corrected import Refutation, corrected, refutation
from keepfit.monitoring.labelfree.estimator import Estimate, Estimator
from keepfit.monitoring.labelfree.sample import Doubles, Ints, of_predictions, of_reference
from keepfit.monitoring.measurement import CANNOT, TOO_FEW, Measurement
from keepfit.monitoring.performance import weight
from keepfit.pipelines.looks import Beat, mark_of

ESTIMATED, CORRECTED = "accuracy:estimated", "accuracy:corrected"
STATE = "estimate_refuted"
MOST_LABELS = 2_000
MOST_ROWS = 2_000
"""Of a window, evenly spaced: enough to know the mean of what is said of each to a point."""


@dataclass(frozen=True, eq=False)
class Told:
    """Labelled answers in the order in which their labels came in, shape (n,) each."""

    right: Doubles
    chance: Doubles
    weights: Doubles
    inside: Ints
    """Places of those that were answered within the window."""


@dataclass
class AccuracyWatch:
    """Of one model; fitted once for each version, in some seconds, on the rows that it was judged on."""

    model: str
    store: RecordStore
    minimum: int = 30
    _fitted: tuple[str, Estimator] | None = None

    def measure(self, beat: Beat) -> list[Measurement]:
        """`accuracy:estimated`, and with labels of answers of the window `accuracy:corrected`."""
        if not beat.predictions:
            return []
        if len(beat.predictions) < self.minimum:
            note = f"{TOO_FEW}: {len(beat.predictions)} of {self.minimum}"
            return [self._estimated(beat, Estimate(0.0, 0.0, 1.0, len(beat.predictions)), note)]
        estimator = self._ready(beat.reference)
        some = np.linspace(0, len(beat.predictions) - 1, min(len(beat.predictions), MOST_ROWS)).astype(int)
        sample = of_predictions([beat.predictions[i] for i in some], estimator.measures)
        found = estimator.estimate(sample)
        if estimator.refusal:
            return [self._estimated(beat, found, f"{CANNOT}: {found.cannot}")]
        chance = estimator.right(sample)
        told = self._told(beat, estimator, found.value - float(chance.mean()))
        against = refutation(told.right, told.chance, told.weights, (found.high - found.low) / 2)
        self._remember(beat, found, against)
        note = self._note(found, against)
        measured = [self._estimated(beat, found, note)]
        inside, everywhere = told.inside, float(np.clip(chance + found.value - chance.mean(), 0, 1).mean())
        mended = corrected(told.right[inside], told.chance[inside], told.weights[inside], everywhere)
        if mended is not None:
            power = f"labels and {mended.power:.2f} of what the answers without labels say"
            measured.append(
                Measurement(
                    CORRECTED, mended.value, mended.low, mended.high, mended.n, beat.window, beat.version, note=power
                )
            )
        return measured

    def _ready(self, reference: Reference) -> Estimator:
        if self._fitted is None or self._fitted[0] != mark_of(reference):
            self._fitted = (mark_of(reference), Estimator(of_reference(reference)))
        return self._fitted[1]

    def _told(self, beat: Beat, estimator: Estimator, shift: float) -> Told:
        pairs = [pair for pair in beat.labelled if pair[1].source in MEASURING][-MOST_LABELS:]
        if not pairs:
            empty = np.zeros(0)
            return Told(empty, empty, empty, np.zeros(0, np.int64))
        said = of_predictions([prediction for prediction, _ in pairs], estimator.measures)
        return Told(
            np.array([right(*pair) for pair in pairs]),
            np.clip(estimator.right(said) + shift, 0.0, 1.0),
            np.array([weight(label) for _, label in pairs]),
            np.array([i for i, (prediction, _) in enumerate(pairs) if prediction.time in beat.window], np.int64),
        )

    @staticmethod
    def _note(found: Estimate, against: Refutation) -> str:
        if against.refuted:
            return f"{CANNOT}: {sentence(against)}"
        if found.cannot:
            return f"{CANNOT}: {found.cannot}"
        return "by " + ", ".join(f"{name} {value:.3f}" for name, value in found.methods.items())

    @staticmethod
    def _estimated(beat: Beat, found: Estimate, note: str) -> Measurement:
        unknown = note.startswith((CANNOT, TOO_FEW))
        value, low, high = (0.0, 0.0, 1.0) if unknown else (found.value, found.low, found.high)
        return Measurement(ESTIMATED, value, low, high, found.n, beat.window, beat.version, note=note)

    def _remember(self, beat: Beat, found: Estimate, against: Refutation) -> None:
        """That labels refute the estimate, and that they do no more, is on record once."""
        before = self.store.get(self.model, STATE)
        if (before is not None and before["version"] == beat.version) == against.refuted:
            return
        evidence = {
            "version": beat.version, "estimated": found.value, "low": found.low, "high": found.high,
            "residual": against.residual, "half": against.half, "labels": against.n, "allowed": against.allowed,
        }  # fmt: skip
        if against.refuted:
            because = (sentence(against), "accuracy:estimated is not given until labels and answers agree again")
            decision = Decision(Outcome.FAIL, because, evidence)
        elif before["version"] == beat.version:
            decision = Decision(Outcome.PASS, ("labels no longer speak against the estimate without labels",), evidence)
        else:
            decision = None  # of an earlier version, of which nobody needs to hear any more
        if decision is not None:
            self.store.add_decision(self.model, "estimate", decision, beat.now)
        self.store.put(self.model, STATE, {"version": beat.version} if against.refuted else None)


def sentence(against: Refutation) -> str:
    """What labels say of the estimate."""
    side = "worse" if against.residual < 0 else "better"
    return (
        f"the newest {against.n} labels are {abs(against.residual):.3f} {side} than the answers look (within"
        f" {against.half:.3f}), more than the {against.allowed:.3f} that the estimate allows for: what is true of alike"
        " inputs has changed"
    )


def right(prediction: Prediction, label: Label) -> float:
    """1 where the answer was right, else 0."""
    return float(prediction.label == label.value)
