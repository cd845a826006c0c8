"""Taking layers and words out of a network, and finding again where a compressed one's belong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from keepfit.errors import InvalidInput
from keepfit.tasks.text.network import Classifier

VOCABULARY = "vocabulary.json"
"""Beside the weights of a trimmed network: which rows of the backbone's word table it has."""
KEPT = "kept_layers"
"""In the encoder's configuration: which of the backbone's layers are left."""

Ints = NDArray[np.int64]


def depth(encoder: nn.Module) -> int:
    """How many layers. Raises InvalidInput where they cannot be told apart."""
    return len(_stack(encoder)[1])


def evenly(layers: int, wanted: int) -> list[int]:
    """So many of the layers, evenly spread, the first and the last among them.

    >>> evenly(6, 3), evenly(12, 6), evenly(6, 1)
    ([0, 2, 5], [0, 2, 4, 7, 9, 11], [0])
    """
    return [round(i * (layers - 1) / max(wanted - 1, 1)) for i in range(wanted)]


def drop_layers(encoder: nn.Module, kept: Sequence[int]) -> None:
    """Leave only these layers, in place; the configuration says which of the backbone's they are.

    Raises InvalidInput where the layers cannot be told apart, or there are not so many.
    """
    name, stack = _stack(encoder)
    if not kept or max(kept) >= len(stack):
        raise InvalidInput(f"the network has {len(stack)} layers; keep at least one, and fewer than that", "layers")
    parent, _, attribute = name.rpartition(".")
    setattr(encoder.get_submodule(parent), attribute, nn.ModuleList(stack[i] for i in kept))
    for place, number in enumerate(kept):
        layer: Any
        for layer in stack[number].modules():  # decoders keep a cache by the number of the layer
            if hasattr(layer, "layer_idx"):
                layer.layer_idx = place
    config: Any = encoder.config
    before = getattr(config, KEPT, None) or list(range(len(stack)))
    setattr(config, KEPT, [before[i] for i in kept])
    if getattr(config, "layer_types", None):  # before the number, which is checked against it
        config.layer_types = [config.layer_types[i] for i in kept]
    config.num_hidden_layers = len(kept)


def drop_words(network: Classifier, kept: Ints, pad_id: int) -> None:
    """Leave only these rows of the word table, in place; `pad_id` is the padding's new number."""
    encoder = network.encoder
    table = encoder.get_input_embeddings()  # type: ignore[operator]
    fewer = nn.Embedding(len(kept), table.embedding_dim, padding_idx=None if table.padding_idx is None else pad_id)
    with torch.no_grad():
        fewer.weight.copy_(table.weight[torch.from_numpy(kept)])
    encoder.set_input_embeddings(fewer)  # type: ignore[operator]
    config: Any = encoder.config
    new = {int(old): place for place, old in enumerate(kept)}
    config.vocab_size = len(kept)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"):
        if isinstance(number := getattr(config, name, None), int):
            setattr(config, name, new.get(number))


def write_vocabulary(weights: Path, kept: Ints) -> None:
    """Note which rows of the backbone's table the network in `weights` has."""
    (weights / VOCABULARY).write_text(json.dumps([int(number) for number in kept]), "utf-8")


def read_vocabulary(weights: Path) -> Ints | None:
    """What `write_vocabulary` has noted; None for a network that has all words."""
    path = weights / VOCABULARY
    return np.array(json.loads(path.read_text("utf-8")), np.int64) if path.is_file() else None


def inherit(heir: nn.Module, had: nn.Module, vocabulary: Ints | None) -> None:
    """Give a fresh encoder the weights of one that may have been compressed, in place.

    The heir loses the layers that the other has lost; words that were taken out of the other keep the vectors that the
    heir came with.
    """
    kept = getattr(had.config, KEPT, None)
    if kept is not None and getattr(heir.config, KEPT, None) != kept:
        drop_layers(heir, kept)
    state = had.state_dict()
    if vocabulary is not None:
        table = heir.get_input_embeddings()  # type: ignore[operator]
        name = next(name for name, module in heir.named_modules() if module is table)
        words = table.weight.detach().clone()
        words[torch.from_numpy(vocabulary)] = state[f"{name}.weight"]
        state[f"{name}.weight"] = words
    heir.load_state_dict(state)


def _stack(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of layers, and its name."""
    layers = int(encoder.config.num_hidden_layers)  # type: ignore[union-attr,arg-type]
    for name, module in encoder.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == layers:
            return name, module
    raise InvalidInput("the layers of this backbone cannot be told apart, so none can be dropped", "layers")
