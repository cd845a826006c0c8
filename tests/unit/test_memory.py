"""A step that does not fit keeps less between its passes; only then, and not without saying when that is no help."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from keepfit.errors import BackendError
from keepfit.tasks.text.network import Classifier, without_pooler
from keepfit.training.memory import made_to_fit
from keepfit.training.precision import choose


class Hungry(nn.Module):
    """Needs more memory than there is until it saves some."""

    def __init__(self, has: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.has, self.needs = has, 3

    def save_memory(self) -> None:
        self.needs -= 1

    def forward(self) -> Tensor:
        if self.needs > self.has:
            raise torch.cuda.OutOfMemoryError("no")
        return self.weight.sum()


@pytest.mark.parametrize(("has", "saved"), [(3, False), (2, True)])
def test_memory_is_saved_only_when_it_is_asked_for(has: int, saved: bool) -> None:
    module = Hungry(has)
    assert made_to_fit(module, module) == saved
    assert module.needs == 3 - saved
    assert module.weight.grad is None


def test_what_does_not_fit_anyhow_says_what_to_change() -> None:
    with pytest.raises(BackendError, match="lower batch_size"):
        made_to_fit(Hungry(1), Hungry(1))


def test_an_arithmetic_that_does_not_fit_is_not_taken() -> None:
    module = Hungry(3)
    calls = iter([0, 3, 0, 3, 0, 3])

    def loss() -> Tensor:
        module.has = next(calls)
        return module()

    assert choose(module, loss, "auto", "cpu", "AVX512").chosen == "bf16"


def test_computing_twice_changes_no_gradient() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)  # fmt: skip
    network = Classifier(without_pooler(BertModel(config)), "mean", 2, 16, dropout=0.0).train()
    ids, mask = torch.tensor([[2, 7, 9, 3]]), torch.ones(1, 4, dtype=torch.long)

    def gradients() -> list[Tensor]:
        network.zero_grad()
        network(ids, mask)["logits"].sum().backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    before = gradients()
    network.save_memory()
    after = gradients()
    assert len(before) == len(after)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(before, after, strict=True))
