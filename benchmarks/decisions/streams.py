"""Synthetic streams for retraining policies: the error of each model at each step, and what the best policies pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Window
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.facts import Attempt, Losses, Price
from keepfit.triggers.trigger import Situation

Doubles = NDArray[np.float64]

STEPS, PREDICTIONS = 200, 5000
OWN = 0.10
"""The error of a model in the world that it was trained in."""
REFERENCE = 2000
"""Rows of the test part that the champion was judged on."""
START = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(hours=4)
KINDS = ("gradual", "abrupt", "mixed", "recurring", "null")


def errors(kind: str, rng: np.random.Generator, steps: int = STEPS) -> Doubles:
    """Error of a model trained at step s (row) in step t (column), shape (steps, steps)."""
    age = np.maximum(np.arange(steps)[None, :] - np.arange(steps)[:, None], 0)
    found = np.full((steps, steps), OWN)
    if kind in ("gradual", "mixed"):
        found = found + (0.0024 if kind == "gradual" else 0.0016) * age
    if kind in ("abrupt", "mixed"):
        changes = np.sort(rng.choice(np.arange(10, steps - 10), rng.integers(2, 5), replace=False))
        height = np.zeros(steps)
        for change in changes:
            height[change:] += rng.uniform(0.05, 0.20)
        found = found + np.maximum(height[None, :] - height[:, None], 0)
    if kind == "recurring":
        lengths = rng.integers(20, 41, steps)
        concept = np.repeat(np.arange(len(lengths)) % 2, lengths)[:steps]
        found = found + rng.uniform(0.08, 0.16) * (concept[None, :] != concept[:, None])
    return np.minimum(found, 0.7)


def clairvoyant(found: Doubles, price: float) -> float:
    """The least excess mistakes + retrainings of who knows the future: dynamic programming over the last training."""
    steps = len(found)
    excess = (found - OWN) * PREDICTIONS
    ahead = np.concatenate([np.zeros((steps, 1)), np.cumsum(excess, axis=1)], axis=1)
    best = np.full(steps + 1, np.inf)
    best[steps] = 0.0
    for begin in range(steps - 1, -1, -1):  # serving from `begin` on with what was trained at begin - 1
        source = max(begin - 1, 0)
        spans = ahead[source, begin + 1 :] - ahead[source, begin] + price
        best[begin] = (spans + best[begin + 1 :]).min()
    return float(best[0] - price)


@dataclass
class Run:
    """One policy in one stream: what it pays, and when it retrained."""

    harm: float
    attempts: list[int]


class World:
    """One stream with its labels; the same labels for every policy that has the same champion."""

    def __init__(self, kind: str, labels: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.kind, self.labels = kind, labels
        self.errors = errors(kind, rng)
        self.lots = rng.random((len(self.errors), labels))
        self.reference = [wilson(int(rng.binomial(REFERENCE, 1 - OWN)), REFERENCE) for _ in range(len(self.errors) + 1)]

    def wrong(self, trained: int, start: int, end: int) -> Doubles:
        """Which labels of steps start to end (exclusive) are of mistakes, in order."""
        return (self.lots[start:end] < self.errors[trained, start:end, None]).ravel().astype(np.float64)

    def play(self, decide: Callable[[Situation], bool], price: float) -> Run:
        """A policy's life."""
        steps, trained, since, harm = len(self.errors), 0, 0, 0.0
        attempts: list[int] = []
        for t in range(steps):
            harm += (self.errors[trained, t] - OWN) * PREDICTIONS
            situation = self.situation(trained, since, t + 1, price, attempts)
            if t + 1 < steps and decide(situation):
                attempts.append(t)
                trained, since = t, t + 1
        return Run(harm, attempts)

    def situation(self, trained: int, since: int, end: int, price: float, attempts: list[int]) -> Situation:
        """The facts at the end of a step."""
        wrong = self.wrong(trained, since, end)
        now, deployed = START + end * STEP, START + since * STEP
        answers = (end - since) * PREDICTIONS
        weight = PREDICTIONS / self.labels
        return Situation(
            now, "stream", len(attempts) + 1, trained_at=deployed if attempts else None, deployed_at=deployed,
            reference_accuracy=self.reference[len(attempts)], new_labels=len(wrong),
            measurements=accuracies(wrong, Window(deployed, now)), predictions=answers,
            losses=Losses.of(deployed, now, answers, wrong, np.full(len(wrong), weight)),
            price=Price(price, "as the benchmark sets it", 1),
            attempts=tuple(Attempt(START + (t + 1) * STEP, True) for t in reversed(attempts)),
        )  # fmt: skip


def accuracies(wrong: Doubles, window: Window) -> tuple[Measurement, ...]:
    """What the monitor measures on labels of equal chance: all of them, and the newest 64, 128, ..."""
    found = []
    right = np.cumsum(1 - wrong[::-1])
    n = len(wrong)
    for name, size in [("accuracy", n), *((f"accuracy:last{64 << k}", 64 << k) for k in range(20) if 64 << k < n)]:
        i: Interval = wilson(int(right[size - 1]), size)
        found.append(Measurement(name, i.value, i.low, i.high, size, window, 1))
    return tuple(found)


WIDTHS = (1, 2, 3, 5, 8, 13, 21, STEPS)
HEIGHTS = tuple(np.geomspace(30, 40_000, 28))


def causal_grid(worlds: list[World], price: float) -> Doubles:
    """Cost of every two-parameter rule in each world, shape (widths, heights, worlds).

    The rule: retrain when the estimated excess mistakes of the last `width` steps (since the deployment at most) are
    more than `height`. The widest is ski rental at any price; the narrowest an alarm at once. It knows OWN.
    """
    steps, n = len(worlds[0].errors), len(worlds)
    all_errors = np.stack([w.errors for w in worlds])
    lots = np.stack([w.lots for w in worlds])
    cost = np.zeros((len(WIDTHS), len(HEIGHTS), n))
    for i, width in enumerate(WIDTHS):
        heights = np.asarray(HEIGHTS)
        trained = np.zeros((len(heights), n), int)
        seen = np.zeros((len(heights), n, steps))
        since = np.zeros((len(heights), n), int)
        rows = np.arange(n)[None, :]
        for t in range(steps):
            error = all_errors[rows, trained, t]
            cost[i] += (error - OWN) * PREDICTIONS
            share = (lots[None, :, t, :] < error[..., None]).mean(axis=2)
            seen[:, :, t] = (share - OWN) * PREDICTIONS
            mask = np.arange(max(0, t - width + 1), t + 1)
            total = (seen[:, :, mask] * (mask[None, None, :] >= since[..., None])).sum(axis=2)
            fire = (total > heights[:, None]) & (t + 1 < steps)
            cost[i] += price * fire
            trained, since = np.where(fire, t, trained), np.where(fire, t + 1, since)
    return cost
