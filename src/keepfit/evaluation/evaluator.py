"""Evaluate a model on rows of a snapshot: model in, numbers with intervals out; and the reference of its monitors."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit import metrics as m
from keepfit.data.snapshot import UNKNOWN_TIME, Rows, Split
from keepfit.errors import BackendError, InvalidInput, SettingsError
from keepfit.intervals import Interval, wilson
from keepfit.metrics import METRICS, Metric, ReliabilityPoint
from keepfit.tasks.task import Floats, Model, Output, predict

CHUNK = 4096
"""Rows that are prepared and inferred together: enough for the model to sort them by length, little memory."""

SMALLEST_SLICE = 20
MOST_SLICES = 50
LATENCY_MS, FEWEST_ROUNDS = 10_000.0, 3
"""What measuring the latency may take, and the rounds that it needs."""
SEED = 20250101
"""Of the bootstraps, so that the same answers give the same intervals."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What one model answered on some rows, beside the truth."""

    rows: Rows
    labels: tuple[str, ...]
    """The classes of the model, columns of the scores."""
    truth: NDArray[np.int64]
    """Indices into `labels`, shape (n,); -1 where the row's class is unknown to the model (it counts as wrong)."""
    output: Output
    measures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """By name (`length`, `unknown`), each of shape (n,)."""
    abstain_below: float | None = None

    def __len__(self) -> int:
        return len(self.truth)

    def only(self, places: Sequence[int]) -> Judged:
        """The same of some rows, in the order of `places`."""
        chosen = list(places)
        details = self.output.details
        output = Output(
            self.output.scores[chosen], self.output.embeddings[chosen],
            None if details is None else [details[i] for i in chosen],
        )  # fmt: skip
        measures = {name: values[chosen] for name, values in self.measures.items()}
        return Judged(self.rows.only(chosen), self.labels, self.truth[chosen], output, measures, self.abstain_below)

    @cached_property
    def said(self) -> NDArray[np.int64]:
        """The class that was answered, shape (n,)."""
        return m.predicted(self.output.scores)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Where the answer was right, shape (n,)."""
        return np.asarray(self.said == self.truth, bool)

    @property
    def said_labels(self) -> list[str]:
        """The answers by name."""
        return [self.labels[i] for i in self.said]


def judge(model: Model, rows: Rows, chunk: int = CHUNK) -> Judged:
    """Ask the model about every row, in chunks, in order."""
    outputs: list[Output] = []
    measures: list[Mapping[str, float]] = []
    for start in range(0, len(rows), chunk):
        prepared = model.prepare(rows.contents[start : start + chunk])
        measures.extend(prepared.measures)
        outputs.append(model.infer(prepared))
    index = {label: number for number, label in enumerate(model.labels)}
    return Judged(
        rows,
        model.labels,
        np.array([index.get(label, -1) for label in rows.truth], np.int64),
        _joined(outputs) if outputs else predict(model, ()),
        {name: _column(measures, name) for name in (measures[0] if measures else {})},
        model.abstain_below,
    )


def _joined(outputs: Sequence[Output]) -> Output:
    return Output(
        np.concatenate([output.scores for output in outputs]), np.concatenate([output.embeddings for output in outputs])
    )


def _column(measures: Sequence[Mapping[str, float]], name: str) -> Floats:
    return np.array([measure.get(name, np.nan) for measure in measures], np.float32)


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on one part of a snapshot."""

    snapshot_id: str
    split: Split
    n: int
    labels: tuple[str, ...]
    metrics: Mapping[str, Interval]
    per_class: Mapping[str, Mapping[str, Interval]]
    """label -> {"precision", "recall"}."""
    confusion: tuple[tuple[int, ...], ...]
    """True class (row) by answer (column), in the order of `labels`; rows of unknown classes are left out."""
    slices: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    """`fresh`, `old`, `contradicted`, `answered` and `column=value` -> {"accuracy", "macro_f1"}."""
    unknown: Mapping[str, int] = field(default_factory=dict)
    """Classes of the rows that the model does not know, with their numbers of rows; all counted as wrong."""
    reliability: tuple[ReliabilityPoint, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "snapshot_id": self.snapshot_id,
            "split": str(self.split),
            "n": self.n,
            "labels": list(self.labels),
            "metrics": _to_json(self.metrics),
            "per_class": {label: _to_json(found) for label, found in self.per_class.items()},
            "confusion": [list(row) for row in self.confusion],
            "slices": {name: _to_json(found) for name, found in self.slices.items()},
            "unknown": dict(self.unknown),
            "reliability": [{"confidence": p.confidence, "accuracy": p.accuracy.to_json()} for p in self.reliability],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """What `to_json` gave."""
        return cls(
            values["snapshot_id"],
            Split(values["split"]),
            int(values["n"]),
            tuple(values["labels"]),
            _from_json(values["metrics"]),
            {label: _from_json(found) for label, found in values["per_class"].items()},
            tuple(tuple(int(cell) for cell in row) for row in values["confusion"]),
            {name: _from_json(found) for name, found in values["slices"].items()},
            {label: int(count) for label, count in values["unknown"].items()},
            tuple(
                ReliabilityPoint(float(p["confidence"]), Interval.from_json(p["accuracy"]))
                for p in values["reliability"]
            ),
        )


def _to_json(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.to_json() for name, interval in intervals.items()}


def _from_json(values: Mapping[str, Any]) -> dict[str, Interval]:
    return {name: Interval.from_json(value) for name, value in values.items()}


def evaluate(
    judged: Judged,
    snapshot_id: str,
    split: Split,
    metrics: Mapping[str, Metric] | None = None,
    contradicted: frozenset[str] = frozenset(),
    contexts: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """The numbers of these answers.

    `metrics` are the user's own, on top of METRICS (see `cost_matrix` and `keepfit.metrics.cost_metric` for costs);
    `contradicted` are ids of rows whose label from life denies the old one; `contexts` maps a column to its n values.
    Raises InvalidInput when a user's own metric fails.
    """
    truth, scores = judged.truth, judged.output.scores
    rng = np.random.default_rng(SEED)
    found = {name: metric.interval(truth, scores, rng) for name, metric in METRICS.items()}
    found |= {name: _own(name, metric, judged, rng) for name, metric in (metrics or {}).items()}
    if judged.abstain_below is not None:
        found["coverage"] = wilson(int(_answered(judged).sum()), len(judged))
    both = m.per_class_intervals(truth, scores)
    names = zip(judged.labels, both["precision"], both["recall"], strict=True)
    return Evaluation(
        snapshot_id,
        split,
        len(judged),
        judged.labels,
        found,
        {label: {"precision": precision, "recall": recall} for label, precision, recall in names},
        tuple(tuple(int(cell) for cell in row) for row in m.confusion(truth, judged.said, len(judged.labels))),
        {name: _slice(judged, mask, rng) for name, mask in _masks(judged, contradicted, contexts or {}).items()},
        dict(Counter(label for label, index in zip(judged.rows.truth, truth, strict=True) if index < 0)),
        m.reliability(truth, scores),
    )


def _own(name: str, metric: Metric, judged: Judged, rng: np.random.Generator) -> Interval:
    try:
        return metric.interval(judged.truth, judged.output.scores, rng)
    except Exception as error:  # a user's own code may raise anything
        raise InvalidInput(
            f"your metric {name!r} failed ({type(error).__name__}: {error}); it gets truth (n,) and scores (n, k) "
            "as numpy arrays and must return one number",
            "metrics",
        ) from error


def _answered(judged: Judged) -> NDArray[np.bool_]:
    return np.asarray(judged.output.scores.max(axis=1, initial=0.0) >= (judged.abstain_below or 0.0))


def _masks(
    judged: Judged, contradicted: frozenset[str], contexts: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.bool_]]:
    """The slices that hold some rows but not all of them; contexts only where a value has 20 rows or more."""
    masks = {
        "fresh": judged.rows.fresh,
        "old": ~judged.rows.fresh,
        "contradicted": np.array([id in contradicted for id in judged.rows.ids], bool),
        "answered": _answered(judged),
    }
    for column, values in contexts.items():
        every = np.array(values, object)
        for value, count in Counter(values).most_common(MOST_SLICES):
            if count >= SMALLEST_SLICE:
                masks[f"{column}={value}"] = np.asarray(every == value, bool)
    return {name: mask for name, mask in masks.items() if 0 < mask.sum() < len(judged)}


def _slice(judged: Judged, mask: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, Interval]:
    truth, scores = judged.truth[mask], judged.output.scores[mask]
    return {name: METRICS[name].interval(truth, scores, rng) for name in ("accuracy", "macro_f1")}


def cost_matrix(labels: Sequence[str], costs: Mapping[str, Mapping[str, float]]) -> NDArray[np.float64]:
    """A user's costs, true -> said -> cost, as a matrix (k, k); other mistakes cost 1 and right answers nothing.

    Raises SettingsError when a name is not among the labels.

    >>> cost_matrix(["ham", "spam"], {"ham": {"spam": 10}}).tolist()
    [[0.0, 10.0], [1.0, 0.0]]
    """
    index = {label: number for number, label in enumerate(labels)}
    unknown = sorted({name for true, row in costs.items() for name in (true, *row)} - set(index))
    if unknown:
        raise SettingsError(f"the costs name an unknown class {unknown[0]!r}; the classes are {', '.join(labels)}")
    matrix = 1.0 - np.eye(len(labels))
    for true, row in costs.items():
        for said, cost in row.items():
            matrix[index[true], index[said]] = cost
    return matrix


def latency_ms(
    model: Model, contents: Sequence[Any], timer: Callable[[], float], rounds: int = 50
) -> tuple[float, float]:
    """The median and the 95th percentile of answering one content alone, in milliseconds.

    Takes the contents in turn, after two unmeasured answers to warm up; `timer` gives seconds (time.perf_counter).
    Where an answer takes long (a window of video), fewer rounds than `rounds` are taken: about ten seconds' worth, and
    three at least. Raises InvalidInput without contents.
    """
    if not contents:
        raise InvalidInput("latency cannot be measured without an example; give at least one")
    for content in contents[:2]:
        predict(model, (content,))
    times = []
    for number in range(rounds):
        start = timer()
        predict(model, (contents[number % len(contents)],))
        times.append((timer() - start) * 1000)
        if sum(times) > LATENCY_MS and len(times) >= FEWEST_ROUNDS:
            break
    median, high = np.quantile(times, [0.5, 0.95])
    return float(median), float(high)


REFERENCE = "reference.npz"
_ARRAYS = ("scores", "embeddings", "truth", "times")


@dataclass(frozen=True, eq=False)
class Reference:
    """What a version answered when it was judged: the normal that its monitors compare with."""

    scores: Floats
    """Shape (n, k)."""
    embeddings: Floats
    """Shape (n, d); stored as float16."""
    truth: NDArray[np.int64]
    """Shape (n,)."""
    measures: Mapping[str, Floats] = field(default_factory=dict)
    """By name (`length`, `unknown`), each of shape (n,)."""
    times: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """When each row happened, in seconds since 1970, NaN where that is not known; shape (n,), or (0,) of older ones."""


def of_class(reference: Reference, number: int) -> Reference:
    """The rows of one class alone."""
    rows = reference.truth == number
    return Reference(
        reference.scores[rows], reference.embeddings[rows], reference.truth[rows],
        {name: values[rows] for name, values in reference.measures.items()},
        reference.times[rows] if len(reference.times) else reference.times,
    )  # fmt: skip


def write_reference(folder: Path, judged: Judged) -> Path:
    """Write `reference.npz` into a model's folder, at once or not at all; the same answers give the same bytes."""
    arrays: dict[str, NDArray[Any]] = {
        "scores": judged.output.scores.astype(np.float32),
        "embeddings": judged.output.embeddings.astype(np.float16),
        "truth": judged.truth,
        "times": np.array([np.nan if at == UNKNOWN_TIME else at.timestamp() for at in judged.rows.times], np.float64),
        **judged.measures,
    }
    return _write_arrays(folder, arrays)


def _write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    path, part = folder / REFERENCE, folder / f"{REFERENCE}.part"
    try:
        with zipfile.ZipFile(part, "w") as archive:
            for name, array in arrays.items():  # numpy's own savez writes the time of day into the file
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        os.replace(part, path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written ({error}); make room on the disk and try again") from error
    return path


def without_rows(places: Sequence[int], rows: int, folder: Path) -> bool:
    """Take some rows out of the reference in a folder, for people who are to be forgotten; false when nothing changed.

    Only where it has as many rows as the test part, `rows`: another number means that they were taken out before.
    """
    if not (folder / REFERENCE).is_file():
        return False
    with np.load(folder / REFERENCE, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if len(arrays["truth"]) != rows:
        return False
    _write_arrays(folder, {name: np.delete(array, list(places), axis=0) for name, array in arrays.items()})
    return True


def read_reference(folder: Path) -> Reference:
    """The reference in a model's folder. Raises BackendError when it is missing or damaged."""
    path = folder / REFERENCE
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        measures = {name: array for name, array in arrays.items() if name not in _ARRAYS}
        scores, embeddings = arrays["scores"], arrays["embeddings"].astype(np.float32)
        return Reference(scores, embeddings, arrays["truth"], measures, arrays.get("times", np.empty(0)))
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BackendError(f"{path} cannot be read ({error}); fetch or train the version again") from error
