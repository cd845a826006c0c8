"""What the routes below /v2 answer, and their entries in the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from keepfit.app.http.problems import V2
from keepfit.app.http.routing import NamePath, Route
from keepfit.app.http.tensors import SIZE, InferBody

HEADER = "Inference-Header-Content-Length"
JSON, BYTES = "application/json", "application/octet-stream"
WHOLE = {"schema": {"type": "string", "format": "binary"}}
"""Of OpenAPI: JSON, and the binary data of tensors behind it."""
LENGTH = {
    "name": HEADER, "in": "header", "required": False, "schema": {"type": "integer", "minimum": 1},
    "description": "How many bytes of JSON come first, where the data of tensors follow it.",
}  # fmt: skip

Datatype = Literal["BYTES", "FP32", "BOOL", "INT32"]


class VersionPath(NamePath):
    """The path of a route to one version."""

    version: str = Field(description="The version's number; it must be live.")


class ServerOut(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class LiveOut(BaseModel):
    """The process runs."""

    live: bool


class AllReadyOut(BaseModel):
    """The process may get traffic."""

    ready: bool


class ModelReadyOut(AllReadyOut):
    """The model answers."""

    name: str


class TensorOut(BaseModel):
    """An input or an output."""

    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1: any, as many as there are texts.")


class ModelParametersOut(BaseModel):
    """What the protocol has no place for."""

    labels: list[str] = Field(description="The classes, in the order of `probabilities`.")


class ModelOut(BaseModel):
    """A model: its live versions, its input and its outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorOut]
    outputs: list[TensorOut]
    parameters: ModelParametersOut


class AnswerTensorOut(BaseModel):
    """An output with its data, flattened by rows; or their size, where they follow the JSON."""

    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, int] | None = Field(None, description=f"`{SIZE}`: bytes behind the JSON.")
    data: list[str | bool | float] | None = None


class InferParametersOut(BaseModel):
    """What the protocol has no place for."""

    labels: str = Field(description="The classes, in the order of `probabilities`, as a list in JSON.")


class InferOut(BaseModel):
    """The answers to all texts, output by output."""

    model_name: str
    model_version: Annotated[str | None, Field(description="Missing where several versions answered.")] = None
    id: str | None = Field(None, description="As in the request.")
    parameters: InferParametersOut
    outputs: list[AnswerTensorOut]


class ErrorOut(BaseModel):
    """The form of an error below /v2."""

    error: str


def responses(route: Route) -> dict[Any, Any]:
    """What the document says that a route may answer."""
    codes = {422, 500, 503} if route.role == "open" else {401, 403, 404, 409, 422, 429, 500, 503}
    codes |= {413, 415} if route.method == "post" else set()
    return {str(route.status): route.answer, **{str(code): ErrorOut for code in sorted(codes)}}


def document(spec: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI document with what `infer` reads by itself: JSON of any content type, or JSON and bytes."""
    schema = InferBody.model_json_schema(ref_template="#/components/schemas/{model}")
    spec["components"]["schemas"] |= {**schema.pop("$defs"), InferBody.__name__: schema}
    for path, methods in spec["paths"].items():
        if path.startswith(f"{V2}/") and path.endswith("/infer"):
            operation = methods["post"]
            reference = {"schema": {"$ref": f"#/components/schemas/{InferBody.__name__}"}}
            operation["requestBody"] = {"required": True, "content": {JSON: reference, BYTES: WHOLE}}
            operation["parameters"] = [*(one for one in operation["parameters"] if one["in"] == "path"), LENGTH]
            operation["responses"]["200"]["content"][BYTES] = WHOLE
    return spec
