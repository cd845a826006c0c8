"""Fine-tuning the network on labelled texts; the tokenizer and the weights it leaves are all that export needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keepfit.data.snapshot import Rows
from keepfit.tasks.text import backbone as backbones
from keepfit.tasks.text import lora
from keepfit.tasks.text.batches import EncodedRows, Learnable, OrderedBatches, PlannedBatches
from keepfit.tasks.text.frozen import layers_of
from keepfit.tasks.text.lower import Lower
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.parent import Parent, hand_down
from keepfit.tasks.text.preprocessing import CLEANING, Preprocessor
from keepfit.training.recipe import Recipe
from keepfit.training.trainer import Outcome, Report, TrainSettings, train, weighted_cross_entropy

HEAD_FACTOR = 5.0
"""The head learns at so many times the backbone's rate: mostly it starts from nothing, and it is small."""

EVALUATION_SHARE = 0.06
"""Looking at the validation part may cost about this share of the training."""

APART = 40
"""Steps between two looks, unless a pass has fewer."""

MOST_GROWN = 10
"""So many old rows one may stand for in a short warm start: a few that stand for all would be learnt by heart."""

HEAVIEST_CLASS = 10.0
"""A rare class counts at most this many times a row."""


@dataclass(frozen=True)
class Beside:
    """What a training goes by besides its rows and its recipe."""

    columns: int = 1
    parent: Parent | None = None
    """Whose weights it goes on from."""
    hidden: Path | None = None
    """Where what frozen layers give is kept over trainings; None: nowhere."""
    imported: Path | None = None
    """Where networks lie that were imported."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A trained network and what is needed to feed it."""

    network: Classifier
    outcome: Outcome
    max_tokens: int
    pad_id: int
    passes: float
    frozen: Mapping[str, Any] | None = None
    """Where layers were frozen: their arithmetic, and how often what they give was found, kept, or had no room."""
    cleaning: int = CLEANING


