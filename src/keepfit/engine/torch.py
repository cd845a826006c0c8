"""TorchEngine: runs a torch module as it is; for serving on CUDA, and the fp32 reference for other engines."""

from __future__ import annotations

from threading import Lock

import numpy as np
import torch
from torch import nn

from keepfit.engine.engine import Arrays, Outputs, check_inputs
from keepfit.errors import BackendError

INPUTS = ("attention_mask", "input_ids")


class TorchEngine:
    """A module whose forward takes `input_ids` and `attention_mask` and gives a mapping of named tensors."""

    lanes = 1

    def __init__(self, module: nn.Module, device: str = "cpu", precision: str = "fp32") -> None:
        """Takes the module over: it is moved to `device` and put into evaluation mode.

        `precision`: fp32, or bf16 for automatic mixed precision. Raises BackendError when CUDA is wanted and absent.
        """
        if precision not in {"fp32", "bf16"}:
            raise BackendError(f"torch runs fp32 or bf16, not {precision!r}; choose one of these")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise BackendError("this machine has no usable CUDA device; serve on the CPU instead")
        self.precision, self.device = precision, device
        self._module = module.to(device).eval()
        self._turn = Lock()

    def infer(self, inputs: Arrays) -> Outputs:
        """See Engine."""
        rows = check_inputs(inputs, INPUTS)
        tensors = {name: torch.from_numpy(np.array(values, np.int64)) for name, values in inputs.items()}
        if rows == 0:
            tensors = {name: torch.ones((1, max(t.shape[1], 1)), dtype=torch.int64) for name, t in tensors.items()}
        try:
            outputs = self._run(tensors)
        except (RuntimeError, IndexError) as error:
            raise BackendError(f"the network failed to answer ({error}); look at the log") from error
        return {name: values[:rows] for name, values in outputs.items()}

    def _run(self, tensors: dict[str, torch.Tensor]) -> Outputs:
        kind = self.device.split(":", maxsplit=1)[0]
        half = torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bf16")
        with self._turn, torch.inference_mode(), half:
            outputs = self._module(**{name: tensor.to(self.device) for name, tensor in tensors.items()})
            return {name: tensor.float().cpu().numpy() for name, tensor in outputs.items()}
