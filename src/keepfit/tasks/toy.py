"""The toy task: the majority label of a text's first word. No torch; the reference and the shipped fake."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.data.snapshot import Snapshot, Split
from keepfit.errors import BackendError, InvalidInput, TooLarge
from keepfit.tasks.prior import read_prior, reweighted
from keepfit.tasks.task import Floats, Output, Prepared, Report, parent_of
from keepfit.training.recipe import Recipe, Start

SURE = 0.9
DIMENSIONS = 8
LONGEST = 100_000


class ToyModel:
    """A table from first word to label; answers known words with 0.9, others with the class shares."""

    def __init__(
        self, labels: Sequence[str], table: Mapping[str, str], shares: Sequence[float], prior: Floats | None = None
    ) -> None:
        self._labels, self._table, self._prior = tuple(labels), dict(table), prior
        self._shares = np.asarray(shares, np.float32)

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    @property
    def abstain_below(self) -> float | None:
        return None

    def read(self, raw: Any) -> str:
        if not isinstance(raw, str):
            raise InvalidInput(f"a text must be a string, not {type(raw).__name__}", "text")
        if len(raw) > LONGEST:
            raise TooLarge(f"a text may have {LONGEST} characters at most", "text")
        if not raw.strip():
            raise InvalidInput("the text is empty", "text")
        return raw

    def knows(self, content: Any) -> bool:
        return True

    def prepare(self, contents: Sequence[str]) -> Prepared:
        words = [first_word(c) for c in contents]
        measures = [{"length": float(len(c.split())), "unknown": float(w not in self._table)}
                    for c, w in zip(contents, words, strict=True)]  # fmt: skip
        return Prepared(words, [1] * len(words), measures)

    def infer(self, prepared: Prepared) -> Output:
        n, k = len(prepared.items), len(self._labels)
        scores: Floats = np.tile(self._shares, (n, 1)).reshape(n, k)
        embeddings = np.zeros((n, DIMENSIONS), np.float32)
        for row, word in enumerate(prepared.items):
            embeddings[row] = embed(word)
            if (label := self._table.get(word)) is not None:
                scores[row] = (1 - SURE) / max(k - 1, 1)
                scores[row, self._labels.index(label)] = SURE if k > 1 else 1.0
        return Output(reweighted(scores, self._prior), embeddings)


def first_word(text: str) -> str:
    """The first word, lower-cased.

    >>> first_word("Good day")
    'good'
    """
    return text.split(maxsplit=1)[0].lower()


def embed(word: str) -> Floats:
    """A fixed pseudo-random vector of a word, shape (8,), so that drift can be seen on the toy, too."""
    digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
    return (np.frombuffer(digest[:DIMENSIONS], np.uint8).astype(np.float32) - 127.5) / 127.5


def load(folder: Path, precision: str | None = None, threads: int | None = None) -> ToyModel:
    """The model in a folder. Raises BackendError when it cannot be read."""
    try:
        state = json.loads((folder / "model.json").read_text("utf-8"))
        prior = read_prior(state, state["labels"])
        return ToyModel(state["labels"], state["table"], state["shares"], prior)
    except (OSError, ValueError, KeyError) as error:
        raise BackendError(f"the model in {folder} cannot be read ({error}); register or fetch it again") from error


def known(folder: Path, labels: Sequence[str]) -> dict[str, str]:
    """The words of an earlier model, as far as their labels still exist."""
    table = json.loads((folder / "model.json").read_text("utf-8"))["table"]
    return {word: label for word, label in table.items() if label in labels}


class ToyTask:
    """Learns the majority label of each first word."""

    name = "toy"
    starts: tuple[Start, ...] = ("new", "warm")
    reweights = True

    def learns_from(self, content: Any, snapshots: Path) -> bool:
        return True

    def fit(
        self, snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Path | None = None
    ) -> Path:
        before = parent_of(recipe, parent, self.starts)
        rows = snapshot.rows(Split.TRAIN)
        if len(set(rows.truth)) < 2:
            raise InvalidInput("there is only one class in the train part; label some examples of another class")
        votes: dict[str, Counter[str]] = defaultdict(Counter)
        for content, label, weight in zip(rows.contents, rows.truth, rows.weights, strict=True):
            votes[first_word(content)][label] += float(weight)  # type: ignore[assignment]
        total = Counter(rows.truth)
        report({"words": float(len(votes))}, 0)
        state = {
            "format": 1,
            "task": self.name,
            "load": "keepfit.tasks.toy:load",
            "labels": list(snapshot.labels),
            "table": ({} if before is None else known(before, snapshot.labels))
            | {word: vote.most_common(1)[0][0] for word, vote in votes.items()},
            "shares": [total[label] / len(rows) for label in snapshot.labels],
            "columns": list(snapshot.columns),
        }
        folder = workdir / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps(state, sort_keys=True), "utf-8")
        return folder

    def load(self, folder: Path, precision: str | None = None) -> ToyModel:
        return load(folder, precision)
