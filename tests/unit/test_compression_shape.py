"""Layers and words are taken out of a network, and a warm start from what is left finds where they belong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AlbertConfig, AutoModel, BertConfig, DistilBertConfig, GPT2Config

from keepfit.errors import InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.compression.distilling import Student, softened
from keepfit.tasks.text.compression.shape import (
    KEPT,
    depth,
    drop_layers,
    drop_words,
    read_vocabulary,
    write_vocabulary,
)
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.parent import Parent
from keepfit.training.recipe import Recipe

CONFIGS = {
    "bert": lambda: BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16
    ),
    "distilbert": lambda: DistilBertConfig(vocab_size=30, dim=16, n_layers=4, n_heads=2, hidden_dim=16),
    "gpt2": lambda: GPT2Config(vocab_size=30, n_embd=16, n_layer=4, n_head=2, bos_token_id=0, eos_token_id=29),
}
IDS, MASK = torch.tensor([[3, 7, 9, 4], [8, 3, 1, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
WARM = Recipe(backbone="mine", start="warm")


def classifier(kind: str = "bert", seed: int = 1) -> Classifier:
    torch.manual_seed(seed)
    encoder = networks.without_pooler(AutoModel.from_config(CONFIGS[kind]()))
    return Classifier(encoder, "mean", 2, 16).eval()


def logits(network: Classifier, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return network(ids, MASK)["logits"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_network_of_fewer_layers_is_stored_and_read_again(kind: str, tmp_path: Path) -> None:
    network = classifier(kind)
    whole = logits(network)
    drop_layers(network.encoder, [0, 2, 3])
    assert depth(network.encoder) == 3
    assert not torch.allclose(logits(network), whole)
    networks.save(network, tmp_path)
    again = networks.load(tmp_path)
    assert torch.allclose(logits(again), logits(network))
    drop_layers(again.encoder, [0, 2])
    assert getattr(again.encoder.config, KEPT) == [0, 3], "counted in layers of the backbone"


@pytest.mark.parametrize("kept", [[], [0, 4]])
def test_layers_that_are_not_there_cannot_be_kept(kept: list[int]) -> None:
    with pytest.raises(InvalidInput, match="has 4 layers"):
        drop_layers(classifier().encoder, kept)


def test_layers_that_share_their_weights_cannot_be_told_apart() -> None:
    config = AlbertConfig(
        vocab_size=30,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
    )
    with pytest.raises(InvalidInput, match="told apart"):
        depth(AutoModel.from_config(config))


@pytest.mark.parametrize("kind", CONFIGS)
def test_words_that_are_left_mean_what_they_meant(kind: str, tmp_path: Path) -> None:
    network, kept = classifier(kind), np.array([0, 1, 3, 4, 7, 8, 9, 29])
    whole = logits(network)
    drop_words(network, kept, 0)
    new = torch.from_numpy(np.searchsorted(kept, IDS.numpy()))
    assert torch.allclose(logits(network, new), whole, atol=1e-6)
    networks.save(network, tmp_path)
    assert torch.allclose(logits(networks.load(tmp_path), new), whole, atol=1e-6)


def test_an_heir_gets_the_layers_that_are_left_and_all_words(tmp_path: Path) -> None:
    had, kept = classifier(), np.array([0, 1, 3, 4, 7, 8, 9])
    drop_layers(had.encoder, [0, 3])
    before = logits(had)
    drop_words(had, kept, 0)
    networks.save(had, tmp_path / "weights")
    write_vocabulary(tmp_path / "weights", kept)
    facts = {"labels": ["negative", "positive"], "recipe": Recipe(backbone="mine").to_json()}
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    heir = classifier(seed=2)
    own = heir.encoder.get_input_embeddings().weight[20].detach().clone()
    Parent.of(tmp_path, WARM).hand_down(heir, ["negative", "positive"])
    assert depth(heir.encoder) == 2
    assert torch.allclose(logits(heir), before, atol=1e-6), "and the words have their own numbers again"
    assert torch.equal(heir.encoder.get_input_embeddings().weight[20], own)
    networks.save(heir, tmp_path / "weights")
    (tmp_path / "weights" / "vocabulary.json").unlink()
    grandchild = classifier(seed=3)
    Parent.of(tmp_path, WARM).hand_down(grandchild, ["negative", "positive"])
    assert torch.allclose(logits(grandchild), before, atol=1e-6)


def test_a_version_with_all_its_words_has_no_note_of_them(tmp_path: Path) -> None:
    assert read_vocabulary(tmp_path) is None
    write_vocabulary(tmp_path, np.array([0, 4]))
    found = read_vocabulary(tmp_path)
    assert found is not None
    assert found.tolist() == [0, 4]


def test_a_student_is_right_when_it_says_what_its_teacher_says_whatever_is_added_to_all_logits() -> None:
    loss, weights = softened(3), torch.ones(2)
    said = torch.tensor([[1.0, 2.0, 0.5, 1.0, 0.0], [0.0, -1.0, 3.0, 0.5, 0.5]])
    chances = torch.log_softmax(said[:, :3], dim=1)
    wanted = torch.cat([chances, 3 * said[:, 3:]], dim=1)
    assert float(loss({"answers": said}, wanted, weights)) == pytest.approx(0, abs=1e-6)
    off = torch.cat([said[:, :3].roll(1, dims=1), said[:, 3:]], dim=1)
    turned = torch.cat([said[:, :3], -said[:, 3:]], dim=1)
    assert float(loss({"answers": off}, wanted, weights)) > 0.3
    assert float(loss({"answers": turned}, wanted, weights)) == pytest.approx(2, abs=1e-5)
    assert float(loss({"answers": turned}, wanted, torch.tensor([2.0, 0.0]))) == pytest.approx(2, abs=1e-5)


def test_a_student_gives_logits_and_embedding_as_one_answer() -> None:
    network = classifier()
    said = Student(network)(IDS, MASK)["answers"]
    assert said.shape == (2, 2 + 16)
    assert torch.allclose(said[:, :2], logits(network))
