"""Comparison: what is known of a challenger beside the champion while both are asked, counted step by step.

Labels of examples that both answered say which is right more often. Signs need no labels: keys with an event (a slow
answer, an abstention, a complaint, one class) are counted, each once. Requests are shared out by the hash of their key,
so if the two were alike, such a key would be the challenger's with the chance of its share, whatever the traffic is
like, as long as keys do not know which version they met. Neither depends on how often one looks.
"""

from __future__ import annotations

import hashlib
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

MOST_KEYS = 2000
"""Keys that are remembered of each kind of event; what comes later is not counted, which makes no proof wrong."""


ONLY_HEARD = frozenset({"slow", "complaints"})
"""Events that only an answer which users saw can have; they are not compared while one of the two is not heard."""


@dataclass
class Tallied:
    """What was counted so far, step by step, and of which keys; kept in the store between two looks.

    An event counts once for each key: requests are routed by the hash of their key, so with which version a key had its
    first event is a draw with the chance of the share, however often the key asks and whatever it is like.
    """

    steps: dict[str, Counts] = field(default_factory=dict)
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Of each event, hashes of the keys that had it."""

    def add(self, step: int, event: str, version: int, n: int = 1) -> None:
        """Count."""
        by_version = self.steps.setdefault(str(step), {}).setdefault(event, {})
        by_version[str(version)] = by_version.get(str(version), 0) + n

    def add_event(self, step: int, event: str, version: int, key: str, both: bool) -> None:
        """Count an event of a key that has had none like it; where `both` are asked, one with each of the two."""
        mark = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:12] + (f"-{version}" if both else "")
        known = self.keys.setdefault(event, set())
        if mark not in known and len(known) < MOST_KEYS:
            known.add(mark)
            self.add(step, event, version)

    def take(self, step: int, briefs: Iterable[Brief], normal: Normal, both: bool) -> None:
        """Count these answers of one step."""
        for brief in briefs:
            if brief.stage == COMPARED:
                continue
            self.add(step, "answered", brief.version)
            if not brief.shadow:
                self.add(step, "heard", brief.version)
            for event in events_of(brief, normal):
                if both and event in ONLY_HEARD:
                    continue  # only one of the two can have it
                self.add_event(step, event, brief.version, brief.key, both)

    def total(self, event: str, version: int) -> int:
        """Over all steps."""
        return sum(counts.get(event, {}).get(str(version), 0) for counts in self.steps.values())


def events_of(brief: Brief, normal: Normal) -> list[str]:
    """What an answer is besides an answer. Only live ones are timed: shadows are asked in groups, and have time."""
    found = [f"class {brief.label}"]
    if brief.measures.get(ABSTAINED):
        found.append("abstained")
    if normal.unsure_below is not None and brief.confidence < normal.unsure_below:
        found.append("unsure")
    timed = brief.stage == "model" and not brief.shadow and MS in brief.measures
    if timed and normal.slow_ms is not None and brief.measures[MS] > normal.slow_ms:
        found.append("slow")
    return found


@dataclass(frozen=True)
class Sides:
    """Who is compared with whom, and how much more often an event may happen."""

    challenger: int
    champion: int
    tolerance: float = 1.5

    def tally(self, counts: Counts, event: str, share: float) -> Tally | None:
        """The challenger's events among those of both in a step with this share; None where nothing can be compared."""
        by_version = counts.get(event, {})
        mine, theirs = by_version.get(str(self.challenger), 0), by_version.get(str(self.champion), 0)
        if not mine + theirs or not 0 < share < 1:
            return None
        odds = self.tolerance * share / (1 - share)
        return Tally(mine, mine + theirs, odds / (1 + odds))

    def signs(self, tallied: Tallied, shares: Sequence[float], failures: int, failure_rate: float) -> list[Sign]:
        """What the counts say; `shares`: of each step the chance that an event is the challenger's, if both are alike.

        `failures` of the challenger may be a share of `failure_rate` of what it was asked at most.
        """
        asked = failures + tallied.total("answered", self.challenger)
        found = [
            Sign("failures", (Tally(failures, asked, failure_rate),), True,
                 f"it failed on more than {failure_rate:.1%} of what it was asked"),
            self._sign(tallied, shares, "slow", True, "its answers are slow more often than the champion's"),
            self._sign(tallied, shares, "abstained", True, "it abstains more often than the champion"),
            self._sign(tallied, shares, "complaints", True, "its answers are objected to more often"),
            self._sign(tallied, shares, "unsure", False, "it is unsure more often than the champion was"),
        ]  # fmt: skip
        labels = sorted({name for counts in tallied.steps.values() for name in counts if name.startswith("class ")})
        found += [
            self._sign(tallied, shares, name, False, f"it says {name.removeprefix('class ')!r} more often")
            for name in labels
        ]
        return found

    def _sign(self, tallied: Tallied, shares: Sequence[float], event: str, harmful: bool, says: str) -> Sign:
        steps = ((counts, shares[int(step)]) for step, counts in tallied.steps.items() if int(step) < len(shares))
        tallies = (self.tally(counts, event, share) for counts, share in steps)
        return Sign(event, tuple(tally for tally in tallies if tally is not None), harmful, says)
