"""Turning a torch module into an OpenVINO network, and that into an int8 one (learning side only)."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from torch import nn

from keepfit.engine.engine import Arrays
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.engine.torch import TorchEngine
from keepfit.errors import BackendError

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("logits", "embedding")
TOLERANCE = 1e-3
"""How far a converted network may be from torch, absolute and relative; in fp32 it is 1e-5 in practice."""


def export(module: nn.Module, xml: Path, longest: int = 64, threads: int | None = None) -> Path:
    """Convert `module` to `xml` and a `.bin` beside it, in fp32, for any number of rows and tokens.

    forward(input_ids, attention_mask), both (n, t) int64, must give `logits` (n, k) and `embedding` (n, d).
    The result is compared with torch on several shapes, up to `longest` tokens (no more than the module can take).
    Raises BackendError when the module cannot be converted or the answers differ.
    """
    xml.parent.mkdir(parents=True, exist_ok=True)
    with _ready(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer comments on every Python branch
        network = _trace(module)
        ov.save_model(network, xml, compress_to_fp16=False)
        _compare(module, OpenVinoEngine.load(xml, "fp32", threads), longest)
    return xml


def export_fixed(
    module: nn.Module,
    xml: Path,
    example: Arrays,
    outputs: Sequence[str],
    free: Sequence[tuple[str, int]] = (),
) -> Path:
    """Convert `module` to `xml` and a `.bin` beside it, in fp32, for any number of rows of exactly these shapes.

    Besides the rows the axes that are `free` (input, number) may have any length that the module can do with.
    forward takes the inputs by their names in `example` (rows, ...) and gives a mapping that has `outputs`. The result
    is compared with torch on the example. Raises BackendError when it cannot be converted or the answers differ.
    """
    xml.parent.mkdir(parents=True, exist_ok=True)
    with _ready(module), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer comments on every Python branch
        shapes = [_shape(values.shape, [axis for of, axis in free if of == name]) for name, values in example.items()]
        tensors = tuple(torch.from_numpy(np.asarray(values)) for values in example.values())
        try:
            network = ov.convert_model(_Positional(module, example, outputs), example_input=tensors, input=shapes)
        except Exception as error:  # the tracer lets through whatever the module raises
            raise BackendError(f"this network cannot be converted to OpenVINO ({error}); report this") from error
        _name(network, example, outputs)
        ov.save_model(network, xml, compress_to_fp16=False)
        ours = OpenVinoEngine.load(xml, "fp32").infer(example)
        theirs = dict(zip(outputs, _Positional(module, example, outputs)(*tensors), strict=True))
    for name in outputs:
        if not np.allclose(ours[name], theirs[name].numpy(), TOLERANCE, TOLERANCE):
            worst = float(np.max(np.abs(ours[name] - theirs[name].numpy())))
            raise BackendError(f"the converted network differs from torch by {worst:.2g} in {name}; report this")
    return xml


def _shape(example: tuple[int, ...], free: Sequence[int]) -> ov.PartialShape:
    return ov.PartialShape([-1 if axis == 0 or axis in free else size for axis, size in enumerate(example)])


SMOOTHED = 0.95
"""How far SmoothQuant moves the outliers of the activations into the weights, from 0 to 1; below 0: not at all."""


def quantise(xml: Path, batches: Sequence[Arrays], out: Path, smoothed: float = SMOOTHED) -> Path:
    """Make an int8 network of the fp32 one in `xml`: post-training, with SmoothQuant, calibrated on `batches`.

    Some 300 samples of the kind that will be answered are enough (NNCF's own default); real lengths, unpadded.
    What the network prints on its way is swallowed. Raises BackendError when there is nothing to calibrate on, or it
    cannot be quantised.
    """
    if not batches:
        raise BackendError("there are no texts to calibrate int8 on; give some, or choose bf16 or fp32")
    nncf.set_log_level(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = nncf.quantize(
                ov.Core().read_model(xml),
                nncf.Dataset([dict(b) for b in batches]),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=len(batches),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=smoothed)
                ),
            )
    except (RuntimeError, nncf.InternalError, nncf.UnsupportedModelError, nncf.ValidationError) as error:
        raise BackendError(f"the network {xml} cannot be made int8 ({error}); choose bf16 or fp32") from error
    ov.save_model(network, out, compress_to_fp16=False)
    return out


def _trace(module: nn.Module) -> ov.Model:
    ids, mask = (torch.from_numpy(v) for v in _sample(2, 9, _vocabulary(module), padded=True).values())
    shapes = [(ov.PartialShape([-1, -1]), ov.Type.i64) for _ in INPUTS]
    try:
        network = ov.convert_model(_Positional(module, INPUTS, OUTPUTS), example_input=(ids, mask), input=shapes)
    except Exception as error:  # the tracer lets through whatever the module raises
        raise BackendError(f"this backbone cannot be converted to OpenVINO ({error}); choose another one") from error
    _name(network, INPUTS, OUTPUTS)
    return network


def _name(network: ov.Model, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    for ports, names in ((network.inputs, inputs), (network.outputs, outputs)):
        for port, name in zip(ports, names, strict=True):
            port.tensor.set_names({name})


class _Positional(nn.Module):
    """Inputs and outputs by place: named outputs would be flattened in an order of the tracer's own."""

    def __init__(self, module: nn.Module, inputs: Iterable[str], outputs: Iterable[str]) -> None:
        super().__init__()
        self.module, self.names, self.outputs = module, tuple(inputs), tuple(outputs)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.module(**dict(zip(self.names, values, strict=True)))
        return tuple(outputs[name] for name in self.outputs)


@contextmanager
def _ready(module: nn.Module) -> Iterator[None]:
    """On the CPU, in evaluation mode, and without the cache of a decoder, which cannot be converted; then as before."""
    training, device = module.training, next(module.parameters()).device
    configs: list[Any] = [c for m in module.modules() if getattr(c := getattr(m, "config", None), "use_cache", False)]
    module.to("cpu").eval()
    for config in configs:
        config.use_cache = False
    try:
        yield
    finally:
        for config in configs:
            config.use_cache = True
        module.to(device).train(training)


def _compare(module: nn.Module, engine: OpenVinoEngine, longest: int) -> None:
    vocabulary, reference = _vocabulary(module), TorchEngine(module)
    for rows, tokens, padded in ((1, min(5, longest), False), (1, longest, False), (3, min(17, longest), True)):
        inputs = _sample(rows, tokens, vocabulary, padded)
        ours, theirs = engine.infer(inputs), reference.infer(inputs)
        for name in OUTPUTS:
            if not np.allclose(ours[name], theirs[name], TOLERANCE, TOLERANCE):
                worst = float(np.max(np.abs(ours[name] - theirs[name])))
                raise BackendError(
                    f"the converted network differs from torch by {worst:.2g} in {name} for {rows} x {tokens} tokens; "
                    "choose another backbone, or report this one"
                )


def _vocabulary(module: nn.Module) -> int:
    """The first embedding table of a transformer is that of its words."""
    return next((m.num_embeddings for m in module.modules() if isinstance(m, nn.Embedding)), 2)


def _sample(rows: int, tokens: int, vocabulary: int, padded: bool) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(rows * 1000 + tokens)
    ids = rng.integers(0, vocabulary, (rows, tokens), dtype=np.int64)
    lengths = rng.integers(1, tokens + 1, rows) if padded else np.full(rows, tokens)
    lengths[0] = tokens
    mask = (np.arange(tokens)[None, :] < lengths[:, None]).astype(np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask}
