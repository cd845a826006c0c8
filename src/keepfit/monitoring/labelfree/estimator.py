"""The estimate of accuracy without labels: single methods stacked by what they were worth on injected shifts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from keepfit.intervals import normal_quantile
from keepfit.monitoring.labelfree.injected import Shifts
from keepfit.monitoring.labelfree.methods import BY_SHARES, METHODS, Methods, Rowwise
from keepfit.monitoring.labelfree.sample import Doubles, Sample
from keepfit.monitoring.labelfree.support import EDGE, OUTSIDE

FEWEST = 200
"""Rows of a reference that are needed."""
FEWEST_WRONG = 15
"""Of them must be answered wrongly, and as many rightly, or there is nothing to learn from."""
MOST_ROWS = 3_000
EACH = 25
"""Injected windows of each family and half of the reference."""
SIZE = 1_500
"""Rows that are drawn, with replacement, where a window is drawn: so many that the draw itself hardly counts."""
PULL, SHARES_PULL, OUTSIDE_PULL, LEXICAL_PULL = 100.0, 1e5, 20.0, 30.0
"""How strongly the weights of the stack are held to plain means of the methods, and the other ones to 0. Chosen on sets
that are not among the reported ones; where only the shares of the classes changed, the plain mean was best."""
COVERAGE = 0.95
FLOOR, PER_SPREAD, PER_MOVE, PER_OUTSIDE = 0.01, 0.5, 0.25, 0.15
"""The scale of an error: a constant, and a share each of what the methods differ by, of how far the estimate moved, and
of what lies beyond the edge of the reference. The last one was added after a first look at reviews of books, on which
the accuracy of a model of films falls by ten points without a sign of it in any score."""


@dataclass(frozen=True)
class Estimate:
    """The accuracy of a window as far as it can be told without labels."""

    value: float
    low: float
    high: float
    """95 % interval: from the errors on families of injected shifts that the stack had not seen, and sampling."""
    n: int
    cannot: str = ""
    """Why it cannot be told; empty where it can."""
    methods: dict[str, float] = field(default_factory=dict)
    """What each method says by itself."""
    outside: float = 0.0
    """Share of the window beyond the edge of the reference."""


@dataclass(frozen=True, eq=False)
class Known:
    """Injected windows: what the methods said (m, p), what was true (m,), and the family of each."""

    columns: Doubles
    spread: Doubles
    truth: Doubles
    family: list[str]


class Estimator:
    """Fitted once for each version, on the rows that it was judged on."""

    def __init__(self, sample: Sample, seed: int = 0) -> None:
        """`sample`: rows with truth. `refusal` says why nothing can be fitted, where that is so."""
        kept = np.linspace(0, max(0, len(sample) - 1), min(len(sample), MOST_ROWS)).astype(np.int64)
        sample = sample.rows(np.random.default_rng(seed).permutation(kept))
        self.refusal = refusal(len(sample), int((1 - sample.right).sum()))
        self.measures = tuple(sorted(sample.measures))
        if self.refusal:
            return
        self.n = len(sample)
        self.methods = Methods(sample, seed)
        known = inject(sample, seed)
        self._weights = stacked(known.columns, known.truth)
        self._wrong_by = wrong_by(known)

    def estimate(self, sample: Sample) -> Estimate:
        """Of a window with at least one row. Values are within [0, 1]."""
        if self.refusal:
            return Estimate(0.0, 0.0, 1.0, len(sample), self.refusal)
        rows = self.methods.rowwise(sample)
        said = self.methods.estimates(sample, rows)
        columns = columns_of(self.methods, self.methods.base, said, sample, rows)[None]
        move = float((columns @ self._weights)[0])
        value = float(np.clip(self.methods.accuracy + move, 0.0, 1.0))
        learnt = self._wrong_by * float(scale(columns, np.array([spread_of(said)]), np.array([move]))[0])
        half = float(np.hypot(learnt, self._drawn(value, len(sample))))
        outside = float(rows.far.mean())
        cannot = f"{outside:.0%} of the inputs are farther from the reference than 95 % of its own are"
        return Estimate(
            value, max(0.0, value - half), min(1.0, value + half), len(sample), cannot if outside > OUTSIDE else "",
            said, outside,
        )  # fmt: skip

    def _drawn(self, value: float, n: int) -> float:
        """Half of the interval that the luck of the draws alone would have, of the reference and of the window."""
        kept = float(np.clip(value, 0.02, 0.98))
        return float(normal_quantile(COVERAGE) * (kept * (1 - kept) * (1 / self.n + 1 / n)) ** 0.5)

    def right(self, sample: Sample) -> Doubles:
        """The chance of each answer to be right, shape (n,); only where nothing was refused."""
        rows = self.methods.rowwise(sample)
        return np.asarray((rows.cbpe + rows.heads + rows.errors) / 3, np.float64)


def refusal(rows: int, wrong: int) -> str:
    """Why nothing can be fitted; empty where it can."""
    if rows < FEWEST:
        return f"the reference has {rows} rows, {FEWEST} are needed"
    if min(wrong, rows - wrong) < FEWEST_WRONG:
        return f"{wrong} of {rows} rows of the reference are wrong, which teaches nothing of what goes wrong"
    return ""


def inject(sample: Sample, seed: int) -> Known:
    """Windows of either half of the sample, judged by methods that were fitted on the other one.

    All are compared with the half itself as it is, so that the luck of the halves is no part of what is learnt.
    """
    halves = np.arange(len(sample)) % 2
    columns, spread, truth, families = [], [], [], []
    for half in (0, 1):
        learnt, held = (
            Methods(sample.rows(np.flatnonzero(halves != half)), seed),
            sample.rows(np.flatnonzero(halves == half)),
        )
        every, usual = learnt.rowwise(held), float(held.right.mean())
        base = learnt.estimates(held, every)
        for family, made in Shifts(held, SIZE, seed).windows(np.random.default_rng([seed, half]), EACH):
            rows = learnt.rowwise(made.sample) if made.moved else every.rows(made.places)
            said = learnt.estimates(made.sample, rows)
            columns.append(columns_of(learnt, base, said, made.sample, rows))
            spread.append(spread_of(said))
            truth.append(float(made.sample.right.mean()) - usual)
            families.append(family)
    return Known(np.array(columns), np.array(spread), np.array(truth), families)


def columns_of(
    methods: Methods, base: dict[str, float], said: dict[str, float], sample: Sample, rows: Rowwise
) -> Doubles:
    """What the stack weighs: how far each method moved, how much lies outside, and how the measures moved.

    As far as other class shares alone explain the window, the methods that reckon with them take the place of all.
    """
    moved = np.array([said[name] - base[name] for name in METHODS])
    share = methods.explained(sample, rows)
    by_shares = np.array([said[name] - base[name] for name in BY_SHARES])
    others = [float(rows.far.mean()) - (1 - EDGE), *methods.lexical(sample).values()]
    return np.concatenate([(1 - share) * moved, share * by_shares, others])


def spread_of(said: dict[str, float]) -> float:
    """How far the methods differ."""
    return float(np.std(list(said.values())))


def stacked(columns: Doubles, truth: Doubles) -> Doubles:
    """Weights of least squared error, held to a plain mean of the methods (ridge towards 1/m), shape (p,)."""
    groups, others = (len(METHODS), len(BY_SHARES)), columns.shape[1] - len(METHODS) - len(BY_SHARES)
    plain = np.concatenate([*(np.full(size, 1 / size) for size in groups), np.zeros(others)])
    size = float(np.mean(columns[:, : sum(groups)] ** 2)) + 1e-9
    held = [np.full(groups[0], PULL * size), np.full(groups[1], SHARES_PULL * size)]
    pull = np.concatenate([*held, [OUTSIDE_PULL], np.full(others - 1, LEXICAL_PULL)])
    inner = columns.T @ columns + np.diag(pull)
    return np.asarray(plain + np.linalg.solve(inner, columns.T @ (truth - columns @ plain)), np.float64)


def wrong_by(known: Known) -> float:
    """The error that 95 % of windows stay below, as a multiple of its scale; of families that were left out in turn."""
    family, ratios = np.array(known.family), []
    for name in dict.fromkeys(known.family):
        out = family == name
        said = known.columns[out] @ stacked(known.columns[~out], known.truth[~out])
        ratios.append(np.abs(said - known.truth[out]) / scale(known.columns[out], known.spread[out], said))
    found = np.sort(np.concatenate(ratios))
    return float(found[min(len(found) - 1, int(np.ceil(COVERAGE * (len(found) + 1))) - 1)])


def scale(columns: Doubles, spread: Doubles, move: Doubles) -> Doubles:
    """How large an error may be, but for a factor; shape (m,), of columns (m, p)."""
    outside = np.maximum(columns[:, len(METHODS) + len(BY_SHARES)], 0.0)
    return np.asarray(FLOOR + PER_SPREAD * spread + PER_MOVE * np.abs(move) + PER_OUTSIDE * outside, np.float64)
