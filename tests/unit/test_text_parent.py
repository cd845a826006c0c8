"""What a warm start takes over: the encoder, and of the head the rows of the classes that both know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.parent import Parent
from keepfit.training.recipe import Recipe

WARM = Recipe(backbone="mine", start="warm")


def classifier(classes: int, seed: int) -> Classifier:
    torch.manual_seed(seed)
    config = BertConfig(vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    return Classifier(networks.without_pooler(BertModel(config)), "mean", classes, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished model of two classes."""
    networks.save(classifier(2, 1), tmp_path / "weights")
    facts = {"labels": ["negative", "positive"], "recipe": Recipe(backbone="mine").to_json()}
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    return tmp_path


def test_rows_of_the_head_go_to_the_classes_of_their_name(folder: Path) -> None:
    had, heir = classifier(2, 1), classifier(3, 2)
    fresh = heir.head.weight[0].detach().clone()
    Parent.of(folder, WARM).hand_down(heir, ["arson", "negative", "positive"])
    assert torch.equal(heir.head.weight[1:], had.head.weight)
    assert torch.equal(heir.head.bias[1:], had.head.bias)
    assert torch.equal(heir.head.weight[0], fresh)
    ours, theirs = heir.encoder.state_dict(), had.encoder.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_class_that_is_gone_is_left_behind(folder: Path) -> None:
    heir = classifier(2, 2)
    Parent.of(folder, WARM).hand_down(heir, ["positive", "zeal"])
    assert torch.equal(heir.head.weight[0], classifier(2, 1).head.weight[1])


@pytest.mark.parametrize("other", [{"backbone": "another"}, {"lower_case": True}])
def test_another_network_cannot_be_gone_on_from(folder: Path, other: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="differs from what the version that answers was trained with"):
        Parent.of(folder, WARM.with_(**other))


def test_a_damaged_version_is_said(folder: Path) -> None:
    (folder / "model.json").write_text("{}", "utf-8")
    with pytest.raises(BackendError, match="start anew"):
        Parent.of(folder, WARM)
