"""The torch network of the text task: an encoder, a pooling and a linear head."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from keepfit.errors import InvalidInput

Pooling = Literal["mean", "cls", "last", "own"]
"""own: the encoder is a whole classifier of Hugging Face but for its last linear layer, and pools as it always did."""


class Classifier(nn.Module):
    """forward(input_ids (n, t), attention_mask (n, t)) -> {"logits": (n, k), "embedding": (n, d)}, both float32."""

    def __init__(self, encoder: nn.Module, pooling: Pooling, classes: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        found = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if self.pooling == "own":
            embedding = found.logits.float()
        else:
            embedding = _pool(found.last_hidden_state.float(), attention_mask, self.pooling)
        return {"logits": self.head(self.dropout(embedding)).float(), "embedding": embedding}

    def save_memory(self) -> None:
        """From now on compute in the backward pass again what the layers gave in the forward pass."""
        names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")  # the new name and the old one
        enable = next(getattr(self.encoder, name) for name in names if hasattr(self.encoder, name))
        enable({"use_reentrant": False})


def _pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":  # right padding: the last real token is at (number of real tokens) - 1
        last = (mask.sum(dim=1) - 1).clamp(min=0)
        return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def save(network: Classifier, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / "model.safetensors"
    )
    config = network.encoder.config.to_diff_dict()  # type: ignore[union-attr,operator]
    description = {"pooling": network.pooling, "classes": network.head.out_features, "encoder": config}
    (folder / "config.json").write_text(json.dumps(description, indent=1, default=str), encoding="utf-8")


def load(folder: Path) -> Classifier:
    """The network that `save` wrote, in evaluation mode. Raises InvalidInput when the folder cannot be read."""
    try:
        description: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read the weights in {folder}: {error}; train the model again") from error
    config = AutoConfig.for_model(**description["encoder"])
    if description["pooling"] == "own":
        whole = AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]
        width, encoder = take_head(whole).in_features, whole
    else:
        width, encoder = width_of(config), without_pooler(AutoModel.from_config(config))  # type: ignore[no-untyped-call]
    network = Classifier(encoder, description["pooling"], description["classes"], width)
    network.load_state_dict(weights)
    return network.eval()


def take_head(whole: nn.Module) -> nn.Linear:
    """Take the last linear layer out of a sequence classifier of Hugging Face, in place; its logits are its input now.

    Raises InvalidInput where there is none.
    """
    inside, classes = f"{whole.base_model_prefix}.", int(whole.config.num_labels)  # type: ignore[union-attr,arg-type]
    found = [
        (name, module)
        for name, module in whole.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith(inside) and module.out_features == classes
    ]
    if not found:
        raise InvalidInput("the layer that gives the classes is not to be found in this network; it cannot be imported")
    name, head = found[-1]
    parent, _, attribute = name.rpartition(".")
    setattr(whole.get_submodule(parent), attribute, nn.Identity())
    return head


def without_pooler(encoder: nn.Module) -> nn.Module:
    """The encoder without the layer of next-sentence prediction, which we do not use (and would store in vain)."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)
    return encoder


def width_of(config: Any) -> int:
    """The width d of the encoder's last layer."""
    for name in ("hidden_size", "dim", "d_model", "n_embd"):
        if hasattr(config, name):
            return int(getattr(config, name))
    raise InvalidInput(f"backbones of the kind {config.model_type!r} do not say their width; choose another one")
