"""LoRA: low-rank adapters beside the query and value projections, merged into their weights when they have learnt.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". What answers is the plain network again, so
conversion, warm starts and everything else know nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from keepfit.errors import InvalidInput
from keepfit.tasks.text.network import Classifier

PROJECTIONS = frozenset({"query", "value", "q_lin", "v_lin", "q_proj", "v_proj", "q", "v"})
"""What the usual encoders call the projections to queries and values."""
SCALE = 2.0
"""What the paper calls alpha / r: adapters count so much, whatever their rank."""
FACTOR = 10.0
"""The adapters learn at so many times the recipe's rate, which is meant for whole weights."""


class Adapted(nn.Module):
    """A linear layer whose weight W (out, in) stays, and beside it up (out, r) times down (r, in)."""

    def __init__(self, plain: nn.Linear, rank: int) -> None:
        super().__init__()
        self.plain = plain.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, plain.in_features))
        self.up = nn.Parameter(torch.zeros(plain.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        aside: Tensor = linear(linear(x, self.down), self.up)
        answer: Tensor = self.plain(x)
        return answer + SCALE * aside

    def merged(self) -> nn.Linear:
        """The plain layer, with what the adapter has learnt."""
        with torch.no_grad():
            self.plain.weight += SCALE * (self.up @ self.down)
        return self.plain.requires_grad_(True)


def attach(network: Classifier, rank: int, layers: Iterable[nn.Module]) -> None:
    """Put adapters into these layers of the encoder, in place; of the network only they and the head learn.

    Raises InvalidInput where the layers have no projections by a known name, or the rank is not lower than theirs.
    """
    network.encoder.requires_grad_(False)
    found = [
        (parent, name, child)
        for layer in layers
        for parent in layer.modules()
        for name, child in parent.named_children()
        if name in PROJECTIONS and isinstance(child, nn.Linear)
    ]
    if not found:
        raise InvalidInput(
            "no layer that learns has query and value projections by a name that keepfit knows; leave lora_rank at 0",
            "recipe.lora_rank",
        )
    smallest = min(min(child.in_features, child.out_features) for _, _, child in found)
    if rank >= smallest:
        raise InvalidInput(
            f"lora_rank = {rank} is not lower than the rank of the weights ({smallest})", "recipe.lora_rank"
        )
    for parent, name, child in found:
        setattr(parent, name, Adapted(child, rank))


def merge(network: Classifier) -> None:
    """Take the adapters out again, what they have learnt is in the weights; all of the network learns again."""
    for parent in list(network.encoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Adapted):
                setattr(parent, name, child.merged())
    network.encoder.requires_grad_(True)
