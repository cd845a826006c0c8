"""Promotions: how many labels prove that a challenger is better, and how often one that is not is taken all the same.

    python -m benchmarks.decisions.promotion [--runs 2000] [--tune]

Labels are asked for where the two versions disagree, and the product's own rule looks after each of them, so there are
as many looks as labels. `better` is better_by = 0, `better by delta` asks for more than half of the true gain, `not
worse` is the default (margin 5 points, at least 30 labels). `asked uniformly` is the labels that the same proof takes
when each answer has the same chance of being asked about. The chance of a false promotion comes with the exact interval
of Clopper and Pearson. The share of disagreements is counted on 50 unlabelled answers for each label.

The bets of the product (`GAIN_BETS`) were chosen with --tune, whose seeds are others than those that are reported.
Writes benchmarks/results/promotion.json; exits 1 when the chance of a false promotion is above the level.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from benchmarks.results import save, table
from keepfit.intervals import Interval
from keepfit.monitoring.comparison import SHARE, Paired
from keepfit.rollout.strategies import Limits
from keepfit.sequential import GAIN_BETS, GAIN_WEIGHTS, LARGE_BETS

LEVEL = Limits().level
REPORTED, TUNED = 2029, 2031
"""Seeds: those of the figures, and those of the choice of bets."""
MET = 50
"""Answers of both versions for each label that is asked for."""
BEAT = 25
WEEK = 840
"""Labels of disagreements that the default budget and parts bring until a rollout ends: 7 days of 200, three fifths."""
LONGEST = 4000
"""Labels of disagreements after which a run ends without a proof."""


@dataclass(frozen=True)
class Case:
    """By how much a challenger is better, and on which share of the answers the two disagree."""

    gain: float
    differ: float

    @property
    def right(self) -> float:
        """How often the challenger is right where they disagree, and one of them is."""
        return 0.5 + self.gain / self.differ / 2

    @property
    def name(self) -> str:
        """For people."""
        return f"{100 * self.gain:+.1f} points, {self.differ:.0%} disagree"


BETTER = (Case(0.005, 0.05), Case(0.01, 0.08), Case(0.02, 0.10), Case(0.03, 0.12))
EQUAL = (Case(0.0, 0.05), Case(0.0, 0.08), Case(0.0, 0.20))


def wins_of(case: Case, runs: int, labels: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Wins after each label of a disagreement, shape (runs, labels)."""
    return (rng.random((runs, labels)) < case.right).cumsum(axis=1, dtype=np.int32)


def capital(
    wins: NDArray[np.int32], n: NDArray[np.int64], bets: ArrayLike, weights: ArrayLike, mean: float = 0.0
) -> NDArray[np.float64]:
    """What `e_above` gives for so many wins among n labels, shape as `wins`; a test holds the two to each other."""
    total = np.zeros(wins.shape)
    for bet, weight in zip(np.asarray(bets) / (1 + mean), np.asarray(weights), strict=True):
        log = wins * np.log1p(bet * (1 - mean)) + (n - wins) * np.log1p(-bet * (1 + mean))
        total += weight * np.exp(np.minimum(log, 300.0))
    return total


