"""The text model on torch, from its safetensors weights: for serving on a GPU. The stated exception: it imports torch.

A model folder whose model.json says `"load": "keepfit.tasks.text.cuda:load"` is served this way.
"""

from __future__ import annotations

from pathlib import Path

from keepfit.engine.torch import TorchEngine
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text.model import TextModel, read_first, read_folder
from keepfit.tasks.text.network import load as load_network


def load(folder: Path, precision: str | None = None, threads: int | None = None) -> TextModel:
    """The model on CUDA, in bf16 unless fp32 is asked for; `threads` has no meaning there.

    Raises BackendError when there is no usable CUDA device, or a file is missing or damaged.
    """
    return load_on("cuda", folder, precision or "bf16")


def load_on(device: str, folder: Path, precision: str = "fp32") -> TextModel:
    """The model on any torch device, warm: on the CPU in fp32 it is the reference for every other engine."""
    facts, preprocessor = read_folder(folder)
    try:
        network = load_network(folder / "weights")
    except InvalidInput as error:
        raise BackendError(str(error)) from error
    model = TextModel(facts, preprocessor, TorchEngine(network, device, precision), read_first(folder))
    model.warm()
    return model
