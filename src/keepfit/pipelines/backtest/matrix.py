"""Matrix: what a model trained at each step would have answered in each later step, computed once and kept.

Each model is a logistic head on frozen embeddings, trained on the labels that had come in by then.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from keepfit.errors import BackendError, InvalidInput
from keepfit.pipelines.backtest.traffic import Floats, Traffic
from keepfit.telling import Progress

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

PENALTY = 0.02
"""Of the squared weights of a head, per row."""
ROUNDS = 150
"""Steps of L-BFGS at most; each head begins where the one before ended."""


@dataclass(frozen=True)
class Plan:
    """How the traffic is cut and labelled. Raises InvalidInput for what makes no sense."""

    steps: int = 40
    """Of equally many rows, after the first part."""
    first: float = 0.2
    """Share of the rows that the first model was made from; all of them are labelled."""
    label_rate: float = 1.0
    """The chance of a row of getting a label."""
    label_delay: timedelta = timedelta(0)
    holdout: float = 0.4
    """Share of the labels that are kept for the gate and the reference."""
    recent_share: float = 0.5
    """Share of the training weight of all labels from the steps, as in a retraining."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 5 <= self.steps <= 500:
            raise InvalidInput("a backtest takes between 5 and 500 steps", "steps")
        if not 0.02 <= self.first <= 0.9:
            raise InvalidInput("the first part must be between 0.02 and 0.9 of the rows", "first")
        if not 0 < self.label_rate <= 1:
            raise InvalidInput("the label rate must be above 0 and at most 1", "label_rate")
        if self.label_delay < timedelta(0):
            raise InvalidInput("labels cannot come before their answers", "label_delay")

    @property
    def key(self) -> str:
        """As text that two equal plans share."""
        return json.dumps(asdict(self), default=str, sort_keys=True)


@dataclass(frozen=True, eq=False)
class Matrix:
    """Traffic cut into steps, and a head for each moment at which one could have been trained."""

    traffic: Traffic
    plan: Plan
    start: int
    """The first row of the first step; those before made the first model."""
    cuts: Ints
    """Step t has the rows cuts[t] to cuts[t + 1], shape (steps + 1,)."""
    labelled: Flags
    """Which rows get a label, shape (n,)."""
    arrives: Ints
    """In which step the label of a row is in (at its end); `steps` where it is later. Shape (n,)."""
    held: Flags
    """Which rows are held out where they are labelled, shape (n,)."""
    heads: Floats
    """heads[t] is trained on what was labelled before step t, shape (steps, d + 1, k)."""
    scaling: Floats
    """Mean and deviation of the embeddings of the first part, shape (2, d)."""

    @property
    def steps(self) -> int:
        return len(self.cuts) - 1

    def scores(self, head: int, rows: Ints) -> Floats:
        """Probabilities of a head on some rows, shape (m, k)."""
        inputs = standard(self.traffic.embeddings[rows], self.scaling)
        return softmax(inputs @ self.heads[head][:-1] + self.heads[head][-1])

    def right(self) -> Flags:
        """Whether a head (row of the result) is right on a row of the traffic, shape (steps, n)."""
        everything = np.arange(len(self.traffic))
        return np.stack([self.scores(t, everything).argmax(axis=1) == self.traffic.truth for t in range(self.steps)])

    def known(self, step: int) -> Flags:
        """The rows whose label was in before a step began, shape (n,); all of the first part are."""
        found = self.labelled & (self.arrives < step)
        found[: self.start] = True
        return found


def make(
    traffic: Traffic, plan: Plan, folder: Path | None = None, progress: Progress = lambda done, of: None
) -> Matrix:
    """The matrix, from `folder` where the same one was made before.

    Raises InvalidInput when the steps would be too small, or the first part has one class only.
    """
    start = int(len(traffic) * plan.first)
    if (len(traffic) - start) / plan.steps < 5:
        raise InvalidInput(
            f"{len(traffic)} rows make steps of fewer than 5 rows; take at most {(len(traffic) - start) // 5} steps",
            "steps",
        )
    rng = np.random.default_rng(plan.seed)
    cuts = np.linspace(start, len(traffic), plan.steps + 1).astype(np.int64)
    labelled, held = rng.random(len(traffic)) < plan.label_rate, rng.random(len(traffic)) < plan.holdout
    blank = Matrix(
        traffic, plan, start, cuts, labelled, arrival(traffic, cuts, plan.label_delay), held,
        np.zeros((0, 0, 0), np.float32), scaling_of(traffic.embeddings[:start]),
    )  # fmt: skip
    first = traffic.truth[:start][~held[:start]]
    if len(np.unique(first)) < 2:
        raise InvalidInput(
            "the first part, which the first model is made from, has one class only; make it longer", "first"
        )
    digest = hashlib.sha256(f"1\x1f{traffic.key}\x1f{plan.key}".encode()).hexdigest()[:24]
    file = None if folder is None else folder / f"{digest}.npy"
    heads = None if file is None else kept(file, (plan.steps, traffic.embeddings.shape[1] + 1, len(traffic.classes)))
    if heads is not None:
        return with_heads(blank, heads)
    heads = trained(blank, progress)
    if file is not None:
        keep(file, heads)
    return with_heads(blank, heads)


