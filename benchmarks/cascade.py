"""A first stage in front of the transformer on real sets: what it answers, what that costs or gains, and under drift.

`KEEPFIT_DATA=... python -m benchmarks.cascade [SET ...] [--rows N] [--tokens T] [--inference int8]`

For each set the product's own training runs once, with few rows and few tokens unless told otherwise, which is said in
the result: the full model is then weaker than it could be, and a first stage beside it looks the better for it. Then
the threshold that the validation part has proven is tried on test rows that neither has seen, and on those of later
times or another domain.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import save, table
from keepfit.data.snapshot import Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.intervals import exact_high, paired_interval
from keepfit.tasks.task import first_of, predict
from keepfit.tasks.text.fit import TextTask
from keepfit.tasks.trade import Terms, accept, measure
from keepfit.training.recipe import Recipe

TERMS = (Terms(), Terms("accuracy", loss=0.01), Terms("agreement", differing=0.02), Terms("agreement", differing=0.05))
Example = tuple[str, str]


@dataclass(frozen=True)
class Source:
    """Where a set lies; rows of `drift` are those of another time or domain."""

    file: str
    text: str
    label: str
    tokens: int
    time: str | None = None
    """The last third along this column is the later time."""
    drift: tuple[str, str] | None = None
    """A column and the value of the other domain."""
    least: int = 0
    """Rows that a class must have."""


SOURCES = {
    "imdb": Source("imdb/IMDB_Dataset.csv.gz", "review", "sentiment", 96),
    "tweets": Source("semeval_tweets/semeval_tweets_early.csv.gz", "text", "label", 40, time="date"),
    "news": Source("huffpost/huffpost_early.csv.gz", "headline", "category", 32, time="date", least=60),
    "reuters": Source("reuters21578/reuters_early.csv.gz", "body", "first_topic", 64, time="date", least=30),
    "books": Source("amazon_multidomain/amazon_books_dvd.csv.gz", "text", "label", 96, drift=("domain", "dvd")),
}


def read(source: Source, folder: Path) -> tuple[list[Example], list[Example]]:
    """Rows of the world that is learnt from, shuffled with a fixed seed, and those of the other one."""
    csv.field_size_limit(10**9)
    with gzip.open(folder / source.file, "rt", encoding="utf-8", newline="") as opened:
        rows = [row for row in csv.DictReader(opened) if row[source.text].strip()]
    often = Counter(row[source.label] for row in rows)
    rows = [row for row in rows if often[row[source.label]] >= source.least]
    later: list[dict[str, str]] = []
    if source.time is not None:
        rows.sort(key=lambda row: row[source.time or ""])
        rows, later = rows[: 2 * len(rows) // 3], rows[2 * len(rows) // 3 :]
    elif source.drift is not None:
        column, value = source.drift
        later = [row for row in rows if row[column] == value]
        rows = [row for row in rows if row[column] != value]
    order = np.random.default_rng(0).permutation(len(rows))
    known = {row[source.label] for row in rows}

    def pair(row: dict[str, str]) -> Example:
        return row[source.text], row[source.label]

    return [pair(rows[i]) for i in order], [pair(row) for row in later if row[source.label] in known]


def run(name: str, asked: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One set: train once, then every kind of terms on the test part and on the other world."""
    source = SOURCES[name]
    here, there = read(source, folder)
    cut = min(asked.rows, len(here) // 2)
    checked = min(3000, (len(here) - cut) // 2)
    parts = ((Split.TRAIN, here[:cut]), (Split.VALIDATION, here[cut : cut + checked]))
    rows = [
        SnapshotRow(f"{split}{i:06d}", text, label, f"{split}{i}", split)
        for split, some in parts
        for i, (text, label) in enumerate(some)
    ]
    place = Path(tempfile.mkdtemp(prefix="keepfit-cascade-"))
    try:
        snapshot = write_snapshot(place / "data", rows, ("text",), {"kind": "benchmark", "source": name})
        recipe = Recipe(max_tokens=asked.tokens or source.tokens, epochs=asked.epochs, inference=asked.inference)
        began = time.perf_counter()
        made = TextTask().fit(snapshot, recipe, lambda metrics, step: None, place / "work")
        seconds = time.perf_counter() - began
        model = TextTask().load(made)
        worlds = {"test": here[cut + checked :][: asked.test], "drift": there[: asked.test]}
        about = {"set": name, "classes": len(snapshot.labels), "rows": cut, "checked": checked,
                 "tokens": recipe.max_tokens, "training_s": round(seconds, 1)}  # fmt: skip
        return [row for world, some in worlds.items() if some for row in judged(model, some, world, about)]
    finally:
        shutil.rmtree(place, ignore_errors=True)


def judged(model: Any, some: Sequence[Example], world: str, about: dict[str, Any]) -> list[dict[str, Any]]:
    """What each kind of terms comes to in one world, with the time that both took of it."""
    first = first_of(model)
    if first is None:
        sys.exit("the model has no first stage")
    texts = [model.read(text) for text, _ in some]
    number = {label: i for i, label in enumerate(model.labels)}
    truth = np.array([number[label] for _, label in some], np.int64)
    began = time.process_time()
    full = predict(model, texts).scores.argmax(axis=1)
    full_s = time.process_time() - began
    began = time.process_time()
    scores = first.scores(texts)
    first_s = time.process_time() - began
    found = []
    for terms in TERMS:
        taken = accept(first.trade, terms)
        thresholds = [] if taken.threshold is None else [taken.threshold]
        trade = measure(scores, full, truth, thresholds)
        point = trade.points[0] if trade.points else None
        covered = 0.0 if point is None else trade.coverage(point)
        wins, losses, differing = (0, 0, 0) if point is None else (point.wins, point.losses, point.differing)
        gain = paired_interval(wins, losses, trade.n)
        spent = full_s if point is None else first_s + (1 - covered) * full_s
        found.append(about | {
            "world": world, "keeps": f"{terms.keeps} {terms.most:g}", "n": trade.n, "full": trade.full_right / trade.n,
            "first": trade.first_right / trade.n, "pair": (trade.full_right + wins - losses) / trade.n,
            "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "coverage": covered,
            "differing": differing / trade.n, "differing_high": exact_high(differing, trade.n, 0.05),
            "faster": full_s / max(spent, 1e-9), "first_us": 1e6 * first_s / trade.n,
        })  # fmt: skip
    return found


def main() -> None:
    """Every set that was named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=list(SOURCES), help=", ".join(SOURCES))
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--test", type=int, default=4000)
    parser.add_argument("--inference", default="int8")
    asked = parser.parse_args()
    folder = os.environ.get("KEEPFIT_DATA")
    if folder is None or not Path(folder).is_dir():
        sys.exit("set KEEPFIT_DATA to the folder of the public data sets; without it this benchmark cannot run")
    rows: list[dict[str, Any]] = []
    for name in asked.sets:
        rows += run(name, asked, Path(folder))
        shown = ("world", "keeps", "full", "first", "pair", "gain_low", "gain_high", "coverage", "differing", "faster")
        table(name, [{key: row[key] for key in shown} for row in rows if row["set"] == name])
        save("cascade", {"settings": vars(asked), "rows": rows})


if __name__ == "__main__":
    main()
