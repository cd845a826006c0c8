"""The denoiser's training: of every size on a processor, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from keepfit.tasks.video.diffusion import PROFILES, DiffusionSettings, learn
from keepfit.tasks.video.material import Material, Take
from keepfit.tasks.video.network import Denoiser, DenoiserShape
from keepfit.tasks.video.preparation import Preparation


def take(frames: int = 60) -> Take:
    """Something walks through an empty scene; two windows."""
    images = np.full((frames, 64, 80), 40, np.uint8)
    for number, image in enumerate(images):
        image[20:36, number % 60 : number % 60 + 10] = 200
    windows = ((0, frames // 2), (frames // 2, frames))
    return Take(Material(images, np.arange(frames) == 0, windows), Preparation(np.full((64, 80), 40, np.uint8)))


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_can_be_learnt_on_a_processor(profile: str, tmp_path: Path) -> None:
    """With a tiny network: how large it is is the only thing in which the profiles differ on a machine."""
    begun = Denoiser(DenoiserShape((8, 16, 16), PROFILES[profile].layers, 0.5))
    before = {name: value.clone() for name, value in begun.state_dict().items()}
    settings = DiffusionSettings(profile, 60.0, steps=4, precision="fp32")
    trained = learn(([take()], [take()]), begun, settings, lambda metrics, step: None, tmp_path)
    assert trained.steps == 4
    assert any(not torch.equal(value, before[name]) for name, value in trained.network.state_dict().items())


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_network_of_every_profile_answers_about_a_crop(profile: str) -> None:
    network = Denoiser(DenoiserShape(PROFILES[profile].channels, PROFILES[profile].layers, 0.5)).eval()
    with torch.inference_mode():
        answer = network(
            torch.zeros(1, 1, 64, 64), torch.zeros(1, 4, 64, 64), torch.ones(1), torch.ones(1), torch.zeros(1, 4)
        )
    assert answer["denoised"].shape == (1, 1, 64, 64)
