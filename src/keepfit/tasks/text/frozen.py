"""Frozen layers: the lower part of an encoder that does not learn; what it gives for a text is computed once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from keepfit.errors import InvalidInput
from keepfit.tasks.text.hidden import States
from keepfit.tasks.text.network import Classifier
from keepfit.training.precision import Arithmetic

LARGEST = 65_504.0
"""The largest float16; a state beyond it is cut to it."""
CLOSE = 1e-3
"""The two ways through a network may differ by so much, relative to its largest value."""
_PROBE = 5
_LOOKS = 2


class FrozenLayers:
    """The embeddings and the lowest `count` layers of a network, taken out of its learning until `release`."""

    def __init__(self, network: Classifier, count: int) -> None:
        """Raises InvalidInput where the encoder has not so many layers, or they cannot be passed over."""
        self.network, self.count = network, count
        self.layers = layers_of(network.encoder)
        if not 0 < count <= len(self.layers):
            raise InvalidInput(
                f"frozen_layers = {count}, and this backbone has {len(self.layers)} layers; take fewer",
                "recipe.frozen_layers",
            )
        network.encoder.requires_grad_(False)
        for layer in self.layers[count:]:
            layer.requires_grad_(True)
        self._relay = _Relay()
        for number in range(count):
            self.layers[number] = _Passed(self.layers[number], self._relay, last=number == count - 1)
        self.module = _Upper(network, self._relay)
        """What is left to train: forward(input_ids, attention_mask, hidden), with the names of the network's parts."""
        self._check()

    def release(self) -> None:
        """Put the layers back into the network; they learn again."""
        for number in range(self.count):
            self.layers[number] = self.layers[number].layer  # type: ignore[assignment]
        self.network.encoder.requires_grad_(True)

    def stack(self, arithmetic: Arithmetic) -> str:
        """Names what these layers give: a hash of their weights, of what else rules them, and of the arithmetic."""
        config = self.network.encoder.config.to_dict()  # type: ignore[union-attr,operator]
        told = {k: v for k, v in config.items() if not k.startswith("_") and k != "transformers_version"}
        digest = hashlib.sha256(json.dumps([told, self.count, arithmetic], sort_keys=True, default=str).encode())
        for name, value in sorted(self.network.encoder.state_dict().items()):
            if self._below(name):
                digest.update(name.encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def states(self, input_ids: Tensor, attention_mask: Tensor, arithmetic: Arithmetic) -> list[States]:
        """What the layers give for n padded texts, shape (tokens, d) each."""
        device = next(self.network.encoder.parameters()).device
        ids, mask = input_ids.to(device), attention_mask.to(device)
        enabled = arithmetic == "bf16"
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            hidden = self._relay.reached(self.network.encoder, ids, mask)
        half = hidden.float().clamp(-LARGEST, LARGEST).half().cpu().numpy()
        return [row[:tokens] for row, tokens in zip(half, attention_mask.sum(dim=1).tolist(), strict=True)]

    def faster(self, batch: Mapping[str, Tensor]) -> Arithmetic:
        """The arithmetic that computes this batch in less time; the best of two looks each."""
        best = {"fp32": float("inf"), "bf16": float("inf")}
        for _ in range(_LOOKS):
            for name in ("fp32", "bf16"):
                before = time.perf_counter()
                self.states(batch["input_ids"], batch["attention_mask"], name)
                best[name] = min(best[name], time.perf_counter() - before)
        return "bf16" if best["bf16"] < best["fp32"] else "fp32"

    def _below(self, name: str) -> bool:
        """Whether a weight of the encoder belongs to what does not learn."""
        encoder = self.network.encoder
        place = next(name for name, module in encoder.named_modules() if module is self.layers)
        number = name.removeprefix(f"{place}.").split(".")[0] if name.startswith(f"{place}.") else ""
        return not number or int(number) < self.count

    def _check(self) -> None:
        """Both ways through the network must come to the same. Raises InvalidInput."""
        ids = torch.arange(1, _PROBE + 1)[None] % int(self.network.encoder.config.vocab_size)  # type: ignore[union-attr,arg-type]
        mask = torch.ones_like(ids)
        training = self.network.training
        self.network.eval()
        with torch.inference_mode():
            whole = self.network(ids, mask)["embedding"]
            hidden = self._relay.reached(self.network.encoder, ids, mask)
            upper = self.module(ids, mask, hidden)["embedding"]
        self.network.train(training)
        if not torch.allclose(whole, upper, rtol=CLOSE, atol=CLOSE * float(whole.abs().max())):
            self.release()
            raise InvalidInput(
                "the layers of this backbone depend on each other in a way that keepfit does not know; leave "
                "frozen_layers at 0",
                "recipe.frozen_layers",
            )


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The layers of a transformer, in their order. Raises InvalidInput where they are not to be found."""
    count = getattr(encoder.config, "num_hidden_layers", None)
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise InvalidInput(
        "the layers of this backbone are not to be found; leave frozen_layers and lora_rank at 0",
        "recipe.frozen_layers",
    )


class _Reached(Exception):  # no error: the way is cut short
    """The last frozen layer has given its states."""


@dataclass
class _Relay:
    """Hands states to the passed layers, or takes them from the last of them."""

    given: Tensor | None = None
    taking: bool = False
    in_tuple: bool = field(default=False)
    """Whether the encoder expects its layers to answer with a tuple."""

    def reached(self, encoder: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        self.taking = True
        try:
            encoder(input_ids=ids, attention_mask=mask)
        except _Reached as end:
            found: Tensor = end.args[0]
            return found
        finally:
            self.taking = False
        raise InvalidInput("this backbone does not use its layers in turn; leave frozen_layers at 0")


class _Passed(nn.Module):
    """A frozen layer in its place."""

    def __init__(self, layer: nn.Module, relay: _Relay, last: bool) -> None:
        super().__init__()
        self.layer, self._last = layer, last
        self.__dict__["_relay"] = relay

    def __getattr__(self, name: str) -> Any:
        """What encoders ask their layers about themselves."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden: Tensor, *rest: Any, **more: Any) -> Any:
        relay: _Relay = self.__dict__["_relay"]
        if relay.given is not None:
            return (relay.given,) if relay.in_tuple else relay.given
        answer = self.layer(hidden, *rest, **more)
        if relay.taking and self._last:
            relay.in_tuple = isinstance(answer, tuple)
            raise _Reached(answer[0] if relay.in_tuple else answer)
        return answer


class _Upper(nn.Module):
    """A network whose frozen layers are passed over; it shares the parts of the whole one, under the same names."""

    def __init__(self, network: Classifier, relay: _Relay) -> None:
        super().__init__()
        self.encoder, self.dropout, self.head = network.encoder, network.dropout, network.head
        self.__dict__.update(_whole=network, _relay=relay)

    def save_memory(self) -> None:
        """As of the whole network."""
        self.__dict__["_whole"].save_memory()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        relay: _Relay = self.__dict__["_relay"]
        relay.given = hidden.float()
        try:
            answer: dict[str, Tensor] = self.__dict__["_whole"](input_ids, attention_mask)
        finally:
            relay.given = None
        return answer
