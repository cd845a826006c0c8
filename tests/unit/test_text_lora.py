"""Adapters beside the attention's projections: they alone learn, and end in the weights."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, GPT2Config, GPT2Model

from keepfit.errors import InvalidInput
from keepfit.tasks.text import lora
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.frozen import layers_of
from keepfit.tasks.text.learning import HEAD_FACTOR, train_settings
from keepfit.tasks.text.network import Classifier
from keepfit.training.recipe import Recipe

IDS = torch.tensor([[2, 7, 9, 3], [2, 8, 3, 0]])
MASK = (IDS > 0).long()


def classifier(kind: str = "bert") -> Classifier:
    torch.manual_seed(0)
    encoder = {
        "bert": lambda: networks.without_pooler(
            BertModel(BertConfig(vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=3,
                                 num_attention_heads=2))
        ),
        "distilbert": lambda: DistilBertModel(DistilBertConfig(vocab_size=20, dim=16, hidden_dim=32, n_layers=3,
                                                               n_heads=2)),
        "gpt2": lambda: GPT2Model(GPT2Config(vocab_size=20, n_embd=16, n_layer=2, n_head=2)),
    }[kind]()  # fmt: skip
    return Classifier(encoder, "mean", 2, 16).eval()


def answers(network: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = network(IDS, MASK)["logits"]
    return found


def taught(network: Classifier, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(network(IDS, MASK)["logits"], torch.tensor([0, 1]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_adapters_change_nothing_until_they_learn_and_end_in_the_weights(kind: str) -> None:
    network = classifier(kind)
    before, weights = answers(network), {n: v.clone() for n, v in network.state_dict().items()}
    lora.attach(network, 4, layers_of(network.encoder)[1:])
    assert torch.allclose(before, answers(network), atol=1e-6)
    taught(network)
    learnt = answers(network)
    assert not torch.allclose(before, learnt, atol=1e-2)
    lora.merge(network)
    assert torch.allclose(learnt, answers(network), atol=1e-5)
    after = network.state_dict()
    assert set(after) == set(weights)
    changed = {name for name in after if not torch.equal(after[name], weights[name])}
    words = ("query.weight", "value.weight", "q_lin.weight", "v_lin.weight")
    assert changed - {"head.weight", "head.bias"} == {
        name for name in after if name.endswith(words) and ".0." not in name
    }
    assert all(p.requires_grad for p in network.parameters())


def test_of_the_network_only_adapters_and_head_learn() -> None:
    network = classifier()
    lora.attach(network, 2, layers_of(network.encoder))
    learning = [name for name, p in network.named_parameters() if p.requires_grad]
    assert sum(".down" in name or ".up" in name for name in learning) == 2 * 2 * 3
    assert {name for name in learning if ".down" not in name and ".up" not in name} == {"head.weight", "head.bias"}


def test_a_backbone_without_such_projections_says_so() -> None:
    network = classifier("gpt2")
    with pytest.raises(InvalidInput, match="leave lora_rank at 0"):
        lora.attach(network, 4, layers_of(network.encoder))
    with pytest.raises(InvalidInput, match="not lower than the rank"):
        lora.attach(classifier(), 16, layers_of(classifier().encoder))
    with pytest.raises(InvalidInput, match="no layer that learns"):
        lora.attach(classifier(), 2, [])


def test_adapters_learn_faster_and_the_head_as_ever() -> None:
    plain, adapted = train_settings(Recipe(), 10), train_settings(Recipe(lora_rank=8), 10)
    assert adapted.learning_rate == pytest.approx(lora.FACTOR * plain.learning_rate)
    assert adapted.learning_rate * adapted.head_factor == pytest.approx(plain.learning_rate * HEAD_FACTOR)
