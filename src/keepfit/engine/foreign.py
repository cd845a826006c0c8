"""A network that was compiled elsewhere (ONNX or OpenVINO IR), given the inputs and outputs of our own ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from keepfit.engine.openvino import OpenVinoEngine
from keepfit.errors import BackendError, InvalidInput

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
KNOWN = (IDS, MASK, TYPES)
SCORES = ("logits", "scores", "output_0", "probabilities")
"""What the output with the classes is called, the usual name first."""
HIDDEN = ("embedding", "pooler_output", "sentence_embedding", "last_hidden_state", "hidden_states")
SMALLEST = 1e-9
PROBES = 4


@dataclass(frozen=True)
class Adopted:
    """What was found in the network."""

    embedding: str
    """Where the embedding comes from: the name of an output, or `scores` where no other output was there."""
    width: int


def adopt(source: Path, xml: Path, order: Sequence[int]) -> Adopted:
    """Write the network of `source` (.onnx, or .xml with its .bin) to `xml`, with our inputs and outputs.

    It reads `input_ids` and `attention_mask` (n, t) int64 and gives `logits` (n, k), the columns in this `order` of its
    own, and `embedding` (n, d): another output that it has (of one vector for each token the mean over the text), else
    the scores. Raises InvalidInput for inputs or outputs that cannot be understood, too few or many classes for
    `order`, or answers that are not finite; BackendError when the file cannot be read.
    """
    network = _read(source)
    logits, others = _outputs(network, len(order))
    ids, mask = _inputs(network)
    said = ops.log(ops.maximum(logits, ops.constant(np.float32(SMALLEST)))) if _gives_probabilities(logits) else logits
    said = ops.gather(said, ops.constant(np.array(order, np.int64)), ops.constant(1, dtype=np.int64))
    name, embedding = _embedding(others, mask, ops.softmax(said, 1))
    results = [ops.result(said), ops.result(embedding)]
    made = ov.Model(results, [ids, mask], "classifier")
    for port, called in zip(made.outputs, ("logits", "embedding"), strict=True):
        port.tensor.set_names({called})
    try:
        made.reshape({IDS: [-1, -1], MASK: [-1, -1]})
        xml.parent.mkdir(parents=True, exist_ok=True)
        ov.save_model(made, xml, compress_to_fp16=False)
    except RuntimeError as error:
        raise InvalidInput(f"{source.name} cannot take texts of any length ({_last(error)}); {_EXPORT}") from error
    width = _probed(source, xml, len(order))
    return Adopted(name, width)


_EXPORT = "export it with dynamic axes for batch and sequence"


def words_of(xml: Path) -> int | None:
    """Rows of the word table of a network; None where it has none that is stored as a whole."""
    for node in _read(xml).get_ordered_ops():
        if node.get_type_name() == "Gather" and _from_ids(node.input_value(1).get_node()):
            shape = node.input_value(0).get_partial_shape()
            return None if shape.rank.get_length() != 2 or shape[0].is_dynamic else int(shape[0].get_length())
    return None


def _from_ids(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Unsqueeze", "Squeeze"):
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Parameter" and IDS in node.output(0).get_names()


def _read(source: Path) -> ov.Model:
    if source.suffix == ".xml" and not source.with_suffix(".bin").is_file():
        raise InvalidInput(f"{source} lies there without {source.with_suffix('.bin').name}; copy both")
    try:
        return ov.Core().read_model(source, config={"ENABLE_MMAP": False})
    except RuntimeError as error:
        raise BackendError(f"OpenVINO cannot read {source} ({_last(error)}); export it again") from error


def _inputs(network: ov.Model) -> tuple[Any, Any]:
    """New parameters of int64 in the place of the network's own; token types are all 0, as of a single text."""
    by_name = {next((n for n in KNOWN if n in port.get_names()), port.any_name): port for port in network.inputs}
    strange = sorted(set(by_name) - set(KNOWN))
    if strange or not {IDS, MASK} <= set(by_name):
        raise InvalidInput(
            f"the network reads {', '.join(sorted(by_name))}; one that reads input_ids and attention_mask (and "
            "token_type_ids) can be imported"
        )
    made = {name: ops.parameter([-1, -1], np.int64, name) for name in (IDS, MASK)}
    for name, parameter in made.items():
        parameter.output(0).tensor.set_names({name})
    zeros = ops.multiply(made[IDS], ops.constant(np.int64(0)))
    for name, port in by_name.items():
        fresh: Any = made.get(name, zeros)
        kind = port.get_element_type()
        put = fresh if kind == ov.Type.i64 else ops.convert(fresh, kind.to_dtype())
        for target in list(port.get_target_inputs()):
            target.replace_source_output(put.output(0))
    return made[IDS], made[MASK]


