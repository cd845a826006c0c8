"""The texts: tweets and reviews from KEEPFIT_DATA, else generated ones of like lengths; none is learnt and asked."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keepfit.app.demo.words import NEGATIVE, OUTCOME, POSITIVE

KINDS = ("tweets", "reviews")
LEARNT = {"tweets": 2_500, "reviews": 700}
"""Rows of each kind that the one model is trained on."""
ASKED = {"tweets": 8_000, "reviews": 4_000}
MORE = {"tweets": 6_400, "reviews": 5_300}
"""Rows that a model with a first stage learns besides: what it may answer is proven on a tenth of all."""
LABELS = ("negative", "positive")

Row = tuple[str, str]
"""A text and its label."""


@dataclass(frozen=True)
class Texts:
    """What is learnt and what is asked, by kind."""

    source: str
    learnt: dict[str, list[Row]]
    asked: dict[str, list[Row]]
    more: dict[str, list[Row]]


def read() -> Texts:
    """Shuffled with a fixed seed, no text twice."""
    folder = os.environ.get("KEEPFIT_DATA")
    source = "public data" if folder else "generated"
    kinds = {kind: distinct(real(Path(folder), kind) if folder else generated(kind)) for kind in KINDS}
    learnt, asked, more = {}, {}, {}
    for kind, rows in kinds.items():
        order = np.random.default_rng(0).permutation(len(rows))
        taken = [rows[i] for i in order]
        learnt[kind] = taken[: LEARNT[kind]]
        asked[kind] = taken[LEARNT[kind] : LEARNT[kind] + ASKED[kind]]
        more[kind] = taken[LEARNT[kind] + ASKED[kind] :][: MORE[kind]]
    return Texts(source, learnt, asked, more)


def distinct(rows: Iterator[Row]) -> list[Row]:
    """Each text once."""
    return list({text: (text, label) for text, label in rows}.values())


def real(folder: Path, kind: str) -> Iterator[Row]:
    """SemEval's tweets that are positive or negative; IMDB's reviews."""
    csv.field_size_limit(10**9)
    if kind == "tweets":
        for row in table(folder / "semeval_tweets" / "semeval_tweets_early.csv.gz"):
            if row["label"] in LABELS:
                yield row["text"], row["label"]
    else:
        for row in table(folder / "imdb" / "IMDB_Dataset.csv.gz"):
            yield row["review"], row["sentiment"]


def table(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a gzipped CSV."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def generated(kind: str) -> Iterator[Row]:
    """About as long as the real ones: 6 to 40 words, or 60 to 600."""
    rng = np.random.default_rng(3)
    middle, low, high = (19, 6, 40) if kind == "tweets" else (230, 60, 600)
    n = LEARNT[kind] + ASKED[kind] + MORE[kind]
    lengths = np.clip(rng.lognormal(np.log(middle), 0.35, n), low, high).astype(int)
    for number, length in enumerate(lengths):
        label = LABELS[number % 2]
        said = (POSITIVE if label == "positive" else NEGATIVE, OUTCOME[label])
        parts: list[str] = []
        while len(parts) < length:
            parts += str(rng.choice(said[int(rng.random() < 0.3)])).split()
        yield f"{number} {' '.join(parts[:length])}", label


def write_learnt(file: Path, texts: Texts, more: bool = False) -> Path:
    """What is learnt, as a CSV that keepfit trains on."""
    with file.open("w", newline="", encoding="utf-8") as target:
        rows = csv.writer(target)
        rows.writerow(("text", "label"))
        rows.writerows(row for kind in KINDS for row in texts.learnt[kind] + (texts.more[kind] if more else []))
    return file


def bodies(rows: list[Row], name: str = "text") -> list[bytes]:
    """Request bodies `{name: text}`."""
    return [json.dumps({name: text}).encode() for text, _ in rows]
