from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from keepfit.engine.convert import export_fixed
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.tasks.video import weights
from keepfit.tasks.video.exporting import export_denoiser
from keepfit.tasks.video.head import KINDS, Head, HeadShape, Kind, Step, frame_logit, head_loss
from keepfit.tasks.video.network import Averaged, ChannelNorm, Denoiser, DenoiserShape, weighted_huber
from keepfit.tasks.video.normality import WIDTH
from keepfit.tasks.video.sequences import cells_of
from keepfit.tasks.video.stream import frame_logits

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that convert

SHAPE = DenoiserShape((8, 16, 16), 1, 0.5)
GRID = (12, 16)


def inputs(n: int = 2, height: int = 32, width: int = 48) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "noisy": torch.randn(n, 1, height, width),
        "past": torch.randn(n, 4, height, width),
        "known": torch.ones(n),
        "sigma": torch.full((n,), 0.7),
        "place": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * n),
    }


def test_the_denoiser_gives_a_picture_of_the_same_size() -> None:
    answer = Denoiser(SHAPE)(**inputs())
    assert answer["denoised"].shape == (2, 1, 32, 48)
    assert answer["scale"].shape == (2, 1, 1, 1)


def test_without_noise_the_denoiser_changes_little() -> None:
    given = inputs() | {"sigma": torch.full((2,), 1e-3)}
    assert (Denoiser(SHAPE)(**given)["denoised"] - given["noisy"]).abs().max() < 0.05


def test_a_hidden_past_makes_no_difference() -> None:
    network, given = Denoiser(SHAPE).eval(), inputs() | {"known": torch.zeros(2)}
    other = given | {"past": torch.randn(2, 4, 32, 48)}
    assert torch.equal(network(**given)["denoised"], network(**other)["denoised"])


def test_the_average_answers_and_follows_the_weights() -> None:
    averaged = Averaged(Denoiser(SHAPE), decay=0.5)
    before = [p.clone() for p in averaged.average.parameters()]
    with torch.no_grad():
        for parameter in averaged.network.parameters():
            parameter.add_(1.0)
    averaged.train()
    averaged(**inputs())
    moved = [(after - b).mean().item() for after, b in zip(averaged.average.parameters(), before, strict=True)]
    assert all(0.4 < m <= 1.0 for m in moved)
    averaged.eval()
    assert torch.equal(averaged(**inputs())["denoised"], averaged.average(**inputs())["denoised"])


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    network = Denoiser(SHAPE).eval()
    weights.save(network, tmp_path / "denoiser.safetensors")
    again = weights.load(Denoiser(DenoiserShape.from_json(SHAPE.to_json())), tmp_path / "denoiser.safetensors")
    assert torch.equal(network(**inputs())["denoised"], again(**inputs())["denoised"])