def first(passed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The first label at which each run passed, shape (runs,); infinite where none did."""
    return np.where(passed.any(axis=1), passed.argmax(axis=1) + 1.0, np.inf)


def better(case: Case, runs: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Labels to prove that it is better at all."""
    wins = wins_of(case, runs, LONGEST, rng)
    return first(capital(wins, np.arange(LONGEST) + 1, GAIN_BETS, GAIN_WEIGHTS) >= 1 / LEVEL)


def by_rule(case: Case, limits: Limits, runs: int, labels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Labels until the rule of the settings would give all the traffic; looked at after each.

    The share of disagreements is counted anew at every BEAT-th label, as a beat of the watch does.
    """
    ends = np.full(runs, np.inf)
    for run in range(runs):
        won = (rng.random(labels) < case.right).cumsum(dtype=np.int32)
        differ = rng.binomial(MET, case.differ, labels).cumsum()
        for start in range(0, labels, BEAT):
            counted = Paired(met=MET * start, differ=int(differ[start - 1]) if start else 0)
            wins, n = won[start : start + BEAT], np.arange(start, min(start + BEAT, labels)) + 1
            enough = (proof(wins, n, counted, limits) >= limits.proves(1)) & (n >= limits.min_labels)
            if enough.any():
                ends[run] = n[enough.argmax()]
                break
    return ends


def proof(wins: NDArray[np.int32], n: NDArray[np.int64], counted: Paired, limits: Limits) -> NDArray[np.float64]:
    """As `evidence_for` of n labels each; a test holds the two to each other."""
    low, high = counted.share(SHARE * limits.level)
    if limits.better_by is not None:
        mean = limits.better_by / max(low, 1e-9)
        return np.zeros(len(n)) if mean >= 1 else (1 - SHARE) * capital(wins, n, GAIN_BETS, GAIN_WEIGHTS, mean)
    mean = -limits.margin / high
    if mean <= -1:
        return np.full(len(n), np.inf)
    alike = np.full(len(LARGE_BETS), 1 / len(LARGE_BETS))
    kept = (1 - SHARE) * capital(wins, n, LARGE_BETS, alike, mean)
    return np.maximum(kept, capital(wins, n, GAIN_BETS, GAIN_WEIGHTS))


def exact(hits: int, n: int) -> Interval:
    """The 95 % interval of a share by Clopper and Pearson."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return Interval(hits / n, low, high, n)


def told(case: Case, rule: str, ends: NDArray[np.float64]) -> dict[str, Any]:
    """A row of the table."""
    return {
        "case": case.name, "rule": rule, "runs": len(ends),
        "promoted": exact(int(np.isfinite(ends).sum()), len(ends)).to_json(),
        "labels": {"median": finite(np.quantile(ends, 0.5, method="higher")),
                   "p90": finite(np.quantile(ends, 0.9, method="higher"))},
    }  # fmt: skip


def finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return float(value) if np.isfinite(value) else None


def promotions(runs: int) -> list[dict[str, Any]]:
    """What a better challenger needs."""
    rows = []
    for number, case in enumerate(BETTER):
        rng = np.random.default_rng([REPORTED, number])
        ends = better(case, runs, rng)
        row = told(case, "better", ends)
        apart = np.where(np.isfinite(ends), ends, 1)
        uniform = np.where(np.isfinite(ends), apart + rng.negative_binomial(apart, case.differ), np.inf)
        row["asked uniformly"] = told(case, "", uniform)["labels"]
        rows.append(row)
        few = max(50, runs // 20)
        half = Limits(better_by=case.gain / 2, min_labels=1)
        rows.append(told(case, f"better by {case.gain / 2:g}", by_rule(case, half, few, 3000, rng)))
        rows.append(told(case, "not worse by 0.05 (default)", by_rule(case, Limits(), few, 300, rng)))
    return rows


def false_promotions(runs: int) -> list[dict[str, Any]]:
    """How often one is taken that should not be: equal where it must be better, worse by the margin where not."""
    rows = []
    for number, case in enumerate(EQUAL):
        rng = np.random.default_rng([REPORTED, 100 + number])
        ends = better(case, runs, rng)
        rows.append(told(case, "better", ends))
        rows.append(told(case, f"better, within {WEEK} labels", np.where(ends <= WEEK, ends, np.inf)))
    few = max(100, runs // 4)
    worse = Case(-0.05, 0.12)
    rng = np.random.default_rng([REPORTED, 200])
    rows.append(told(worse, "not worse by 0.05 (default)", by_rule(worse, Limits(), few, 300, rng)))
    rng = np.random.default_rng([REPORTED, 201])
    exactly = Case(0.01, 0.10)
    rows.append(told(exactly, "better by 0.01", by_rule(exactly, Limits(better_by=0.01, min_labels=1), few, 300, rng)))
    minus = Case(-0.01, 0.08)
    rows.append(told(minus, "better", better(minus, runs, np.random.default_rng([REPORTED, 202]))))
    return rows


def tune(runs: int) -> list[dict[str, Any]]:
    """Candidates for the bets, by the median labels of each case; the best single bet of each case for comparison."""
    rows = []
    candidates: list[tuple[tuple[float, ...], tuple[float, ...]]] = [((0.11, 0.23, 0.43), (1 / 3, 1 / 3, 1 / 3))]
    for small, large in product((0.11, 0.13, 0.15), (0.25, 0.31, 0.38)):
        candidates += [((small, large), (share, 1 - share)) for share in (0.6, 0.7, 0.8)]
        candidates.append(((0.04, small, large), (0.1, 0.6, 0.3)))
    candidates += [((case.gain / case.differ,), (1.0,)) for case in BETTER]
    for bets, weights in candidates:
        row: dict[str, Any] = {"bets": str(bets), "weights": str(weights)}
        for number, case in enumerate(BETTER):
            wins = wins_of(case, runs, 2500, np.random.default_rng([TUNED, number]))
            ends = first(capital(wins, np.arange(2500) + 1, bets, weights) >= 1 / LEVEL)
            row[case.name] = f"{np.median(ends):.0f} / {np.quantile(ends, 0.9, method='higher'):.0f}"
        rows.append(row)
    return rows


def main() -> None:
    """Measure, print, write; exit 1 when a false promotion is more likely than the level, for sure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--tune", action="store_true")
    asked = parser.parse_args()
    if asked.tune:
        table("median and 90 % of the labels", tune(asked.runs))
        return
    result: dict[str, Any] = {"level": LEVEL, "seeds": {"reported": REPORTED, "tuned": TUNED}}
    result["promotions"], result["false promotions"] = promotions(asked.runs), false_promotions(asked.runs)
    table("labels to promote", result["promotions"])
    table("false promotions", result["false promotions"])
    save("promotion", result)
    sys.exit(any(row["promoted"]["low"] > LEVEL for row in result["false promotions"]))


if __name__ == "__main__":
    main()
