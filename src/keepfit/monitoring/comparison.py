"""Comparison: what is known of a challenger beside the champion while both are asked, counted step by step.

Labels of examples that both answered say which is right more often. Signs need no labels: events (slow answers,
abstentions, complaints, one class) are counted for both, and if the two were alike, an event would be the challenger's
with the chance of its share of the answers. Requests are shared out by the hash of their key, so this holds whatever
the traffic is like, as long as keys do not know which version they met. Neither depends on how often one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keepfit.data.comparing import Brief
from keepfit.data.records import ABSTAINED, MS
from keepfit.metrics import Interval
from keepfit.sequential import (
    LARGE_BETS,
    LARGE_ODDS,
    SMALL_ODDS,
    Tally,
    e_more_often,
    e_not_worse,
    mean_bounds,
)


@dataclass(frozen=True)
class Paired:
    """Labelled examples that both versions have answered."""

    n: int = 0
    wins: int = 0
    """Only the challenger was right."""
    losses: int = 0
    """Only the champion was right."""

    @classmethod
    def of(cls, judged: Iterable[tuple[bool, bool]]) -> Paired:
        """From (challenger was right, champion was right) of each example.

        >>> Paired.of([(True, True), (True, False), (False, True), (False, True)])
        Paired(n=4, wins=1, losses=2)
        """
        pairs = list(judged)
        return cls(len(pairs), sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))

    @property
    def e_worse(self) -> float:
        """The e-value against "when they disagree, the champion is right in half of the cases at most"."""
        return e_more_often([Tally(self.losses, self.wins + self.losses, 0.5)], SMALL_ODDS)

    @property
    def e_better(self) -> float:
        """The same the other way round."""
        return e_more_often([Tally(self.wins, self.wins + self.losses, 0.5)], SMALL_ODDS)

    def e_not_worse(self, margin: float) -> float:
        """The e-value against "the challenger's accuracy is lower by the margin or more"."""
        return e_not_worse(self._gains(), margin, LARGE_BETS)

    def difference(self, alpha: float = 0.05) -> Interval:
        """By how much the challenger is more accurate, with bounds that hold at every look together."""
        if not self.n:
            return Interval(0.0, -1.0, 1.0, 0)
        low, high = mean_bounds((self._gains() + 1) / 2, alpha)
        return Interval((self.wins - self.losses) / self.n, 2 * low - 1, 2 * high - 1, self.n)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"labels": self.n, "wins": self.wins, "losses": self.losses, "e_worse": self.e_worse}

    def _gains(self) -> np.ndarray:
        return np.repeat([1.0, -1.0, 0.0], [self.wins, self.losses, self.n - self.wins - self.losses])


@dataclass(frozen=True)
class Sign:
    """One kind of event, counted without labels."""

    name: str
    tallies: tuple[Tally, ...]
    """One for each step: the challenger's events among all, and the chance of it if the two were alike."""
    harmful: bool
    """A breach takes the challenger back; otherwise it only makes people look."""
    says: str
    """What a breach means, for people."""

    @property
    def e_value(self) -> float:
        """Against "no more often than the tolerance allows"."""
        return e_more_often(self.tallies, LARGE_ODDS)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        hits, cases = sum(t.hits for t in self.tallies), sum(t.cases for t in self.tallies)
        return {"challenger": hits, "all": cases, "e_value": self.e_value, "harmful": self.harmful}


@dataclass(frozen=True)
class Comparison:
    """Everything that is known of a challenger at one moment."""

    quality: Paired = field(default_factory=Paired)
    slices: Mapping[str, Paired] = field(default_factory=dict)
    """By "name=value" of a protected context, in the order in which they first appeared."""
    signs: Sequence[Sign] = ()
    touched: int = 0
    """Requests that were answered by the challenger, so that users saw it."""
    out: str | None = None
    """Why the challenger cannot serve at all (it cannot be loaded, or failed again and again); None when it can."""
    served: bool = True
    """Whether a server has taken up the present step."""


