"""Which rows are learnt together and in which order: batches of like length, planned from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROUND = 8
"""Lengths are rounded up to a multiple of this, which the matrix kernels like."""

POOL = 64
"""Rows are shuffled, and sorted by length within this many batches: random enough, and little padding."""


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """n rows ready for the network."""

    ids: Sequence[list[int]]
    labels: NDArray[np.int64] | NDArray[np.float32]
    """Class numbers (n,); or of a distillation what the teacher says, (n, m)."""
    weights: NDArray[np.float32]
    pad_id: int

    @property
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

    A stretch goes on where the one before stopped, be it within a pass: every row is seen once per pass.
    """

    def __init__(self, stretches: Sequence[tuple[EncodedRows, float]], batch_size: int, seed: int) -> None:
        whole, total = stretches[-1][0], sum(passes for _, passes in stretches)
        order = _plan(whole.lengths, batch_size, total, np.random.default_rng(seed))
        ends = [round(end / total * len(order)) for end in np.cumsum([passes for _, passes in stretches])]
        starts = [0, *ends[:-1]]
        self._plan = [
            (rows, batch)
            for (rows, _), start, end in zip(stretches, starts, ends, strict=True)
            for batch in order[start:end]
        ]

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        rows, batch = self._plan[number]
        return rows.batch(batch)


class OrderedBatches:
    """One look at every row, in order of length; `order` says which row each answer belongs to."""

    def __init__(self, rows: EncodedRows, batch_size: int) -> None:
        self._rows, self._size = rows, batch_size
        self.order = np.argsort(rows.lengths, kind="stable")

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self._size)

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        return self._rows.batch(self.order[number * self._size : (number + 1) * self._size])


def _plan(lengths: NDArray[np.int64], size: int, passes: float, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Row numbers of each batch; every row once per pass; the last pass may be a part."""
    wanted = max(1, round(passes * math.ceil(len(lengths) / size)))
    plan: list[NDArray[np.int64]] = []
    while len(plan) < wanted:
        order = rng.permutation(len(lengths))
        for start in range(0, len(order), POOL * size):
            pool = order[start : start + POOL * size]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            cut = [pool[i : i + size] for i in range(0, len(pool), size)]
            plan += [cut[i] for i in rng.permutation(len(cut))]
    return plan[:wanted]