def with_heads(blank: Matrix, heads: Floats) -> Matrix:
    """The matrix with its heads."""
    values = {name: getattr(blank, name) for name in blank.__dataclass_fields__}
    return Matrix(**{**values, "heads": heads})


def kept(file: Path, shape: tuple[int, ...]) -> Floats | None:
    """The heads that a file holds; None where there is none, or it is damaged: they are only a cache."""
    try:
        with file.open("rb") as opened:
            heads = np.load(opened, allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return heads if isinstance(heads, np.ndarray) and heads.shape == shape else None


def keep(file: Path, heads: Floats) -> None:
    """Write the heads at once or not at all."""
    part = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as target:
            np.save(target, heads, allow_pickle=False)
        os.replace(part, file)
    except OSError as error:
        raise BackendError(f"{file} cannot be written ({error}); make room on the disk and try again") from error


def arrival(traffic: Traffic, cuts: Ints, delay: timedelta) -> Ints:
    """At the end of which step each label is in."""
    seconds = np.array([moment.timestamp() for moment in traffic.times])
    ends = seconds[cuts[1:] - 1]
    own = np.searchsorted(cuts[1:], np.arange(len(seconds)), side="right")
    return np.maximum(np.searchsorted(ends, seconds + delay.total_seconds(), side="left"), own).astype(np.int64)


def trained(blank: Matrix, progress: Progress) -> Floats:
    """A head for each step, shape (steps, d + 1, k)."""
    traffic, plan = blank.traffic, blank.plan
    d, k = traffic.embeddings.shape[1], len(traffic.classes)
    inputs = standard(traffic.embeddings, blank.scaling)
    heads, now = np.zeros((plan.steps, d + 1, k), np.float32), np.zeros((d + 1, k))
    before: Flags | None = None
    for step in range(plan.steps):
        rows = blank.known(step) & ~blank.held
        if before is None or (rows != before).any():
            weights = weights_of(rows, blank.start, plan.recent_share)
            now = fitted(inputs[rows], traffic.truth[rows], weights[rows], now)
        heads[step], before = now, rows
        progress(step + 1, plan.steps)
    return heads


def weights_of(rows: Flags, start: int, recent_share: float) -> Doubles:
    """Labels from the steps share `recent_share` of the weight, unless they have more already; mean 1 over the rows."""
    old, new = int(rows[:start].sum()), int(rows[start:].sum())
    weights = np.ones(len(rows))
    if old and new and new / (old + new) < recent_share:
        weights[start:] = recent_share * (old + new) / new
        weights[:start] = (1 - recent_share) * (old + new) / old
    return weights


def fitted(inputs: Floats, truth: Ints, weights: Doubles, begin: Doubles) -> Doubles:
    """Multinomial logistic regression with a penalty on the squared weights, shape (d + 1, k)."""
    n, k = len(inputs), begin.shape[1]
    ones = np.concatenate([inputs, np.ones((n, 1), np.float32)], axis=1)
    hot = np.zeros((n, k), np.float32)
    hot[np.arange(n), truth] = 1
    scale = (weights / weights.sum()).astype(np.float32)

    def loss(flat: Doubles) -> tuple[float, Doubles]:
        head = flat.reshape(begin.shape)
        chance = softmax(ones @ head.astype(np.float32))
        said = np.maximum((chance * hot).sum(axis=1), 1e-12)
        slope = ones.T @ ((chance - hot) * scale[:, None])
        penalty = PENALTY * head
        penalty[-1] = 0
        value = float(-(scale * np.log(said)).sum()) + 0.5 * float((penalty * head).sum())
        return value, (slope + penalty).ravel().astype(np.float64)

    found = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ROUNDS, "ftol": 1e-7})
    return np.asarray(found.x, np.float64).reshape(begin.shape)


def scaling_of(embeddings: Floats) -> Floats:
    """Mean and deviation by column, shape (2, d)."""
    deviation = embeddings.std(axis=0)
    return np.stack([embeddings.mean(axis=0), np.where(deviation > 1e-6, deviation, 1.0)]).astype(np.float32)


def standard(embeddings: Floats, scaling: Floats) -> Floats:
    """Centred, of deviation one where the first part is."""
    return np.asarray((embeddings - scaling[0]) / scaling[1], np.float32)


def softmax(logits: Floats) -> Floats:
    """Probabilities, rows sum to one."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
