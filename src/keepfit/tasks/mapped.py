"""A model that answers with classes as they are called today: renamed, merged, without the retired ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from keepfit.data.classes import RETIRE
from keepfit.data.today import Today
from keepfit.tasks.task import Floats, Model, Output, Prepared


class Around:
    """Another model, whose answers a subclass changes; see tasks.task.Model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @property
    def labels(self) -> tuple[str, ...]:
        return self._model.labels

    @property
    def abstain_below(self) -> float | None:
        return self._model.abstain_below

    def read(self, raw: Any) -> Any:
        return self._model.read(raw)

    def knows(self, content: Any) -> bool:
        return self._model.knows(content)

    def prepare(self, contents: Sequence[Any]) -> Prepared:
        return self._model.prepare(contents)

    def infer(self, prepared: Prepared) -> Output:
        return self._model.infer(prepared)


class Mapped(Around):
    """Another model's answers under other names. Scores of classes that are one now are added."""

    def __init__(self, model: Model, now: Sequence[str | None]) -> None:
        """`now` has a name for each of the model's labels; None for what is no class any more."""
        super().__init__(model)
        self._labels = tuple(sorted({name for name in now if name is not None}))
        self._into = np.zeros((len(now), len(self._labels)), np.float32)
        for row, name in enumerate(now):
            if name is not None:
                self._into[row, self._labels.index(name)] = 1.0

    @property
    def labels(self) -> tuple[str, ...]:
        return self._labels

    def infer(self, prepared: Prepared) -> Output:
        said = super().infer(prepared)
        scores = said.scores @ self._into + np.float32(1e-9)
        return Output(scores / scores.sum(axis=1, keepdims=True), said.embeddings, said.details)


def as_called_today(model: Model, read: Callable[[str], str | None]) -> Model:
    """The model itself where none of its classes is called otherwise."""
    now = [read(label) for label in model.labels]
    return model if tuple(now) == tuple(model.labels) or not any(now) else Mapped(model, now)


class WithoutRetired(Around):
    """Another model's answers without what is not answered any more. It has no first stage."""

    def __init__(self, model: Model, mask: Floats) -> None:
        """`mask` (k,) has 1 for each class that is answered, else 0."""
        super().__init__(model)
        self._mask = mask

    def infer(self, prepared: Prepared) -> Output:
        said = super().infer(prepared)
        return Output(without(said.scores, self._mask), said.embeddings, said.details)


def answered(model: Model, today: Today, version: int, now: datetime) -> Model:
    """The model itself where none of its classes was retired since it was deployed."""
    mask = mask_of(today, version, model.labels, now)
    return model if mask is None else WithoutRetired(model, mask)


def mask_of(today: Today, version: int, labels: Sequence[str], now: datetime) -> Floats | None:
    """1 for each of a version's classes that is answered, 0 for a retired one (k,); None where all are, or none is."""
    moment = today.moment(version, now)
    ends = [today.classes.ended(name, moment) for name in labels]
    mask = np.array([one is None or one.action != RETIRE for one in ends], np.float32)
    return None if mask.all() or not mask.any() else mask


def without(scores: Floats, mask: Floats) -> Floats:
    """Scores (..., k) where the mask (k,) is 1, divided by their sum; equal ones where nothing is left of it.

    >>> without(np.array([0.5, 0.25, 0.25], np.float32), np.array([0, 1, 1], np.float32)).tolist()
    [0.0, 0.5, 0.5]
    """
    left = scores * mask + np.float32(1e-9) * mask
    return np.asarray(left / left.sum(axis=-1, keepdims=True), np.float32)
