"""Head: CNN over error maps, LSTM over time, one logit for each cell of the picture and one for each frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from keepfit.tasks.video.normality import LOWEST, SURPRISES
from keepfit.tasks.video.stream import TOP

Kind = Literal["cells", "global", "cnn_only", "none"]
KINDS: tuple[Kind, ...] = ("cells", "global", "cnn_only", "none")
STRIDE = 8
"""Grid cells of the error maps on each side of a cell of the heat map: 32 pixels."""


@dataclass(frozen=True)
class HeadShape:
    """What the weights fit to."""

    channels: int
    grid: tuple[int, int]
    """Rows and columns of the error maps."""
    kind: Kind = "cells"
    width: int = 96
    hidden: int = 64

    @property
    def places(self) -> int:
        """Places that have a memory of their own."""
        return 1 if self.kind == "global" else self.cells[0] * self.cells[1]

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the heat map."""
        return -(-self.grid[0] // STRIDE), -(-self.grid[1] // STRIDE)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `HeadShape.from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HeadShape:
        """What `to_json` gave."""
        return cls(**{**values, "grid": tuple(values["grid"])})


class Head(nn.Module):
    """Starts as the plain error detector, less a constant, for its last layer starts at zero; must earn its place.

    `cells`: an LSTM whose weights all cells share. `global`: the LSTM reads one vector for the whole picture.
    `cnn_only`: no memory. `none`: the plain error detector.
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        widths = (shape.channels, shape.width // 4, shape.width // 2, shape.width)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(1, after), nn.SiLU()]
        self.cnn = nn.Sequential(*layers)
        self.lstm = nn.LSTM(shape.width, shape.hidden, batch_first=True)
        self.flat = nn.Linear(shape.width, shape.hidden)
        self.last = nn.Linear(shape.hidden, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        # softplus makes one of this gain; three spreads above the usual highest surprise is an even bet to begin with
        self.gain, self.offset = nn.Parameter(torch.tensor(0.5413)), nn.Parameter(torch.tensor(-3.0))

    def forward(self, maps: Tensor) -> dict[str, Tensor]:
        """maps (b, t, channels, rows, columns) -> `cells` (b, t, r, c) and `frames` (b, t), logits."""
        b, t = maps.shape[:2]
        flat = maps.flatten(0, 1)
        plain = self.plain(flat)
        correction = torch.zeros_like(plain)
        if self.shape.kind != "none":
            encoded = self.encode(flat)
            correction = self.correct(self._remembered(encoded.reshape(b, t, *encoded.shape[1:])), plain)
        cells = functional.softplus(self.gain) * plain + correction + self.offset
        return {"cells": cells.reshape(b, t, *cells.shape[1:]), "frames": frame_logit(cells).reshape(b, t)}

    def plain(self, flat: Tensor) -> Tensor:
        """What the errors say without any learning: in each cell the largest mean of the surprises, (n, r, c)."""
        surprise = flat[:, -SURPRISES:].mean(dim=1, keepdim=True)
        rows, columns = self.shape.grid
        whole = functional.pad(surprise, (0, -columns % STRIDE, 0, -rows % STRIDE), value=LOWEST)
        return functional.max_pool2d(whole, STRIDE).squeeze(1)

    def encode(self, flat: Tensor) -> Tensor:
        """(n, channels, rows, columns) -> (n, cells, width); one cell where the kind is `global`."""
        encoded: Tensor = self.cnn(flat)
        if self.shape.kind == "global":
            return encoded.amax(dim=(2, 3)).unsqueeze(1)
        return encoded.flatten(2).transpose(1, 2)

    def _remembered(self, encoded: Tensor) -> Tensor:
        """encoded (b, t, places, width) -> (b * t, places, hidden)."""
        b, t, n, width = encoded.shape
        if self.shape.kind == "cnn_only":
            return functional.silu(self.flat(encoded)).flatten(0, 1)
        rows = encoded.transpose(1, 2).reshape(b * n, t, width)
        states: Tensor = self.lstm(rows)[0]
        return states.reshape(b, n, t, -1).transpose(1, 2).flatten(0, 1)

    def correct(self, remembered: Tensor, plain: Tensor) -> Tensor:
        """What is added to the plain error: (n, places, hidden) -> (n, r, c); one place speaks for all cells."""
        added: Tensor = self.last(remembered)
        return added.expand(-1, plain.shape[1] * plain.shape[2], -1).reshape(plain.shape)


class Step(nn.Module):
    """The head for one frame at a time, with its memory going in and out; the form that answers."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Tensor, memory: Tensor, cell: Tensor) -> dict[str, Tensor]:
        """maps (n, channels, rows, columns), memory and cell (n, places, hidden) -> `cells` (n, r, c), both again."""
        head = self.head
        plain = head.plain(maps)
        correction = torch.zeros_like(plain)
        if head.shape.kind != "none":
            encoded = head.encode(maps)
            if head.shape.kind == "cnn_only":
                remembered = functional.silu(head.flat(encoded))
            else:
                memory, cell = lstm_step(head.lstm, encoded, memory, cell)
                remembered = memory
            correction = head.correct(remembered, plain)
        cells = functional.softplus(head.gain) * plain + correction + head.offset
        return {"cells": cells, "memory_out": memory + 0.0, "cell_out": cell + 0.0}


def lstm_step(lstm: nn.LSTM, inputs: Tensor, memory: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a one-layer LSTM: what `nn.LSTM` does, in plain operations that every engine can run."""
    weights = dict(lstm.named_parameters())
    gates = functional.linear(inputs, weights["weight_ih_l0"], weights["bias_ih_l0"])
    gates = gates + functional.linear(memory, weights["weight_hh_l0"], weights["bias_hh_l0"])
    enter, forget, new, out = gates.chunk(4, dim=-1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
    return out.sigmoid() * cell.tanh(), cell


def frame_logit(cells: Tensor) -> Tensor:
    """Log of the mean of the exponentials of the highest cells: (n, r, c) -> (n,)."""
    flat = cells.flatten(1)
    top = flat.topk(min(TOP, flat.shape[1]), dim=1).values
    return top.logsumexp(dim=1) - torch.log(torch.tensor(float(top.shape[1])))


def head_loss(outputs: Mapping[str, Tensor], labels: Tensor, weights: Tensor) -> Tensor:
    """Cross entropy of frames, half as much of cells (focal), and a little for flicker.

    labels (b, t, r, c): 1 in the cells that hold an anomaly, -1 throughout a sequence that holds one somewhere: of it
    the highest moment counts (multiple instance learning, Sultani et al. 2018); weights (b, t): 0 leaves a frame out.
    """
    cells, frames = outputs["cells"].float(), outputs["frames"].float()
    somewhere = (labels < 0).flatten(1).any(dim=1)
    labels = labels.clamp(min=0)
    weights = weights * (~somewhere).unsqueeze(1)
    truth = labels.flatten(2).amax(dim=2)
    of_frames = functional.binary_cross_entropy_with_logits(frames, truth, reduction="none")
    of_cells = functional.binary_cross_entropy_with_logits(cells, labels, reduction="none")
    focal = ((1 - torch.exp(-of_cells)) * of_cells * (1 + 9 * labels)).mean(dim=(2, 3))
    flicker = functional.pad(frames.diff(dim=1).abs(), (1, 0))
    each = of_frames + 0.5 * focal + 0.01 * flicker
    highest = frames.logsumexp(dim=1) - math.log(frames.shape[1])
    found = functional.softplus(-highest[somewhere]).sum() * frames.shape[1]
    return ((each * weights).sum() + found) / (weights.sum() + somewhere.sum() * frames.shape[1]).clamp(min=1.0)
