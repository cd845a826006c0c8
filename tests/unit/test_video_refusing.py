"""What a video training is refused for before anything is learnt."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.errors import InvalidInput
from keepfit.tasks.video.cameras import PARTS, Camera
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.refusing import refuse, refuse_all

BACKGROUND = np.full((32, 48), 90, np.uint8)


def part(n: int, height: int = 32, moving: bool = True, cut: int = 10_000) -> Material:
    images = np.full((n, height, 48), 90, np.uint8)
    if moving:
        for number in range(n):
            images[number, 8:20, number % 36 : number % 36 + 8] = 200
    return Material(images, np.arange(n) % cut == 0, ((0, n),))


def parts(**changed: Material) -> dict[str, Material]:
    return {"fit": part(300), "head": part(100), "calibrate": part(100)} | changed


def test_a_video_of_one_size_that_shows_life_is_taken() -> None:
    refuse(parts(), Preparation(BACKGROUND), fps=10, alarms_per_day=1, unbroken=32)


@pytest.mark.parametrize(
    ("changed", "alarms", "words"),
    [
        ({"calibrate": part(44)}, 1.0, "4 seconds of normal video are too few"),
        ({"calibrate": part(30)}, 1.0, "3 seconds of normal video are too few"),
        ({"fit": part(300, moving=False)}, 1.0, "nothing moves in this video"),
        ({"head": part(100, height=40)}, 1.0, "several sizes .48 x 32, 48 x 40."),
        ({}, 1e9, "alarms a day are no budget"),
        ({"head": part(300, cut=25)}, 1.0, "no unbroken stretch of 32 frames .the longest has 25."),
    ],
)
def test_what_cannot_lead_to_a_model_is_refused_at_once(
    changed: dict[str, Material], alarms: float, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        refuse(parts(**changed), Preparation(BACKGROUND), fps=10, alarms_per_day=alarms, unbroken=32)


def test_cameras_of_several_sizes_cannot_share_a_model() -> None:
    small = {name: part(300, height=24) for name in PARTS}
    cameras = {
        "door": Camera(0, parts(), Preparation(BACKGROUND), (), 10.0),
        "gate": Camera(1, small, Preparation(BACKGROUND[:24]), (), 10.0),
    }
    refuse_all({"door": cameras["door"]}, 10, 1, 32)
    with pytest.raises(InvalidInput, match="door 48 x 32, gate 48 x 24"):
        refuse_all(cameras, 10, 1, 32)


def test_a_camera_of_another_rate_than_the_models_is_refused() -> None:
    with pytest.raises(InvalidInput, match="camera gate has 25 frames a second and the model 10"):
        refuse_all({"gate": Camera(0, parts(), Preparation(BACKGROUND), (), 25.0)}, 10, 1, 32)
