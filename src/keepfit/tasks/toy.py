"""The toy task: the majority label of a text's first word. No torch; the reference and the shipped fake.

Its first stage knows the majority label of a text's first letter, which is less and often enough.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.data.snapshot import Rows, Snapshot, Split
from keepfit.errors import BackendError, InvalidInput, TooLarge
from keepfit.tasks.prior import read_prior, reweighted
from keepfit.tasks.task import Floats, Output, Prepared, Report, parent_of
from keepfit.tasks.trade import Trade, measure
from keepfit.training.recipe import Recipe, Start

SURE = 0.9
DIMENSIONS = 8
THRESHOLDS = (0.99, 0.9, 0.75)
"""Of the first stage's top score."""
LONGEST = 100_000


class ToyFirst:
    """The classes' shares by first letter; see tasks.task.FirstStage."""

    def __init__(self, letters: Mapping[str, Sequence[float]], k: int, trade: Trade | None = None) -> None:
        self._letters = {letter: np.asarray(shares, np.float32) for letter, shares in letters.items()}
        self._unknown, self._trade = np.full(k, 1 / k, np.float32), trade or Trade(0, 0, 0, ())

    @property
    def trade(self) -> Trade:
        return self._trade

    def scores(self, contents: Sequence[str]) -> Floats:
        found = [self._letters.get(first_word(content)[0], self._unknown) for content in contents]
        return np.stack(found) if found else np.zeros((0, len(self._unknown)), np.float32)


class ToyModel:
    """A table from first word to label; answers known words with 0.9, others with the class shares."""

    def __init__(
        self, labels: Sequence[str], table: Mapping[str, str], shares: Sequence[float], prior: Floats | None = None,
        first: ToyFirst | None = None,
    ) -> None:  # fmt: skip
        self.first = first
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
        return ToyModel(state["labels"], state["table"], state["shares"], prior, first_from(state))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendError(f"the model in {folder} cannot be read ({error}); register or fetch it again") from error


def first_from(state: Mapping[str, Any]) -> ToyFirst | None:
    """The first stage of a model.json; None where it has none."""
    first = state.get("first")
    if first is None:
        return None
    return ToyFirst(first["letters"], len(state["labels"]), Trade.from_json(first["trade"]))


def learn_first(model: ToyModel, train: Rows, validation: Rows) -> dict[str, Any]:
    """What model.json says as `first`: learnt from the train part, measured on the validation part."""
    letters: dict[str, Counter[str]] = defaultdict(Counter)
    for content, label in zip(train.contents, train.truth, strict=True):
        letters[first_word(content)[0]][label] += 1
    shares = {
        letter: [votes[label] / votes.total() for label in model.labels] for letter, votes in sorted(letters.items())
    }
    number = {label: i for i, label in enumerate(model.labels)}
    truth = np.array([number.get(label, -1) for label in validation.truth], np.int64)
    full = model.infer(model.prepare(validation.contents)).scores.argmax(axis=1)
    scores = ToyFirst(shares, len(number)).scores(validation.contents)
    return {"letters": shares, "trade": measure(scores, full, truth, THRESHOLDS).to_json()}


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
        state: dict[str, Any] = {
            "format": 1,
            "task": self.name,
            "load": "keepfit.tasks.toy:load",
            "labels": list(snapshot.labels),
            "table": ({} if before is None else known(before, snapshot.labels))
            | {word: vote.most_common(1)[0][0] for word, vote in votes.items()},
            "shares": [total[label] / len(rows) for label in snapshot.labels],
            "columns": list(snapshot.columns),
        }
        model = ToyModel(state["labels"], state["table"], state["shares"])
        state["first"] = learn_first(model, rows, snapshot.rows(Split.VALIDATION))
        folder = workdir / "model"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.json").write_text(json.dumps(state, sort_keys=True), "utf-8")
        return folder

    def load(self, folder: Path, precision: str | None = None) -> ToyModel:
        return load(folder, precision)


class ToyEmbedder:
    """Embeddings of texts that no model has answered, as a model would give them."""

    def __init__(self, recipe: Recipe, columns: int = 1) -> None:
        """What the recipe says does not matter to it."""

    def __call__(self, contents: Sequence[str]) -> tuple[Floats, Mapping[str, Floats]]:
        """Embeddings (n, 8), and the measure `length` (n,)."""
        embeddings = np.stack([embed(first_word(content)) for content in contents])
        return embeddings, {"length": np.array([len(content.split()) for content in contents], np.float32)}
