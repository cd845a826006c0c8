"""Triggers on drift of the inputs: the plain rules that many ask for. By default drift asks for labels instead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from keepfit.decision import Decision
from keepfit.errors import SettingsError
from keepfit.monitoring.measurement import Measurement
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait, within

PREFIX = "ks:"
KEPT = 10
"""Earlier windows that are remembered; with the present one, `persist` may ask for one more."""
Window = Sequence[Measurement]


def tests(window: Window) -> dict[str, Measurement]:
    """The Kolmogorov-Smirnov measurements that may be judged, by feature."""
    return {m.name.removeprefix(PREFIX): m for m in window if m.name.startswith(PREFIX) and m.p is not None}


def disjoint(windows: Sequence[Window], most: int) -> list[Window]:
    """Up to `most` windows, from the newest back, that share no moment; overlapping ones prove the same thing twice."""
    chosen: list[Window] = []
    for window in windows:
        if len(chosen) < most and window and (not chosen or window[0].window.end <= chosen[-1][0].window.start):
            chosen.append(window)
    return chosen


def remembered(history: Sequence[Window], present: Window, most: int = KEPT) -> tuple[tuple[Measurement, ...], ...]:
    """The history to keep after a check: the present window joins it when it shares no moment with the newest one.

    Checks come more often than windows end, so keeping the last few checks would keep one window several times.
    Windows of other versions, and such in which nothing was tested, are left out. Newest first, `most` at most.
    """
    tested = [tuple(w) for w in history if w and present and w[0].model_version == present[0].model_version]
    if not present:
        return tuple(tuple(w) for w in history)
    fresh = not tested or tested[0][0].window.end <= present[0].window.start
    if fresh and any(m.judged for m in tests(present).values()):
        tested.insert(0, tuple(present))
    return tuple(tested[:most])


@dataclass(frozen=True)
class Ks(NoObjection):
    """One feature differs from the reference in several windows in a row, after correction and by enough to matter."""

    p: float = 0.05
    """Level of one window, shared by all features (Bonferroni)."""
    persist: int = 3
    """In how many windows without overlap the same feature must differ."""
    effect: float = 0.1
    """The least gap between the distribution functions: with many predictions anything is significant."""
    kind: ClassVar[str] = "ks"

    def __post_init__(self) -> None:
        within(self.kind, "p", self.p, 1e-12, 0.5)
        within(self.kind, "persist", self.persist, 1, KEPT + 1)
        if self.persist != int(self.persist):
            raise SettingsError(
                f"persist of the trigger ks counts windows, so it cannot be {self.persist!r}", "persist"
            )
        within(self.kind, "effect", self.effect, 0, 1)

    def decide(self, situation: Situation) -> Decision:
        windows = disjoint((situation.measurements, *situation.history), self.persist)
        now = tests(situation.measurements)
        if not now:
            return wait(self.kind, "no window has been compared with the reference yet")
        differs = [self._different(tests(window)) for window in windows]
        lasting = set.intersection(*differs) if len(differs) == self.persist else set()
        facts = self._facts(now, len(differs))
        if lasting:
            names = ", ".join(f"{name} (gap {now[name].value:.3f})" for name in sorted(lasting))
            return fire(
                self.kind,
                Reason.ROUTINE,
                f"the inputs have changed for {self.persist} windows in a row: {names}",
                facts,
            )
        return wait(self.kind, self._quiet(now, differs[0] if differs else set(), len(differs)), facts)

    def _different(self, found: dict[str, Measurement]) -> set[str]:
        level = self.p / max(1, len(found))
        return {
            name for name, m in found.items() if m.judged and m.p is not None and m.p < level and m.value >= self.effect
        }

    def _facts(self, now: dict[str, Measurement], windows: int) -> dict[str, Any]:
        level = self.p / len(now)
        return {"gaps": {n: m.value for n, m in now.items()}, "level": level, "windows": windows}

    def _quiet(self, now: dict[str, Measurement], differs: set[str], windows: int) -> str:
        name, largest = max(now.items(), key=lambda pair: pair[1].value)
        if differs:
            names = ", ".join(sorted(differs))
            return f"different now: {names}, but not yet in {self.persist} windows in a row ({windows} seen)"
        if not largest.judged:
            return f"the window is too small to compare ({largest.note})"
        return f"the inputs look as they did: the largest gap is {largest.value:.3f} ({name}), p {largest.p:.2g}"


@dataclass(frozen=True)
class KsPlain(NoObjection):
    """Any feature with p < 0.05 in one window: as often described, and it cries wolf (see the docs). Prefer `ks`."""

    p: float = 0.05
    kind: ClassVar[str] = "ks_plain"

    def __post_init__(self) -> None:
        within(self.kind, "p", self.p, 1e-12, 0.5)

    def decide(self, situation: Situation) -> Decision:
        now = tests(situation.measurements)
        if not now:
            return wait(self.kind, "no window has been compared with the reference yet")
        smallest = {name: m.p for name, m in now.items() if m.p is not None}
        name = min(smallest, key=lambda key: smallest[key])
        facts = {"p": smallest, "level": self.p}
        if smallest[name] < self.p:
            return fire(self.kind, Reason.ROUTINE, f"p {smallest[name]:.2g} of {name} is below {self.p:g}", facts)
        return wait(self.kind, f"the smallest p is {smallest[name]:.2g} ({name}), not below {self.p:g}", facts)
