"""Tensors of the Open Inference Protocol: texts out of a request, arrays into an answer, as JSON or as bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import Field, StrictBool, StrictInt, StrictStr

from keepfit.app.http.fields import Strict
from keepfit.app.http.reading import read_json
from keepfit.errors import InvalidInput

BINARY, ALL_BINARY, SIZE = "binary_data", "binary_data_output", "binary_data_size"
"""Parameters of the binary tensor extension: of an output, of a request, of a tensor whose bytes follow the JSON."""
LENGTH = 4
"""Bytes before each string of a BYTES tensor: its length, little-endian."""

Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]


class InputTensor(Strict):
    """A tensor of a request; its data are here, or follow the JSON."""

    name: Name
    datatype: StrictStr
    shape: Annotated[list[Annotated[StrictInt, Field(ge=0)]], Field(min_length=1, max_length=8)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: Any = None


class WantedTensor(Strict):
    """An output that is asked for."""

    name: Name
    parameters: dict[str, Any] = Field(default_factory=dict)


class InferBody(Strict):
    """A request for inference."""

    id: StrictStr | None = None
    parameters: dict[str, StrictStr | StrictBool | StrictInt | float] = Field(default_factory=dict)
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[WantedTensor] | None = None


@dataclass(frozen=True)
class Asked:
    """What a request asks: contents (texts, or texts by input's name), and which outputs, as bytes or as JSON."""

    body: InferBody
    contents: Sequence[str | Mapping[str, str]]


def read_request(raw: bytes, header_length: int | None) -> Asked:
    """The request in these bytes, of which the first `header_length` are JSON (None: all of them).

    Raises InvalidInput, or pydantic's ValidationError, for what does not fit the protocol or is not understood here.
    """
    cut = len(raw) if header_length is None else header_length
    if cut > len(raw):
        raise InvalidInput(f"Inference-Header-Content-Length is {cut}, but the body has {len(raw)} bytes")
    body = InferBody.model_validate(read_json(raw[:cut]))
    refuse_others(body.parameters, {ALL_BINARY, "key"}, "the request")
    tensors, rest = {}, memoryview(raw)[cut:]
    for place, tensor in enumerate(body.inputs):
        refuse_others(tensor.parameters, {SIZE}, f"the input {tensor.name!r}")
        if tensor.name in tensors:
            raise InvalidInput(f"the input {tensor.name!r} comes twice", f"inputs.{place}.name")
        texts, rest = texts_of(tensor, rest, f"inputs.{place}")
        tensors[tensor.name] = texts
    if len(rest):
        raise InvalidInput(f"{len(rest)} bytes follow the JSON that belong to no input; give their {SIZE}")
    return Asked(body, contents_of(tensors))


def refuse_others(given: Mapping[str, Any], known: set[str], whose: str) -> None:
    """Raises InvalidInput for a parameter that would not be honoured."""
    if unknown := sorted(set(given) - known):
        raise InvalidInput(
            f"the parameter {unknown[0]!r} of {whose} cannot be honoured; known: {', '.join(sorted(known))}",
            f"parameters.{unknown[0]}",
        )


def texts_of(tensor: InputTensor, rest: memoryview, place: str) -> tuple[list[str], memoryview]:
    """The strings of a tensor, and the bytes that are left for the others. Raises InvalidInput."""
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"the input {tensor.name!r} is {tensor.datatype}; texts are BYTES", f"{place}.datatype")
    size = tensor.parameters.get(SIZE)
    if size is None:
        texts = flat(tensor.data, place)
    elif tensor.data is not None:
        raise InvalidInput(f"the input {tensor.name!r} has both data and {SIZE}; give one of them", place)
    elif isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise InvalidInput(f"{SIZE} is {size!r}, but {len(rest)} bytes are left after the JSON", place)
    else:
        texts, rest = list(strings_in(rest[:size], place)), rest[size:]
    if len(texts) != math.prod(tensor.shape):
        raise InvalidInput(
            f"the input {tensor.name!r} has {len(texts)} strings, but its shape {tensor.shape} holds "
            f"{math.prod(tensor.shape)}",
            f"{place}.shape",
        )
    return texts, rest


