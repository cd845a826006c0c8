"""Triggers on what pays: has the harm paid for a retraining already, or will it? Everything in mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import numpy as np

from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.intervals import Interval
from keepfit.sequential import sum_low
from keepfit.triggers.combinators import AnyOf, objections
from keepfit.triggers.facts import Losses, Price
from keepfit.triggers.harm import AccuracyDrop
from keepfit.triggers.trigger import NoObjection, Reason, Situation, Trigger, fire, wait, within

SHRINK = 50.0
"""Labels that the champion's own error counts for in the present error: few new labels move it little."""
PASSES, REFUSALS = 4.0, 1.0
"""What is believed before the first retraining of life: four of five pass their gate (a Beta distribution)."""


@dataclass(frozen=True)
class Excess:
    """How many more mistakes the champion makes than it did on its own test part."""

    paid: float
    """Those since the deployment or the last attempt, as estimated; negative when it errs less."""
    proven: float
    """How many of them at least, with the chance of a mistake in this bound of `alpha`, however often one looks."""
    now: float
    """More mistakes per answer since the most likely beginning of the harm, shrunk towards none."""
    calm: float
    """Answers before that beginning."""

    @classmethod
    def of(cls, losses: Losses, reference: Interval, alpha: float) -> Excess:
        """From labelled losses and the champion's accuracy on its own test part.

        The labels' inverse propensities make the sum of all mistakes an unbiased estimate; labels that are missing or
        late are taken to be like those that came. The bound holds the test part's uncertainty, too: it counts from the
        upper end of its own error. The beginning of the harm is the cut at which the labels since differ most
        from the champion's own error, by likelihood (Page 1954).
        """
        weight = np.array([one.weight for one in losses.stretches])
        wrong = np.array([one.wrong for one in losses.stretches])
        squares = np.array([one.squares for one in losses.stretches])
        total, n = float(weight.sum()), losses.predictions
        if total <= 0:
            return cls(0.0, 0.0, 0.0, float(n))
        own, most = 1 - reference.value, 1 - reference.low
        low = sum_low(float(wrong.sum()), losses.largest, alpha) / total
        since, missed = (np.cumsum(column[::-1])[::-1] for column in (weight, wrong))
        equal = since**2 / np.cumsum(squares[::-1])[::-1]
        share = missed / since
        gain = equal * np.where(share > own, divergence(share, own), 0.0)
        cut = int(np.argmax(gain))
        now = equal[cut] * (share[cut] - own) / (equal[cut] + SHRINK) if gain[cut] > 0 else 0.0
        calm = n * (1 - since[cut] / total) if gain[cut] > 0 else float(n)
        return cls(n * (float(wrong.sum()) / total - own), max(0.0, n * (low - most)), float(now), float(calm))


def divergence(share: Any, own: float) -> Any:
    """Kullback-Leibler divergence of a Bernoulli variable of this share from one of `own`, in nats."""
    share, own = np.clip(share, 1e-9, 1 - 1e-9), min(max(own, 1e-4), 1 - 1e-9)
    return share * np.log(share / own) + (1 - share) * np.log((1 - share) / (1 - own))


def recovers(situation: Situation) -> float:
    """The chance that a retraining brings a version that passes, by those before: the mean of a Beta distribution."""
    judged = [one for one in situation.attempts if one.judged]
    return (PASSES + sum(one.passed for one in judged)) / (PASSES + REFUSALS + len(judged))


def refusals(situation: Situation) -> int:
    """How many attempts since the deployment of this champion were judged, and refused or taken back."""
    since = situation.deployed_at
    lost = [one for one in situation.attempts if one.judged and not one.passed]
    return sum(since is not None and one.at >= since for one in lost)


@dataclass(frozen=True)
class Known:
    """All that is needed to weigh a retraining."""

    excess: Excess
    losses: Losses
    price: Price
    chance: float

    def facts(self) -> dict[str, Any]:
        """What a decision stores."""
        seen = self.excess
        return {
            "excess_so_far": seen.paid, "excess_proven": seen.proven, "excess_per_answer": seen.now,
            "answers": self.losses.predictions, "labels": self.losses.labels, "calm_answers": seen.calm,
            "chance_to_recover": self.chance, "price": self.price.to_json(),
        }  # fmt: skip

    def cost(self) -> str:
        """The price in words."""
        return f"a retraining costs {self.price.mistakes:.4g} mistakes ({self.price.words})"


