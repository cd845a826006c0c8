"""Where the demo's reviews come from: the generated stream, or a user's own files."""

from __future__ import annotations

import csv
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from keepfit.app.demo.stream import Review, ReviewStream
from keepfit.data.columns import Columns
from keepfit.data.files import guess_columns, read_rows
from keepfit.errors import InvalidInput

HELD_OUT = 1000
LONGEST_TRAINING = 2500
"""Rows of a user's own file that the demo trains on, so that it ends in minutes."""


@dataclass(frozen=True)
class Worlds:
    """The labelled past, and the live streams before and after the change."""

    train: Sequence[Review]
    test: Sequence[Review]
    before: Callable[[], Iterator[Review]]
    after: Callable[[], Iterator[Review]]
    max_tokens: int
    generated: bool


def generated(seed: int, n: int) -> Worlds:
    """The package's own stream of product reviews."""
    stream = ReviewStream(seed)
    return Worlds(
        list(stream.before(n)), list(stream.before(HELD_OUT)),
        lambda: stream.before(10**9), lambda: stream.after(10**9), 96, True,
    )  # fmt: skip


def from_files(data: Path, drift: Path | None, seed: int) -> Worlds:
    """A user's own file; without a drift file the labels of the second half are turned round."""
    rows = read(data)
    random.Random(seed).shuffle(rows)
    train = rows[: min(LONGEST_TRAINING, len(rows) // 2)]
    test, live = rows[len(train) : len(train) + HELD_OUT], rows[len(train) :]
    later = read(drift) if drift is not None else turned(live)
    labels = {r.label for r in train}
    later = [r for r in later if r.label in labels]
    if len(train) < 100 or not later:
        raise InvalidInput("the demo needs 200 labelled rows or more, and a drift file with the same labels")
    random.Random(seed + 1).shuffle(later)
    return Worlds(train, test, lambda: itertools.cycle(live), lambda: itertools.cycle(later), 128, False)


def turned(rows: Sequence[Review]) -> list[Review]:
    """The same texts with labels that moved on by one: what everybody means by each class has changed."""
    labels = sorted({r.label for r in rows})
    following = dict(zip(labels, labels[1:] + labels[:1], strict=True))
    return [r._replace(label=following[r.label]) for r in rows]


def read(path: Path) -> list[Review]:
    """The labelled rows of a file."""
    columns = guess_columns(path, Columns())
    found = []
    for row in read_rows(path, columns):
        if row.error is None and row.label is not None and row.content is not None:
            text = " ".join(row.content) if isinstance(row.content, tuple) else row.content
            found.append(Review(text, row.label, row.key or ""))
    return found


def write_csv(path: Path, reviews: Sequence[Review]) -> None:
    """A labelled file for `keepfit train`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((r.text, r.label) for r in reviews)


def baseline(train: Sequence[Review], test: Sequence[Review]) -> float:
    """Accuracy of TF-IDF (1-2 grams) with logistic regression, the plain thing to beat."""
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )
    model.fit([r.text for r in train], [r.label for r in train])
    return float(model.score([r.text for r in test], [r.label for r in test]))