def flat(data: Any, place: str) -> list[str]:
    """The strings of JSON data, nested or flattened. Raises InvalidInput for anything else."""
    if not isinstance(data, list):
        raise InvalidInput("an input needs its data: a list of strings", f"{place}.data")
    found: list[str] = []
    for item in data:
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            found += flat(item, place)
        else:
            raise InvalidInput(f"data of BYTES must be strings, not {type(item).__name__}", f"{place}.data")
    return found


def strings_in(data: memoryview, place: str) -> Iterator[str]:
    """The strings of a BYTES tensor in its binary form. Raises InvalidInput when it is cut, or no UTF-8."""
    at = 0
    while at < len(data):
        end = at + LENGTH + int.from_bytes(data[at : at + LENGTH], "little")
        if end > len(data) or at + LENGTH > len(data):
            raise InvalidInput("the binary data of the input end within a string", place)
        try:
            text = str(data[at + LENGTH : end], "utf-8")
        except UnicodeDecodeError as error:
            raise InvalidInput(f"a string of the input is not UTF-8: {error.reason}", place) from None
        if "\x00" in text:
            raise InvalidInput("a string of the input holds a null character; remove it", place)
        yield text
        at = end


def contents_of(tensors: Mapping[str, list[str]]) -> list[str | Mapping[str, str]]:
    """One input of any name is the text; several are its columns. Raises InvalidInput for no or uneven contents."""
    counts = {len(texts) for texts in tensors.values()}
    if len(counts) > 1:
        raise InvalidInput(f"the inputs have {' and '.join(map(str, sorted(counts)))} strings; give each as many")
    if counts == {0}:
        raise InvalidInput("the inputs are empty; give at least one text", "inputs.0.data")
    if len(tensors) == 1:
        return list(next(iter(tensors.values())))
    return [dict(zip(tensors, row, strict=True)) for row in zip(*tensors.values(), strict=True)]


@dataclass(frozen=True, eq=False)
class Given:
    """An output: strings of shape (n,), or an array."""

    name: str
    datatype: str
    values: Sequence[str] | NDArray[Any]

    @property
    def shape(self) -> list[int]:
        """As the protocol has it."""
        return list(self.values.shape) if isinstance(self.values, np.ndarray) else [len(self.values)]

    def plain(self) -> list[Any]:
        """The data for JSON, flattened by rows."""
        if not isinstance(self.values, np.ndarray):
            return list(self.values)
        return [round(v, 6) if isinstance(v, float) else v for v in self.values.ravel().tolist()]

    def raw(self) -> bytes:
        """The data in binary form: strings with their lengths, numbers little-endian."""
        if isinstance(self.values, np.ndarray):
            return self.values.astype(self.values.dtype.newbyteorder("<")).tobytes()
        encoded = [text.encode() for text in self.values]
        return b"".join(len(text).to_bytes(LENGTH, "little") + text for text in encoded)


def wanted(body: InferBody, known: Sequence[str]) -> list[tuple[str, bool]]:
    """(name, whether as bytes) of the outputs that are asked for; all of them unless named. Raises InvalidInput."""
    binary = body.parameters.get(ALL_BINARY, False)
    if not isinstance(binary, bool):
        raise InvalidInput(f"{ALL_BINARY} must be true or false", f"parameters.{ALL_BINARY}")
    if not body.outputs:
        return [(name, binary) for name in known]
    for place, output in enumerate(body.outputs):
        if output.name not in known:
            raise InvalidInput(
                f"there is no output {output.name!r}; known: {', '.join(known)}", f"outputs.{place}.name"
            )
        refuse_others(output.parameters, {BINARY}, f"the output {output.name!r}")
        if not isinstance(output.parameters.get(BINARY, False), bool):
            raise InvalidInput(f"{BINARY} must be true or false", f"outputs.{place}.parameters")
    return [(output.name, output.parameters.get(BINARY, binary)) for output in body.outputs]


def write_answer(head: Mapping[str, Any], outputs: Sequence[tuple[Given, bool]]) -> tuple[bytes, int | None]:
    """The body of an answer, and how much of it is JSON; None where all is."""
    listed, tail = [], []
    for given, binary in outputs:
        one: dict[str, Any] = {"name": given.name, "datatype": given.datatype, "shape": given.shape}
        if binary:
            tail.append(given.raw())
            one["parameters"] = {SIZE: len(tail[-1])}
        else:
            one["data"] = given.plain()
        listed.append(one)
    written = orjson.dumps({**head, "outputs": listed})
    return b"".join([written, *tail]), len(written) if tail else None
