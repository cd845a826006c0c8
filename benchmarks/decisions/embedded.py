"""Texts of the public sets as embeddings of the frozen embedded backbone, made once and kept in build/benchmarks.

`KEEPFIT_DATA=... python -m benchmarks.decisions.embedded` makes all of them (some minutes on two cores).
"""

from __future__ import annotations

import csv
import gzip
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keepfit.tasks.text.backbone import load
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import clean

CACHE = Path(__file__).parents[2] / "build" / "benchmarks" / "decisions"
BATCH = 32


@dataclass(frozen=True)
class Source:
    """Where a set lies and what of it is taken."""

    file: str
    text: str
    label: str
    most: int
    tokens: int
    where: tuple[str, str] | None = None
    """A column and the value that it must have."""
    by_time: str | None = None
    """Rows are taken evenly along this column, in its order; otherwise drawn at random with a fixed seed."""


SOURCES = {
    "imdb": Source("imdb/IMDB_Dataset.csv.gz", "review", "sentiment", 6000, 128),
    "books": Source("amazon_multidomain/amazon_books_dvd.csv.gz", "text", "label", 2000, 128, ("domain", "books")),
    "dvd": Source("amazon_multidomain/amazon_books_dvd.csv.gz", "text", "label", 2000, 128, ("domain", "dvd")),
    "semeval": Source("semeval_tweets/semeval_tweets_early.csv.gz", "text", "label", 5000, 48, None, "date"),
    "hate_offensive": Source("hate_offensive/hate_offensive_a.csv.gz", "text", "label", 4000, 48),
    "sst2": Source("sst2_sentences/sst2_sentences_a.csv.gz", "text", "label", 2500, 48),
    "offensive": Source("tweeteval/offensive_a.csv.gz", "text", "label", 2500, 48),
}


@dataclass(frozen=True, eq=False)
class Embedded:
    """n texts, in the order of the source."""

    embeddings: NDArray[np.float32]
    """Shape (n, 384)."""
    truth: NDArray[np.int64]
    """Indices into `labels`, shape (n,)."""
    labels: tuple[str, ...]
    length: NDArray[np.float32]
    unknown: NDArray[np.float32]

    def rows(self, places: NDArray[Any]) -> Embedded:
        """The same of some rows."""
        return Embedded(
            self.embeddings[places], self.truth[places], self.labels, self.length[places], self.unknown[places]
        )


def embedded(name: str) -> Embedded:
    """One set, from the cache where it is there. Exits, saying so, when the data is not at hand."""
    file = CACHE / f"{name}_{SOURCES[name].most}.npz"
    if not file.exists():
        folder = os.environ.get("KEEPFIT_DATA")
        if folder is None or not Path(folder).is_dir():
            sys.exit("set KEEPFIT_DATA to the folder of the public data sets; without it this benchmark cannot run")
        make(SOURCES[name], Path(folder), file)
    with np.load(file, allow_pickle=False) as kept:
        return Embedded(kept["embeddings"], kept["truth"], tuple(kept["labels"]), kept["length"], kept["unknown"])


def make(source: Source, folder: Path, file: Path) -> None:
    """Read, tokenize, embed, and write."""
    texts, labels = read(source, folder)
    names = sorted(set(labels))
    backbone = load("minilm")
    backbone.tokenizer.enable_truncation(source.tokens)
    ids = [encoding.ids for encoding in backbone.tokenizer.encode_batch([clean(text) for text in texts])]
    blank = backbone.tokenizer.token_to_id("[UNK]")
    network = Classifier(backbone.encoder, backbone.pooling, 2, backbone.width).eval()
    found = np.zeros((len(ids), backbone.width), np.float32)
    order = np.argsort([len(one) for one in ids], kind="stable")
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            found[rows] = network(*padded([ids[i] for i in rows], backbone.pad_id))["embedding"].numpy()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        np.savez(
            out, embeddings=found, truth=np.array([names.index(label) for label in labels], np.int64),
            labels=np.array(names), length=np.array([len(one) for one in ids], np.float32),
            unknown=np.array([np.mean([i == blank for i in one]) for one in ids], np.float32),
        )  # fmt: skip


def padded(ids: list[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask, (n, t)."""
    longest = max(len(one) for one in ids)
    tokens = torch.tensor([one + [pad] * (longest - len(one)) for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    return tokens, mask


def read(source: Source, folder: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of the rows that are taken."""
    csv.field_size_limit(10**9)
    with gzip.open(folder / source.file, "rt", encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    if source.where is not None:
        rows = [row for row in rows if row[source.where[0]] == source.where[1]]
    if source.by_time is not None:
        rows = sorted(rows, key=lambda row: row[source.by_time or ""])
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(source.most, len(rows))).astype(int)]
    else:
        chosen = np.random.default_rng(0).permutation(len(rows))[: source.most]
        rows = [rows[i] for i in chosen]
    return [row[source.text] for row in rows], [row[source.label] for row in rows]


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for name in SOURCES:
        print(name, len(embedded(name).truth), flush=True)
