"""How any network learns: early stopping, weights, checkpoints, and going on after a kill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from keepfit.training.precision import choose
from keepfit.training.trainer import TrainSettings, train, weighted_cross_entropy

SETTINGS = TrainSettings(
    learning_rate=0.05, warmup=0.1, weight_decay=0.0, patience=3, evaluate_every=10, precision="fp32", seed=3
)


class Line(nn.Module):
    """A linear classifier of two numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(x)}


class Points:
    """Two clouds of points; the label of a share of them is wrong."""

    def __init__(self, batches: int, seed: int, wrong: float = 0.0) -> None:
        self.batches, self.seed, self.wrong = batches, seed, wrong

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng([self.seed, number])
        labels = rng.integers(0, 2, 16)
        x = rng.normal(0, 1, (16, 2)) + 3.0 * (2 * labels[:, None] - 1)
        said = np.where(rng.random(16) < self.wrong, 1 - labels, labels)
        return {
            "x": torch.tensor(x, dtype=torch.float32),
            "labels": torch.tensor(said),
            "weights": torch.ones(16),
        }


def quiet(metrics: Mapping[str, float], step: int) -> None:
    """Reports to nobody."""


def test_it_learns_reports_and_leaves_the_module_ready_to_answer(tmp_path: Path) -> None:
    seen: list[tuple[Mapping[str, float], int]] = []
    module = Line()
    data = (Points(40, 1), Points(5, 2))
    outcome = train(module, data, weighted_cross_entropy(), SETTINGS, lambda m, s: seen.append((m, s)), tmp_path)
    assert outcome.steps == 40
    assert outcome.validation_loss < 0.05
    assert outcome.precision.chosen == "fp32"
    assert not module.training
    assert any("eval_accuracy" in metrics for metrics, _ in seen)
    assert [m["progress"] for m, _ in seen][-1] == 1.0
    assert [step for _, step in seen] == sorted(step for _, step in seen)


def test_the_best_weights_are_kept_when_it_gets_worse(tmp_path: Path) -> None:
    class Spoiled(Points):
        """Right at first, then wrong."""

        def __getitem__(self, number: int) -> Mapping[str, Tensor]:
            batch = dict(super().__getitem__(number))
            return batch if number < 20 else batch | {"labels": 1 - batch["labels"]}

    outcome = train(Line(), (Spoiled(200, 1), Points(5, 2)), weighted_cross_entropy(), SETTINGS, quiet, tmp_path)
    assert outcome.best_step <= 30
    assert outcome.steps == outcome.best_step + 30
    assert outcome.validation_loss < 0.2


def test_checkpoints_hold_no_pickled_objects(tmp_path: Path) -> None:
    train(Line(), (Points(20, 1), Points(2, 2)), weighted_cross_entropy(), SETTINGS, quiet, tmp_path)
    checkpoint = tmp_path / "checkpoint-20"
    assert (checkpoint / "model.safetensors").is_file()
    assert not (checkpoint / "training_args.bin").exists()
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.load(checkpoint / name, weights_only=True)


class StoppedError(Exception):
    """Ends a training from inside."""


def test_interrupted_in_the_middle_it_ends_where_it_would_have_ended(tmp_path: Path) -> None:
    whole, resumed = Line(), Line()
    data = (Points(40, 1), Points(5, 2))

    def interrupt(metrics: Mapping[str, float], step: int) -> None:
        if step >= 25:
            raise StoppedError

    train(whole, data, weighted_cross_entropy(), SETTINGS, quiet, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(Line(), data, weighted_cross_entropy(), SETTINGS, interrupt, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoint-20").is_dir()
    (tmp_path / "cut" / "checkpoint-30").mkdir(exist_ok=True)  # a checkpoint that was not written to its end
    outcome = train(resumed, data, weighted_cross_entropy(), SETTINGS, quiet, tmp_path / "cut")
    assert outcome.steps == 40
    assert torch.allclose(whole.head.weight, resumed.head.weight, atol=1e-6)


def test_the_time_before_an_interruption_counts(tmp_path: Path) -> None:
    (tmp_path / "spent.json").write_text('{"seconds": 100.0, "cpu_seconds": 150.0}', "utf-8")
    outcome = train(Line(), (Points(4, 1), Points(2, 2)), weighted_cross_entropy(), SETTINGS, quiet, tmp_path)
    assert 100 < outcome.seconds < 200
    assert 150 < outcome.cpu_seconds < 250


def test_rows_of_weight_nothing_teach_nothing() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    labels = torch.tensor([0, 0])
    loss = weighted_cross_entropy()
    both = loss({"logits": logits}, labels, torch.tensor([1.0, 1.0]))
    first = loss({"logits": logits}, labels, torch.tensor([2.0, 0.0]))
    assert float(first) < float(both)


def test_a_class_weight_counts_the_rows_of_its_class() -> None:
    logits, labels, ones = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]), torch.ones(2)
    plain = weighted_cross_entropy()({"logits": logits}, labels, ones)
    heavy = weighted_cross_entropy([1.0, 3.0])({"logits": logits}, labels, ones)
    assert float(heavy) == pytest.approx(2 * float(plain))


@pytest.mark.parametrize("wanted", ["fp32", "bf16"])
def test_a_wanted_precision_is_taken_unmeasured(wanted: str) -> None:
    module = Line()

    def loss() -> Tensor:
        raise AssertionError("measured")

    found = choose(module, loss, wanted, "cpu")
    assert (found.chosen, found.seconds) == (wanted, {})


def test_measuring_the_precision_changes_neither_weights_nor_random_numbers() -> None:
    module, before = Line(), Line().head.weight.clone()

    def loss() -> Tensor:
        outputs: Tensor = module(torch.rand(4, 2))["logits"]
        return (outputs**2).sum()

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    found = choose(module, loss, "auto", "cpu", "AVX512")
    assert set(found.seconds) == {"fp32", "bf16"}
    assert found.seconds[found.chosen] == min(found.seconds.values())
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(module.head.weight, before)
    assert module.head.weight.grad is None


def test_a_processor_without_bf16_is_never_made_to_emulate_it() -> None:
    def loss() -> Tensor:
        raise AssertionError("measured")

    found = choose(Line(), loss, "auto", "cpu", "AVX2")
    assert (found.chosen, found.seconds) == ("fp32", {})
