"""Accuracy without labels on real texts: errors of the methods and of the stack, coverage, what is called unknowable.

`KEEPFIT_DATA=... python -m benchmarks.decisions.labelfree [--seeds N] [--tuning]` embeds the sets once (see
`embedded`), trains a logistic head on the frozen embeddings, and judges windows whose truth is known. Writes
results/decisions_labelfree.json. `--tuning` shows the sets on which the constants of the stack were chosen instead;
none of their models is among the reported ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from benchmarks.decisions.embedded import Embedded, embedded
from benchmarks.results import save, table
from keepfit.monitoring.labelfree.corrected import corrected, refutation
from keepfit.monitoring.labelfree.estimator import Estimator
from keepfit.monitoring.labelfree.sample import Sample, whole

WINDOW = 2_000
LABELS = (50, 100, 300)
FLIPPED = (1.0, 0.5, 0.3, 0.2)
"""Shares of the window whose truth is another one now: a region of the embeddings, whose answers are all affected."""


@dataclass(frozen=True, eq=False)
class Case:
    """One window, with what happened in it."""

    data: str
    kind: str
    """none, prior, group (of alike inputs), covariate (another source), time, flip."""
    name: str
    window: Sample


@dataclass(frozen=True, eq=False)
class World:
    """A model, what it was judged on, and windows of its later life."""

    data: str
    reference: Sample
    cases: list[Case]


@dataclass(frozen=True)
class Plan:
    """How a set is divided, and what other sets its model meets."""

    train: int
    reference: int
    targets: tuple[str, ...] = ()
    by_time: bool = False


REPORTED = {
    "imdb": Plan(2500, 2000, ("books", "dvd")),
    "semeval": Plan(1200, 1400, (), by_time=True),
    "hate_offensive": Plan(1200, 1500),
}
TUNED = {"sst2": Plan(800, 1000, ("imdb",)), "offensive": Plan(800, 1000)}


def worlds(plans: dict[str, Plan], seed: int) -> Iterator[World]:
    """Each set as one model's life."""
    for name, plan in plans.items():
        rng, found = np.random.default_rng([seed, len(name)]), embedded(name)
        n = len(found.truth)
        # by time: the model knows the first part only, in which train, reference and pool are mixed
        early = int(0.65 * n) if plan.by_time else n
        order = rng.permutation(early)
        train, judged, pool = np.split(order, [plan.train, plan.train + plan.reference])
        head = LogisticRegression(C=1.0, max_iter=500).fit(found.embeddings[train], found.truth[train])
        cases = list(pooled(name, sample_of(head, found.rows(pool)), rng))
        if plan.by_time:
            for number, rows in enumerate(np.array_split(np.arange(early, n), 3)):
                cases.append(Case(name, "time", f"later part {number + 1}", sample_of(head, found.rows(rows))))
        for other in plan.targets:
            cases += mixed(name, other, sample_of(head, found.rows(pool)), sample_of(head, embedded(other)), rng)
        yield World(name, sample_of(head, found.rows(judged)), cases)


def sample_of(head: LogisticRegression, rows: Embedded) -> Sample:
    """What the model answers."""
    scores = whole(head.predict_proba(rows.embeddings).astype(np.float32))
    measures = {"length": rows.length.astype(np.float64), "unknown": rows.unknown.astype(np.float64)}
    return Sample(scores, rows.embeddings.astype(np.float64), rows.truth, measures)


def pooled(data: str, pool: Sample, rng: np.random.Generator) -> Iterator[Case]:
    """Windows of rows that the model has not seen: as they are, other class shares, groups; and flips."""
    k, n = pool.scores.shape[1], len(pool)
    yield Case(data, "none", "as before", drawn(pool, np.ones(n), rng))
    counts = np.bincount(pool.truth, minlength=k)
    for number in range(4):
        shares = rng.dirichlet(np.full(k, 1.0))
        yield Case(
            data, "prior", f"class shares {number}", drawn(pool, (shares / np.maximum(counts, 1))[pool.truth], rng)
        )
    along = pool.embeddings @ rng.normal(size=pool.embeddings.shape[1])
    for name, column in (("length", pool.measures["length"]), ("direction", along)):
        low, high = column <= np.quantile(column, 0.4), column >= np.quantile(column, 0.6)
        for end, mask in (("low", low), ("high", high)):
            yield Case(data, "group", f"{end} {name}", drawn(pool, np.where(mask, 1.0, 0.15), rng))
    for share in FLIPPED:
        yield Case(data, "flip", f"{share:.0%} of the window", flipped(drawn(pool, np.ones(n), rng), share, rng))


def drawn(pool: Sample, weights: NDArray[np.float64], rng: np.random.Generator) -> Sample:
    """A window by weights, with replacement."""
    return pool.rows(rng.choice(len(pool), WINDOW, p=weights / weights.sum()))


def mixed(data: str, other: str, here: Sample, there: Sample, rng: np.random.Generator) -> Iterator[Case]:
    """The other source takes over."""
    for share in (0.25, 0.5, 0.75, 1.0):
        new = int(share * WINDOW)
        rows = [here.rows(rng.integers(0, len(here), WINDOW - new)), there.rows(rng.integers(0, len(there), new))]
        yield Case(data, "covariate", f"{share:.0%} {other}", joined(rows))


def joined(parts: Sequence[Sample]) -> Sample:
    """Samples of one model after one another."""
    return Sample(
        np.concatenate([p.scores for p in parts]), np.concatenate([p.embeddings for p in parts]),
        np.concatenate([p.truth for p in parts]),
        {name: np.concatenate([p.measures[name] for p in parts]) for name in parts[0].measures},
    )  # fmt: skip


