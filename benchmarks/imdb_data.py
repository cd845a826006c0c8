"""The original IMDB split as rows: 25,000 reviews to learn from (by film, a part to validate), 25,000 to test."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from keepfit.data.snapshot import Rows, Snapshot, Split, split_of, write_snapshot
from keepfit.data.splits import SnapshotRow

VALIDATION = 0.05


def read(folder: Path) -> dict[Split, Rows]:
    """The three parts; a film is never in two of them. Shuffled with a fixed seed."""
    csv.field_size_limit(10**9)
    reviews = _table(folder / "imdb" / "IMDB_Dataset.csv.gz")
    facts = _table(folder / "imdb" / "IMDB_meta.csv.gz")
    parts: dict[Split, list[int]] = {split: [] for split in Split}
    for i, fact in enumerate(facts):
        parts[_part(fact)].append(i)
    for split, numbers in parts.items():
        parts[split] = [numbers[i] for i in np.random.default_rng(0).permutation(len(numbers))]
    return {split: _rows(numbers, reviews, facts) for split, numbers in parts.items()}


def snapshot(folder: Path, parts: Mapping[Split, Rows], size: int, known: int | None = None) -> Snapshot:
    """The first `size` train reviews and as large a share of the validation reviews, as a snapshot in the folder.

    Train reviews beyond the first `known` count as labelled in life.
    """
    share = min(1.0, size / len(parts[Split.TRAIN]))
    counts = {Split.TRAIN: size, Split.VALIDATION: max(200, round(share * len(parts[Split.VALIDATION])))}
    rows = [
        SnapshotRow(
            part.ids[i],
            part.contents[i],
            part.truth[i],
            part.groups[i],
            split,
            part.times[i],
            fresh=known is not None and split is Split.TRAIN and i >= known,
        )
        for split, count in counts.items()
        for part in [parts[split]]
        for i in range(min(count, len(part)))
    ]
    return write_snapshot(folder, rows, ("review",), {"kind": "benchmark", "source": "imdb"})


def _part(fact: dict[str, str]) -> Split:
    if fact["split"] == "test":
        return Split.TEST
    return split_of(fact["movie"], validation=VALIDATION, test=0.0)


def _rows(numbers: list[int], reviews: list[dict[str, str]], facts: list[dict[str, str]]) -> Rows:
    n = len(numbers)
    return Rows(
        tuple(reviews[i]["review"] for i in numbers),
        tuple(reviews[i]["sentiment"] for i in numbers),
        tuple(f"{facts[i]['split']}/{facts[i]['sentiment']}/{facts[i]['id']}" for i in numbers),
        tuple(facts[i]["movie"] for i in numbers),
        (datetime(2011, 6, 1, tzinfo=UTC),) * n,
        np.zeros(n, bool),
        np.ones(n, np.float32),
    )


def _table(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