@dataclass(frozen=True)
class Normal:
    """The champion before the challenger came: what is slow, and what is unsure."""

    slow_ms: float | None = None
    """Twice the time that 95 of 100 of its answers kept; None when too few were timed."""
    unsure_below: float | None = None
    """The score that 90 of 100 of its answers reached."""

    @classmethod
    def of(cls, briefs: Sequence[Brief], least: int = 100) -> Normal:
        """From its latest answers; of fewer than `least` nothing is said."""
        timed = [brief.measures[MS] for brief in briefs if brief.stage == "model" and MS in brief.measures]
        scores = [brief.confidence for brief in briefs]
        return cls(
            2 * float(np.quantile(timed, 0.95)) if len(timed) >= least else None,
            float(np.quantile(scores, 0.1)) if len(scores) >= least else None,
        )


Counts = dict[str, dict[str, int]]
"""How often something was counted, by its name and by version (as text, since it is stored as JSON)."""

COMPARED = "compared"
"""The stage of an answer that was given later, to a labelled example that the version had not met."""


def counted(counts: Counts, briefs: Iterable[Brief], normal: Normal) -> Counts:
    """The counts of one step with these answers added."""
    found = {name: dict(by_version) for name, by_version in counts.items()}

    def add(name: str, version: int) -> None:
        by_version = found.setdefault(name, {})
        by_version[str(version)] = by_version.get(str(version), 0) + 1

    for brief in briefs:
        if brief.stage == COMPARED:
            continue
        add("answered", brief.version)
        add(f"class {brief.label}", brief.version)
        if not brief.shadow:
            add("heard", brief.version)
        if brief.measures.get(ABSTAINED):
            add("abstained", brief.version)
        if normal.unsure_below is not None and brief.confidence < normal.unsure_below:
            add("unsure", brief.version)
        if normal.slow_ms is not None and brief.stage == "model" and MS in brief.measures:
            add("timed", brief.version)
            if brief.measures[MS] > normal.slow_ms:
                add("slow", brief.version)
    return found


@dataclass(frozen=True)
class Sides:
    """Who is compared with whom, and how much more often an event may happen."""

    challenger: int
    champion: int
    tolerance: float = 1.5

    def tally(self, counts: Counts, event: str, of: str = "answered") -> Tally | None:
        """The challenger's events among those of both; None where only one of the two was asked, or none happened."""
        hits, others = self._of(counts, event)
        mine, theirs = self._of(counts, of)
        if not hits + others or not mine or not theirs:
            return None
        odds = self.tolerance * mine / theirs
        return Tally(hits, hits + others, odds / (1 + odds))

    def _of(self, counts: Counts, name: str) -> tuple[int, int]:
        by_version = counts.get(name, {})
        return by_version.get(str(self.challenger), 0), by_version.get(str(self.champion), 0)

    def signs(self, steps: Sequence[Counts], failures: int, failure_rate: float) -> list[Sign]:
        """What the counts of all steps say; `failures` of the challenger may be a share of `failure_rate` at most."""
        asked = failures + sum(counts.get("answered", {}).get(str(self.challenger), 0) for counts in steps)
        found = [
            Sign("failures", (Tally(failures, asked, failure_rate),), True,
                 f"it failed on more than {failure_rate:.1%} of what it was asked"),
            self._sign(steps, "slow", "timed", True, "its answers are slow more often than the champion's"),
            self._sign(steps, "abstained", "answered", True, "it abstains more often than the champion"),
            self._sign(steps, "complaints", "answered", True, "its answers are objected to more often"),
            self._sign(steps, "unsure", "answered", False, "it is unsure more often than the champion was"),
        ]  # fmt: skip
        labels = sorted({name for counts in steps for name in counts if name.startswith("class ")})
        found += [
            self._sign(steps, name, "answered", False, f"it says {name.removeprefix('class ')!r} more often")
            for name in labels
        ]
        return found

    def _sign(self, steps: Sequence[Counts], event: str, of: str, harmful: bool, says: str) -> Sign:
        tallies = (self.tally(counts, event, of) for counts in steps)
        return Sign(event, tuple(tally for tally in tallies if tally is not None), harmful, says)