def known(kind: str, situation: Situation, alpha: float) -> Known | Decision:
    """The facts, or the decision to wait for them."""
    reference, losses, price = situation.reference_accuracy, situation.losses, situation.price
    if reference is None or not reference.n:
        return wait(kind, "the champion has no accuracy on test data to compare with; evaluate it first")
    if losses is None or not losses.labels:
        return wait(kind, "no asked or complete label of the champion's answers is in yet, so its harm is unknown")
    if price is None:
        return wait(kind, "what a retraining costs is not known, so it cannot be weighed")
    return Known(Excess.of(losses, reference, alpha), losses, price, recovers(situation))


@dataclass(frozen=True)
class SkiRental(NoObjection):
    """The harm since the deployment has paid for a retraining: as much is lost as one costs, and that is proven.

    Like renting skis until the rent has reached their price: never more than twice what the best would have cost who
    knows the future, in each stretch between two changes (Karlin, Manasse, Rudolph & Sleator 1988). Best for harm that
    grows slowly. After an attempt, also a refused one, the sum begins anew, and each refusal since the deployment
    doubles what must be lost before the next: harm that no retraining mends would be paid for again and again.
    """

    alpha: float = 0.05
    """The chance that the bound on the sum of mistakes is wrong."""
    all_proven: bool = True
    """False: that there is harm must be proven, and how much is estimated."""
    kind: ClassVar[str] = "ski_rental"

    def __post_init__(self) -> None:
        within(self.kind, "alpha", self.alpha, 1e-9, 0.5)

    def decide(self, situation: Situation) -> Decision:
        found = known(self.kind, situation, self.alpha)
        if isinstance(found, Decision):
            return found
        seen, tries = found.excess, refusals(situation)
        cost, facts = found.price.mistakes * 2.0**tries, found.facts() | {"refusals": tries}
        dearer = f", counted {2**tries}-fold after {tries} refused candidates of this champion" if tries else ""
        sum_ = (
            f"{seen.paid:.4g} more mistakes than its test part foretold were made in {found.losses.predictions} answers"
            f", at least {seen.proven:.4g} of them for sure ({found.losses.labels} labels)"
        )
        if seen.proven > 0 and (seen.proven if self.all_proven else seen.paid) >= cost:
            return fire(self.kind, Reason.HARM, f"{sum_}; that has paid for it: {found.cost()}{dearer}", facts)
        return wait(self.kind, f"not worth it yet: {sum_}, and {found.cost()}{dearer}", facts)


@dataclass(frozen=True)
class Benefit:
    """There is an alarm, and what a retraining is expected to save within the horizon is more than it costs.

    For harm that comes at once: waiting until it has paid would double the loss. Expected is the present excess per
    answer x the answers within the horizon x the chance that a retraining passes its gate.
    """

    triggers: tuple[Trigger, ...] = (AccuracyDrop(0.0, 0.05, 2000),)
    """What counts as an alarm: any of these."""
    horizon_days: float | None = None
    """For how long a new version is expected to help; None: for as long as this one was calm before the harm."""
    kind: ClassVar[str] = "benefit"

    def __post_init__(self) -> None:
        if not self.triggers:
            raise SettingsError("benefit needs at least one trigger as its alarm", "triggers")
        if self.horizon_days is not None:
            within(self.kind, "horizon_days", self.horizon_days, 1e-3, 3650)

    def decide(self, situation: Situation) -> Decision:
        alarm = AnyOf(self.triggers).decide(situation)
        found = known(self.kind, situation, 0.05)
        if isinstance(found, Decision):
            return found
        answers, words = self.horizon(found)
        expected = found.excess.now * answers * found.chance
        facts = found.facts() | {"horizon_answers": answers, "expected": expected, "alarm": alarm.outcome.value}
        if alarm.outcome is not Outcome.FIRE:
            return wait(self.kind, f"no alarm: {alarm.because[0]}", facts)
        if refusals(situation):
            said = "a retraining of this champion was refused or taken back; only harm that has paid for another counts"
            return wait(self.kind, f"not worth it: {said}", facts)
        sum_ = (
            f"a new version would save about {expected:.4g} mistakes: {found.excess.now:.3f} per answer x {answers:.0f}"
            f" answers ({words}) x {found.chance:.2f}, the chance that it passes its gate"
        )
        if expected > found.price.mistakes:
            return fire(self.kind, Reason.HARM, f"{sum_}; {found.cost()}; {alarm.because[0]}", facts)
        return wait(self.kind, f"not worth it: {sum_}, and {found.cost()}", facts)

    def horizon(self, found: Known) -> tuple[float, str]:
        """How many answers a new version is expected to give, and why so many."""
        if self.horizon_days is None:
            return found.excess.calm, "as many as this champion gave before the harm began"
        if found.losses.days <= 0:
            return 0.0, f"{self.horizon_days:g} days, but it has answered for no time yet"
        daily = found.losses.predictions / found.losses.days
        return daily * self.horizon_days, f"{self.horizon_days:g} days of {daily:.0f}"

    def objection(self, reference: Interval | None) -> str | None:
        return objections(self.triggers, reference)


