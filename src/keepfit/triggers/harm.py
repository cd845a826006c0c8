"""Triggers on harm: the champion measurably errs more than it may."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from keepfit.decision import Decision
from keepfit.intervals import Interval, wilson
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait, within

GRID = 256
ACCURACY, RECENT = "accuracy", "accuracy:last"
MOST_LABELS = 1_000_000
"""Beyond this many, a shortfall is too small to wait for."""


def evidence_below(share: float, n: float, bound: float) -> float:
    """The e-value against "the true share is at least `bound`", from a share seen on n labels.

    The likelihood ratio of the shares below the bound (evenly mixed over a grid) to the bound itself. For any true
    share at or above the bound it exceeds 1/alpha with probability at most alpha, however often one looks while labels
    come in (Ville 1939); a plain interval, looked at again and again, is beyond any bound in the end.
    """
    if n <= 0 or bound <= 0:
        return 1.0
    right, wrong, bound = share * n, (1 - share) * n, min(bound, 1 - 1e-9)
    below = (np.arange(GRID) + 0.5) / GRID * bound
    ratios = right * np.log(below / bound) + wrong * np.log((1 - below) / (1 - bound))
    top = float(ratios.max())
    return math.exp(min(700.0, top + math.log(float(np.mean(np.exp(ratios - top))))))


def proven_below(share: float, n: float, bound: float, alpha: float) -> bool:
    """True when the 95 % interval lies below the bound and looking often does not explain it."""
    whole = math.floor(n)
    return (
        wilson(math.ceil(share * whole), whole).high < bound and evidence_below(share, n, bound) >= 1 / alpha
        if whole
        else False
    )


def labels_missing(share: float, n: float, bound: float, alpha: float) -> int | None:
    """How many more labels would prove a share as low as the present one; None when it is not below the bound."""
    if share >= bound:
        return None
    low, high = max(0, math.floor(n)), max(1, math.ceil(n))
    while not proven_below(share, high, bound, alpha):
        low, high = high, high * 2
        if high > MOST_LABELS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proven_below(share, middle, bound, alpha) else (middle, high)
    return max(1, high - math.floor(n))


def seen(measured: Measurement) -> str:
    """An accuracy in words.

    >>> from datetime import UTC, datetime
    >>> from keepfit.data.records import Window
    >>> day = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
    >>> seen(Measurement("accuracy", 0.861, 0.83, 0.89, 312, day, 1))
    'accuracy 0.861 (0.830 to 0.890, 312 labels)'
    """
    worth = "" if measured.effective is None else f" worth {measured.effective:.0f} equal ones"
    which = "the newest " if measured.name != ACCURACY else ""
    return (
        f"accuracy {measured.value:.3f} ({measured.low:.3f} to {measured.high:.3f}, {which}{measured.n} labels{worth})"
    )


@dataclass(frozen=True)
class Bound:
    """What the accuracy must not be below, in numbers and in words, and how sure one must be."""

    value: float
    name: str
    alpha: float
    run_length: float
    fixed_start: bool = True
    """All labels together are those since the deployment; a stretch whose beginning slides has many beginnings, and
    needs as much evidence as the newest ones."""

    def needed(self, measured: Measurement) -> float:
        """The evidence at which a measurement counts."""
        return 1 / self.alpha if measured.name == ACCURACY and self.fixed_start else self.run_length

    def proof(self, measured: Measurement) -> float:
        """The evidence as a multiple of what is needed."""
        return evidence_below(measured.value, measured.weight, self.value) / self.needed(measured)

    def broken(self, measured: Measurement) -> bool:
        """True when the measurement proves that the accuracy is below."""
        # the measured interval counts, too: it knows the weights of the labels
        sure = proven_below(measured.value, measured.weight, self.value, 1 / self.needed(measured))
        return measured.judged and measured.high < self.value and sure

    def recovered(self, broken: Measurement, found: Sequence[Measurement]) -> Measurement | None:
        """A newer stretch whose 95 % interval lies above, so that the harm is over; None where there is none.

        By chance that happens to a version that goes on erring, too; then the alarm comes at a later look.
        """
        newer = [m for m in found if m.name != ACCURACY and m.n < broken.n and m.judged and m.low > self.value]
        return max(newer, key=lambda m: m.n, default=None)

    def facts(self, measured: Measurement) -> dict[str, Any]:
        """What a decision on this measurement stores."""
        plain = {"bound": self.value, "accuracy": measured.value, "low": measured.low, "high": measured.high}
        evidence = evidence_below(measured.value, measured.weight, self.value)
        needed = self.needed(measured)
        missing = labels_missing(measured.value, measured.weight, self.value, 1 / needed)
        more = {"n": measured.n, "evidence": evidence, "needed": needed, "missing": missing}
        return {**plain, **more, "measurement": measured.name}


def judge_below(kind: str, situation: Situation, bound: Bound) -> Decision:
    """FIRE when the accuracy is proven to be below the bound; else say what was seen, and what is missing.

    Looked at are all labels since the deployment, and the newest 64, 128, ... of them, for a long good past would
    hide a change for as long again.
    """
    found = [m for m in situation.measurements if m.name == ACCURACY or m.name.startswith(RECENT)]
    whole = situation.measured(ACCURACY)
    if whole is None:
        unknown = "no asked or complete label of the champion's answers is in yet, so its accuracy is unknown"
        return wait(kind, unknown, {"bound": bound.value})
    broken = sorted((m for m in found if bound.broken(m)), key=bound.proof)
    if broken:
        worst = broken[-1]
        facts = bound.facts(worst) | {"missing": 0}
        if (over := bound.recovered(worst, found)) is not None:
            words = f"{seen(worst)} is below {bound.name}, but the newest answers have recovered: {seen(over)}"
            return wait(kind, words, facts | {"recovered": bound.facts(over)})
        return fire(kind, Reason.HARM, f"{seen(worst)} is below {bound.name}", facts)
    if not whole.judged:
        return wait(kind, f"{seen(whole)} says little yet ({whole.note})", bound.facts(whole))
    worst = max(found, key=bound.proof)
    suspect = worst if worst.value < bound.value and bound.proof(worst) > bound.proof(whole) else whole
    facts = bound.facts(suspect)
    if suspect.value >= bound.value:
        place = "above" if suspect.value > bound.value else "at"
        return wait(kind, f"{seen(suspect)} is {place} {bound.name}", facts)
    missing = facts["missing"]
    more = "many more labels" if missing is None else f"about {missing} more labels like these"
    return wait(kind, f"{seen(suspect)} may be below {bound.name}; {more} would prove it", facts)


@dataclass(frozen=True)
class AccuracyFloor:
    """The accuracy on asked and complete labels is below a fixed floor, and enough labels are in to be sure."""

    floor: float = 0.80
    alpha: float = 0.05
    """The chance of a false alarm from all labels together, for a version that is at the floor itself.

    It holds while the label window reaches back to the deployment; for an older version, `run_length` does.
    """
    run_length: float = 50_000
    """Labels between two false alarms of the newest stretches, on average at least.

    The default means one in 10^6 answers when 5 % of them are labelled. An e-detector of the Shiryaev-Roberts
    kind: Shin, Ramdas, Rinaldo, arXiv 2203.03532.
    """
    kind: ClassVar[str] = "accuracy_floor"

    def __post_init__(self) -> None:
        within(self.kind, "floor", self.floor, 0, 1)
        within(self.kind, "alpha", self.alpha, 1e-9, 0.5)
        within(self.kind, "run_length", self.run_length, 1, 1e12)

    def decide(self, situation: Situation) -> Decision:
        own = None if situation.elsewhere else situation.reference_accuracy
        if (objection := self.objection(own)) is not None:
            return wait(self.kind, objection, {"bound": self.floor, "refused": True})
        name, fixed = f"the floor {self.floor:.2f}", situation.labels_since_deployment
        return judge_below(self.kind, situation, Bound(self.floor, name, self.alpha, self.run_length, fixed))

    def objection(self, reference: Interval | None) -> str | None:
        """A champion that was never above the floor would be retrained for ever."""
        if reference is None or not reference.value < self.floor:
            return None
        return (
            f"accuracy_floor {self.floor:.2f} cannot work: the champion itself reached only {reference.value:.3f} on"
            f' its own test data; use {{kind = "accuracy_drop", tolerance = 0.02}}, which is relative to the champion,'
            f" or a floor below {reference.low:.2f}"
        )


@dataclass(frozen=True)
class AccuracyDrop(NoObjection):
    """The accuracy is below what the champion had on its own test data, by more than a tolerance."""

    tolerance: float = 0.02
    alpha: float = 0.05
    """The chance of a false alarm from all labels together, for a version that is just at the bound.

    It holds while the label window reaches back to the deployment; for an older version, `run_length` does.
    """
    run_length: float = 50_000
    """Labels between two false alarms of the newest stretches, on average at least.

    The default means one in 10^6 answers when 5 % of them are labelled. An e-detector of the Shiryaev-Roberts
    kind: Shin, Ramdas, Rinaldo, arXiv 2203.03532.
    """
    kind: ClassVar[str] = "accuracy_drop"

    def __post_init__(self) -> None:
        within(self.kind, "tolerance", self.tolerance, 0, 1)
        within(self.kind, "alpha", self.alpha, 1e-9, 0.5)
        within(self.kind, "run_length", self.run_length, 1, 1e12)

    def decide(self, situation: Situation) -> Decision:
        reference = situation.reference_accuracy
        if reference is None or not reference.n:
            return wait(self.kind, "the champion has no accuracy on test data to compare with; evaluate it first")
        # the lower end: a champion judged on few rows may have been lucky
        bound = reference.low - self.tolerance
        name = f"{bound:.3f} (the champion's {reference.low:.3f} to {reference.high:.3f} less {self.tolerance:g})"
        fixed = situation.labels_since_deployment
        return judge_below(self.kind, situation, Bound(bound, name, self.alpha, self.run_length, fixed))
