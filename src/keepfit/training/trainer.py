"""How any network learns: Hugging Face Trainer over batches that were planned beforehand."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from keepfit.training.cores import GiveWay, gives_way
from keepfit.training.memory import made_to_fit
from keepfit.training.precision import PrecisionChoice, choose

Batch = Mapping[str, Tensor]
Report = Callable[[Mapping[str, float], int], None]
Loss = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]
"""(outputs of the network, labels (n, ...), weights (n, ...)) -> one loss per batch."""


class Batches(Protocol):
    """Batches made when they are asked for; the same number gives the same batch (so a resumed run sees the same)."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Batch:
        """The network's inputs by name, with `labels` and `weights`: for a classifier (n,) int64 and (n,) float32."""
        ...


@dataclass(frozen=True)
class TrainSettings:
    """What the trainer needs besides network and data."""

    learning_rate: float
    warmup: float
    weight_decay: float
    patience: int
    evaluate_every: int
    """In optimiser steps; a checkpoint is written as often."""
    precision: str = "auto"
    head_factor: float = 1.0
    """The parameters under `head` learn at this many times the learning rate: they start from nothing."""
    seed: int = 17


@dataclass(frozen=True)
class Outcome:
    """How a training went."""

    steps: int
    best_step: int
    validation_loss: float
    seconds: float
    """By the clock; of a training that was killed and went on, all its parts (up to the last report of each)."""
    cpu_seconds: float
    """Processor time of the same, all cores together: what it costs whatever else the machine does."""
    precision: PrecisionChoice
    memory_saved: bool = False
    """Whether a step fitted into the accelerator's memory only by computing parts of it twice."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json and the card."""
        return asdict(self)


def train(
    module: nn.Module, data: tuple[Batches, Batches], loss: Loss, settings: TrainSettings, report: Report, workdir: Path
) -> Outcome:
    """Train the module in place on `data` (train, validation) and leave it with its best weights, on the CPU.

    AdamW, linear warm-up and decay, early stopping by the validation loss. Called again with the same arguments and
    `workdir` after a kill, it goes on from the last complete checkpoint. Checkpoints are safetensors, and tensors
    that are read back with `weights_only=True`.
    """
    spent = _Spent(workdir)
    batches = data[0]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device)
    first = {name: value.to(device) for name, value in batches[_longest(batches)].items()}
    saved = device == "cuda" and made_to_fit(module, lambda: _widest_step(module, batches, loss, settings.precision))
    precision = choose(module, lambda: _loss_of(module, first, loss), settings.precision, device)
    trainer = _Trainer(
        module,
        data,
        loss,
        settings.head_factor,
        args=_arguments(settings, len(batches), precision, workdir),
        callbacks=[
            EarlyStoppingCallback(settings.patience),
            _Reporter(report, spent),
            *([GiveWay(torch.get_num_threads())] if device == "cpu" and gives_way() else []),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_last_checkpoint(workdir))
    module.to("cpu").eval()
    state = trainer.state
    best = float(state.best_metric if state.best_metric is not None else math.nan)
    return Outcome(
        steps=state.global_step,
        best_step=int(state.best_global_step or state.global_step),
        validation_loss=best,
        seconds=spent.seconds(),
        cpu_seconds=spent.cpu_seconds(),
        precision=precision,
        memory_saved=saved,
    )


def weighted_cross_entropy(class_weights: Sequence[float] | None = None, smoothing: float = 0.0) -> Loss:
    """The loss of a classifier: cross entropy with a weight per class and per row, normalised by the row weights."""
    by_class = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)

    def loss(outputs: Mapping[str, Tensor], labels: Tensor, weights: Tensor) -> Tensor:
        logits = outputs["logits"].float()
        balance = None if by_class is None else by_class.to(logits.device)
        each = nn.functional.cross_entropy(logits, labels, weight=balance, reduction="none", label_smoothing=smoothing)
        return (each * weights).mean()

    return loss


_TARGETS = ("labels", "weights")


