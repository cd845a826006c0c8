"""Monitor: look at one window of one version, report measurements. Knows no store and decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Label, Prediction, Window
from keepfit.errors import InvalidInput
from keepfit.evaluation.evaluator import Reference
from keepfit.intervals import normal_quantile, wilson
from keepfit.metrics import predicted
from keepfit.monitoring.detectors import Components, MeanShift, ks, ks_limit
from keepfit.monitoring.measurement import TOO_FEW, Measurement
from keepfit.monitoring.performance import Share, realised
from keepfit.monitoring.thresholds import Threshold, mean_limit, mix_limit, shift_limit, stated

__all__ = ["Measurement", "Monitor"]

Column = NDArray[np.float64]

MOST_ROWS = 4096
"""Larger references and windows are thinned to this many rows: enough to see shifts of a twentieth of a deviation."""

COMPONENTS = 16
TESTED_COMPONENTS = 8
"""Leading components that are also tested one by one."""


@dataclass(frozen=True, eq=False)
class Normal:
    """A reference made ready: columns by name, projected embeddings, how often each class was answered."""

    source: Reference
    columns: Mapping[str, Column]
    components: Components
    projected: NDArray[np.float64]
    answers: NDArray[np.int64]


class Monitor:
    """Measures windows of predictions against the reference that a version was registered with."""

    def __init__(
        self,
        thresholds: Mapping[str, Threshold] | None = None,
        minimum: int = 30,
        false_alarms: float = 0.01,
        seed: int = 0,
    ) -> None:
        """`thresholds` by measurement name take the place of the calibrated ones.

        On fewer than `minimum` predictions (for performance: labels worth that many) nothing counts as breached.
        `false_alarms`: the share of windows like the reference that a calibrated limit lets breach; all
        `ks:` tests of a window share it.
        """
        self._thresholds, self._minimum = dict(thresholds or {}), minimum
        self._false_alarms, self._seed = false_alarms, seed
        self._normal: Normal | None = None

    def measure(
        self,
        predictions: Sequence[Prediction],
        labelled: Sequence[tuple[Prediction, Label]],
        reference: Reference,
        window: Window,
        version: int,
    ) -> list[Measurement]:
        """Everything that can be said of one window; all predictions are `version`'s. Values are always finite.

        Predictions are those answered in the window; labelled ones may reach further back. Without any, the list
        is empty. The same arguments give the same numbers. Raises InvalidInput when the reference is of a model
        with other classes or another size of embedding.
        """
        rng = np.random.default_rng(self._seed)
        found = self._performance(labelled, window, version, rng)
        if predictions:
            blank = Measurement("", 0.0, 0.0, 0.0, len(predictions), window, version)
            normal = self._prepare(reference)
            found += self._mix(predictions, normal, blank, rng)
            found += self._inputs(predictions, normal, blank, rng)
        return found

    def _prepare(self, reference: Reference) -> Normal:
        if self._normal is None or self._normal.source is not reference:
            kept = thinned(len(reference.scores))
            components = Components(reference.embeddings[kept], COMPONENTS)
            answers = np.bincount(predicted(reference.scores), minlength=reference.scores.shape[1])
            measures = {name: finite(values) for name, values in reference.measures.items()}
            columns = {"confidence": finite(reference.scores.max(axis=1, initial=0.0)), **measures}
            self._normal = Normal(
                reference, columns, components, components.project(reference.embeddings[kept]), answers.astype(np.int64)
            )
        return self._normal

    def _performance(
        self, labelled: Sequence[tuple[Prediction, Label]], window: Window, version: int, rng: np.random.Generator
    ) -> list[Measurement]:
        found = realised(labelled, rng)
        if found is None:
            return []
        shares = {
            "accuracy": Share(found.accuracy, found.effective),
            "macro_f1": Share(found.macro_f1, found.effective),
        }
        shares |= {f"accuracy:last{size}": share for size, share in found.recent.items()}
        return [
            self._judge(
                Measurement(name, i.value, i.low, i.high, i.n, window, version, effective=share.effective),
                self._thresholds.get(name),
                interval=True,
            )
            for name, share in shares.items()
            for i in [share.interval]
        ]

    def _mix(
        self, predictions: Sequence[Prediction], normal: Normal, blank: Measurement, rng: np.random.Generator
    ) -> list[Measurement]:
        """The distance between the answers' shares and the reference's, and each share."""
        labels, n = predictions[0].labels, len(predictions)
        if len(labels) != len(normal.answers):
            raise InvalidInput(
                f"the reference has {len(normal.answers)} classes and the predictions {len(labels)};"
                " compare each version with its own reference"
            )
        counts = np.bincount([int(np.argmax(p.scores)) for p in predictions], minlength=len(labels))
        distance = 0.5 * float(np.abs(counts / n - normal.answers / max(1, int(normal.answers.sum()))).sum())
        limit = self._limit("label_mix", lambda: mix_limit(normal.answers, n, self._false_alarms, rng))
        found = [self._judge(at(blank, "label_mix", distance), limit)]
        for label, count in zip(labels, counts, strict=True):
            share, name = wilson(int(count), n), f"share:{label}"
            measured = replace(blank, name=name, value=share.value, low=share.low, high=share.high)
            found.append(self._judge(measured, self._thresholds.get(name), interval=True))
        return found

    def _inputs(
        self, predictions: Sequence[Prediction], normal: Normal, blank: Measurement, rng: np.random.Generator
    ) -> list[Measurement]:
        """Means and tests of the cheap columns, drift of the embeddings."""
        kept = [predictions[i] for i in thinned(len(predictions))]
        projected = normal.components.project(np.stack([p.embedding for p in kept]))
        now = columns_of(kept)
        shared = {name: (column, now[name]) for name, column in normal.columns.items() if usable(name, column, now)}
        drift = MeanShift().fit(normal.projected).score(projected)
        limit = self._limit(
            "embedding_drift", lambda: shift_limit(normal.projected, len(kept), self._false_alarms, rng)
        )
        leading = range(min(TESTED_COMPONENTS, projected.shape[1]))
        moved = [self._judge(at(blank, "embedding_drift", drift), limit)] if kept[0].embedding.size else []
        tested = {**shared, **{f"pc{j + 1}": (normal.projected[:, j], projected[:, j]) for j in leading}}
        return [
            *(self._mean(name, before, after, blank) for name, (before, after) in shared.items()),
            *moved,
            *(self._test(name, *pair, blank, len(tested)) for name, pair in tested.items()),
        ]

    def _mean(self, name: str, before: Column, after: Column, blank: Measurement) -> Measurement:
        value = float(after.mean())
        half = normal_quantile(0.95) * float(after.std()) / len(after) ** 0.5
        measured = replace(blank, name=name, value=value, low=value - half, high=value + half, n=len(after))
        limit = self._limit(name, lambda: mean_limit(before, len(after), value, self._false_alarms))
        return self._judge(measured, limit, interval=name in self._thresholds)

    def _test(self, name: str, before: Column, after: Column, blank: Measurement, tests: int) -> Measurement:
        name, before = f"ks:{name}", before[thinned(len(before))]
        result = ks(before, after)
        measured = replace(at(blank, name, result.gap), n=len(after), p=result.p)
        if name in self._thresholds:
            return self._judge(measured, self._thresholds[name])
        limit = ks_limit(self._false_alarms / tests, len(before), len(after))
        beyond = result.p < self._false_alarms / tests
        note = f"{stated(self._false_alarms)}, over {tests} tests"
        return self._few(replace(measured, limit=limit, breached=beyond, note=note))

    def _limit(self, name: str, calibrated: Callable[[], Threshold]) -> Threshold:
        return self._thresholds[name] if name in self._thresholds else calibrated()

    def _judge(self, measured: Measurement, threshold: Threshold | None, interval: bool = False) -> Measurement:
        """With its limit; `interval`: the whole interval must be beyond it (a calibrated limit holds the noise)."""
        if threshold is None:
            return self._few(measured)
        low, high = (measured.low, measured.high) if interval else (measured.value, measured.value)
        beyond = threshold.breached(low, high)
        return self._few(replace(measured, breached=beyond, limit=threshold.limit, note=threshold.note))

    def _few(self, measured: Measurement) -> Measurement:
        if measured.weight >= self._minimum:
            return measured
        return replace(measured, breached=False, note=f"{TOO_FEW}: {measured.weight:.0f} of {self._minimum}")


def at(blank: Measurement, name: str, value: float) -> Measurement:
    """A measurement without an interval."""
    return replace(blank, name=name, value=value, low=value, high=value)


def finite(values: object) -> Column:
    """As float64, without what is not a number."""
    column = np.asarray(values, np.float64).ravel()
    return column[np.isfinite(column)]


def columns_of(predictions: Sequence[Prediction]) -> dict[str, Column]:
    """`confidence` and every measure that the predictions carry, by name."""
    names = sorted({name for p in predictions for name in p.measures})
    measures = {name: finite([p.measures.get(name, np.nan) for p in predictions]) for name in names}
    return {"confidence": finite([p.confidence for p in predictions]), **measures}


def usable(name: str, reference: Column, current: Mapping[str, Column]) -> bool:
    """True when both sides have values of this name."""
    return len(reference) > 0 and len(current.get(name, ())) > 0


def thinned(n: int) -> NDArray[np.int64]:
    """Up to MOST_ROWS indices below n, evenly spaced, so that no part of a window is preferred."""
    return np.linspace(0, n - 1, min(n, MOST_ROWS)).astype(np.int64) if n else np.zeros(0, np.int64)
