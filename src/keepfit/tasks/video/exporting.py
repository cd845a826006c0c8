"""Exporting: the denoiser and the head as networks of the engine, in the shapes that answering uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from keepfit.engine.convert import export_fixed
from keepfit.tasks.video.head import Head, Step
from keepfit.tasks.video.network import EPSILON, ChannelNorm, Denoiser
from keepfit.tasks.video.preparation import MULTIPLE, PAST

PART = (4 * MULTIPLE, 6 * MULTIPLE)
"""Height and width of the crops that the converted network is compared with torch on."""


def export_denoiser(network: Denoiser, xml: Path) -> None:
    """For crops of any size that it can fold, any number at once. Raises BackendError when it cannot be converted."""
    size, rng = PART, np.random.default_rng(0)
    example = {
        "noisy": rng.standard_normal((2, 1, *size), np.float32),
        "past": rng.standard_normal((2, len(PAST), *size), np.float32),
        "known": np.array([0, 1], np.float32),
        "sigma": np.array([0.5, 2], np.float32),
        "place": np.tile(np.array([[0.1, 0.2, 0.5, 0.4]], np.float32), (2, 1)),
    }
    with centred_by_convolution(network):
        export_fixed(network, xml, example, ("denoised",), free=[("noisy", 2), ("noisy", 3), ("past", 2), ("past", 3)])


class Centred(nn.Module):
    """What ChannelNorm computes, with convolutions of one place in the place of sums over the channels.

    The engine turns its arrays around for each sum over channels, and back.
    """

    def __init__(self, norm: ChannelNorm) -> None:
        super().__init__()
        n = len(norm.weight)
        self.weight = nn.Buffer(norm.weight.detach().reshape(1, n, 1, 1))
        self.bias = nn.Buffer(norm.bias.detach().reshape(1, n, 1, 1))
        self.less_mean = nn.Buffer((torch.eye(n) - 1 / n).reshape(n, n, 1, 1))
        self.mean = nn.Buffer(torch.full((1, n, 1, 1), 1 / n))

    def forward(self, values: Tensor) -> Tensor:
        """(n, channels, rows, columns) -> the same shape."""
        centred = functional.conv2d(values, self.less_mean)
        variance = functional.conv2d(centred.square(), self.mean)
        return centred * torch.rsqrt(variance + EPSILON) * self.weight + self.bias


@contextmanager
def centred_by_convolution(network: nn.Module) -> Iterator[None]:
    """The network with Centred wherever it has ChannelNorm, for as long as it is converted."""
    norms = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, ChannelNorm)
    ]
    for module, name, norm in norms:
        setattr(module, name, Centred(norm))
    try:
        yield
    finally:
        for module, name, norm in norms:
            setattr(module, name, norm)


def export_head(head: Head, xml: Path) -> None:
    """Frame by frame, with its memory going in and out. Raises BackendError when it cannot be converted."""
    shape = head.shape
    memory = np.zeros((2, shape.places, shape.hidden), np.float32)
    maps = np.random.default_rng(0).standard_normal((2, shape.channels, *shape.grid), np.float32)
    export_fixed(Step(head), xml, {"maps": maps, "memory": memory, "cell": memory}, ("cells", "memory_out", "cell_out"))
