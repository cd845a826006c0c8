"""Trigger on the harm detector: the risk is above what is normal in its context, with a stated rate of false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from keepfit.decision import Decision
from keepfit.errors import SettingsError
from keepfit.monitoring.cycles import CYCLES, Cycle
from keepfit.monitoring.measurement import HARM, Measurement
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait, within

MOST_SLICES = 50


@dataclass(frozen=True)
class Harm(NoObjection):
    """An e-detector on asked and complete labels; see docs/decisions.md.

    The null hypothesis: in each context the risk of an answer is at most the champion's on its own test data, plus that
    baseline's own uncertainty, plus the tolerance.
    """

    one_in: float = 1_000_000
    """At most one false alarm in so many answers, on average; the label rate does not matter."""
    tolerance: float = 0.01
    """So much more risk is no harm."""
    deviations: float = 1.0
    """So many standard deviations of the baseline are granted, for the champion was judged on a sample."""
    cycles: Sequence[Cycle] = CYCLES
    """Contexts in which the risk may go up and down as usual: hour, weekday; learnt from the first labels."""
    slices: Sequence[str] = ()
    """Names of context values, such as source: each value is watched by itself, too, under the same guarantee."""
    learn_days: float = 14.0
    """For so long after a deployment labels from life teach what is usual at which hour; the level stays promised."""
    kind: ClassVar[str] = "harm"

    def __post_init__(self) -> None:
        within(self.kind, "one_in", self.one_in, 100, 1e12)
        within(self.kind, "tolerance", self.tolerance, 0, 1)
        within(self.kind, "deviations", self.deviations, 0, 10)
        within(self.kind, "learn_days", self.learn_days, 0, 3650)
        for name in ("cycles", "slices"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(one, str) for one in given):
                raise SettingsError(f'{name} of the trigger harm is a list of names, such as ["hour"]', name)
        if unknown := [cycle for cycle in self.cycles if cycle not in CYCLES]:
            raise SettingsError(f"cycles of the trigger harm are {', '.join(CYCLES)}, not {unknown[0]!r}", "cycles")

    def decide(self, situation: Situation) -> Decision:
        found = [m for m in situation.measurements if m.name == HARM or m.name.startswith(f"{HARM}:")]
        if not found:
            return wait(self.kind, "the harm detector has nothing to compare with yet: no labelled test data is known")
        worst = max(found, key=lambda m: (m.breached, m.value))
        facts = {"evidence": {m.name: m.value for m in found}, **facts_of(worst)}
        if worst.breached:
            says = f"{said(worst)}; by chance that happens once in {self.one_in:,.0f} answers at most"
            return fire(self.kind, Reason.HARM, says, facts)
        if not worst.n:
            return wait(self.kind, "no asked or complete label of the champion's answers is in yet", facts)
        return wait(self.kind, f"{said(worst)}, which is no proof of harm", facts)


def facts_of(measured: Measurement) -> dict[str, Any]:
    """What a decision on this measurement stores."""
    return {"measurement": measured.name, "share": measured.value, "n": measured.n, "since": measured.since}


def said(measured: Measurement) -> str:
    """The evidence in words."""
    where = f" where {measured.name.removeprefix(f'{HARM}:')}" if measured.name != HARM else ""
    many = f"{measured.value:.3g} times" if measured.value >= 1 else f"{measured.value:.2g} of"
    return (
        f"after {measured.n} labels there is {many} the evidence of harm{where} that an alarm needs ({measured.note})"
    )
