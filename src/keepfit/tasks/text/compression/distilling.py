"""Fewer layers that answer like all of them: some are dropped, the others learn the whole network's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from keepfit.tasks.task import predict
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.batches import EncodedRows, OrderedBatches, PlannedBatches
from keepfit.tasks.text.compression.judging import Made
from keepfit.tasks.text.compression.shape import depth, drop_layers, evenly
from keepfit.tasks.text.learning import evaluate_every, passes_for
from keepfit.tasks.text.model import TextModel
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import Content
from keepfit.training.recipe import Recipe
from keepfit.training.trainer import Loss, Outcome, Report, TrainSettings, train

SOFTNESS = 2.0
"""The temperature at which the answers are compared: the chances of the wrong classes tell much, too."""
MOST = 20_000
"""Texts that are learnt from."""


@dataclass(frozen=True, eq=False)
class Texts:
    """What is distilled on: no labels are looked at."""

    learn: Sequence[Content]
    look: Sequence[Content]
    """By which the best step is chosen."""
    pad_id: int


class Student(nn.Module):
    """A classifier whose logits (n, k) and embedding (n, d) come as one output, `answers` (n, k + d)."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        said = self.network(input_ids, attention_mask)
        return {"answers": torch.cat([said["logits"], said["embedding"]], dim=1)}


def softened(classes: int, softness: float = SOFTNESS) -> Loss:
    """The loss of a student: how far its softened chances are from the teacher's, and its embedding in direction.

    Hinton, Vinyals & Dean (arXiv 1503.02531): the divergence at a temperature, times its square so that the gradients
    do not shrink; the cosine as in DistilBERT (Sanh et al., arXiv 1910.01108).
    """

    def loss(outputs: Mapping[str, Tensor], targets: Tensor, weights: Tensor) -> Tensor:
        said = outputs["answers"].float()
        chances = torch.log_softmax(said[:, :classes] / softness, dim=1)
        wanted = torch.softmax(targets[:, :classes] / softness, dim=1)
        far = nn.functional.kl_div(chances, wanted, reduction="none").sum(dim=1) * softness**2
        turned = 1 - nn.functional.cosine_similarity(said[:, classes:], targets[:, classes:], dim=1)
        return ((far + turned) * weights).mean()

    return loss


def distil(
    version: Made, wanted: int, texts: Texts, recipe: Recipe, report: Report, workdir: Path
) -> tuple[Classifier, Outcome]:
    """The network of a version with `wanted` of its layers, taught to answer as before.

    recipe: whose learning rate, passes and seed are taken. Called again with the same arguments after a kill it goes on
    from its last checkpoint in `workdir`. Raises InvalidInput where so many layers cannot be kept.
    """
    torch.manual_seed(recipe.seed)
    network = networks.load(version.folder / "weights")
    drop_layers(network.encoder, evenly(depth(network.encoder), wanted))
    teacher = version.load(plain=True)
    learn, look = (targets(teacher, contents, texts.pad_id) for contents in (texts.learn, texts.look))
    passes = recipe.epochs or passes_for(len(texts.learn))
    batches = PlannedBatches([(learn, passes)], recipe.batch_size, recipe.seed)
    looks = OrderedBatches(look, 2 * recipe.batch_size)
    settings = TrainSettings(
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay,
        patience=recipe.patience,
        evaluate_every=evaluate_every(len(batches), len(texts.learn), len(texts.look), passes),
        precision=recipe.precision,
        seed=recipe.seed,
    )
    student = Student(network)
    outcome = train(student, (batches, looks), softened(len(teacher.labels)), settings, report, workdir)
    return student.network.eval(), outcome


def targets(model: TextModel, contents: Sequence[Content], pad_id: int) -> EncodedRows:
    """Token ids with what the teacher says of them: log chances and embedding, (n, k + d)."""
    said = predict(model, contents)
    wanted = np.concatenate([np.log(np.maximum(said.scores, 1e-30)), said.embeddings], axis=1).astype(np.float32)
    ids = [list(item) for item in model.prepare(contents).items]
    return EncodedRows(ids, wanted, np.ones(len(ids), np.float32), pad_id)
