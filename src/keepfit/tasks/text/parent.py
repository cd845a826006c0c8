"""Parent: the version that a warm start builds on, and what it hands down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.compression.shape import inherit, read_vocabulary
from keepfit.tasks.text.network import Classifier
from keepfit.training.recipe import Recipe

OF_NETWORKS = ("backbone", "lower_case")
"""What the parent's network and its tokenizer were made with; a training that takes them over cannot have others."""


@dataclass(frozen=True)
class Parent:
    """A finished model's folder, and the classes in the order of its head."""

    folder: Path
    labels: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, recipe: Recipe) -> Parent:
        """Raises InvalidInput where the recipe asks for another network, BackendError when the folder is damaged."""
        try:
            settings = json.loads((folder / "model.json").read_text("utf-8"))
            if not settings.get("imported", {}).get("learns", True):
                raise InvalidInput(
                    f"the version that answers was imported without weights that can learn, and start = "
                    f'{recipe.start!r} builds on them; set recipe.start = "new"',
                    "recipe.start",
                )
            had, labels = Recipe.from_json(settings["recipe"]), tuple(settings["labels"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BackendError(f"the version in {folder} cannot be built on ({error}); start anew") from error
        for name in OF_NETWORKS:
            if getattr(recipe, name) != getattr(had, name):
                raise InvalidInput(
                    f"{name} differs from what the version that answers was trained with, and start = "
                    f"{recipe.start!r} builds on its network; leave it as it was, or start anew",
                    f"recipe.{name}",
                )
        return cls(folder, labels)

    def hand_down(self, network: Classifier, labels: Sequence[str]) -> None:
        """Its weights, in place: the encoder's, and the head's for the classes that both know, by name.

        Of a compressed version the heir has the layers that are left, and all words again.

        A class that is new begins as in a fresh network. Raises InvalidInput when the weights cannot be read.
        """
        had = networks.load(self.folder / "weights")
        inherit(network.encoder, had.encoder, read_vocabulary(self.folder / "weights"))
        hand_down(had.head, self.labels, network.head, labels)


def hand_down(had: nn.Linear, before: Sequence[str], head: nn.Linear, labels: Sequence[str]) -> None:
    """The rows of the classes that both heads know, by name, in place."""
    with torch.no_grad():
        for row, label in enumerate(before):
            if label in labels:
                head.weight[labels.index(label)] = had.weight[row]
                head.bias[labels.index(label)] = had.bias[row]
