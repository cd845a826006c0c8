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
from keepfit.intervals import Interval
from keepfit.sequential import (
    GAIN_BETS,
    GAIN_WEIGHTS,
    LARGE_BETS,
    LARGE_ODDS,
    LARGEST,
    SMALL_ODDS,
    Tally,
    e_above,
    e_more_often,
    e_not_worse,
    mean_bounds,
    share_bounds,
)

SHARE = 0.1
"""The part of a level that is spent on how often two versions disagree; thousands of answers say it at little cost."""


@dataclass(frozen=True)
class Paired:
    """Labelled examples that both versions have answered, and on how many they disagree at all.

    Where labels are asked for on disagreements only, agreements are rare among the labels. They need none: what the
    challenger gains is (how often the two disagree) x (mean gain where they do), gains being 1 where only it is right,
    -1 where only the champion is, 0 where both are wrong in their own way. The first factor, s, is counted on all
    answers that both gave, without labels, and lies within a confidence sequence [low, high] that holds at all times
    together but for the chance SHARE of the level. The second is tested by bets on the labels of disagreements:
    against "the gain is `least` or less", that is "the mean gain where they disagree is least / s or less", the
    capital is the mixture of prod(1 + b (x - m)) over bets b, with m = least / high where least < 0, and m = least /
    low where it is not. The capital falls in m, and least / s is never above that m while s is inside; so

        P(ever capital >= 1 / ((1 - SHARE) level)) <= P(s ever outside) + P(capital at the true m ever so large)
                                                   <= SHARE level + (1 - SHARE) level = level

    by Ville's inequality, whenever each disagreement is labelled with a chance that does not depend on who is right.
    Chances may change from day to day, and labels may come late or never, as long as that does not depend on it either.
    """

    n: int = 0
    wins: int = 0
    """Only the challenger was right."""
    losses: int = 0
    """Only the champion was right."""
    ties: int = 0
    """Both were wrong, each in its own way."""
    met: int = 0
    """Answers that both gave, labelled or not; 0: not counted, so the labels must have been asked for alike."""
    differ: int = 0
    """On so many of these the two disagree."""
    silent: int = 0
    """Of the losses, those of which only silence tells: it confirms what users saw, also what they overlooked. They
    count against a promotion, and take nobody back."""
    unanswered: int = 0
    """Questions that nobody answered about examples on which the two disagree, where they are counted: what they would
    have said is taken at its worst, as losses against a promotion and as wins against taking it back."""

    @classmethod
    def of(cls, judged: Iterable[tuple[bool, bool]]) -> Paired:
        """From (challenger was right, champion was right) of each example.

        >>> found = Paired.of([(True, True), (True, False), (False, True), (False, True)])
        >>> found.n, found.wins, found.losses
        (4, 1, 2)
        """
        pairs = list(judged)
        return cls(len(pairs), sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))

    @property
    def e_worse(self) -> float:
        """The e-value against "when they disagree, the champion is right in half of the cases at most"."""
        losses = self.losses - self.silent
        return e_more_often([Tally(losses, self.wins + losses + self.unanswered, 0.5)], SMALL_ODDS)

    @property
    def e_better(self) -> float:
        """The same the other way round."""
        return e_more_often([Tally(self.wins, self.wins + self.losses + self.unanswered, 0.5)], SMALL_ODDS)

    @property
    def decisive(self) -> float:
        """The e-value against "where they disagree, the challenger gains nothing", with bets for small advantages."""
        return e_above(self._apart(), 0.0, GAIN_BETS, GAIN_WEIGHTS)

    def e_not_worse(self, margin: float, level: float = 0.05) -> float:
        """The evidence against "the challenger's accuracy is lower by the margin or more"; 1 / level proves."""
        if not self.met:
            return e_not_worse(self._gains(), margin, LARGE_BETS)
        return self._beyond(-margin, level, LARGE_BETS, None)

    def e_better_by(self, least: float, level: float = 0.05) -> float:
        """The evidence against "its accuracy is not higher by more than `least`"; 1 / level proves."""
        if least == 0:
            return self.decisive
        if not self.met:
            return e_above(self._gains(), least, GAIN_BETS, GAIN_WEIGHTS)
        return self._beyond(least, level, GAIN_BETS, GAIN_WEIGHTS)

    def _beyond(self, least: float, level: float, bets: np.ndarray, weights: np.ndarray | None) -> float:
        low, high = self.share(SHARE * level)
        mean = least / (high if least < 0 else max(low, 1e-9))
        if mean <= -1:  # they disagree so rarely that it cannot be worse by so much
            return LARGEST
        return 0.0 if mean >= 1 else (1 - SHARE) * e_above(self._apart(), mean, bets, weights)

    def share(self, alpha: float) -> tuple[float, float]:
        """Bounds of how often the two disagree, which hold at every look together."""
        return share_bounds(self.differ, self.met, alpha)

    def difference(self, alpha: float = 0.05) -> Interval:
        """By how much the challenger is more accurate, with bounds that hold at every look together."""
        if self.met:
            return self._difference_where_apart(alpha)
        if not self.n:
            return Interval(0.0, -1.0, 1.0, 0)
        low, high = mean_bounds((self._gains() + 1) / 2, alpha)[0], mean_bounds((self._gains(1.0) + 1) / 2, alpha)[1]
        return Interval((self.wins - self.losses) / self.n, 2 * low - 1, 2 * high - 1, self.n)

    def _difference_where_apart(self, alpha: float) -> Interval:
        rare, often = self.share(SHARE * alpha)
        worst, best = self._apart(), self._apart(1.0)
        known = self.wins + self.losses + self.ties
        low = mean_bounds((worst + 1) / 2, (1 - SHARE) * alpha)[0] if len(worst) else 0.0
        high = mean_bounds((best + 1) / 2, (1 - SHARE) * alpha)[1] if len(best) else 1.0
        low, high = 2 * low - 1, 2 * high - 1
        value = (self.wins - self.losses) / known * self.differ / self.met if known else 0.0
        return Interval(value, min(low * rare, low * often), max(high * rare, high * often), self.n)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {"labels": self.n, "wins": self.wins, "losses": self.losses, "ties": self.ties}
        counts |= {"silent": self.silent, "unanswered": self.unanswered}
        return {**counts, "met": self.met, "differ": self.differ, "e_worse": self.e_worse}

    def _gains(self, unanswered: float = -1.0) -> np.ndarray:
        counts = [self.wins, self.losses, self.n - self.wins - self.losses, self.unanswered]
        return np.repeat([1.0, -1.0, 0.0, unanswered], counts)

    def _apart(self, unanswered: float = -1.0) -> np.ndarray:
        return np.repeat([1.0, -1.0, 0.0, unanswered], [self.wins, self.losses, self.ties, self.unanswered])


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
    place: int = 1
    """Which challenger of this champion it is, from 1."""


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
