"""Real texts by time as traffic for retraining policies: frozen MiniLM embeddings, made once, kept in build/benchmarks.

KEEPFIT_DATA=... python -m benchmarks.decisions.real     # makes all of them, some minutes on one core
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keepfit.data.columns import parse_time
from keepfit.pipelines.backtest.traffic import Traffic
from keepfit.tasks.text.backbone import load
from keepfit.tasks.text.network import Classifier

CACHE = Path(__file__).parents[2] / "build" / "benchmarks" / "policies"
MOST, BATCH, TOKENS = 4000, 32, 96


@dataclass(frozen=True)
class Source:
    """A set of the public data, and what of it is taken."""

    file: str
    text: str
    label: str
    most: int = MOST
    dated: bool = True
    few: int = 0
    """Classes with fewer rows are one class, `other`."""


SOURCES = {
    "semeval": Source("semeval_tweets/semeval_tweets_early.csv.gz", "text", "label"),
    "reuters": Source("reuters21578/reuters_early.csv.gz", "title", "first_topic", few=40),
    "huffpost": Source("huffpost/huffpost_early.csv.gz", "headline", "category", few=60),
    "imdb": Source("imdb/IMDB_Dataset.csv.gz", "review", "sentiment", MOST // 2, False),
    "amazon": Source("amazon_multidomain/amazon_books_dvd.csv.gz", "text", "label", MOST // 2),
}


def rows_of(source: Source, folder: Path) -> list[tuple[str, str, str]]:
    """(time, text, label), in the order of time where there is one, thinned evenly to `most`."""
    csv.field_size_limit(10**9)
    with gzip.open(folder / source.file, "rt", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    if source.dated:
        table = sorted((row for row in table if row[source.text].strip()), key=lambda row: row["date"])
        table = [table[i] for i in np.linspace(0, len(table) - 1, min(source.most, len(table))).astype(int)]
    else:
        table = [table[i] for i in np.random.default_rng(0).permutation(len(table))[: source.most]]
    return [(row.get("date", ""), row[source.text], row[source.label]) for row in table]


def embed(texts: list[str]) -> NDArray[np.float32]:
    """Frozen MiniLM, shape (n, 384)."""
    backbone = load("minilm")
    backbone.tokenizer.enable_truncation(TOKENS)
    backbone.tokenizer.no_padding()
    network = Classifier(backbone.encoder, backbone.pooling, 2, backbone.width).eval()
    found = np.zeros((len(texts), backbone.width), np.float32)
    order = np.argsort([len(text) for text in texts])
    for at in range(0, len(texts), BATCH):
        places = order[at : at + BATCH]
        encoded = [backbone.tokenizer.encode(texts[i]).ids for i in places]
        width = max(map(len, encoded))
        ids = torch.full((len(places), width), backbone.pad_id)
        mask = torch.zeros((len(places), width), dtype=torch.long)
        for row, one in enumerate(encoded):
            ids[row, : len(one)], mask[row, : len(one)] = torch.tensor(one), 1
        with torch.inference_mode():
            found[places] = network(ids, mask)["embedding"].numpy()
    return found


def source(name: str) -> Mapping[str, NDArray[Any]]:
    """times, embeddings, labels of one set, from the cache where it is there. Exits when the data is not at hand."""
    file = CACHE / f"{name}.npz"
    if not file.exists():
        folder = os.environ.get("KEEPFIT_DATA")
        if folder is None or not Path(folder).is_dir():
            sys.exit("set KEEPFIT_DATA to the folder of the public data sets; without it real streams cannot be made")
        rows = rows_of(SOURCES[name], Path(folder))
        print(f"{name}: {len(rows)} texts", flush=True)
        embeddings = embed([text for _, text, _ in rows])
        CACHE.mkdir(parents=True, exist_ok=True)
        times, labels = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
        np.savez(file, times=times, embeddings=embeddings.astype(np.float16), labels=labels)
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def classes_of(labels: NDArray[Any], few: int) -> NDArray[Any]:
    """Rare classes joined."""
    counts = Counter(labels.tolist())
    return np.array([label if counts[label] >= few else "other" for label in labels.tolist()])


def by_time(name: str, scale: float) -> Traffic:
    """A set in the order of its own times."""
    found = source(name)
    labels = classes_of(found["labels"], SOURCES[name].few)
    times = [moment for text in found["times"].tolist() if (moment := parse_time(text)) is not None]
    classes, truth = np.unique(labels, return_inverse=True)
    return Traffic(tuple(times), found["embeddings"].astype(np.float32), truth, tuple(classes.tolist()), {}, scale)


def joined(kind: str, scale: float) -> Traffic:
    """IMDB reviews that turn into reviews of books and films: abrupt, gradual, or back and forth (recurring)."""
    rng = np.random.default_rng(11)
    first, second = source("imdb"), source("amazon")
    n = 4000
    place = np.arange(n) / n
    late = {
        "abrupt": place >= 0.5,
        "gradual": rng.random(n) < np.clip((place - 0.3) / 0.5, 0, 1),
        "recurring": (place >= 0.3) & ((place * 10).astype(int) % 2 == 1),
    }[kind]
    queues: dict[bool, Iterator[int]] = {
        False: iter(rng.permutation(len(first["labels"]))), True: iter(rng.permutation(len(second["labels"])))
    }  # fmt: skip
    pick = [(bool(side), next(queues[bool(side)], None)) for side in late]
    kept = [(side, at) for side, at in pick if at is not None]
    sides = {False: first, True: second}
    embeddings = np.stack([sides[side]["embeddings"][at] for side, at in kept]).astype(np.float32)
    truth = np.array([int(sides[side]["labels"][at] == "positive") for side, at in kept])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = tuple(start + timedelta(minutes=20) * i for i in range(len(kept)))
    return Traffic(times, embeddings, truth, ("negative", "positive"), {}, scale)


def stream(name: str, scale: float = 1.0) -> Traffic:
    """A stream by its name."""
    return joined(name.removeprefix("imdb_amazon_"), scale) if name.startswith("imdb_amazon_") else by_time(name, scale)


STREAMS = ("semeval", "reuters", "huffpost", "imdb_amazon_abrupt", "imdb_amazon_gradual", "imdb_amazon_recurring")

if __name__ == "__main__":
    torch.set_num_threads(1)
    for one in SOURCES:
        source(one)
