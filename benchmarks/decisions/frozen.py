"""Real texts in the order of time with frozen MiniLM embeddings, cached in build/benchmarks (KEEPFIT_DATA)."""

from __future__ import annotations

import csv
import gzip
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.text import backbone
from keepfit.tasks.text.network import _pool

CACHE = Path("build") / "benchmarks"
TEXTS = 4000
TOKENS = 96
BATCH = 32


@dataclass(frozen=True, eq=False)
class Stream:
    """n texts in the order of time."""

    name: str
    embeddings: NDArray[np.float32]
    """Shape (n, 384)."""
    truth: NDArray[np.int64]
    classes: tuple[str, ...]


def data_folder() -> Path:
    """Where the public sets lie. Ends with a sentence when they are not there."""
    folder = os.environ.get("KEEPFIT_DATA")
    if not folder or not Path(folder).is_dir():
        raise SystemExit("skipped: KEEPFIT_DATA must name the folder of the public data sets")
    return Path(folder)


def streams() -> dict[str, Stream]:
    """SemEval tweets, HuffPost headlines and Reuters by time; reviews of films, then of books and DVDs."""
    folder = data_folder()
    return {
        "semeval": by_time("semeval", folder / "semeval_tweets/semeval_tweets_early.csv.gz", "text", "label"),
        "huffpost": by_time("huffpost", folder / "huffpost/huffpost_early.csv.gz", "headline", "category"),
        "reuters": by_time("reuters", folder / "reuters21578/reuters_early.csv.gz", "title", "first_topic"),
        "imdb-amazon": reviews(folder),
    }


def by_time(name: str, file: Path, text: str, label: str, most: int = TEXTS) -> Stream:
    """Evenly spread rows of a file, by its dates; the twelve most frequent classes, the others as one more."""
    rows = sorted((row for row in read(file) if row[text].strip()), key=lambda row: row["date"])
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]
    return stream(name, [row[text] for row in rows], [row[label] for row in rows])


def reviews(folder: Path) -> Stream:
    """Half of the texts are film reviews in any order, then come book and DVD reviews by date: one abrupt change."""
    films = read(folder / "imdb/IMDB_Dataset.csv.gz")
    films = [films[i] for i in np.random.default_rng(0).permutation(len(films))[: TEXTS // 2]]
    goods = sorted(read(folder / "amazon_multidomain/amazon_books_dvd.csv.gz"), key=lambda row: row["date"])
    goods = [goods[i] for i in np.linspace(0, len(goods) - 1, TEXTS // 2).astype(int)]
    texts = [row["review"] for row in films] + [row["text"] for row in goods]
    return stream("imdb-amazon", texts, [row["sentiment"] for row in films] + [row["label"] for row in goods])


def read(file: Path) -> list[dict[str, str]]:
    """A compressed table."""
    csv.field_size_limit(10**9)
    with gzip.open(file, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def stream(name: str, texts: Sequence[str], labels: Sequence[str], most: int = 12) -> Stream:
    """Embedded, with classes by number."""
    common = [label for label, _ in Counter(labels).most_common(most)]
    classes = (*sorted(common), "other") if set(labels) - set(common) else tuple(sorted(common))
    number: Mapping[str, int] = {label: i for i, label in enumerate(classes)}
    truth = np.array([number.get(label, len(classes) - 1) for label in labels], np.int64)
    return Stream(name, embedded(name, texts), truth, classes)


def embedded(name: str, texts: Sequence[str]) -> NDArray[np.float32]:
    """Mean-pooled MiniLM embeddings of the first tokens, from the cache where the texts are the same."""
    digest = hashlib.sha256("\x1f".join([str(TOKENS), *texts]).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    file = CACHE / f"frozen-{name}-{digest}.npy"
    if file.is_file():
        found: NDArray[np.float32] = np.load(file, allow_pickle=False)
        return found
    import torch

    model = backbone.load(backbone.MINILM)
    model.tokenizer.enable_truncation(TOKENS)
    model.tokenizer.no_padding()
    ids = [one.ids for one in model.tokenizer.encode_batch(list(texts))]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    made = np.zeros((len(ids), model.width), np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            width = max(len(ids[i]) for i in part)
            tokens = torch.tensor([ids[i] + [model.pad_id] * (width - len(ids[i])) for i in part])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (width - len(ids[i])) for i in part])
            hidden = model.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
            made[part] = _pool(hidden.float(), mask, model.pooling).numpy()
    CACHE.mkdir(parents=True, exist_ok=True)
    np.save(file, made)
    return made