def learn(
    parts: tuple[Rows, Rows], labels: Sequence[str], recipe: Recipe, report: Report, workdir: Path, beside: Beside
) -> Learned:
    """Fine-tune the recipe's backbone, or go on from a parent's weights, on the parts to learn from and to validate.

    Writes `workdir/tokenizer.json`, and goes on from `workdir/checkpoints` after a kill. Raises InvalidInput for a
    parent whose weights cannot be read, and for frozen layers or adapters that the backbone does not allow.
    """
    torch.manual_seed(recipe.seed)
    backbone, network = begun(recipe, labels, beside)
    workdir.mkdir(parents=True, exist_ok=True)
    tokenizer = workdir / "tokenizer.json"
    tokenizer.write_text(backbone.tokenizer.to_str(), encoding="utf-8")
    max_tokens = min(recipe.max_tokens, backbone.longest)
    lower = Lower.of(network, recipe, beside.hidden) if recipe.frozen_layers else None
    if recipe.lora_rank:
        lora.attach(network, recipe.lora_rank, layers_of(network.encoder)[recipe.frozen_layers :])

    def encoded(rows: Rows, tokens: int) -> Learnable:
        preprocessor = Preprocessor(tokenizer, tokens, recipe.truncation, beside.columns, cleaning=backbone.cleaning)
        plain = encode(rows, labels, preprocessor, backbone.pad_id)
        return plain if lower is None else lower.rows(rows.contents, plain)

    train_rows, validation = parts
    passes, short = passes_of(recipe, len(train_rows), warm=beside.parent is not None)
    told = passes
    if beside.parent is not None and passes < 1:
        train_rows = rehearsed(train_rows, passes, recipe.seed)
        passes, short = 1.0, short / passes
    short_tokens = min(recipe.short_tokens or max(8, max_tokens // 3), max_tokens)
    stretches = [(encoded(train_rows, short_tokens), short)] if short else []
    stretches += [(encoded(train_rows, max_tokens), passes - short)] if passes > short else []
    batches = PlannedBatches(stretches, recipe.batch_size, recipe.seed, recipe.tokens_per_batch)
    looks = OrderedBatches(encoded(validation, max_tokens), 2 * recipe.batch_size)
    weights = class_weights(train_rows.truth, labels, recipe.class_weights)
    every = evaluate_every(len(batches), len(train_rows), len(validation), passes)
    loss = weighted_cross_entropy(weights, recipe.label_smoothing)
    module = network if lower is None else lower.layers.module
    outcome = train(module, (batches, looks), loss, train_settings(recipe, every), report, workdir / "checkpoints")
    if recipe.lora_rank:
        lora.merge(network)
    if lower is not None:
        lower.layers.release()
    return Learned(
        network.eval(), outcome, max_tokens, backbone.pad_id, told, None if lower is None else lower.to_json(),
        backbone.cleaning,
    )  # fmt: skip


def begun(recipe: Recipe, labels: Sequence[str], beside: Beside) -> tuple[backbones.Backbone, Classifier]:
    """The network as a training finds it: with the weights and the head of its parent, or of its backbone."""
    backbone = backbones.load(recipe.backbone, recipe.lower_case, beside.imported)
    network = Classifier(backbone.encoder, backbone.pooling, len(labels), backbone.width)
    if backbone.head is not None:
        hand_down(backbone.head, backbone.labels, network.head, labels)
    if beside.parent is not None:
        beside.parent.hand_down(network, labels)
    return backbone, network


def passes_of(recipe: Recipe, rows: int, warm: bool) -> tuple[float, float]:
    """The passes over so many rows, and how many of them are short."""
    share = recipe.warm_share if warm else 1.0
    passes = share * (recipe.epochs or passes_for(rows))
    return passes, min(share * recipe.short_passes, passes)


def rehearsed(rows: Rows, share: float, seed: int) -> Rows:
    """A share of the rows for a warm start of less than a pass: every row from life, and of the others as many as fit.

    What the parent has not seen must not be left to chance. The others' weights grow as their number falls, so that
    they count together as before.
    """
    old = np.flatnonzero(~rows.fresh)
    room = round(share * len(rows)) - (len(rows) - len(old))
    most = min(len(old), max(1, math.ceil(len(old) / MOST_GROWN), room))
    kept = np.random.default_rng(seed).choice(old, most, replace=False)
    chosen = np.sort(np.concatenate([np.flatnonzero(rows.fresh), kept]))
    found = rows.only([int(place) for place in chosen])
    weights = np.where(found.fresh, found.weights, found.weights * np.float32(len(old) / max(most, 1)))
    return replace(found, weights=(weights / weights.mean()).astype(np.float32))


def train_settings(recipe: Recipe, evaluate_every: int) -> TrainSettings:
    """What the trainer is told; adapters learn faster than whole weights, the head as fast as ever."""
    faster = lora.FACTOR if recipe.lora_rank else 1.0
    return TrainSettings(
        learning_rate=recipe.learning_rate * faster,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay,
        patience=recipe.patience,
        evaluate_every=evaluate_every,
        precision=recipe.precision,
        head_factor=HEAD_FACTOR / faster,
        seed=recipe.seed,
    )


def encode(rows: Rows, labels: Sequence[str], preprocessor: Preprocessor, pad_id: int) -> EncodedRows:
    """Token ids, class numbers and weights of some rows."""
    number = {label: i for i, label in enumerate(labels)}
    truth = np.array([number[label] for label in rows.truth], np.int64)
    return EncodedRows(preprocessor.encode(rows.contents).ids, truth, rows.weights.astype(np.float32), pad_id)


def passes_for(n: int) -> float:
    """Passes over n rows when the recipe leaves it open: eight over 380 rows or fewer, one over 25,000 or more.

    >>> [passes_for(n) for n in (100, 2_000, 25_000, 100_000)]
    [8.0, 3.5, 1.0, 1.0]
    """
    return round(min(8.0, max(1.0, 7.0 * math.sqrt(500 / max(n, 1)))), 1)


def evaluate_every(steps: int, rows: int, validation: int, passes: float) -> int:
    """Steps between two looks at the validation part: at least once per pass, more often while that is cheap.

    A look costs about a third of learning the same rows, for want of the backward pass. Looks that follow one another
    quickly would take the slow start of a training for its end.
    """
    affordable = 3 * EVALUATION_SHARE * rows * passes / max(validation, 1)
    looks = max(round(passes), min(20, round(affordable), steps // APART), 1)
    return max(1, -(-steps // looks))


def class_weights(truth: Sequence[str], labels: Sequence[str], wanted: str) -> list[float] | None:
    """Weights that make every class count the same (up to a bound), in the order of `labels`; None: all one.

    >>> class_weights(["a"] * 9 + ["b"], ["a", "b"], "auto")
    [0.5555555555555556, 5.0]
    """
    counts = Counter(truth)
    smallest, largest = min(counts.values()), max(counts.values())
    if wanted == "none" or (wanted == "auto" and largest <= 3 * smallest):
        return None
    return [
        min(HEAVIEST_CLASS, len(truth) / (len(labels) * counts[label])) if counts[label] else 1.0 for label in labels
    ]
