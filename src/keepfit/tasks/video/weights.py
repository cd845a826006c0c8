"""Weights: what a network has learnt, as safetensors beside the form that answers."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file, save_file
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def save(network: nn.Module, file: Path) -> None:
    """Raises OSError or SafetensorError when the disk fails."""
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)


def load(network: Network, file: Path) -> Network:
    """The network, made in the same shape, with the weights in the file, ready to answer."""
    network.load_state_dict(load_file(file))
    return network.eval()
