"""Layers that do not learn: both ways through the network agree, and what they give is computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, GPT2Config, GPT2Model

from keepfit.errors import InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.batches import EncodedRows, PlannedBatches
from keepfit.tasks.text.frozen import FrozenLayers
from keepfit.tasks.text.lower import Lower, arithmetic_of
from keepfit.tasks.text.network import Classifier
from keepfit.training.precision import Arithmetic
from keepfit.training.recipe import Recipe


def bert() -> torch.nn.Module:
    config = BertConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2)
    return networks.without_pooler(BertModel(config))


def distilbert() -> torch.nn.Module:
    return DistilBertModel(DistilBertConfig(vocab_size=50, dim=16, hidden_dim=32, n_layers=3, n_heads=2))


def gpt2() -> torch.nn.Module:
    return GPT2Model(GPT2Config(vocab_size=50, n_embd=16, n_layer=3, n_head=2, n_positions=64))


ENCODERS: dict[str, Callable[[], torch.nn.Module]] = {"bert": bert, "distilbert": distilbert, "gpt2": gpt2}


def classifier(kind: str = "bert", seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(ENCODERS[kind](), "last" if kind == "gpt2" else "mean", 2, 16).eval()


def rows(n: int = 12, seed: int = 0) -> EncodedRows:
    rng = np.random.default_rng(seed)
    ids = [rng.integers(1, 50, int(rng.integers(3, 20))).tolist() for _ in range(n)]
    return EncodedRows(ids, np.arange(n) % 2, np.ones(n, np.float32), 0)


def lower(network: Classifier, place: Path | None, gigabytes: float = 1.0, layers: int = 2) -> Lower:
    recipe = Recipe(frozen_layers=layers, frozen_cache_gb=gigabytes, precision="fp32")
    return Lower.of(network, recipe, place)


def texts(n: int = 12) -> list[str]:
    return [f"text {i}" for i in range(n)]


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("count", [1, 3])
def test_with_what_the_frozen_layers_gave_the_rest_answers_as_the_whole(kind: str, count: int) -> None:
    network, plain = classifier(kind), rows()
    chosen = np.arange(12)
    batch = plain.batch(chosen)
    with torch.inference_mode():
        expected = network(batch["input_ids"], batch["attention_mask"])["logits"]
    made = lower(network, None, layers=count)
    batch = made.rows(texts(), plain).batch(chosen)
    with torch.inference_mode():
        found = made.layers.module(batch["input_ids"], batch["attention_mask"], batch["hidden"])["logits"]
    assert torch.allclose(expected, found, atol=2e-3), "float16 is all that is lost"


@pytest.mark.parametrize("kind", ENCODERS)
def test_only_what_lies_above_learns_and_afterwards_all_does(kind: str) -> None:
    network = classifier(kind)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = lower(network, None)
    learning = {name for name, value in made.layers.module.named_parameters() if value.requires_grad}
    assert {"head.weight", "head.bias"} <= learning
    assert all(name.startswith("head.") or ".2." in name for name in learning)
    assert len(learning) > 10
    batch = made.rows(texts(), rows()).batch(np.arange(4))
    made.layers.module(batch["input_ids"], batch["attention_mask"], batch["hidden"])["logits"].sum().backward()
    made.layers.release()
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(before) == set(after)
    assert all(value.requires_grad for value in network.parameters())


class Counted(FrozenLayers):
    """Counts the texts that it computes."""

    computed = 0

    def states(self, input_ids, attention_mask, arithmetic: Arithmetic):  # type: ignore[no-untyped-def]
        self.computed += len(input_ids)
        return super().states(input_ids, attention_mask, arithmetic)


def passes(network: Classifier, place: Path | None, n: int = 12, gigabytes: float = 1.0) -> tuple[Counted, np.ndarray]:
    """Three passes over n texts; what was computed for them."""
    layers = Counted(network, 2)
    made = Lower(layers, "fp32", place, round(gigabytes * 1e9), 16)
    batches = PlannedBatches([(made.rows(texts(n), rows(n)), 3.0)], 4, 1)
    found = [batches[i]["hidden"].numpy() for i in range(len(batches))]
    layers.release()
    return layers, np.concatenate([each.reshape(-1) for each in found])


def test_each_text_is_computed_once_over_passes_and_over_trainings(tmp_path: Path) -> None:
    first, seen = passes(classifier(), tmp_path)
    assert first.computed == 12
    again, same = passes(classifier(), tmp_path)
    assert again.computed == 0
    assert (seen == same).all()
    more, _ = passes(classifier(), tmp_path, 15)
    assert more.computed == 3, "of a later training only what is new"


def test_without_room_on_the_disk_the_same_is_computed_each_time(tmp_path: Path) -> None:
    _, kept = passes(classifier(), tmp_path)
    none, computed = passes(classifier(), tmp_path / "other", gigabytes=0.0)
    assert none.computed == 36
    assert np.allclose(kept, computed, atol=1e-3)


def test_what_was_kept_belongs_to_these_weights_and_layers() -> None:
    def stack(network: Classifier, count: int = 2, arithmetic: Arithmetic = "fp32") -> str:
        return FrozenLayers(network, count).stack(arithmetic)

    above, below, words = classifier(), classifier(), classifier()
    with torch.no_grad():
        above.encoder.encoder.layer[2].output.dense.weight += 1  # type: ignore[union-attr,index]
        below.encoder.encoder.layer[1].output.dense.weight += 1  # type: ignore[union-attr,index]
        words.encoder.embeddings.word_embeddings.weight += 1  # type: ignore[union-attr]
    usual = stack(classifier())
    assert stack(above) == usual, "a warm start whose upper layers have learnt finds what the first training kept"
    others = {stack(below), stack(words), stack(classifier(), 1), stack(classifier(), 2, "bf16")}
    assert len(others) == 4
    assert usual not in others


@pytest.mark.parametrize("count", [4, 99])
def test_more_layers_than_there_are_cannot_be_frozen(count: int) -> None:
    with pytest.raises(InvalidInput, match="this backbone has 3 layers"):
        FrozenLayers(classifier(), count)


def test_an_encoder_that_does_not_say_its_layers_cannot_be_frozen() -> None:
    network = classifier()
    network.encoder.config.num_hidden_layers = 7  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="leave frozen_layers"):
        FrozenLayers(network, 1)


def test_the_arithmetic_is_the_wanted_one_else_that_of_what_is_kept() -> None:
    def fail() -> Arithmetic:
        raise AssertionError("measured")

    assert arithmetic_of("bf16", [], fail) == "bf16"
    assert arithmetic_of("fp32", ["bf16"], fail) == "fp32"
    assert arithmetic_of("auto", ["fp32"], fail) == "fp32"
