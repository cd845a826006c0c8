"""Replay: a policy's life on past traffic, with the product's own triggers, monitor and gate rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import Prediction, Window
from keepfit.data.snapshot import Rows
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.evaluator import Judged, Reference
from keepfit.evaluation.gate import Gate, Trial
from keepfit.evaluation.rules import Better, NotWorse
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.measurement import TOO_FEW, Measurement
from keepfit.monitoring.monitor import Monitor
from keepfit.monitoring.performance import Answered, Share, share, stretches
from keepfit.pipelines.backtest.matrix import Flags, Ints, Matrix
from keepfit.tasks.task import Output
from keepfit.triggers.drift import remembered
from keepfit.triggers.facts import Attempt, Losses, Price
from keepfit.triggers.trigger import Reason, Situation, Trigger

Doubles = NDArray[np.float64]
MODEL = "backtest"
MINIMUM = 30
"""Labels or answers below which a measurement is not judged."""


@dataclass(frozen=True)
class Tried:
    """One attempt to retrain in a replay."""

    step: int
    """At the end of which it was called for."""
    passed: bool
    because: str
    head: int
    """That it trained."""
    before: int
    """The head that served until then."""
    routine: bool
    """No harm called for it."""
    gain: float | None
    """Accuracy on held-out labels, less that of the head before."""
    grown: float
    """Rows that it learnt from, as a multiple of those of the attempt before."""


@dataclass(frozen=True, eq=False)
class Life:
    """What became of the traffic under one policy."""

    serving: Ints
    """The head that answered each step, shape (steps,)."""
    mistakes: Doubles
    """In each step, of life, shape (steps,)."""
    tried: tuple[Tried, ...]
    last: Decision | None
    """The last word of the trigger."""
    refused: str | None = None
    """Why the policy makes no sense for the first model, where it does not."""


@dataclass(frozen=True, eq=False)
class Replay:
    """The facts of a matrix as triggers see them, and the life of each policy."""

    matrix: Matrix
    price: Price
    timezone: str = "UTC"
    minimum: int = MINIMUM
    with_gate: bool = True
    """False: what is trained is served, without proof."""
    inputs: bool = True
    """False spares the measuring of inputs where no policy looks at them."""

    @cached_property
    def right(self) -> Flags:
        """Whether a head is right on a row, shape (steps, n)."""
        return self.matrix.right()

    @cached_property
    def mistakes(self) -> Doubles:
        """Mistakes of life that a head (row) makes in a step, shape (steps, steps)."""
        sums = np.add.reduceat(~self.right, self.matrix.cuts[:-1], axis=1)
        return np.asarray(sums * self.matrix.traffic.scale, np.float64)

    def play(self, trigger: Trigger) -> Life:
        """The policy's life; an attempt at the end of a step serves from the next one on, where its gate lets it."""
        steps = self.matrix.steps
        head, since, serving = 0, 0, np.zeros(steps, np.int64)
        tried: list[Tried] = []
        history: tuple[tuple[Measurement, ...], ...] = ()
        refused, last = trigger.objection(self.reference(0)[0]), None
        for step in range(steps):
            serving[step] = head
            if step + 1 == steps:
                break  # nothing is left that a new version could answer
            situation = replace(self.situation(head, since, step, tried), history=history)
            last = trigger.decide(situation)
            history = remembered(history, situation.measurements)
            if last.outcome is not Outcome.FIRE:
                continue
            reason = str(last.evidence.get("reason"))
            passed = self.gate(head, since, step, reason).outcome is Outcome.PASS
            grown = self.learnt(step + 1) / max(self.learnt(tried[-1].head if tried else 0), 1)
            routine, gain = reason != Reason.HARM.value, self.gain(head, step)
            tried.append(Tried(step, passed, last.because[0], step + 1, head, routine, gain, grown))
            if passed:
                head, since, history = step + 1, step + 1, ()
        return Life(serving, self.mistakes[serving, np.arange(steps)], tuple(tried), last, refused)

    # what a trigger sees

    def situation(self, head: int, since: int, step: int, tried: Sequence[Tried]) -> Situation:
        """The facts at the end of a step, of a head that has served since the beginning of step `since`."""
        matrix, now = self.matrix, self.end(step)
        attempts = tuple(
            Attempt(self.end(one.step), one.passed, False, one.routine, one.gain, one.grown) for one in reversed(tried)
        )
        settled = max([since, *(one.step + 1 for one in tried)])  # what came before was settled by an attempt
        rows = self.answered(settled, step)
        wrong = (~self.right[head, rows]).astype(np.float64)
        weights = np.full(len(rows), matrix.traffic.scale / matrix.plan.label_rate)
        fresh = int((matrix.labelled & (matrix.arrives <= step) & (matrix.arrives >= settled)).sum())
        return Situation(
            now=now, model=MODEL, version=head + 1, trained_at=attempts[0].at if attempts else None,
            deployed_at=self.begin(since), reference_accuracy=self.reference(head)[0], new_labels=fresh,
            measurements=self._measured(head, since, step), timezone=self.timezone,
            predictions=self.answers(since, step), price=self.price, attempts=attempts,
            learnt=self.learnt(tried[-1].head if tried else 0),
            losses=Losses.of(self.begin(settled), now, self.answers(settled, step), wrong, weights),
        )  # fmt: skip

    def answers(self, since: int, step: int) -> int:
        """Answers of life in these steps."""
        rows = self.matrix.cuts[step + 1] - self.matrix.cuts[since]
        return int(rows * self.matrix.traffic.scale)

    def answered(self, since: int, step: int) -> Ints:
        """The rows of steps `since` to `step` whose label is in at the end of `step`, in order."""
        matrix = self.matrix
        rows = np.arange(matrix.cuts[since], matrix.cuts[step + 1])
        return rows[matrix.labelled[rows] & (matrix.arrives[rows] <= step)]

    def learnt(self, head: int) -> int:
        """Labelled rows, held-out ones with them, that a head's training had."""
        return int(self.matrix.known(head).sum())

    def gain(self, head: int, step: int) -> float | None:
        """Of the candidate of a step over a head, on all held-out labels from the steps."""
        rows = np.flatnonzero(self.matrix.labelled & self.matrix.held & (self.matrix.arrives <= step))
        rows = rows[rows >= self.matrix.start]
        found = self.right[step + 1, rows].mean() - self.right[head, rows].mean() if len(rows) else None
        return None if found is None else float(found)

    def begin(self, step: int) -> datetime:
        """When a step begins: as the one before ends."""
        return self.matrix.traffic.times[int(self.matrix.cuts[step]) - 1]

    def end(self, step: int) -> datetime:
        """When a step ends."""
        return self.matrix.traffic.times[int(self.matrix.cuts[step + 1]) - 1]

    @cached_property
    def _measured(self) -> Callable[[int, int, int], tuple[Measurement, ...]]:
        return cache(self.measure)

    def measure(self, head: int, since: int, step: int) -> tuple[Measurement, ...]:
        """As the monitor: the accuracy since the deployment, that of the newest stretches, and the step's inputs."""
        rows = self.answered(since, step)
        found = self.accuracies(head, rows, Window(self.begin(since), self.end(step)))
        if self.inputs:
            window = Window(self.begin(step), self.end(step))
            here = np.arange(self.matrix.cuts[step], self.matrix.cuts[step + 1])
            _, reference = self.reference(head)
            found += self._monitor(head).measure(self.predictions(head, here), [], reference, window, head + 1)
        return tuple(found)

    def accuracies(self, head: int, rows: Ints, window: Window) -> list[Measurement]:
        """What the monitor says of these labelled rows, oldest label first."""
        if not len(rows):
            return []
        order = rows[np.argsort(self.matrix.arrives[rows], kind="stable")]
        answered = Answered(
            self.matrix.traffic.truth[order], self.matrix.scores(head, order), np.ones(len(order))
        )  # fmt: skip
        sizes = {"accuracy": len(order), **{f"accuracy:last{size}": size for size in stretches(len(order))}}
        return [self.as_measured(name, share(answered, size), window, head + 1) for name, size in sizes.items()]

    def as_measured(self, name: str, found: Share, window: Window, version: int) -> Measurement:
        """A share of right answers as a measurement."""
        i = found.interval
        note = "" if i.n >= self.minimum else f"{TOO_FEW}: {i.n} of {self.minimum}"
        return Measurement(name, i.value, i.low, i.high, i.n, window, version, note=note)

    @cached_property
    def _monitor(self) -> Callable[[int], Monitor]:
        return cache(lambda head: Monitor(minimum=self.minimum))

    def predictions(self, head: int, rows: Ints) -> list[Prediction]:
        """What a head says of some rows, as the store would hold it."""
        traffic, scores = self.matrix.traffic, self.matrix.scores(head, rows)
        return [
            Prediction(
                str(row), head + 1, traffic.classes, said, traffic.embeddings[row], traffic.times[row], id=str(row),
                measures={name: float(values[row]) for name, values in traffic.measures.items()},
            )
            for row, said in zip(rows, scores, strict=True)
        ]  # fmt: skip

    @cached_property
    def reference(self) -> Callable[[int], tuple[Interval, Reference]]:
        """By head: its accuracy on what was held out when it was trained, and its answers there."""

        @cache
        def of(head: int) -> tuple[Interval, Reference]:
            traffic = self.matrix.traffic
            rows = np.flatnonzero(self.matrix.known(head) & self.matrix.held)
            measures = {name: values[rows] for name, values in traffic.measures.items()}
            told = Reference(self.matrix.scores(head, rows), traffic.embeddings[rows], traffic.truth[rows], measures)
            return wilson(int(self.right[head, rows].sum()), len(rows)), told

        return of

    # whether a candidate is let through

    def gate(self, head: int, since: int, step: int, reason: str) -> Decision:
        """The product's rules on what was held out: better since the deployment after harm, else not worse."""
        if not self.with_gate:
            return Decision(Outcome.PASS, ("no gate",))
        matrix, harm = self.matrix, reason == Reason.HARM.value
        rows = np.flatnonzero(matrix.labelled & matrix.held & (matrix.arrives <= step))
        rows = rows[rows >= matrix.start]
        recent = rows >= (matrix.cuts[since] if harm else matrix.start)
        if not len(rows):
            return Decision(Outcome.FAIL, ("there is no held-out label yet",))
        trial = Trial(self.judged(step + 1, rows), self.judged(head, rows), reason, recent)
        return Gate((Better(), NotWorse())).judge(trial)

    def judged(self, head: int, rows: Ints) -> Judged:
        """What a head says of held-out rows."""
        traffic = self.matrix.traffic
        names = tuple(map(str, rows))
        truth = tuple(traffic.classes[i] for i in traffic.truth[rows])
        table = Rows(
            names, truth, names, names, tuple(traffic.times[i] for i in rows), np.ones(len(rows), bool),
            np.ones(len(rows), np.float32),
        )  # fmt: skip
        output = Output(self.matrix.scores(head, rows), traffic.embeddings[rows])
        return Judged(table, traffic.classes, traffic.truth[rows], output)