def test_the_loss_counts_every_noise_level_alike() -> None:
    outputs = {"denoised": torch.tensor([[[[2.0]]], [[[0.2]]]]), "scale": torch.tensor([[[[1.0]]], [[[0.1]]]])}
    whole = weighted_huber(outputs, torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1))
    one = {name: value[:1] for name, value in outputs.items()}
    first = weighted_huber(one, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    assert whole == pytest.approx(first.item())


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_head_says_what_the_plain_errors_say(kind: Kind) -> None:
    torch.manual_seed(1)
    maps = torch.randn(2, 3, 4, *GRID)
    fresh, plain = Head(HeadShape(4, GRID, kind)), Head(HeadShape(4, GRID, "none"))
    assert torch.allclose(fresh(maps)["cells"], plain(maps)["cells"], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_frame_by_frame_the_engine_says_what_the_network_says_of_the_whole(kind: Kind, tmp_path: Path) -> None:
    torch.manual_seed(2)
    shape = HeadShape(4, GRID, kind)
    head = Head(shape).eval()
    torch.nn.init.normal_(head.last.weight)
    maps = torch.randn(1, 5, 4, *GRID)
    memory = np.zeros((1, shape.places, shape.hidden), np.float32)
    example = {"maps": maps[:, 0].numpy(), "memory": memory, "cell": memory}
    export_fixed(Step(head), tmp_path / "head.xml", example, ("cells", "memory_out", "cell_out"))
    engine, cell, said = OpenVinoEngine.load(tmp_path / "head.xml", "fp32"), memory, []
    for t in range(5):
        answer = engine.infer({"maps": maps[:, t].numpy(), "memory": memory, "cell": cell})
        memory, cell = answer["memory_out"], answer["cell_out"]
        said.append(answer["cells"][0])
    whole = head(maps)
    assert np.abs(np.stack(said) - whole["cells"][0].detach().numpy()).max() < 1e-4
    assert np.abs(frame_logits(np.stack(said)) - whole["frames"][0].detach().numpy()).max() < 1e-4


def test_the_plain_errors_lie_in_the_cells_that_labels_are_marked_in() -> None:
    """A grid that is no multiple of a cell: the last cells are cut off, the others are not moved."""
    shape = HeadShape(WIDTH, (60, 90), "none")
    maps = torch.full((1, WIDTH, 60, 90), -1.0)
    maps[0, :, 53, 89] = 5.0
    found = Head(shape).plain(maps)[0]
    mask = np.zeros((1, 240, 360), np.bool_)
    mask[0, 4 * 53 : 4 * 54, 4 * 89 :] = True
    assert torch.argwhere(found == 5.0).tolist() == np.argwhere(cells_of(mask, (60, 90))[0]).tolist() == [[6, 11]]


def test_the_heads_memory_makes_it_causal() -> None:
    torch.manual_seed(3)
    head = Head(HeadShape(4, GRID)).eval()
    torch.nn.init.normal_(head.last.weight)
    maps = torch.randn(1, 6, 4, *GRID)
    changed = maps.clone()
    changed[:, 4:] += 1
    assert torch.allclose(head(maps)["frames"][:, :4], head(changed)["frames"][:, :4])


def test_a_head_survives_the_disk(tmp_path: Path) -> None:
    head, maps = Head(HeadShape(4, GRID)).eval(), torch.randn(1, 3, 4, *GRID)
    weights.save(head, tmp_path / "head.safetensors")
    again = weights.load(Head(HeadShape.from_json(head.shape.to_json())), tmp_path / "head.safetensors")
    assert torch.equal(head(maps)["frames"], again(maps)["frames"])


def test_the_loss_falls_when_the_marked_cells_rise() -> None:
    labels = torch.zeros(1, 2, 2, 2)
    labels[0, 1, 0, 0] = 1

    def loss(level: float) -> float:
        cells = torch.full((1, 2, 2, 2), -4.0)
        cells[0, 1, 0, 0] = level
        frames = frame_logit(cells[0]).reshape(1, 2)
        return float(head_loss({"cells": cells, "frames": frames}, labels, torch.ones(1, 2)))

    assert loss(4.0) < loss(0.0) < loss(-4.0)


def test_frames_without_weight_do_not_count() -> None:
    outputs = {"cells": torch.randn(1, 2, 2, 2), "frames": torch.tensor([[0.0, 9.0]])}
    weights = torch.tensor([[1.0, 0.0]])
    other = outputs | {"cells": outputs["cells"].clone()}
    other["cells"][0, 1] += 5
    labels = torch.zeros(1, 2, 2, 2)
    assert head_loss(outputs, labels, weights) == head_loss(other, labels, weights)


def test_the_exported_denoiser_answers_about_parts_of_any_size_as_torch_does(tmp_path: Path) -> None:
    network, xml = Denoiser(SHAPE).eval(), tmp_path / "denoiser.xml"
    for norm in (module for module in network.modules() if isinstance(module, ChannelNorm)):
        torch.nn.init.normal_(norm.weight, 1.0, 0.2)
        torch.nn.init.normal_(norm.bias, 0.0, 0.2)
    export_denoiser(network, xml)
    engine = OpenVinoEngine.load(xml, "fp32")
    for height, width in ((32, 48), (64, 32)):
        given = inputs(3, height, width)
        with torch.no_grad():
            wanted = network(**given)["denoised"].numpy()
        found = engine.infer({name: value.numpy() for name, value in given.items()})["denoised"]
        assert np.allclose(found, wanted, atol=1e-4)
    assert any(isinstance(module, ChannelNorm) for module in network.modules()), "the network itself is as it was"
