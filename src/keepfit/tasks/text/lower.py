"""Lower: the frozen layers of one training, and the rows with what they give, from the disk or computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keepfit.tasks.text.batches import EncodedRows
from keepfit.tasks.text.frozen import FrozenLayers
from keepfit.tasks.text.hidden import HiddenStates
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import Content
from keepfit.training.precision import Arithmetic, knows_bf16
from keepfit.training.recipe import Recipe

ARITHMETICS: tuple[Arithmetic, ...] = ("bf16", "fp32")
TRIED = 8
"""Texts that both arithmetics are timed on, the longest ones."""


@dataclass(frozen=True, eq=False)
class FrozenRows:
    """Rows with what the frozen layers give for them."""

    rows: EncodedRows
    names: Sequence[str]
    layers: FrozenLayers
    store: HiddenStates
    arithmetic: Arithmetic

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (n,)."""
        return self.rows.lengths

    def batch(self, rows: NDArray[np.int64]) -> Mapping[str, Tensor]:
        """As of the rows alone, with hidden (n, t, d) float16.

        What is computed here is rounded as what is kept, so that a disk without room changes the time only.
        """
        batch = self.rows.batch(rows)
        hidden = torch.zeros((*batch["input_ids"].shape, self.store.width), dtype=torch.float16)
        tokens = [len(self.rows.ids[row]) for row in rows]
        missing = []
        for place, row in enumerate(rows):
            kept = self.store.get(self.names[row], tokens[place])
            if kept is None:
                missing.append(place)
            else:
                hidden[place, : tokens[place]] = torch.from_numpy(kept)
        if missing:
            made = self.layers.states(batch["input_ids"][missing], batch["attention_mask"][missing], self.arithmetic)
            for place, states in zip(missing, made, strict=True):
                hidden[place, : tokens[place]] = torch.from_numpy(states)
                self.store.put(self.names[rows[place]], states)
        return {**batch, "hidden": hidden}


@dataclass
class Lower:
    """The frozen layers of one training, with the disk that remembers what they give."""

    layers: FrozenLayers
    wanted: str
    """The arithmetic that the recipe asks for."""
    place: Path | None
    """The folder of all hidden states; None: nothing is kept."""
    most: int
    """Bytes there."""
    width: int
    store: HiddenStates | None = None
    arithmetic: Arithmetic = "fp32"

    @classmethod
    def of(cls, network: Classifier, recipe: Recipe, place: Path | None) -> Lower:
        """Freeze the recipe's layers. Raises InvalidInput where the backbone does not allow it."""
        layers = FrozenLayers(network, recipe.frozen_layers)
        most = 0 if place is None else round(recipe.frozen_cache_gb * 1e9)
        return cls(layers, recipe.precision, place, most, network.head.in_features)

    def rows(self, contents: Sequence[Content], plain: EncodedRows) -> FrozenRows:
        """Rows with what the layers give for them."""
        store = self.store = self.store or self._open(plain)
        names = store.names(contents, plain.ids)
        tokens = dict(zip(names, map(len, plain.ids), strict=True))
        store.expect(2 * self.width * sum(n for name, n in tokens.items() if not store.has(name)))
        return FrozenRows(plain, names, self.layers, store, self.arithmetic)

    def to_json(self) -> dict[str, Any]:
        """What the card says: how often a text's states were found, how many were written, or had no room."""
        told = {"layers": self.layers.count, "arithmetic": self.arithmetic}
        store = self.store
        return told | ({} if store is None else {"found": store.found, "kept": store.kept, "no_room": store.refused})

    def _open(self, plain: EncodedRows) -> HiddenStates:
        """What an earlier training has kept is used in the arithmetic that it was computed in."""
        place = self.place or Path()
        names = {arithmetic: self.layers.stack(arithmetic) for arithmetic in ARITHMETICS}
        there = [arithmetic for arithmetic in ARITHMETICS if self.most and (place / names[arithmetic]).is_dir()]
        longest = np.argsort(plain.lengths)[-TRIED:]
        self.arithmetic = arithmetic_of(self.wanted, there, lambda: self.layers.faster(plain.batch(longest)))
        return HiddenStates(place, names[self.arithmetic], self.width, self.most)


def arithmetic_of(wanted: str, there: Sequence[Arithmetic], faster: Callable[[], Arithmetic]) -> Arithmetic:
    """The arithmetic of the frozen layers: as wanted, else that of what is kept, else the faster one where both work.

    >>> arithmetic_of("fp32", ["bf16"], lambda: "bf16")
    'fp32'
    """
    if wanted != "auto":
        return "bf16" if wanted == "bf16" else "fp32"
    if torch.cuda.is_available():
        return "bf16"
    if not knows_bf16(torch.backends.cpu.get_cpu_capability()):
        return "fp32"
    return there[0] if there else faster()
