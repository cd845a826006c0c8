"""Denoiser: diffusers' UNet under EDM preconditioning, with the past as a condition that may be hidden."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from keepfit.tasks.video.preparation import PAST

FOLD = 4
"""Pixels are folded into channels by this factor on each side: the UNet works on a grid a sixteenth as large."""
EXTRA = 3
"""Planes besides the pictures: whether the past is shown, row, column."""


@dataclass(frozen=True)
class DenoiserShape:
    """What the weights fit to."""

    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    sigma_data: float = 0.5
    """Root mean square of the pictures (background taken away) where something is."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; `DenoiserShape.from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DenoiserShape:
        """What `to_json` gave."""
        return cls(tuple(values["channels"]), int(values["layers"]), float(values["sigma_data"]))


EPSILON = 1e-5
"""Added to variances."""


class ChannelNorm(nn.Module):
    """Normalises over the channels of each place apart, in the place of GroupNorm.

    GroupNorm's statistics go over the picture. The network learns on crops full of motion and answers for whole
    pictures that are mostly still, where these statistics are others.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        """(n, channels, rows, columns) -> the same shape."""
        moved = values.movedim(1, -1)
        return functional.layer_norm(moved, moved.shape[-1:], self.weight, self.bias, EPSILON).movedim(-1, 1)


class Denoiser(nn.Module):
    """D(x; sigma, past): the expected clean picture, in one step (Karras et al. 2022)."""

    def __init__(self, shape: DenoiserShape) -> None:
        super().__init__()
        self.shape = shape
        folded, levels = FOLD * FOLD, len(shape.channels)
        unet: nn.Module = UNet2DModel(  # type: ignore[no-untyped-call, assignment]
            in_channels=folded * (1 + len(PAST)) + EXTRA,
            out_channels=folded,
            block_out_channels=shape.channels,
            layers_per_block=shape.layers,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            norm_num_groups=8,
            add_attention=False,
        )
        without_group_norm(unet)
        self.unet = unet

    def forward(self, noisy: Tensor, past: Tensor, known: Tensor, sigma: Tensor, place: Tensor) -> dict[str, Tensor]:
        """The denoised pictures.

        noisy (n, 1, h, w), past (n, 4, h, w), known (n,) 1 where the past is shown and else 0, sigma (n,),
        place (n, 4): top, left, height and width of the crop as shares of the whole picture.
        Gives `denoised` (n, 1, h, w) and `scale` (n, 1, 1, 1): the size of the error that a step of this sigma makes.
        """
        spread = self.shape.sigma_data
        noise = sigma.reshape(-1, 1, 1, 1)
        total = noise.square() + spread**2
        shown = known.reshape(-1, 1, 1, 1)
        folded = functional.pixel_unshuffle(noisy / total.sqrt(), FOLD)
        condition = functional.pixel_unshuffle(past / spread, FOLD) * shown
        planes = torch.cat([shown.expand(-1, -1, *folded.shape[2:]), places(folded, place)], dim=1)
        inputs = torch.cat([folded, condition, planes], dim=1)
        answer = functional.pixel_shuffle(self.unet(inputs, 100.0 * sigma.log()).sample.float(), FOLD)
        scale = noise * spread / total.sqrt()
        return {"denoised": noisy * spread**2 / total + scale * answer, "scale": scale}


def places(folded: Tensor, place: Tensor) -> Tensor:
    """Row and column of each grid cell in the whole picture, from -1 to 1: (n, 2, rows, columns)."""
    n, _, rows, columns = folded.shape
    down = (torch.arange(rows, device=folded.device, dtype=torch.float32) + 0.5) / rows
    right = (torch.arange(columns, device=folded.device, dtype=torch.float32) + 0.5) / columns
    top, left, height, width = (place[:, i].reshape(-1, 1, 1) for i in range(4))
    vertical = (top + height * down.reshape(1, -1, 1)).expand(n, rows, columns)
    horizontal = (left + width * right.reshape(1, 1, -1)).expand(n, rows, columns)
    return torch.stack([vertical, horizontal], dim=1) * 2 - 1


def without_group_norm(module: nn.Module) -> None:
    """Put ChannelNorm wherever there is GroupNorm."""
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, ChannelNorm(child.num_channels))
        else:
            without_group_norm(child)


class Averaged(nn.Module):
    """A network that learns, and the moving average of its weights that answers (in evaluation mode)."""

    def __init__(self, network: Denoiser, decay: float = 0.999) -> None:
        super().__init__()
        self.network, self.average, self.decay = network.requires_grad_(True), copy.deepcopy(network), decay
        self.average.requires_grad_(False)
        self.steps = nn.Buffer(torch.zeros(()))

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """As the network's."""
        if not self.training:
            return dict(self.average(**inputs))
        if torch.is_grad_enabled():
            self.follow()
        return dict(self.network(**inputs))

    @torch.no_grad()
    def follow(self) -> None:
        """Move the average towards the weights; faster at the beginning, when they are worth little."""
        self.steps.add_(1)
        share = 1 - min(self.decay, float((1 + self.steps) / (10 + self.steps)))
        for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(now, share)


SOFT = 0.1
"""Errors below this count by their square, larger ones by their size."""


def weighted_huber(outputs: Mapping[str, Tensor], labels: Tensor, weights: Tensor) -> Tensor:
    """Pseudo-Huber loss of the error in units of its scale, so that all noise levels count alike.

    Robust, because the training video of a user holds anomalies too. labels and weights: (n, 1, h, w).
    """
    error = (outputs["denoised"].float() - labels) / outputs["scale"].float()
    each = (error.square() + SOFT**2).sqrt() - SOFT
    return (each * weights).sum() / weights.sum()


def log_uniform(values: Tensor, low: float, high: float) -> Tensor:
    """Numbers from 0 to 1 to noise levels between low and high, every ratio alike."""
    return torch.exp(values * (math.log(high) - math.log(low)) + math.log(low))
