"""Accuracy without labels in life: an estimate for each window, refuted or corrected by the labels that came in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keepfit.data.records import MEASURING, Label, Prediction, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.labelfree.corrected import LEAST, Refutation, corrected, refutation
from keepfit.monitoring.labelfree.estimator import Estimate, Estimator
from keepfit.monitoring.labelfree.sample import Doubles, of_predictions, of_reference
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
    """Labelled answers of the window in the order in which their labels came in, shape (n,) each."""

    right: Doubles
    chance: Doubles
    weights: Doubles


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
        shift = found.value - float(chance.mean())
        told = self._told(beat, estimator, shift)
        against = refutation(told.right, told.chance, told.weights, (found.high - found.low) / 2)
        withdrawn = self._remember(beat, found, against)
        measured = [self._estimated(beat, found, self._note(found, against, withdrawn))]
        if len(told.right) < LEAST:
            return measured
        everywhere = float(np.clip(self._distinct(beat, estimator) + shift, 0.0, 1.0).mean())
        mended = corrected(told.right, told.chance, told.weights, everywhere)
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
        """Of answers of the window alone: the shift is that of its inputs, and says nothing of other ones."""
        within = Window(min(one.time for one in beat.predictions), beat.window.end)
        measuring = (
            pair for pair in beat.labelled
            if pair[1].source in MEASURING and pair[0].time in within and pair[0].stands_for_all
        )  # fmt: skip
        pairs = list(measuring)[-MOST_LABELS:]
        if not pairs:
            return Told(np.zeros(0), np.zeros(0), np.zeros(0))
        said = of_predictions([prediction for prediction, _ in pairs], estimator.measures)
        return Told(
            np.array([right(*pair) for pair in pairs]),
            np.clip(estimator.right(said) + shift, 0.0, 1.0),
            np.array([weight(label) for _, label in pairs]),
        )

    def _distinct(self, beat: Beat, estimator: Estimator) -> Doubles:
        """The chances (n,) of what labels are drawn from: users' answers, of a text that is known to recur one."""
        live = [one for one in beat.predictions if not one.shadow] or list(beat.predictions)
        alike = self.store.alike(self.model, {one.example_id for one in live})
        rows = list({alike[one.example_id]: one for one in live}.values())
        some = np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int)
        return estimator.right(of_predictions([rows[i] for i in some], estimator.measures))

    @staticmethod
    def _note(found: Estimate, against: Refutation, withdrawn: bool) -> str:
        if against.refuted:
            return f"{CANNOT}: {sentence(against)}"
        if withdrawn:
            return f"{CANNOT}: labels refuted it, and the {against.n} of this window do not yet say that it holds again"
        if found.cannot:
            return f"{CANNOT}: {found.cannot}"
        return "by " + ", ".join(f"{name} {value:.3f}" for name, value in found.methods.items())

    @staticmethod
    def _estimated(beat: Beat, found: Estimate, note: str) -> Measurement:
        unknown = note.startswith((CANNOT, TOO_FEW))
        value, low, high = (0.0, 0.0, 1.0) if unknown else (found.value, found.low, found.high)
        return Measurement(ESTIMATED, value, low, high, found.n, beat.window, beat.version, note=note)

    def _remember(self, beat: Beat, found: Estimate, against: Refutation) -> bool:
        """Whether the estimate is withdrawn; that labels refute it, and that they do no more, is on record once."""
        before = self.store.get(self.model, STATE)
        already = before is not None and before["version"] == beat.version
        withdrawn = against.refuted or (already and not against.settled)
        if withdrawn == already and (before is None or already):
            return withdrawn
        evidence = {
            "version": beat.version, "estimated": found.value, "low": found.low, "high": found.high,
            "residual": against.residual, "half": against.half, "labels": against.n, "allowed": against.allowed,
        }  # fmt: skip
        if withdrawn:
            because = (sentence(against), "accuracy:estimated is not given until labels and answers agree again")
            decision = Decision(Outcome.FAIL, because, evidence)
        elif already:
            decision = Decision(Outcome.PASS, ("labels no longer speak against the estimate without labels",), evidence)
        else:
            decision = None  # of an earlier version, of which nobody needs to hear any more
        if decision is not None:
            self.store.add_decision(self.model, "estimate", decision, beat.now)
        self.store.put(self.model, STATE, {"version": beat.version} if withdrawn else None)
        return withdrawn


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