@dataclass(frozen=True)
class WorthIt:
    """The recommended one: harm has paid for a retraining (gradual), or an alarm's benefit exceeds its cost (abrupt).

    With a cap on attempts a month and a gap between two of them; what is skipped is stored with its numbers.
    """

    triggers: tuple[Trigger, ...] = (AccuracyDrop(0.0, 0.3, 100),)
    """Of `benefit`: what counts as an alarm. A light one: the price keeps it from firing for little."""
    alpha: float = 0.3
    """The chance that none is taken for proven harm: a false alarm costs a retraining, a missed one mistakes."""
    horizon_days: float | None = None
    """Of `benefit`; None: for as long as the champion was calm before the harm."""
    most_per_month: int = 30
    """Attempts in a calendar month, whoever called for them; 0: no cap."""
    gap_days: float = 0.0
    """Between two attempts at least."""
    kind: ClassVar[str] = "worth_it"

    def __post_init__(self) -> None:
        within(self.kind, "most_per_month", self.most_per_month, 0, 10_000)
        if self.most_per_month != int(self.most_per_month):
            raise SettingsError(
                f"most_per_month of the trigger worth_it counts, so it cannot be {self.most_per_month!r}",
                "most_per_month",
            )
        within(self.kind, "gap_days", self.gap_days, 0, 3650)
        if self.horizon_days is not None:
            within(self.kind, "horizon_days", self.horizon_days, 1e-3, 3650)
        self._parts()

    def _parts(self) -> tuple[Trigger, Trigger]:
        return SkiRental(self.alpha, False), Benefit(self.triggers, self.horizon_days)

    def decide(self, situation: Situation) -> Decision:
        ski, benefit = (part.decide(situation) for part in self._parts())
        fired = [one for one in (ski, benefit) if one.outcome is Outcome.FIRE]
        evidence: dict[str, Any] = {**ski.evidence, **benefit.evidence, "kind": self.kind}
        if not fired:
            # without facts both say the same; an alarm that is not worth it is the more telling
            return Decision(Outcome.WAIT, tuple(dict.fromkeys((*benefit.because, *ski.because))), evidence)
        by = " and ".join(str(one.evidence["kind"]) for one in fired)
        evidence |= {"reason": Reason.HARM.value, "demanded": False, "by": by}
        words = tuple(reason for one in fired for reason in one.because)
        held = self.held(situation)
        if held is None:
            return Decision(Outcome.FIRE, words, evidence)
        for name in ("reason", "demanded"):
            evidence.pop(name)
        return Decision(Outcome.WAIT, (held, *words), evidence | {"skipped": True})

    def held(self, situation: Situation) -> str | None:
        """Why a retraining that would pay must wait; None when it need not."""
        gap, last = timedelta(days=self.gap_days), situation.trained_at
        if last is not None and situation.now < last + gap:
            until = f"{last + gap:%Y-%m-%d %H:%M} UTC"
            return f"skipped: the last attempt is younger than gap_days = {self.gap_days:g}; from {until} on"
        zone = ZoneInfo(situation.timezone)
        month = f"{situation.now.astimezone(zone):%Y-%m}"
        made = sum(f"{one.at.astimezone(zone):%Y-%m}" == month for one in situation.attempts)
        if self.most_per_month and made >= self.most_per_month:
            return f"skipped: {made} retrainings in {month} are all that most_per_month = {self.most_per_month} allows"
        return None

    def objection(self, reference: Interval | None) -> str | None:
        return objections(self.triggers, reference)
