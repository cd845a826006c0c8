"""Memory: where a step does not fit on the accelerator, less is kept between its two passes, at the price of time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from keepfit.errors import BackendError


def made_to_fit(module: nn.Module, step: Callable[[], Tensor]) -> bool:
    """Try the forward and backward pass of `step`; whether `module.save_memory()` was needed for it.

    Memory is saved only when it is asked for: recomputing what was not kept (gradient checkpointing, Chen et al. 2016,
    "Training Deep Nets with Sublinear Memory Cost") makes a step about a third slower. Room for the optimizer's two
    values per weight is held meanwhile. Raises BackendError when a step does not fit anyhow.
    """
    if _fits(module, step):
        return False
    save = getattr(module, "save_memory", None)
    if save is not None:
        save()
        if _fits(module, step):
            return True
    raise BackendError(
        "the widest batch does not fit into the accelerator's memory; lower batch_size (or set tokens_per_batch), or "
        "max_tokens"
    )


def _fits(module: nn.Module, step: Callable[[], Tensor]) -> bool:
    module.train()
    try:
        held = [torch.empty_like(p) for p in module.parameters() if p.requires_grad for _ in range(2)]
        with torch.random.fork_rng():
            step().backward()  # type: ignore[no-untyped-call]
        del held
    except torch.cuda.OutOfMemoryError:
        fits = False
    else:
        fits = True
    module.zero_grad(set_to_none=True)
    return fits
