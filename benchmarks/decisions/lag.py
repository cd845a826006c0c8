"""The harm detector where labels are late because of what they say: does its guarantee hold, and what does harm cost?

    python -m benchmarks.decisions.lag [--streams 6] [--seed 1]

Streams: 20,000 answers a day of a model whose risk is 0.10; 1 % of the answers are asked about, evenly, or as a week
goes (`weekly`: at the weekend a fifth as many). How long a label takes (exponential) depends on whether it says wrong:

  alike          a day, whatever it says
  wrong late     half an hour for "right", a week for "wrong" (approvals at once, objections after weeks)
  wrong quick    the other way round
  wrong missing  a day; three in ten of those that would say "wrong" never come
  right missing  a day; three in ten of those that would say "right" never come

Off: each label counts as it arrives. `cohorts = 0.95` (or 0.99): a day's questions count together, in the order of the
answers, when 95 (99) % are answered or after 30 days; what is missing then counts as right. The rest is as shipped: a
reference of 2,000 rows, what is usual learnt from 14 days, 1 point of tolerance, one false alarm in 10^6 answers.
False alarms are counted over 60 quiet days; harm is 5 points more from day 30 on, and the delay is from then to the
alarm. Writes benchmarks/results/decisions_lag.json; exits 1 when a family that the product's settings are for (alike as
it arrives; every one but "right missing" by cohorts) has more than one false alarm in 10^6 answers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.decisions.harm import ANSWERS, BINS, DAY, LEARN_DAYS, WEEK, columns_of
from benchmarks.results import save, table
from keepfit.monitoring.baseline import Bursts, Sums, learn
from keepfit.monitoring.harm import HarmDetector, Observations

RATE, RISK, TOLERANCE, REFERENCE = 0.01, 0.10, 0.01, 2_000
PIECE = 50
"""Labels after which what is usual is learnt anew, as the product does it."""
SHARES, PATIENCE = (0.0, 0.95, 0.99), 30
"""Of the questions of a day that must be answered (0: each label as it arrives), and the days that it is waited for."""
DAYS, HARM_FROM, MORE = 60, 30, 0.05
SOON, SLOW = 0.02, 7.0
LAGS = {"alike": (1.0, 1.0), "wrong late": (SOON, SLOW), "wrong quick": (SLOW, SOON)}
"""Mean days for a label that says right, and for one that says wrong."""
KEPT = {"wrong missing": (1.0, 0.7), "right missing": (0.7, 1.0)}
"""The share of the labels that come at all, of right and of wrong."""
FAMILIES = (*LAGS, *KEPT)
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One stream's rules."""

    family: str
    cohorts: float
    """See SHARES."""
    weekly: bool
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Labels:
    """In the order in which they are taken in; all of shape (n,)."""

    said: Doubles
    """Day of the answer."""
    counted: Doubles
    """Day at which it is taken in."""
    losses: Doubles
    known: NDArray[np.bool_]
    """False for what is missing and counts as right."""


def asked(cell: Cell, rng: np.random.Generator) -> tuple[Doubles, Doubles, Doubles]:
    """Day of each question's answer, whether it is wrong, and the day its label arrives (infinite: never)."""
    weights = np.where(np.arange(DAYS) % WEEK >= 5, 0.2, 1.0) if cell.weekly else np.ones(DAYS)
    counts = np.round(RATE * DAY * weights / weights.mean()).astype(int)
    said = np.concatenate([day + np.sort(rng.random(count)) for day, count in enumerate(counts)])
    wrong = (rng.random(len(said)) < RISK + cell.shift * (said >= HARM_FROM)).astype(np.float64)
    means, kept = LAGS.get(cell.family, LAGS["alike"]), KEPT.get(cell.family, (1.0, 1.0))
    which = wrong.astype(int)
    arrives = said + rng.exponential(np.array(means)[which])
    arrives[rng.random(len(said)) >= np.array(kept)[which]] = np.inf
    return said, wrong, arrives


