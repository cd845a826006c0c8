"""Which arithmetic trains faster on this machine: measured for a few steps, never assumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Arithmetic = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class PrecisionChoice:
    """What was taken, and the measured seconds of one forward and backward pass (empty when not measured)."""

    chosen: Arithmetic
    seconds: dict[str, float]
    device: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for the run and the card; `PrecisionChoice(**values)` reads them back."""
        return asdict(self)


CLEAR = 1.5
"""Where one is so many times faster at first sight, no second look is taken."""
LOOKS = 3


def choose(
    module: nn.Module, loss: Callable[[], Tensor], wanted: str, device: str, capability: str | None = None
) -> PrecisionChoice:
    """Time `loss().backward()` in fp32 and bf16 and take the faster; `wanted` other than "auto" is taken unmeasured.

    A processor whose `capability` (None: as torch finds it) lacks bf16 is not asked: it would emulate the arithmetic,
    thirty times slower than fp32.
    The weights do not change and the random state is put back, so measuring leaves the training as it was.
    """
    if wanted != "auto":
        return PrecisionChoice("bf16" if wanted == "bf16" else "fp32", {}, device)
    if device == "cpu" and not knows_bf16(capability or torch.backends.cpu.get_cpu_capability()):
        return PrecisionChoice("fp32", {}, device)
    module.train()
    best = {"fp32": float("inf"), "bf16": float("inf")}
    with torch.random.fork_rng():
        for _ in range(LOOKS):  # the best of a few: other work on the machine only ever makes it slower
            best = {name: min(before, _seconds(loss, name == "bf16", device)) for name, before in best.items()}
            if max(best.values()) > CLEAR * min(best.values()):
                break
    module.zero_grad(set_to_none=True)
    return PrecisionChoice("bf16" if best["bf16"] < best["fp32"] else "fp32", best, device)


def knows_bf16(capability: str) -> bool:
    """Whether a processor of this capability (as torch names it) may compute in bf16 at all.

    >>> [knows_bf16(name) for name in ("AVX512", "SVE256", "AVX2", "DEFAULT")]
    [True, True, False, False]
    """
    return capability not in ("DEFAULT", "NO AVX", "AVX2")


def _seconds(loss: Callable[[], Tensor], bf16: bool, device: str) -> float:
    start = time.perf_counter()
    try:
        with torch.autocast(device, torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
    except torch.cuda.OutOfMemoryError:  # fp32 may not fit where bf16 does
        return float("inf")
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
