"""TextModel: the answering half of the text task. No torch, no transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from keepfit.engine.engine import Engine, Precision, known_precision
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.errors import BackendError, InvalidInput, TooLarge
from keepfit.tasks.prior import read_prior, reweighted
from keepfit.tasks.task import FirstStage, Floats, Output, Prepared
from keepfit.tasks.text import first as first_stage
from keepfit.tasks.text.cuts import Cut, cut, together
from keepfit.tasks.text.preprocessing import Content, Preprocessor, Reading, says_something

FORMAT = 1
"""The form of a model folder as it is trained."""
NEWEST = 2
"""The form of one with a prior; a reader refuses higher forms."""
LONGEST = 1_000_000
"""Characters that one content may have."""
NETWORKS: Mapping[Precision, str] = {"fp32": "model.xml", "bf16": "model.xml", "int8": "int8.xml"}
LANES = 8
"""Calls side by side at most, whatever the number of cores."""
MANY_CALLS = 4
"""So many for each lane are worth threads of their own."""
WARM_ROWS, WARM_TOKENS = (1, 2, 4, 8), (16, 32, 64)


@dataclass(frozen=True)
class Facts:
    """What model.json says, as far as answering needs it."""

    labels: tuple[str, ...]
    columns: tuple[str, ...]
    temperature: float
    abstain_below: float | None
    max_tokens: int
    embedding_dim: int
    pad_id: int
    precision: Precision
    backbone: str
    prior: Floats | None = None
    """By how much each class is more frequent than the network has learnt, shape (k,)."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Facts:
        """Raises KeyError, TypeError or ValueError on what is missing or makes no sense."""
        facts = cls(
            labels=tuple(values["labels"]),
            columns=tuple(values["columns"]),
            temperature=float(values["temperature"]),
            abstain_below=values.get("abstain_below"),
            max_tokens=int(values["max_tokens"]),
            embedding_dim=int(values["embedding_dim"]),
            pad_id=int(values["pad_id"]),
            precision=known_precision(values["precision"]),
            backbone=str(values.get("backbone", "")),
            prior=read_prior(values, values["labels"]),
        )
        if len(facts.labels) < 2 or not facts.columns or facts.temperature <= 0:
            raise ValueError("its labels, columns or temperature make no sense")
        return facts


