"""A model from before places could be still: it answers as it did, and hands down a denoiser that leaves them out."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from keepfit.engine.convert import export_fixed
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.tasks.video import weights
from keepfit.tasks.video.finishing import write_arrays
from keepfit.tasks.video.model import Facts, load
from keepfit.tasks.video.network import Denoiser, DenoiserShape
from keepfit.tasks.video.parent import Parent

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that convert
SHAPE = DenoiserShape((8, 8), 1)


@pytest.fixture
def older(tmp_path: Path, tiny_video: ModuleType) -> Path:
    """A folder of format 3: its denoiser answers about whole pictures only, and no noise was measured."""
    folder: Path = tiny_video.build(tmp_path / "model")
    torch.manual_seed(0)
    network = Denoiser(SHAPE).eval()
    weights.save(network, folder / "weights" / "denoiser.safetensors")
    (folder / "weights" / "head.safetensors").touch()
    preparation = Facts.read(folder).own.preparation
    pictures = np.zeros((2, 1, *preparation.size), np.float32)
    example = {
        "noisy": pictures,
        "past": np.repeat(pictures, 4, axis=1),
        "known": np.ones(2, np.float32),
        "sigma": np.ones(2, np.float32),
        "place": np.tile(np.array([[0, 0, 1, 1]], np.float32), (2, 1)),
    }
    export_fixed(network, folder / "ir" / "denoiser.xml", example, ("denoised",))
    values = json.loads((folder / "model.json").read_text("utf-8"))
    said = next(iter(values["cameras"].values()))
    del said["still_levels"]
    with np.load(folder / said["scene"]) as scene:
        arrays = {name: scene[name] for name in scene if name != "still"}
    write_arrays(folder / said["scene"], **arrays)
    about = {"denoiser": {"shape": SHAPE.to_json()}, "head": {}}
    (folder / "model.json").write_text(json.dumps({**values, **about, "format": 3}), "utf-8")
    return folder


def test_a_model_of_the_format_before_answers_and_judges_every_place(older: Path) -> None:
    model = load(older)
    assert model.parts.preparation.still == 0
    background = model.facts.background
    scores = model.stream().push(np.repeat(background[None], 3, axis=0), [True, False, False]).scores
    assert np.isfinite(scores).all()


def test_the_denoiser_that_it_hands_down_answers_about_parts_of_a_picture(older: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft"
    draft.mkdir()
    Parent(older, Facts.read(older)).hand_down(draft)
    part = np.zeros((1, 1, 32, 48), np.float32)
    inputs = {
        "noisy": part,
        "past": np.repeat(part, 4, axis=1),
        "known": np.ones(1, np.float32),
        "sigma": np.ones(1, np.float32),
        "place": np.zeros((1, 4), np.float32),
    }
    assert OpenVinoEngine.load(draft / "ir" / "denoiser.xml", "fp32").infer(inputs)["denoised"].shape == part.shape
