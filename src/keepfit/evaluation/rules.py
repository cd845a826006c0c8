"""The rules of the gate: better, not worse, floors, latency, behaviour; and, from `guards`, what protects the old.

Each is a frozen value with its limits; the name in brackets at the end of an objection is the setting to change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from keepfit.errors import SettingsError
from keepfit.evaluation.behaviour import CheckResult
from keepfit.evaluation.contradiction import NEIGHBOURS
from keepfit.evaluation.gate import Finding, Rule, Trial
from keepfit.evaluation.guards import Guard, NegativeFlips
from keepfit.evaluation.pairs import Kept, Pairs, pairs
from keepfit.intervals import normal_quantile, sign_test
from keepfit.metrics import METRICS, Metric, predicted

__all__ = ["STANDARD", "Behaviour", "Better", "Floors", "Guard", "LatencyBudget", "NegativeFlips", "NotWorse"]

HARM = "harm"
FAR = 100_000
"""Labels beyond which "so many would prove it" is no help."""


@dataclass(frozen=True)
class Better:
    """Called by harm: the candidate must be better on the held-out labels since the change.

    The exact one-sided sign test on the examples where exactly one of the two is right, at `level`. A gate looks once
    per candidate, so the level needs no e-process: at one look the exact test proves with fewer labels, and the next
    candidate is another one, judged on more labels. (Someone who looks after every label uses `sequential.e_better`.)
    """

    level: float = 0.05
    min_labels: int = 30
    name: str = "better"

    def find(self, trial: Trial) -> Finding | None:
        """Applies to a retraining called by harm that has a champion."""
        if trial.champion is None or trial.reason != HARM:
            return None
        seen = pairs(trial, trial.since_change)
        p = sign_test(seen.wins, seen.losses)
        evidence = {**seen.to_json(), "p": p, "level": self.level, "min_labels": self.min_labels}
        if seen.n < self.min_labels:
            return Finding(False, self._too_few(seen), evidence)
        if p > self.level:
            return Finding(
                False, f"not proven better on recent labels: {seen}, p = {p:.3g}; {self._more(seen)}", evidence
            )
        return Finding(True, f"better on recent labels: {seen}, p = {p:.2g}, level {self.level:g}", evidence, True)

    def _too_few(self, seen: Pairs) -> str:
        return (
            f"there are {seen.n} held-out labels since the change and at least {self.min_labels} are needed to tell "
            f"whether the candidate is better: answer about {self.min_labels - seen.n} more of those that are held "
            "out, then retrain [min_evidence]"
        )

    def _more(self, seen: Pairs) -> str:
        """How many labels would prove it if things go on so."""
        needed = f"it takes p <= {self.level:g}"
        if seen.wins <= seen.losses:
            fewest = math.ceil(math.log2(1 / self.level))
            return f"{needed}, so at least {fewest} examples on which only the candidate is right [level]"
        z = normal_quantile(1 - 2 * self.level)
        labels = seen.n * z * z * (seen.wins + seen.losses) / (seen.wins - seen.losses) ** 2
        about = f"about {math.ceil(max(labels, seen.n + 1))}" if labels < FAR else f"over {FAR}"
        return f"{needed}; at this rate {about} held-out labels would show it [level]"


@dataclass(frozen=True)
class NotWorse:
    """Not called by harm: the candidate must not be worse on the held-out labels since the change.

    It fails when its accuracy is lower by more than `margin` and an equal candidate would look so bad with a chance of
    `level` at most (one-sided sign test). The level is lenient towards refusing: nothing burns, so doubt keeps the
    champion, while a pair of unlucky examples does not. With fewer than `min_labels` recent labels all held-out rows
    are taken (without those whose label life has denied).
    """

    margin: float = 0.01
    level: float = 0.25
    min_labels: int = 30
    neighbours: int = NEIGHBOURS
    name: str = "not_worse"

    def find(self, trial: Trial) -> Finding | None:
        """Applies to a retraining that was not called by harm and has a champion."""
        if trial.champion is None or trial.reason == HARM:
            return None
        recent = int(trial.since_change.sum()) >= self.min_labels
        seen = pairs(trial, trial.since_change if recent else trial.since_change | Kept.of(trial, self.neighbours).old)
        where = "recent labels" if recent else "all held-out rows (too few recent labels)"
        p = sign_test(seen.losses, seen.wins)
        evidence = {**seen.to_json(), "p": p, "level": self.level, "margin": self.margin, "recent": recent}
        if seen.n == 0:
            return Finding(False, "there is no held-out row to compare on: add labelled rows and retrain", evidence)
        worse = seen.before - seen.after > self.margin and p <= self.level
        if worse:
            says = f"worse on {where}: {seen}, beyond the margin {self.margin:g}, p = {p:.2g} [not_worse_margin]"
            return Finding(False, says, evidence)
        return Finding(True, f"not worse on {where}: {seen}", evidence, True)


@dataclass(frozen=True)
class Floors:
    """Absolute limits, also for the first version: metrics at least so high (those where low is good: at most).

    Measured on the recent labels when there are `min_labels`, else on all held-out rows that life has not denied; in
    any case also on those that the champion has not learnt to judge, for nothing else holds there. A candidate that
    always gives one answer to rows of several classes fails, whatever the limits.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    """By name of a metric: accuracy, macro_f1, log_loss, calibration_error, brier, or a user's own."""
    metrics: Mapping[str, Metric] = field(default_factory=lambda: METRICS)
    min_labels: int = 30
    neighbours: int = NEIGHBOURS
    one_answer_fails: bool = True
    """False for detectors, whose threshold may be so high that a short test part holds no alarm."""
    name: str = "floors"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.limits) - set(self.metrics))
        if unknown:
            raise SettingsError(f"there is no floor for {unknown[0]!r}; known are {', '.join(self.metrics)} [floors]")

    def find(self, trial: Trial) -> Finding | None:
        """Applies always."""
        recent = trial.champion is not None and int(trial.since_change.sum()) >= self.min_labels
        mask = trial.since_change if recent else trial.since_change | Kept.of(trial, self.neighbours).old
        where = "recent labels" if recent else "held-out rows"
        truth, scores = trial.candidate.truth[mask], trial.candidate.output.scores[mask]
        if trial.beyond is not None:
            truth = np.concatenate([truth, trial.beyond.truth])
            scores = np.concatenate([scores, trial.beyond.output.scores])
            where += ", those that the champion does not know included"
        if not len(truth):
            return Finding(False, "there is no held-out row to judge on: add labelled rows and train again")
        values = {name: self.metrics[name].fn(truth, scores) for name in self.limits}
        evidence = {"n": len(truth), "values": values, "limits": dict(self.limits)}
        missed = [self._missed(name, value) for name, value in values.items() if not self._keeps(name, value)]
        said = predicted(scores)
        if self.one_answer_fails and len(set(said.tolist())) == 1 < len(set(truth.tolist())):
            answer = trial.candidate.labels[int(said[0])]
            missed.append(f"every answer is {answer!r}: the candidate has learnt nothing")
        if missed:
            return Finding(False, f"on {len(truth)} {where}: {', '.join(missed)}", evidence)
        told = ", ".join(f"{name} {value:.3f}" for name, value in values.items()) or "answers differ as they should"
        return Finding(True, f"floors are kept on {len(truth)} {where}: {told}", evidence)

    def _keeps(self, name: str, value: float) -> bool:
        return value >= self.limits[name] if self.metrics[name].higher_is_better else value <= self.limits[name]

    def _missed(self, name: str, value: float) -> str:
        side = "below" if self.metrics[name].higher_is_better else "above"
        return f"{name} {value:.3f} is {side} {self.limits[name]:g} [floors]"