def flipped(window: Sample, share: float, rng: np.random.Generator) -> Sample:
    """In a region that holds this share, every example belongs to the next class now."""
    along = window.embeddings @ rng.normal(size=window.embeddings.shape[1])
    region = along >= np.quantile(along, 1 - share)
    return replace(window, truth=np.where(region, (window.truth + 1) % window.scores.shape[1], window.truth))


def judged(case: Case, estimator: Estimator, rng: np.random.Generator) -> dict[str, Any]:
    """Errors of one window in points, and what labels make of it."""
    window = case.window
    actual, found = float(window.right.mean()), estimator.estimate(window)
    row: dict[str, Any] = {
        "data": case.data, "kind": case.kind, "case": case.name, "accuracy": actual, "estimated": found.value,
        "low": found.low, "high": found.high, "outside": found.outside, "cannot": bool(found.cannot),
        "covered": found.low <= actual <= found.high, "n": len(window),
    }  # fmt: skip
    row |= {f"error of {name}": abs(value - actual) * 100 for name, value in found.methods.items()}
    unchanged = estimator.methods.accuracy
    row |= {"error of stack": abs(found.value - actual) * 100, "error of no change": abs(unchanged - actual) * 100}
    chance = estimator.right(window)
    chance = np.clip(chance + found.value - chance.mean(), 0, 1)
    for labels in LABELS:
        asked = rng.choice(len(window), labels, replace=False)
        right, weights = window.right[asked], np.full(labels, 1.0)
        told = refutation(right, chance[asked], weights, (found.high - found.low) / 2)
        row[f"refuted with {labels}"] = told.refuted
        mended = corrected(right, chance[asked], weights, float(chance.mean()))
        assert mended is not None
        row[f"corrected error with {labels}"] = abs(mended.value - actual) * 100
        row[f"plain error with {labels}"] = abs(float(right.mean()) - actual) * 100
        row[f"corrected covered with {labels}"] = mended.low <= actual <= mended.high
    return row


def summed(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Means by data and kind."""
    found = []
    for data, kind in dict.fromkeys((row["data"], row["kind"]) for row in rows):
        chosen = [row for row in rows if (row["data"], row["kind"]) == (data, kind)]
        found.append(summary({"data": data, "kind": kind}, chosen, names))
    return found


def summary(about: dict[str, Any], rows: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Means over some windows."""
    numbers = {name: float(np.mean([row[name] for row in rows])) for name in names}
    return {**about, "windows": len(rows), **numbers}


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tuning", action="store_true")
    given = parser.parse_args()
    rows = []
    for seed in range(given.seeds):
        for world in worlds(TUNED if given.tuning else REPORTED, seed):
            estimator, rng = Estimator(world.reference, seed), np.random.default_rng([seed, 1])
            rows += [{"seed": seed, **judged(case, estimator, rng)} for case in world.cases]
            print(seed, world.data, f"{estimator.methods.accuracy:.3f}", flush=True)
    errors = [name for name in rows[0] if name.startswith("error of")]
    shifts = [row for row in rows if row["kind"] != "flip"]
    by_kind = summed(shifts, [*errors, "covered", "cannot", "outside"])
    table("Mean absolute error in points, without labels", [short(row) for row in by_kind])
    kinds = ("covariate", "prior", "group", "time")
    total = [summary({"kind": k}, [r for r in shifts if r["kind"] == k], [*errors, "covered", "cannot"])
             for k in kinds if any(r["kind"] == k for r in shifts)]  # fmt: skip
    both = [row for row in shifts if row["kind"] in ("covariate", "prior")]
    total.append(summary({"kind": "covariate, prior"}, both, [*errors, "covered", "cannot"]))
    table("All sets", [short(row) for row in total])
    told = ("refuted", "corrected error", "plain error", "corrected covered")
    labelled = [f"{what} with {n}" for n in LABELS for what in told]
    flips = [summary({"flip": name}, [r for r in rows if (r["kind"], r["case"]) == ("flip", name)], labelled)
             for name in dict.fromkeys(r["case"] for r in rows if r["kind"] == "flip")]  # fmt: skip
    flips.append(summary({"flip": "none: shifts of the inputs"}, shifts, labelled))
    table("With labels", [short(row) for row in flips])
    if not given.tuning:
        save("decisions_labelfree", {"seeds": given.seeds, "window": WINDOW, "by_kind": by_kind, "total": total,
                                     "labels": flips, "windows": [thin(row) for row in rows]})  # fmt: skip


def short(row: dict[str, Any]) -> dict[str, Any]:
    """Names that fit a table."""
    words = {
        "error of ": "", "refuted": "ref", "corrected error": "ppi", "plain error": "lab", "corrected covered": "cov",
        " with ": "",
    }  # fmt: skip
    found = {}
    for name, value in row.items():
        for old, new in words.items():
            name = name.replace(old, new)  # noqa: PLW2901
        found[name] = round(value, 3) if isinstance(value, float) else value
    return found


def thin(row: dict[str, Any]) -> dict[str, Any]:
    """A window for the file."""
    kept = ("seed", "data", "kind", "case", "accuracy", "estimated", "low", "high", "outside", "cannot", "covered")
    return {name: round(row[name], 4) if isinstance(row[name], float) else row[name] for name in kept}


if __name__ == "__main__":
    main()
