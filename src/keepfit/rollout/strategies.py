"""Strategies: how a challenger earns its traffic. Steps, and a judge that says advance, hold or roll back.

Pure: a strategy sees a `Comparison` and two ages, and fetches nothing. All its tests are anytime-valid, so it may be
asked as often as one likes: the chance that a challenger that is as good as the champion is ever taken back is `level`
at most, over all steps and looks. Eight tenths of it are for labels, one for protected slices, one for signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, Protocol

from keepfit.clock import spelt
from keepfit.decision import Decision, Outcome
from keepfit.monitoring.comparison import Comparison, Sign

QUALITY, SLICES, SIGNS = 0.8, 0.1, 0.1
"""How the level is shared out."""


@dataclass(frozen=True)
class Step:
    """A share of the live requests for the challenger, for `bake` at least."""

    share: float = 0.0
    shadow: bool = False
    """Whether the one of the two that does not answer is asked, too, unheard."""
    bake: timedelta = timedelta(0)


@dataclass(frozen=True)
class Limits:
    """What a challenger must prove, and how long it may take."""

    level: float = 0.05
    """The chance with which a challenger that is as good as the champion may be taken back."""
    margin: float = 0.05
    """It must be proven that its accuracy is not lower by so much, before it gets all the traffic."""
    min_labels: int = 30
    """Labels of examples that both answered, below which nothing advances."""
    longest: timedelta = timedelta(days=7)
    """After so long without proof it ends as `undecided` says."""
    undecided: Literal["champion", "challenger"] = "champion"
    better_by: float | None = None
    """It must be proven to be more accurate by more than this, before it gets all the traffic; None: not worse by
    `margin`, or better."""

    def proves(self, place: int) -> float:
        """The evidence that challenger number `place` of one champion needs.

        The first one's level is `level`, those of the later ones a third, a sixth, ... of it: all together stay below
        twice the level, however many are tried one after the other against the same champion.
        """
        return place * (place + 1) / (2 * self.level)


@dataclass(frozen=True)
class Ages:
    """How long the present step, and the whole rollout, have gone on."""

    step: timedelta
    total: timedelta


class Strategy(Protocol):
    """One way to roll out. `tests/contracts/test_strategy.py` holds every strategy to this."""

    @property
    def name(self) -> str:
        """As in the settings."""
        ...

    @property
    def steps(self) -> Sequence[Step]:
        """At least one. Behind the last one the challenger is champion."""
        ...

    @property
    def proof(self) -> bool:
        """Whether evidence is asked for before the challenger gets all the traffic."""
        ...

    @property
    def limits(self) -> Limits:
        """What it must prove."""
        ...

    def begun_with(self, steps: Sequence[Step]) -> Strategy:
        """The same with other steps: those that a rollout began with, whatever was set since."""
        ...

    def judge(self, number: int, ages: Ages, seen: Comparison) -> Decision:
        """ADVANCE, HOLD, ROLL_BACK or UNDECIDED in the step of this number, with reasons and numbers.

        Never advances before the step has baked; harm that is proven always rolls back.
        """
        ...


@dataclass(frozen=True)
class Staged:
    """Steps one after the other; `proof` asks for evidence that the challenger is not worse before it gets all."""

    name: str
    steps: Sequence[Step]
    limits: Limits = Limits()
    proof: bool = True

    def begun_with(self, steps: Sequence[Step]) -> Strategy:
        """The same with other steps."""
        return replace(self, steps=tuple(steps))

    def judge(self, number: int, ages: Ages, seen: Comparison) -> Decision:
        """Harm first; then bake, minimum evidence, hints, proof, and at last the longest bake time."""
        evidence = numbers(seen, self.limits, self.steps[number], ages)
        if (harm := harm_of(seen, self.limits)) is not None:
            return Decision(Outcome.ROLL_BACK, harm, evidence)
        missing = self._missing(number, ages, seen)
        if not missing:
            return Decision(Outcome.ADVANCE, (f"healthy for {spelt(ages.step)}", *self._proven(seen)), evidence)
        if ages.total < self.limits.longest or not self.proof or self.steps[number].share >= 1.0:
            return Decision(Outcome.HOLD, missing, evidence)
        tried = seen.served and ages.step >= self.steps[number].bake
        return undecided(self.limits, missing, evidence, tried)

    def _missing(self, number: int, ages: Ages, seen: Comparison) -> tuple[str, ...]:
        """What keeps it from the next step; empty when nothing does."""
        step = self.steps[number]
        if not seen.served:
            return ("no server has taken up this step yet",)
        if ages.step < step.bake:
            return (f"baking for {spelt(ages.step)} of {spelt(step.bake)}",)
        if step.share >= 1.0 or not self.proof:  # all the traffic is its own: it was watched, and nothing was seen
            return ()
        if seen.quality.n < self.limits.min_labels:
            return (f"{seen.quality.n} labels of {self.limits.min_labels} are in [min_labels]",)
        if hints := [f"{sign.says} (e = {sign.e_value:.3g})" for sign in hinting(seen, self.limits)]:
            return tuple(f"{words}; nobody was harmed yet, but it goes no further by itself" for words in hints)
        following = self.steps[number + 1] if number + 1 < len(self.steps) else Step(1.0)
        return () if following.share < 1.0 else self._unproven(seen) + unprotected(seen, self.limits)

    def _unproven(self, seen: Comparison) -> tuple[str, ...]:
        goal, found = self.limits.proves(seen.place), evidence_for(seen, self.limits)
        if found >= goal:
            return ()
        least, quality = self.limits.better_by, seen.quality
        null = f"being worse by {self.limits.margin:g} [margin]"
        if least is not None:
            null = f"being better by {least:g} at most [better_by]"
        where = f", {quality.wins} to {quality.losses} where they disagree" if quality.met else ""
        return (f"not yet proven: after {quality.n} labels{where} e = {found:.3g} of {goal:g} against {null}",)

    def _proven(self, seen: Comparison) -> tuple[str, ...]:
        if not seen.quality.n:
            return ()
        gain = seen.quality.difference()
        return (f"accuracy {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) on {gain.n} labels",)


@dataclass(frozen=True)
class Experiment:
    """A/B: fixed shares until one of the two is proven better, or the time is over."""

    share: float
    lasts: timedelta
    limits: Limits = Limits()
    name: str = "ab"
    proof: bool = True

    def begun_with(self, steps: Sequence[Step]) -> Strategy:
        """The same with the share of the first step."""
        return replace(self, share=steps[0].share)

    @property
    def steps(self) -> Sequence[Step]:
        """One; it may be over before its time, so it has nothing to bake."""
        return (Step(self.share),)

    def judge(self, number: int, ages: Ages, seen: Comparison) -> Decision:
        """ADVANCE: B is better. ROLL_BACK: A is, or B does harm. UNDECIDED: the time is over.

        The result comes with its interval, either way.
        """
        evidence = numbers(seen, self.limits, self.steps[number], ages)
        if (harm := harm_of(seen, self.limits)) is not None:
            return Decision(Outcome.ROLL_BACK, harm, evidence)
        gain = seen.quality.difference(self.limits.level)
        result = f"accuracy {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) on {gain.n} labels"
        better = seen.quality.e_better_by(self.limits.better_by or 0.0, 1 / self.limits.proves(seen.place))
        doubts = unprotected(seen, self.limits)
        if better >= self.limits.proves(seen.place) and not doubts:
            return Decision(Outcome.ADVANCE, (f"the challenger is better: {result}",), evidence)
        if ages.step < self.lasts:
            return Decision(Outcome.HOLD, (f"{spelt(ages.step)} of {spelt(self.lasts)}: {result}", *doubts), evidence)
        because = (f"the time is over and neither is proven better: {result}", *doubts)
        return undecided(self.limits, because, evidence, seen.served)


def immediate(watched: timedelta, limits: Limits) -> Staged:
    """All the traffic at once, then a look for `watched`."""
    return Staged("immediate", (Step(1.0, False, watched),), limits, proof=False)


def shadow(bake: timedelta, watched: timedelta, limits: Limits) -> Staged:
    """Asked but not heard, until it is proven not to be worse; then all the traffic."""
    return Staged("shadow", (Step(0.0, True, bake), Step(1.0, False, watched)), limits)


def canary(shares: Sequence[float], bake: timedelta, watched: timedelta, limits: Limits) -> Staged:
    """Growing shares; all the traffic when it is proven not to be worse."""
    return Staged("canary", (*(Step(share, False, bake) for share in shares), Step(1.0, False, watched)), limits)


def blue_green(bake: timedelta, watched: timedelta, limits: Limits) -> Staged:
    """Both warm: the new one asked but not heard for `bake`, then one switch with the old one asked, the way back."""
    return Staged("blue_green", (Step(0.0, True, bake), Step(1.0, True, watched)), limits, proof=False)


def harm_of(seen: Comparison, limits: Limits) -> tuple[str, ...] | None:
    """Why the challenger must be taken back at once; None when nothing is proven against it."""
    if seen.out is not None:
        return (seen.out,)
    found = []
    if seen.quality.e_worse >= 1 / (QUALITY * limits.level):
        found.append(f"the champion is right where they disagree: {seen.quality.losses} to {seen.quality.wins}")
    for place, (name, paired) in enumerate(seen.slices.items(), start=1):
        if paired.e_worse >= 1 / slice_level(limits, place):
            found.append(f"worse on the protected slice {name}: {paired.losses} to {paired.wins} where they disagree")
    harmful = [sign for sign in seen.signs if sign.harmful]
    for sign in harmful:
        if sign.e_value >= len(harmful) / (SIGNS * limits.level):
            hits, cases = sum(t.hits for t in sign.tallies), sum(t.cases for t in sign.tallies)
            found.append(f"{sign.says}: {hits} of {cases}")
    return tuple(f"{words} (e-values in the evidence)" for words in found) or None


def evidence_for(seen: Comparison, limits: Limits) -> float:
    """How strongly the labels speak for all the traffic: better by more than `better_by`, or not worse by `margin`."""
    level = 1 / limits.proves(seen.place)
    if limits.better_by is not None:
        return seen.quality.e_better_by(limits.better_by, level)
    return max(seen.quality.e_not_worse(limits.margin, level), seen.quality.decisive)


def unprotected(seen: Comparison, limits: Limits) -> tuple[str, ...]:
    """The protected slices on which it is not proven that the challenger is not worse by the margin.

    All must be proven, so each may use the whole level.
    """
    goal, found = limits.proves(seen.place), []
    for name, paired in seen.slices.items():
        proof = max(paired.e_not_worse(limits.margin, 1 / goal), paired.decisive)
        if paired.n < limits.min_labels:
            found.append(f"{paired.n} labels of {limits.min_labels} are in on the protected slice {name} [min_labels]")
        elif proof < goal:
            says = f"after {paired.n} labels e = {proof:.3g} of {goal:g} against being worse by {limits.margin:g}"
            found.append(f"not yet proven on the protected slice {name}: {says} [margin]")
    return tuple(found)


def slice_level(limits: Limits, place: int) -> float:
    """The level of the slice that appeared as number `place` (from 1); all levels together stay below their part."""
    return SLICES * limits.level / (place * (place + 1))


def hinting(seen: Comparison, limits: Limits) -> list[Sign]:
    """Signs that harm nobody by themselves, but that a person should see before it goes on."""
    hints = [sign for sign in seen.signs if not sign.harmful]
    return [sign for sign in hints if sign.e_value >= len(hints) / limits.level]


def undecided(limits: Limits, because: tuple[str, ...], evidence: dict[str, Any], tried: bool) -> Decision:
    """The end of a rollout that could not be decided in time; what was never `tried` in life is never taken."""
    evidence = {**evidence, "undecided": True}
    if limits.undecided == "challenger" and tried:
        return Decision(Outcome.ADVANCE, (*because, "the time is over: the challenger is taken [undecided]"), evidence)
    return Decision(Outcome.UNDECIDED, (*because, "the time is over: the champion stays [undecided]"), evidence)


def numbers(seen: Comparison, limits: Limits, step: Step, ages: Ages) -> dict[str, Any]:
    """Everything that was looked at."""
    return {
        "share": step.share,
        "step_s": ages.step.total_seconds(),
        "total_s": ages.total.total_seconds(),
        "touched": seen.touched,
        "quality": {
            **seen.quality.to_json(),
            "e_better": seen.quality.e_better,
            "e_not_worse": seen.quality.e_not_worse(limits.margin, 1 / limits.proves(seen.place)),
            "proof": evidence_for(seen, limits),
            "goal": limits.proves(seen.place),
            "challengers": seen.place,
            "difference": seen.quality.difference(limits.level).to_json(),
        },
        "slices": {name: paired.to_json() for name, paired in seen.slices.items()},
        "signs": {sign.name: sign.to_json() for sign in seen.signs},
        "level": limits.level,
    }
