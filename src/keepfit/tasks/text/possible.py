"""Possible: what a recipe asks of a backbone that it cannot do, said before anything is learnt."""

from __future__ import annotations

import copy
from collections.abc import Callable

from keepfit.errors import InvalidInput
from keepfit.tasks.text import backbone as backbones
from keepfit.tasks.text import lora
from keepfit.tasks.text.frozen import FrozenLayers, layers_of
from keepfit.tasks.text.network import Classifier
from keepfit.training.recipe import Recipe


def refusals(base: Recipe) -> Callable[[Recipe], str | None]:
    """Tells of recipes with this one's backbone why frozen layers or adapters are refused; None where they are not.

    What refuses is what would refuse in the training. Raises InvalidInput or BackendError where the backbone cannot
    be had.
    """
    backbone = backbones.load(base.backbone, base.lower_case)
    network = Classifier(backbone.encoder, backbone.pooling, 2, backbone.width)

    def refused(recipe: Recipe) -> str | None:
        trial = copy.deepcopy(network)
        try:
            if recipe.frozen_layers:
                FrozenLayers(trial, recipe.frozen_layers)
            if recipe.lora_rank:
                lora.attach(trial, recipe.lora_rank, layers_of(trial.encoder)[recipe.frozen_layers :])
        except InvalidInput as error:
            return str(error)
        return None

    return refused