class _Planned(Dataset[Batch]):
    """One item is one whole batch."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        return self._batches[number]


class _Trainer(Trainer):
    """Trainer with our loss, batches in their planned order, and weights in safetensors only."""

    def __init__(
        self, network: nn.Module, data: tuple[Batches, Batches], loss: Loss, head_factor: float, **settings: Any
    ) -> None:
        batches, self._looks = data
        super().__init__(
            model=network,
            train_dataset=_Planned(batches),
            eval_dataset=_Planned(self._looks),
            data_collator=_only,
            **settings,
        )
        self._network, self._loss, self._head_factor, self._steps = network, loss, head_factor, len(batches)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Any:
        outputs = model(**{name: value for name, value in inputs.items() if name not in _TARGETS})
        loss = self._loss(outputs, inputs["labels"], inputs["weights"])
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
        """The mean loss, and of a classifier the accuracy, on the validation part, in the arithmetic of training."""
        self._network.eval()
        total = right = rows = 0.0
        with torch.inference_mode(), self.compute_loss_context_manager():
            for number in range(len(self._looks)):
                inputs = self._prepare_inputs(dict(self._looks[number]))
                loss, outputs = self.compute_loss(self._network, inputs, return_outputs=True)
                n = len(inputs["labels"])
                total, rows = total + float(loss) * n, rows + n
                if "logits" in outputs:
                    right += float((outputs["logits"].argmax(dim=1) == inputs["labels"]).sum())
        self._network.train()
        metrics = {f"{metric_key_prefix}_loss": total / rows}
        if "logits" in outputs:
            metrics[f"{metric_key_prefix}_accuracy"] = right / rows
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = _groups(self._network, self.args.learning_rate, self.args.weight_decay, self._head_factor)
            self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, fused=True)
        return self.optimizer

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(range(self._steps))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Only the weights: the base class adds a pickle of its arguments, which nobody reads."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        tensors = self._network.state_dict() if state_dict is None else state_dict
        save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        self._network.load_state_dict(load_file(Path(resume_from_checkpoint) / "model.safetensors"))


class _Spent:
    """The time that a training has taken, over all its restarts; kept in `workdir/spent.json`."""

    def __init__(self, workdir: Path) -> None:
        self._path = workdir / "spent.json"
        before: dict[str, float] = json.loads(self._path.read_text("utf-8")) if self._path.is_file() else {}
        self._start = time.perf_counter() - before.get("seconds", 0.0)
        self._cpu = time.process_time() - before.get("cpu_seconds", 0.0)

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def cpu_seconds(self) -> float:
        return time.process_time() - self._cpu

    def keep(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps({"seconds": self.seconds(), "cpu_seconds": self.cpu_seconds()}), "utf-8")
        partial.replace(self._path)


class _Reporter(TrainerCallback):
    """Hands every logged number to the caller."""

    def __init__(self, report: Report, spent: _Spent) -> None:
        self._report, self._spent = report, spent

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, (int, float))}
        self._spent.keep()
        self._report(numbers | {"progress": state.global_step / max(state.max_steps, 1)}, state.global_step)


def _arguments(settings: TrainSettings, steps: int, precision: PrecisionChoice, workdir: Path) -> TrainingArguments:
    every = max(1, min(settings.evaluate_every, steps))
    return TrainingArguments(
        output_dir=str(workdir),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup * steps),
        lr_scheduler_type="linear",
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=max(1, min(20, steps // 10)),
        bf16=precision.chosen == "bf16",
        use_cpu=precision.device == "cpu",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
    )


def _groups(module: nn.Module, rate: float, decay: float, head_factor: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay for matrices only, a higher rate for the head."""
    groups = []
    for head in (False, True):
        for matrix in (True, False):
            chosen = [
                p
                for name, p in module.named_parameters()
                if p.requires_grad and name.startswith("head.") == head and (p.ndim > 1) == matrix
            ]
            if chosen:
                lr = rate * (head_factor if head else 1.0)
                groups.append({"params": chosen, "lr": lr, "weight_decay": decay if matrix else 0.0})
    return groups


def _loss_of(module: nn.Module, batch: Batch, loss: Loss) -> Tensor:
    outputs = module(**{name: value for name, value in batch.items() if name not in _TARGETS})
    return loss(outputs, batch["labels"], batch["weights"])


def _widest_step(module: nn.Module, batches: Batches, loss: Loss, precision: str) -> Tensor:
    """The loss of the batch that needs the most memory, on CUDA."""
    widest = getattr(batches, "widest", None)
    batch = batches[_longest(batches) if widest is None else widest]
    with torch.autocast("cuda", torch.bfloat16, enabled=precision != "fp32"):
        return _loss_of(module, {name: value.to("cuda") for name, value in batch.items()}, loss)


def _longest(batches: Batches) -> int:
    """A batch that stands for the costly ones: the widest of the first few."""
    return max(range(min(8, len(batches))), key=lambda i: next(iter(batches[i].values())).numel())


def _only(batches: Sequence[Batch]) -> dict[str, Tensor]:
    return dict(batches[0])


def _last_checkpoint(workdir: Path) -> str | None:
    """The newest checkpoint that was written to its end (trainer_state.json comes last)."""
    found = [path for path in workdir.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return str(max(found, key=lambda path: int(path.name.split("-")[1]))) if found else None