@dataclass(frozen=True)
class LatencyBudget:
    """One content alone may take `ms` milliseconds at most (None: any), and `ratio` times the champion's time.

    A ratio objects only beyond `slack_ms` more than the champion, since tiny times waver.
    """

    ms: float | None = None
    ratio: float | None = 2.0
    slack_ms: float = 5.0
    name: str = "latency"

    def find(self, trial: Trial) -> Finding | None:
        """Applies when the latency was measured."""
        took, before = trial.candidate_latency_ms, trial.champion_latency_ms
        if took is None:
            return None
        evidence = {"candidate_ms": took, "champion_ms": before, "ms": self.ms, "ratio": self.ratio}
        if self.ms is not None and took > self.ms:
            return Finding(False, f"an answer takes {took:.1f} ms, more than {self.ms:g} ms [latency_ms]", evidence)
        if before is not None and self.ratio is not None and took > max(self.ratio * before, before + self.slack_ms):
            says = (
                f"an answer takes {took:.1f} ms, over {self.ratio:g} × the champion's {before:.1f} ms [latency_ratio]"
            )
            return Finding(False, says, evidence)
        beside = "" if before is None else f" (champion {before:.1f} ms)"
        return Finding(True, f"an answer takes {took:.1f} ms{beside}", evidence)


@dataclass(frozen=True)
class Behaviour:
    """The behaviour checks hold within their tolerances (see `behaviour`).

    The must-hold examples bind always. An invariance that the champion broke just as often does not block: the
    candidate takes nothing away, and harm elsewhere should not wait for it.
    """

    name: str = "behaviour"

    def find(self, trial: Trial) -> Finding | None:
        """Applies when some check was tried."""
        if trial.behaviour is None or not trial.behaviour.checks:
            return None
        broken = [check for check in trial.behaviour.checks if self._blocks(check, trial)]
        evidence = {"checks": trial.behaviour.to_json()}
        if broken:
            return Finding(False, "; ".join(self._objection(check) for check in broken), evidence)
        return Finding(True, "; ".join(str(check) for check in trial.behaviour.checks), evidence)

    @staticmethod
    def _blocks(check: CheckResult, trial: Trial) -> bool:
        before = trial.champion_behaviour.check(check.name) if trial.champion_behaviour else None
        no_worse = check.name != "must_hold" and before is not None and check.failed.value <= before.failed.value
        return not check.holds and not no_worse

    @staticmethod
    def _objection(check: CheckResult) -> str:
        slip = check.slips[0]
        setting = "must_hold" if check.name == "must_hold" else "invariances"
        return f"{check}, such as {slip.after!r}: {slip.said!r} instead of {slip.expected!r} [{setting}]"


STANDARD: tuple[Rule, ...] = (
    Better(),
    NotWorse(),
    Guard(),
    NegativeFlips(),
    Floors(),
    LatencyBudget(),
    Behaviour(),
)
"""Every rule with its own defaults."""
