"""On what to train: which window of the past, and without which labels that no longer hold; decided in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.narrowing import narrowed
from keepfit.data.snapshot import Snapshot
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.change import change_point
from keepfit.evaluation.conflicts import Conflict, conflicting
from keepfit.evaluation.head import Frame
from keepfit.evaluation.tournament import tournament
from keepfit.evaluation.windows import ALL, MEANING, SIMILAR, Heads, Past, likeness, normal, windows
from keepfit.intervals import wilson
from keepfit.pipelines.answering import Answers
from keepfit.pipelines.train_part import TrainPart

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Flags = NDArray[np.bool_]

AUTO = "auto"
FEWEST = 40
"""Random labels in the train part below which nothing is compared."""
SCORED = 1000
"""The newest random labels that windows are compared on, at most."""
LOOKED_BACK = 4000
"""The newest random labels among which a rise of the errors is looked for, at most."""
SAMPLE = 2000
"""Rows that are embedded to compare; all of them only once it is known that something comes of it."""
MOST_ROWS = 20_000
"""With more rows than this none is looked at by itself: nothing is left out for a conflict or weighed by likeness."""
WITH_CONFLICTS = "all, conflicts too"
TRAFFIC = 100
"""Newest answers without which no row can be said to be like them."""


@dataclass(frozen=True)
class OnWhat:
    """What the settings say of what a retraining learns from, and of what may spare it."""

    window: str = ALL
    """auto, or one of `evaluation.windows.MEANING`."""
    cheaper: tuple[str, ...] = ()
    """What is tried before a training, in this order: mix, earlier."""
    new_classes: str = "grow"
    """propose, grow or ignore."""
    level: float = 0.05
    """Of the tests: of a window against all, of a conflict, of a change, of an answer at no cost."""


@dataclass(frozen=True)
class Rise:
    """Since when the champion errs more on random labels, as far as that can be seen."""

    at: float | None
    """Seconds; None: no rise is proven."""
    looked_at: int
    labels: int
    """Random labels since its own training, of which the newest were looked at."""

    def since(self, *told: str | None) -> float | None:
        """Since when it is otherwise (seconds): the rise, else the first that is told.

        What is told is the job's own word, and what was found for an earlier training: that past stays another one.
        """
        known = next((when for when in told if when is not None), None)
        if self.at is not None or known is None:
            return self.at
        return datetime.fromisoformat(known).timestamp()

    def __str__(self) -> str:
        return f"the newest {self.looked_at} of {self.labels} random labels since the champion's training"

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        at = None if self.at is None else moment(self.at).isoformat()
        return {"at": at, "looked_at": self.looked_at, "labels": self.labels}


@dataclass(frozen=True, eq=False)
class Choosing:
    """The choice for one training. Only the train part is looked at."""

    whole: Snapshot
    part: TrainPart
    asked: Answers
    """The champion."""
    traffic: Callable[[], Floats]
    """Embeddings of its newest answers, shape (n, d)."""
    policy: OnWhat
    since: float | None = None
    """When the change began (seconds), as far as it is known."""
    rise: Rise | None = None
    """Where a rise of the errors was looked for."""
    clock: Callable[[], float] = field(default=time.perf_counter)

    def choose(self, folder: Path) -> tuple[Snapshot, Decision]:
        """The snapshot to learn from, and why. Raises BackendError when it cannot be written."""
        if self.policy.window != AUTO:
            return self.as_set(folder)
        labels = len(self.part.drawn)
        if labels < FEWEST or len(np.unique(self.part.past.truth)) < 2:
            words = f"{labels} random labels in the train part are too few to compare windows, {FEWEST} are needed"
            return self.kept((f"{words}: all is learnt from, as ever",), {"random": labels})
        return self.compared(folder)

    def as_set(self, folder: Path) -> tuple[Snapshot, Decision]:
        """The window of the settings, where it can be had."""
        wanted, past = self.policy.window, self.part.past
        found = windows(past, self.since)
        if wanted == SIMILAR and self.like_traffic is not None:
            frame = Frame.of(self.embedded(np.arange(len(self.part.rows))))
            found[SIMILAR] = self.similar(frame, np.arange(len(self.part.rows)))
        if wanted not in found or wanted == ALL:
            why = "as set" if wanted == ALL else f"the window {wanted!r} is set, but comes to the same or cannot be had"
            return self.kept((f"{why}: all is learnt from",), {"window": ALL})
        words = (f"{MEANING[wanted]}: as set [retraining.window]",)
        return self.written(folder, found[wanted], wanted, words, {})

    def compared(self, folder: Path) -> tuple[Snapshot, Decision]:
        """Conflicts out, candidates scored by heads, and the winner of the tournament."""
        began = self.clock()
        places, stands = self.part.sample(SAMPLE)
        frame = Frame.of(embedded := self.embedded(places))
        denied, conflicts = self.conflicts(frame.see(embedded), places)
        past = self.without(denied)
        candidates = windows(past, self.since)
        if self.like_traffic is not None:
            candidates[SIMILAR] = self.similar(frame, places, past)
        if conflicts:
            candidates[WITH_CONFLICTS] = self.part.past.weights
        scored = np.flatnonzero(np.isin(places, self.part.drawn[-SCORED:]))
        scored = scored[np.argsort(past.times[places[scored]], kind="stable")]
        heads = Heads(
            frame.see(embedded), past.truth[places], len(self.part.classes), scored, self.part.folds(places[scored])
        )
        sampled = {name: weights[places] * stands for name, weights in candidates.items()}
        losses, right = heads.losses(sampled)
        found = tournament(losses, self.part.inverse(places[scored]), self.policy.level)
        names = list(candidates)
        table = [
            {
                "window": name, "rows": int((candidates[name] > 0).sum()), "loss": round(float(losses[i].mean()), 4),
                "accuracy": wilson(int(right[i].sum()), len(scored)).to_json(),
                "gain": [round(value, 4) for value in (at.gain, at.low, at.high)], "looked_at": at.rows,
            }
            for i, (name, at) in enumerate(zip(names, found.standings, strict=True))
        ]  # fmt: skip
        evidence = {
            "candidates": table, "scored": len(scored), "sample": len(places), "level": self.policy.level,
            "since": None if self.since is None else moment(self.since).isoformat(),
            "rise": None if self.rise is None else self.rise.to_json(),
            "conflicts": [one.to_json(self.part.classes) for one in conflicts], "asked": self.asked.asked,
            "seconds": round(self.clock() - began, 2),
        }  # fmt: skip
        winner, best = names[found.winner], names[found.best]
        words = self.words(winner, best, table[found.best], int(denied.sum()), conflicts)
        if self.rise is not None and self.rise.looked_at < self.rise.labels:
            words = (*words, f"a rise of the errors was looked for among {self.rise}")
        if winner == ALL and not denied.any():
            return self.kept(words, evidence)
        return self.written(folder, self.in_full(winner, frame, past, candidates), winner, words, evidence, denied)

    def words(
        self, winner: str, best: str, row: Mapping[str, Any], denied: int, conflicts: list[Conflict]
    ) -> tuple[str, ...]:
        """The reasons, with numbers."""
        gain, low, high = row["gain"]
        seen = f"a loss smaller by {gain:.3f} ({low:.3f} to {high:.3f}) on the newest {row['looked_at']} random labels"
        if winner != ALL:
            first = f"{MEANING.get(winner, winner)} ({row['rows']} rows): {seen}, by heads on frozen embeddings"
        elif best == ALL:
            first = "all is learnt from: no other window was better on the newest random labels"
        else:
            first = f"all is learnt from: the best other window, {best!r}, is not proven better ({seen})"
        if not conflicts:
            return (first,)
        where = ", ".join(sorted({repr(self.part.classes[one.label]) for one in conflicts}))
        fate = "stay, as the window with them is better" if winner == WITH_CONFLICTS else "are left out"
        return first, (
            f"{denied} old rows ({where}) {fate}: in their {len(conflicts)} neighbourhoods newer labels say "
            f"otherwise, by exact tests at the level {self.policy.level:g} together"
        )

    def conflicts(self, x: Floats, places: NDArray[np.int64]) -> tuple[Flags, list[Conflict]]:
        """Of all rows (n,) those that newer labels deny; looked for in the sample, then among all."""
        none: tuple[Flags, list[Conflict]] = np.zeros(len(self.part.rows), bool), []
        if not self.tested(x, places)[1]:
            return none
        everything = np.arange(len(self.part.rows))
        if len(everything) > MOST_ROWS:
            return none
        every = self.embedded(everything)
        return self.tested(Frame.of(every).see(every), everything)

    def tested(self, x: Floats, places: NDArray[np.int64]) -> tuple[Flags, list[Conflict]]:
        """Rows of `places` from before the change against random labels from after it; else life against file."""
        old = np.array([not self.part.rows[i].fresh for i in places], bool)
        if self.since is not None:
            old = self.part.past.times[places] < self.since
        new = np.isin(places, self.part.random) & ~old
        return conflicting(x, self.part.past.truth[places], new, old, self.policy.level)

    def without(self, denied: Flags) -> Past:
        """The past with no weight on some rows; the others have a mean of one."""
        past = self.part.past
        return past if not denied.any() else Past(past.times, past.truth, normal(np.where(denied, 0.0, past.weights)))

    def in_full(self, name: str, frame: Frame, past: Past, candidates: Mapping[str, Doubles]) -> Doubles:
        """The weights of all rows; those by likeness were known of a sample only."""
        if name != SIMILAR:
            return candidates[name]
        return self.similar(frame, np.arange(len(self.part.rows)), past)

    def similar(self, frame: Frame, places: NDArray[np.int64], past: Past | None = None) -> Doubles:
        """Weights (n,) by likeness to the newest traffic, for these places."""
        weights = (past or self.part.past).weights.copy()
        traffic = self.like_traffic
        if traffic is not None:
            weights[places] *= likeness(frame, self.embedded(places), traffic)
        return normal(weights)

    @property
    def like_traffic(self) -> Floats | None:
        """The newest answers' embeddings; None where there are too few, or too many rows to be compared with them."""
        found = self.traffic()
        fits = len(found) >= TRAFFIC and len(self.part.rows) <= MOST_ROWS
        return found if fits and found.shape[1] == self.embedded(np.arange(1)).shape[1] else None

    def embedded(self, places: NDArray[np.int64]) -> Floats:
        """The champion's embeddings of rows, shape (n, d)."""
        return self.asked([self.part.rows[i].content for i in places]).embeddings

    def kept(self, words: tuple[str, ...], evidence: Mapping[str, Any]) -> tuple[Snapshot, Decision]:
        """Nothing changes."""
        told = {"window": ALL, "snapshot": self.whole.id, "rows": len(self.part.rows), **evidence}
        return self.whole, Decision(Outcome.HOLD, words, told)

    def written(
        self, folder: Path, weights: Doubles, name: str, words: tuple[str, ...], evidence: Mapping[str, Any],
        denied: Flags | None = None,
    ) -> tuple[Snapshot, Decision]:  # fmt: skip
        """The snapshot with these weights, and the decision. Its lineage counts the `denied` rows without a weight."""
        by_id = {row.id: float(weight) for row, weight in zip(self.part.rows, normal(weights), strict=True)}
        left_out = 0 if denied is None else int((denied & (weights <= 0)).sum())
        made = narrowed(folder, self.whole, by_id, {"kind": "window", "window": name, "conflicts": left_out})
        told = {"window": name, "snapshot": made.id, "rows": int((weights > 0).sum()), **evidence}
        return made, Decision(Outcome.PASS, words, told)


def risen(part: TrainPart, asked: Answers, after: datetime, level: float) -> Rise:
    """Where the champion's errors rise on the newest random labels, LOOKED_BACK at most.

    Only labels of examples from after the champion's own training count: on those that it learnt from it errs less.
    """
    every = part.random[part.past.times[part.random] >= after.timestamp()]
    places = every[-LOOKED_BACK:]
    if not len(places):
        return Rise(None, 0, 0)
    said = asked([part.rows[i].content for i in places]).scores.argmax(axis=1)
    wrong = [asked.model.labels[s] != part.rows[i].label for s, i in zip(said, places, strict=True)]
    found = change_point(np.array(wrong, np.float64), level)
    return Rise(None if found is None else float(part.past.times[places[found]]), len(places), len(every))


def moment(seconds: float) -> datetime:
    """As a time."""
    return datetime.fromtimestamp(seconds, UTC)
