"""Late labels: how late they are, and which questions are answered well enough to count.

Labels count as they arrive, which is right as long as how long one waits has nothing to do with what the label says.
Where it has (a chargeback takes weeks, an approval a minute), the first labels of a day are all of one kind. Then the
questions of a day, its cohort, must count together or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from keepfit.data.asked import Question
from keepfit.intervals import Interval

LAG = "label_lag"
"""Under this name the store keeps how late labels are."""

AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}


def lag(asked: Sequence[Question], now: datetime) -> dict[str, Any]:
    """How soon questions are answered, as plain values.

    `median_s`, `p90_s`: seconds from the model's answer to the label, of those that came (None: none did). `by_age`: of
    the questions that are at least an hour, a day, ... old the share answered within that time (None: none is so old).
    """
    seconds = [(one.answered - one.said).total_seconds() for one in asked if one.answered is not None]
    by_age: dict[str, float | None] = {}
    for name, age in AGES.items():
        old = [one for one in asked if now - one.at >= age]
        within = [one for one in old if one.answered is not None and one.answered - one.at <= age]
        by_age[name] = len(within) / len(old) if old else None
    quantiles = [float(q) for q in np.quantile(seconds, [0.5, 0.9])] if seconds else [None, None]
    answered = {"asked": len(asked), "answered": len(seconds)}
    return {**answered, "median_s": quantiles[0], "p90_s": quantiles[1], "by_age": by_age}


@dataclass(frozen=True)
class Cohorts:
    """Which of the asked questions count."""

    open: frozenset[str]
    """Examples of cohorts that wait for more answers: their labels do not count yet."""
    missing: float
    """The share of the weight of the cohorts that count which was never answered."""

    def bounded(self, found: Interval) -> Interval:
        """The interval of an accuracy, with what is missing taken as all wrong, or all right."""
        answered = 1 - self.missing
        return Interval(found.value, found.low * answered, found.high * answered + self.missing, found.n)


def cohorts_of(asked: Sequence[Question], least: float, timezone: str, given_up: datetime) -> Cohorts:
    """Questions of one local day are a cohort; it counts when the share `least` is answered, or it is from before
    `given_up`, when nobody will answer any more."""
    waiting: set[str] = set()
    missing, everything = 0.0, 0.0
    for questions in by_day(asked, timezone).values():
        if is_open(questions, least, given_up):
            waiting.update(one.example_id for one in questions)
            continue
        everything += sum(1 / one.propensity for one in questions)
        missing += sum(1 / one.propensity for one in questions if one.answered is None)
    return Cohorts(frozenset(waiting), missing / everything if everything else 0.0)


def closed_until(asked: Sequence[Question], least: float, timezone: str, given_up: datetime, now: datetime) -> datetime:
    """Every question about an answer before this moment is of a day that is over and counts.

    Evidence that is added up as it comes must not be able to choose what comes first: where bad labels are quick, the
    days that are complete first are the bad ones. So it takes the days one after the other, and an open one holds up
    those behind it.
    """
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    midnight = datetime.combine(today, datetime.min.time(), zone).astimezone(UTC)
    waiting = [
        min(one.said for one in questions)
        for day, questions in by_day(asked, timezone).items()
        if day == today.isoformat() or is_open(questions, least, given_up)
    ]
    return min([midnight, *waiting])


def by_day(asked: Sequence[Question], timezone: str) -> dict[str, list[Question]]:
    """The cohorts, by local day."""
    zone, days = ZoneInfo(timezone), dict[str, list[Question]]()
    for one in asked:
        days.setdefault(one.at.astimezone(zone).date().isoformat(), []).append(one)
    return days


def is_open(questions: Sequence[Question], least: float, given_up: datetime) -> bool:
    """Whether a cohort waits for more answers."""
    share = sum(one.answered is not None for one in questions) / len(questions)
    return share < least and max(one.at for one in questions) >= given_up