class TextModel:
    """A fitted text classifier; see tasks.task.Model. Every method may be called from several threads."""

    def __init__(self, facts: Facts, preprocessor: Reading, engine: Engine, first: FirstStage | None = None) -> None:
        self._facts, self._preprocessor, self._engine = facts, preprocessor, engine
        self.first = first
        """See tasks.task.FirstStage; None: it has none."""

    @property
    def labels(self) -> tuple[str, ...]:
        return self._facts.labels

    @property
    def abstain_below(self) -> float | None:
        return self._facts.abstain_below

    @property
    def lanes(self) -> int:
        """See tasks.task.SideBySide."""
        return self._engine.lanes

    def together(self, costs: Sequence[int]) -> list[int]:
        """See tasks.task.SideBySide: texts of like length, so that little is padded."""
        return together(costs, self._facts.max_tokens)

    @property
    def precision(self) -> str:
        """The arithmetic that is really used."""
        return self._engine.precision

    def describe(self) -> dict[str, Any]:
        """For the status and the card."""
        facts = self._facts
        return {
            "task": "text",
            "backbone": facts.backbone,
            "columns": list(facts.columns),
            "classes": len(facts.labels),
            "max_tokens": facts.max_tokens,
            "temperature": facts.temperature,
            "abstain_below": facts.abstain_below,
            "prior": None if facts.prior is None else [round(float(ratio), 4) for ratio in facts.prior],
            "precision": self._engine.precision,
            "chosen_precision": facts.precision,
            "device": self._engine.device,
        }

    def read(self, raw: Any) -> Content:
        """A str, or a mapping of column to str (for several columns), or what this returned before.

        Raises InvalidInput (another type, unknown or missing columns, nothing in it but blanks and markup), TooLarge
        over a million characters.
        """
        texts = self._texts(raw)
        for column, text in texts.items():
            if not isinstance(text, str):
                raise InvalidInput(f"{column} must be a string, not {_kind(text)}; send text", column)
        if sum(map(len, texts.values())) > LONGEST:
            raise TooLarge(f"a text may have {LONGEST:,} characters at most; send a part of it", self._facts.columns[0])
        if not any(map(says_something, texts.values())):
            raise InvalidInput("the text is empty; send at least one word", self._facts.columns[0])
        values = tuple(texts.values())
        return values if len(values) > 1 else values[0]

    def _texts(self, raw: Any) -> dict[str, Any]:
        """By column, in the model's order; the values are not checked yet."""
        columns = self._facts.columns
        if isinstance(raw, Mapping):
            if set(raw) != set(columns):
                wrong = sorted({str(name) for name in raw} ^ set(columns))
                field = next((c for c in columns if c not in raw), wrong[0] if wrong else columns[0])
                raise InvalidInput(f"this model wants exactly {_listed(columns)}; look at {_listed(wrong)}", field)
            return {column: raw[column] for column in columns}
        if isinstance(raw, list | tuple) and len(raw) == len(columns) > 1:
            return dict(zip(columns, raw, strict=True))
        if len(columns) > 1:
            raise InvalidInput(f"this model wants an object with {_listed(columns)}, not {_kind(raw)}", columns[0])
        return {columns[0]: raw}

    def knows(self, content: Content) -> bool:
        """Every text can be judged."""
        return True

    def prepare(self, contents: Sequence[Content]) -> Prepared:
        """Cleaned, tokenized, truncated: items are token ids, costs their number."""
        if not len(contents):
            return Prepared([], [], [])
        encoded = self._preprocessor.encode(contents)
        measures = [
            {"length": float(length), "unknown": float(unknown)}
            for length, unknown in zip(encoded.lengths, encoded.unknown, strict=True)
        ]
        return Prepared(encoded.ids, [len(ids) for ids in encoded.ids], measures)

    def infer(self, prepared: Prepared) -> Output:
        """Texts of like length go through the network together; the answers come back in the order of the items."""
        n = len(prepared.items)
        scores = np.empty((n, len(self._facts.labels)), np.float32)
        embeddings = np.empty((n, self._facts.embedding_dim), np.float32)

        def answer(part: Cut) -> None:
            outputs = self._engine.infer(self._padded(prepared.items, part))
            scores[part.rows] = reweighted(softmax(outputs["logits"], self._facts.temperature), self._facts.prior)
            embeddings[part.rows] = outputs["embedding"]

        parts = cut(prepared.costs, self._facts.max_tokens)
        if len(parts) >= MANY_CALLS * self.lanes > MANY_CALLS:
            with ThreadPoolExecutor(self.lanes) as lanes:
                list(lanes.map(answer, parts))  # which raises what a call has raised
        else:
            for part in parts:
                answer(part)
        return Output(scores, embeddings)

    def _padded(self, items: Sequence[Sequence[int]], part: Cut) -> dict[str, NDArray[np.int64]]:
        ids = np.full((len(part.rows), part.width), self._facts.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(part.rows):
            length = len(items[row])
            ids[place, :length] = items[row]
            mask[place, : max(length, 1)] = 1  # a text without any token still has one place to look at
        return {"input_ids": ids, "attention_mask": mask}

    def warm(self) -> None:
        """Run the most usual shapes once, so that the first requests do not wait for the engine to prepare itself."""
        self._run_shapes(WARM_TOKENS, WARM_ROWS)
        if self.lanes > 1:  # one of these calls runs as if alone
            with ThreadPoolExecutor(self.lanes + 1) as lanes:
                for _ in range(self.lanes + 1):
                    lanes.submit(self._run_shapes, WARM_TOKENS[:2], WARM_ROWS[-1:])

    def _run_shapes(self, lengths: Sequence[int], numbers: Sequence[int]) -> None:
        for tokens in (t for t in lengths if t <= self._facts.max_tokens):
            for rows in numbers:
                self._engine.infer(self._padded([[self._facts.pad_id] * tokens] * rows, Cut(np.arange(rows), tokens)))


def load(folder: Path, precision: str | None = None, threads: int | None = None) -> TextModel:
    """The model in a folder, compiled and warm; on the CPU, in its own precision unless another is asked for.

    Raises BackendError when a file is missing, damaged or of a newer keepfit.
    """
    facts, preprocessor = read_folder(folder)
    wanted = known_precision(precision or facts.precision)
    engine = OpenVinoEngine.load(folder / "ir" / NETWORKS[wanted], wanted, threads, LANES)
    model = TextModel(facts, preprocessor, engine, read_first(folder))
    model.warm()
    return model


def read_folder(folder: Path) -> tuple[Facts, Preprocessor]:
    """What a model folder says, and the preprocessing that it was trained with. Raises BackendError."""
    try:
        values = json.loads((folder / "model.json").read_text("utf-8"))
        if values["format"] > (NEWEST if values.get("prior") else FORMAT):
            raise BackendError(f"the model in {folder} was made by a newer keepfit; update this one")
        return Facts.from_json(values), Preprocessor.from_settings(folder, values)
    except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        what = f"{error} is missing in model.json" if isinstance(error, KeyError) else error
        raise BackendError(f"the model in {folder} cannot be read ({what}); fetch or register it again") from error


def read_first(folder: Path) -> FirstStage | None:
    """The first stage of a model folder; None where it has none. Raises BackendError."""
    try:
        return first_stage.load(folder, json.loads((folder / "model.json").read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise BackendError(f"the first stage in {folder} cannot be read ({error}); fetch it again") from error


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities, rows sum to one; computed in float64."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _kind(value: Any) -> str:
    names = {str: "a string", dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
