"""The word table of an OpenVINO network: with fewer rows, and as small in memory as on the disk (learning side only).

In a small transformer half of the weights are the vectors of its words, one row for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from keepfit.errors import BackendError, InvalidInput

IDS = "input_ids"
NO_TABLE = "the network has no word table that could be made smaller"
PASSED_THROUGH = frozenset({"Convert", "Reshape", "Unsqueeze", "Squeeze"})
"""Operations that may lie between the ids and the look-up."""


def select_rows(xml: Path, rows: NDArray[np.int64], out: Path) -> Path:
    """The network of `xml` with these rows of its word table alone, in this order, written to `out`.

    The id i of the new network means what rows[i] meant to the old one; nothing else changes. Raises InvalidInput when
    it has no word table that is stored as a whole, BackendError when it cannot be read.
    """
    network = _read(xml)
    if not (lookups := _lookups(network)):
        raise InvalidInput(NO_TABLE)
    for lookup in lookups:
        size = _length(lookup)
        for table in (node for node in _constants(lookup) if _rows(node) == size):
            fewer = ops.constant(np.ascontiguousarray(_values(table)[rows]), dtype=table.get_element_type())
            fewer.set_friendly_name(table.get_friendly_name())
            for target in table.output(0).get_target_inputs():
                target.replace_source_output(fewer.output(0))
    return _save(network, out)


def small_lookup(xml: Path, out: Path) -> Path:
    """The network of `xml` with a word table of int8, each row with a scale of its own, written to `out`.

    The rows are looked up as they are stored and only then made floating-point numbers: a table that is made so before
    is unfolded by the runtime when it loads it, to four times the memory. One that is int8 already keeps its values,
    and the network its answers; a network without such a table stays as it is. Raises BackendError.
    """
    network = _read(xml)
    lookups = _lookups(network)
    if len(lookups) == 1 and not _is_small(lookup := lookups[0]):
        values, scales = _quantised(lookup)
        ids, axis = lookup.input_value(1), ops.constant(0, dtype=np.int32)
        small = ops.convert(ops.gather(ops.constant(values), ids, axis), np.float32)
        found = ops.multiply(small, ops.gather(ops.constant(scales), ids, axis))
        found.set_friendly_name(lookup.get_friendly_name())
        for target in lookup.output(0).get_target_inputs():
            target.replace_source_output(found.output(0))
    return _save(network, out)


def is_small(xml: Path) -> bool:
    """Whether the words are looked up in int8 already. Raises InvalidInput and BackendError as `select_rows`."""
    if not (lookups := _lookups(_read(xml))):
        raise InvalidInput(NO_TABLE)
    return any(map(_is_small, lookups))


def unfolded(xml: Path) -> int:
    """Bytes by which the word table, if it has one, grows when the network is loaded. Raises BackendError."""
    if not (lookups := _lookups(_read(xml))):
        return 0
    lookup = lookups[0]
    shape = lookup.input_value(0).get_partial_shape()
    stored = sum(int(_values(node).nbytes) for node in _constants(lookup))
    return 0 if _is_small(lookup) else max(0, 4 * _length(lookup) * int(shape[1].get_length()) - stored)


def per_row(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """int8 values (n, d) and scales (n, 1) whose product is the table, each value within half a scale of its own.

    >>> values, scales = per_row(np.array([[1.0, -2.54], [0.0, 0.0]], np.float32))
    >>> values.tolist(), [round(float(scale), 4) for scale in scales[:, 0]]
    ([[50, -127], [0, 0]], [0.02, 1.0])
    """
    highest = np.abs(table).max(axis=1, keepdims=True)
    scales = (highest / np.float32(127)).astype(np.float32)
    scales = np.where(scales > 0, scales, np.float32(1))  # also of values that are next to nothing
    return np.rint(table / scales).astype(np.int8), scales


def _quantised(lookup: Any) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The table as int8 values (n, d) and scales (n, 1): as it is stored, or made so."""
    source = lookup.input_value(0).get_node()
    if source.get_type_name() == "Constant":
        return per_row(np.asarray(_values(source), np.float32))
    stored = [node for node in _constants(lookup) if node.get_element_type() == ov.Type.i8]
    others = [node for node in _constants(lookup) if node.get_element_type() != ov.Type.i8]
    if source.get_type_name() == "Multiply" and len(stored) == len(others) == 1:
        values = _values(stored[0])
        scales = np.broadcast_to(np.asarray(_values(others[0]), np.float32), (len(values), 1))
        return np.ascontiguousarray(values), np.ascontiguousarray(scales)
    return per_row(_folded(lookup))


def _folded(lookup: Any) -> NDArray[np.float32]:
    """The table as the network would see it, whatever it is stored as."""
    whole = ov.Model([ops.result(lookup.input_value(0))], [], "table")
    found = ov.Core().compile_model(whole, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])
    return np.array(found[0], np.float32)


def _lookups(network: ov.Model) -> list[Any]:
    """The operations that turn ids into vectors: one, or of an int8 table those of its values and its scales; none
    where they are no table that is stored as a whole."""
    gathers = (node for node in network.get_ordered_ops() if node.get_type_name() == "Gather")
    return [node for node in gathers if _comes_from_ids(node) and _constants(node)]


def _is_small(lookup: Any) -> bool:
    return bool(lookup.input_value(0).get_element_type() == ov.Type.i8)


def _length(lookup: Any) -> int:
    return int(lookup.input_value(0).get_partial_shape()[0].get_length())


def _comes_from_ids(gather: Any) -> bool:
    node = gather.input_value(1).get_node()
    while node.get_type_name() in PASSED_THROUGH:
        node = node.input_value(0).get_node()
    return node.get_type_name() == "Parameter" and IDS in node.output(0).get_names()


def _constants(gather: Any) -> list[Any]:
    """What the table is made from; nothing when it hangs on anything that is not stored."""
    waiting, found = [gather.input_value(0).get_node()], []
    while waiting:
        node = waiting.pop()
        if node.get_type_name() == "Constant":
            found.append(node)
        elif not node.get_input_size():
            return []
        waiting += [node.input_value(i).get_node() for i in range(node.get_input_size())]
    return found


def _rows(constant: Any) -> int:
    shape = constant.get_output_shape(0)
    return int(shape[0]) if len(shape) else 0


def _values(constant: Any) -> NDArray[Any]:
    return np.array(constant.data)


def _read(xml: Path) -> ov.Model:
    try:
        # a mapped file could not be written over
        return ov.Core().read_model(xml, config={"ENABLE_MMAP": False})
    except RuntimeError as error:
        raise BackendError(f"the network {xml} cannot be read ({error}); fetch or register the model again") from error


def _save(network: ov.Model, out: Path) -> Path:
    network.validate_nodes_and_infer_types()
    out.parent.mkdir(parents=True, exist_ok=True)
    ov.save_model(network, out, compress_to_fp16=False)
    return out
