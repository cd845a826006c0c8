"""Which rows are learnt together and in which order: batches of like length, planned from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROUND = 8
"""Lengths are rounded up to a multiple of this, which the matrix kernels like."""

POOL = 64
"""Rows are shuffled, and sorted by length within this many batches: random enough, and little padding."""

MOST = 4
"""A batch with a budget of tokens has at most so many times `batch_size` rows."""


class Learnable(Protocol):
    """Rows that batches are made of."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (n,)."""

    def batch(self, rows: NDArray[np.int64]) -> Mapping[str, Tensor]:
        """What the network and its loss need of some rows."""


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """n rows ready for the network."""

    ids: Sequence[list[int]]
    labels: NDArray[np.int64] | NDArray[np.float32]
    """Class numbers (n,); or of a distillation what the teacher says, (n, m)."""
    weights: NDArray[np.float32]
    pad_id: int

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (n,)."""
        return np.array([len(ids) for ids in self.ids], np.int64)

    def batch(self, rows: NDArray[np.int64]) -> Mapping[str, Tensor]:
        """input_ids and attention_mask (n, t) padded on the right, labels (n, ...), weights (n,)."""
        chosen = [self.ids[i] for i in rows]
        width = -(-max(map(len, chosen)) // ROUND) * ROUND
        ids = np.full((len(chosen), width), self.pad_id, np.int64)
        mask = np.zeros((len(chosen), width), np.int64)
        for i, tokens in enumerate(chosen):
            ids[i, : len(tokens)] = tokens
            mask[i, : len(tokens)] = 1
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(self.labels[rows]),
            "weights": torch.from_numpy(self.weights[rows]),
        }


class PlannedBatches:
    """The batches of a whole training: one or several stretches of (the same rows cut in some way, passes).

    A stretch goes on where the one before stopped, be it within a pass: every row is seen once per pass. With a budget
    of `tokens` batches have about as many tokens (padding included) instead of as many rows; a row counts the same in
    each: the loss, a mean over the batch, is weighed by the batch's rows over those of a batch on average.
    """

    def __init__(
        self, stretches: Sequence[tuple[Learnable, float]], batch_size: int, seed: int, tokens: int = 0
    ) -> None:
        whole, total = stretches[-1][0], sum(passes for _, passes in stretches)
        order = _plan(whole.lengths, (batch_size, tokens), total, np.random.default_rng(seed))
        ends = [round(end / total * len(order)) for end in np.cumsum([passes for _, passes in stretches])]
        starts = [0, *ends[:-1]]
        self._plan = [
            (rows, batch)
            for (rows, _), start, end in zip(stretches, starts, ends, strict=True)
            for batch in order[start:end]
        ]
        self._usual = sum(map(len, order)) / len(order) if tokens else 0.0

    def __len__(self) -> int:
        return len(self._plan)

    @property
    def widest(self) -> int:
        """The number of the batch with the most tokens, padding included."""
        sizes = [len(chosen) * int(rows.lengths[chosen].max()) for rows, chosen in self._plan]
        return int(np.argmax(sizes))

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        rows, chosen = self._plan[number]
        batch = rows.batch(chosen)
        return {**batch, "weights": batch["weights"] * (len(chosen) / self._usual)} if self._usual else batch


class OrderedBatches:
    """One look at every row, in order of length; `order` says which row each answer belongs to."""

    def __init__(self, rows: Learnable, batch_size: int) -> None:
        self._rows, self._size = rows, batch_size
        self.order = np.argsort(rows.lengths, kind="stable")

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self._size)

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        return self._rows.batch(self.order[number * self._size : (number + 1) * self._size])


def _plan(
    lengths: NDArray[np.int64], size: tuple[int, int], passes: float, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Row numbers of each batch; every row once per pass; the last pass may be a part. `size`: rows, tokens (or 0)."""
    plan: list[NDArray[np.int64]] = []
    whole = math.ceil(passes)
    for _ in range(whole):
        order = rng.permutation(len(lengths))
        for start in range(0, len(order), POOL * size[0]):
            pool = order[start : start + POOL * size[0]]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            cut = _cut(pool, lengths, *size)
            plan += [cut[i] for i in rng.permutation(len(cut))]
    return plan[: max(1, round(passes / whole * len(plan)))]


def _cut(pool: NDArray[np.int64], lengths: NDArray[np.int64], rows: int, tokens: int) -> list[NDArray[np.int64]]:
    """Rows in order of length, in batches of so many rows, or of about so many tokens."""
    if not tokens:
        return [pool[i : i + rows] for i in range(0, len(pool), rows)]
    widths = -(-lengths[pool] // ROUND) * ROUND
    starts = [0]
    for i, width in enumerate(widths):
        n = i - starts[-1]
        if n and (n == MOST * rows or (n + 1) * width > tokens):
            starts.append(i)
    return np.split(pool, starts[1:])