def _scores(network: ov.Model) -> Any:
    """The output with the classes."""
    flat = [port for port in network.outputs if port.get_partial_shape().rank == ov.Dimension(2)]
    named = [port for name in SCORES for port in flat if name in port.get_names()]
    if not flat or (len(flat) > 1 and not named):
        told = ", ".join(f"{port.any_name} {port.get_partial_shape()}" for port in network.outputs)
        raise InvalidInput(f"which output holds the classes cannot be told ({told}); call it logits, with shape (n, k)")
    return (named or flat)[0]


def _outputs(network: ov.Model, wanted: int) -> tuple[Any, dict[str, Any]]:
    scores = _scores(network)
    size = scores.get_partial_shape()[1]
    if size.is_static and size.get_length() != wanted:
        found = size.get_length()
        more = "; one number for yes or no is not enough" if found == 1 else ""
        raise InvalidInput(f"the network gives {found} outputs and {wanted} labels were given{more}", "labels")
    others = {port.any_name: _source(port) for port in network.outputs if port.any_name != scores.any_name}
    return _source(scores), others


def _source(port: Any) -> Any:
    """What feeds a result."""
    return port.get_node().input_value(0)


def _embedding(others: dict[str, Any], mask: Any, scores: Any) -> tuple[str, Any]:
    named = [name for name in HIDDEN if name in others]
    for name in named + sorted(set(others) - set(named)):
        shape = others[name].get_partial_shape()
        if shape.rank == ov.Dimension(2):
            return name, others[name]
        if shape.rank == ov.Dimension(3):
            weights = ops.unsqueeze(ops.convert(mask, np.float32), ops.constant(2, dtype=np.int64))
            axis = ops.constant(1, dtype=np.int64)
            total = ops.reduce_sum(ops.multiply(others[name], weights), axis)
            return name, ops.divide(total, ops.maximum(ops.reduce_sum(weights, axis), ops.constant(np.float32(1))))
    return "scores", scores


def _gives_probabilities(logits: Any) -> bool:
    """Whether its last step is a softmax."""
    node = logits.get_node()
    while node.get_type_name() in ("Convert", "Reshape", "Squeeze"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Softmax")


def _probed(source: Path, xml: Path, classes: int) -> int:
    """The width of the embedding, after the network has answered texts of several lengths."""
    engine, width = OpenVinoEngine.load(xml, "fp32"), 0
    for tokens in (1, 5, 17):
        ids = np.random.default_rng(tokens).integers(0, 2, (PROBES, tokens), dtype=np.int64)
        try:
            said = engine.infer({IDS: ids, MASK: np.ones_like(ids)})
        except BackendError as error:
            raise InvalidInput(f"{source.name} cannot answer {PROBES} texts of {tokens} tokens ({error})") from error
        if said["logits"].shape != (PROBES, classes):
            raise InvalidInput(f"the network gives {said['logits'].shape[-1]} outputs and {classes} labels were given")
        if not all(bool(np.isfinite(values).all()) for values in said.values()):
            raise InvalidInput(f"the answers of {source.name} hold NaN or infinity; export it again")
        width = int(said["embedding"].shape[1])
    return width


def _last(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:200]