def taken(cell: Cell, said: Doubles, wrong: Doubles, arrives: Doubles) -> Labels:
    """As they arrive, or by whole days."""
    if not cell.cohorts:
        order = np.argsort(arrives)[: int(np.isfinite(arrives).sum())]
        return Labels(said[order], arrives[order], wrong[order], np.ones(len(order), bool))
    counted, before = np.zeros(len(said)), 0.0
    for day in range(DAYS):
        rows = np.floor(said) == day
        needed = int(np.ceil(cell.cohorts * rows.sum()))
        enough = np.sort(arrives[rows])[needed - 1]
        before = max(before, day + 1.0, min(float(enough), day + 1.0 + PATIENCE))  # an open day holds up those behind
        counted[rows] = before
    known = arrives <= counted
    return Labels(said, counted, np.where(known, wrong, 0.0), known)


def alarms(labels: Labels, rng: np.random.Generator) -> Iterator[tuple[float, int]]:
    """(day, labels taken in by then) of each alarm; a detector that alarms begins anew."""
    bins = (labels.said % WEEK * BINS).astype(int)
    columns = columns_of(bins)
    none = Sums.none(columns.shape[1])
    lost = rng.random(REFERENCE) < RISK
    reference, life, bursts, worth = none.add(lost, np.zeros((REFERENCE, columns.shape[1]))), none, Bursts(), 1.0
    detector = HarmDetector()
    teaching = (labels.said < LEARN_DAYS) & labels.known
    for start in range(0, len(labels.said), PIECE):
        rows = slice(start, start + PIECE)
        baseline = learn(reference, life)
        seen = Observations.of(
            labels.losses[rows], baseline.upper(columns[rows], 1.0, TOLERANCE), RATE, 0.0, np.full(1, worth)
        )
        if (place := detector.watch(seen, ANSWERS)) is not None:
            number = start + place - (detector.seen - len(seen))
            yield float(labels.counted[number]), number
            detector.restart()
        taught = np.flatnonzero(teaching[rows]) + start
        if len(taught):
            life = life.add(labels.losses[taught], columns[taught])
            bursts.add(labels.losses[taught], baseline.risk(columns[taught]))
            worth = bursts.worth(0.0)


def measured(cell: Cell, streams: int, seed: int) -> dict[str, Any]:
    """False alarms of quiet streams, or the delay of harm."""
    false, delays = 0, list[float]()
    until = HARM_FROM if cell.shift else DAYS
    for number in range(streams):
        rng = np.random.default_rng((seed, number))
        found = list(alarms(taken(cell, *asked(cell, rng)), rng))
        false += sum(day < until for day, _ in found)
        delays.append(next((day - HARM_FROM for day, _ in found if day >= HARM_FROM), np.inf))
    answers = until * DAY * streams
    upper = float(stats.chi2.ppf(0.95, 2 * false + 2) / 2)
    row: dict[str, Any] = {
        "family": cell.family, "cohorts": str(cell.cohorts or "off"), "weekly": cell.weekly,
        "alarms": false, "per_1e6": round(1e6 * false / answers, 3), "upper": round(1e6 * upper / answers, 3),
    }  # fmt: skip
    if cell.shift:
        median = float(np.quantile(delays, 0.5, method="nearest"))
        row |= {"days": round(median, 1) if np.isfinite(median) else None, "missed": float(np.mean(np.isinf(delays)))}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    cells = [Cell(family, on, weekly) for weekly in (False, True) for family in FAMILIES for on in SHARES]
    quiet = [measured(cell, chosen.streams, chosen.seed) for cell in cells]
    table("false alarms in 10^6 answers", quiet)
    harmed = [
        measured(Cell(family, on, False, MORE), chosen.streams, chosen.seed + 1) for family in FAMILIES for on in SHARES
    ]
    table("days until 5 points more are seen", harmed)
    save("decisions_lag", {"streams": chosen.streams, "quiet": quiet, "harm": harmed})
    meant = [r for r in quiet if (r["family"] == "alike" or r["cohorts"] != "off") and r["family"] != "right missing"]
    sys.exit(any(row["per_1e6"] > 1 for row in meant))


if __name__ == "__main__":
    main()
