"""/v2: the Open Inference Protocol, for clients of KServe, Triton and their like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from flask import Response, request
from flask_openapi3.openapi import OpenAPI

from keepfit.app.http.health import not_ready
from keepfit.app.http.identity import request_id
from keepfit.app.http.inference_schemas import (
    HEADER,
    AllReadyOut,
    InferOut,
    LiveOut,
    ModelOut,
    ModelReadyOut,
    ServerOut,
    VersionPath,
    responses,
)
from keepfit.app.http.predict import ask, refuse_elsewhere
from keepfit.app.http.problems import problem, wrong_type
from keepfit.app.http.reading import whole_body
from keepfit.app.http.routing import OPTIONAL_TOKEN, Call, NamePath, Route, call_of, json_response
from keepfit.app.http.tensors import Asked, Given, read_request, wanted, write_answer
from keepfit.app.service import Service
from keepfit.errors import InvalidInput, NotFound, Refused
from keepfit.serving.predictor import Answer, Request

EXTENSIONS = ("binary_tensor_data",)
TYPES = {
    "label": "BYTES", "score": "FP32", "probabilities": "FP32", "id": "BYTES", "abstained": "BOOL",
    "model_version": "INT32",
}  # fmt: skip
"""The outputs, in their order."""


def install(app: OpenAPI, service: Service) -> None:
    """Add the routes, with who may call each."""

    def server() -> Response:
        """Open Inference Protocol: the server's name, version and extensions."""
        return json_response({"name": "keepfit", "version": service.version, "extensions": EXTENSIONS})

    def live() -> Response:
        """Open Inference Protocol: whether the process runs."""
        return json_response({"live": True})

    def ready() -> Response:
        """Open Inference Protocol: 200 when this process may get traffic, else 503."""
        reasons = not_ready(service)
        return problem(503, "; ".join(reasons)) if reasons else json_response({"ready": True})

    def model(name: str, version: str | None = None) -> Response:
        """Open Inference Protocol: a model's live versions, its input and its outputs."""
        return json_response(metadata(asked_of(service, name, version)))

    def model_ready(name: str, version: str | None = None) -> Response:
        """Open Inference Protocol: 200 when the model answers, else 503."""
        call = asked_of(service, name, version)
        reason = call.served.predictor.ready()
        return problem(503, reason) if reason else json_response({"name": name, "ready": True})

    def infer(name: str, version: str | None = None) -> Response:
        """Open Inference Protocol: classify texts; recorded, limited and routed as by `/predict`."""
        call = asked_of(service, name, version)
        return answer(call, alone(call, version))

    below = "/v2/models/<name>", "/v2/models/<name>/versions/<version>"
    routes = [
        Route("get", "/v2", server, "open", ServerOut),
        Route("get", "/v2/health/live", live, "open", LiveOut),
        Route("get", "/v2/health/ready", ready, "open", AllReadyOut),
        *(Route("get", start, model, "any", ModelOut) for start in below),
        *(Route("get", f"{start}/ready", model_ready, "any", ModelReadyOut) for start in below),
        *(Route("post", f"{start}/infer", infer, "predict", InferOut) for start in below),
    ]
    for route in routes:
        add(app, route)


def add(app: OpenAPI, route: Route) -> None:
    """Install one of them, as it is: below /v2 there is neither a default model nor the prefix /models."""
    of_version = "<version>" in route.rule

    def view(**given: Any) -> Response:
        place = given.get("path")
        answered: Response = route.handler(**({} if place is None else place.model_dump()))
        return answered

    view.__name__ = f"v2_{route.handler.__name__}" + ("_of_version" if of_version else "")
    view.__doc__ = route.handler.__doc__
    view.__annotations__ = {"path": VersionPath if of_version else NamePath} if "<name>" in route.rule else {}
    method = {"get": app.get, "post": app.post}[route.method]
    security = None if route.role == "open" else OPTIONAL_TOKEN
    method(route.rule, responses=responses(route), operation_id=view.__name__, security=security)(view)
    app.config["ROLES"][view.__name__] = route


def asked_of(service: Service, name: str, version: str | None) -> Call:
    """The call to a model. Raises NotFound for one that is not here, or a version that answers nobody now.

    Raises Refused for one that is served elsewhere.
    """
    call = call_of(service, name)
    refuse_elsewhere(call)
    shares = call.served.predictor.live.traffic.shares
    if version is not None and version not in {str(number) for number in shares}:
        live = ", ".join(map(str, sorted(shares))) or "none"
        raise NotFound(f"version {version} of {name!r} is not live; live: {live}")
    return call


def alone(call: Call, version: str | None) -> str | None:
    """The version that must answer. Raises Refused while others share its traffic: keepfit draws who answers what."""
    shares = call.served.predictor.live.traffic.shares
    if version is not None and len(shares) > 1:
        split = ", ".join(f"version {number} {share:.0%}" for number, share in shares.items())
        raise Refused(
            f"a rollout is under way ({split}), and keepfit draws who answers, so that the versions can be compared; "
            f"ask /v2/models/{call.name}/infer"
        )
    return version


def metadata(call: Call) -> dict[str, Any]:
    """What a client may learn of a model."""
    live = call.served.predictor.live
    k = len(live.models[live.main].model.labels) if live.models else -1
    return {
        "name": call.name,
        "versions": [str(number) for number in sorted(live.traffic.shares)],
        "platform": f"keepfit_{call.served.task}",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [-1, k] if name == "probabilities" else [-1]}
            for name, kind in TYPES.items()
        ],
        "parameters": {"labels": list(live.models[live.main].model.labels) if live.models else []},
    }


def answer(call: Call, version: str | None) -> Response:
    """The inference that the request under way asks for."""
    if call.served.task == "video":
        raise Refused(f"the model {call.name!r} is of the task video; send its videos to POST /predict")
    asked = read()
    outputs = wanted(asked.body, list(TYPES))
    answers, answered_by = ask(call, requests_of(asked), "inputs.0")
    if version is not None and answered_by is not None and str(answered_by) != version:
        raise NotFound(f"version {version} of {call.name!r} is not live any more; live: {answered_by}")
    given = tensors(answers)
    head: dict[str, Any] = {"model_name": call.name}
    head |= {} if answered_by is None else {"model_version": str(answered_by)}
    head |= {} if asked.body.id is None else {"id": asked.body.id}
    head |= {"parameters": {"labels": orjson.dumps(classes(answers)).decode()}}
    body, cut = write_answer(head, [(given[name], binary) for name, binary in outputs])
    if cut is None:
        return Response(body, content_type="application/json")
    return Response(body, content_type="application/octet-stream", headers={HEADER: str(cut)})


def read() -> Asked:
    """The request under way. Raises InvalidInput, and 415 for a compressed body."""
    if request.content_encoding not in (None, "", "identity"):
        raise wrong_type("application/json (not compressed)")
    length = request.headers.get(HEADER)
    if length is not None and not (length.isascii() and length.isdigit() and len(length) < 16 and int(length)):
        raise InvalidInput(f"{HEADER} is {length!r}; it must say how many bytes of JSON come first, one at least")
    return read_request(whole_body(request), None if length is None else int(length))


def requests_of(asked: Asked) -> list[Request]:
    """The contents that are asked about."""
    key, by = asked.body.parameters.get("key"), request_id()
    if key is not None and not (isinstance(key, str) and key):
        raise InvalidInput('"key" must be a string', "parameters.key")
    return [Request(content, key=key, field=f"inputs.data.{place}", request=by)
            for place, content in enumerate(asked.contents)]  # fmt: skip


def classes(answers: Sequence[Answer]) -> list[str]:
    """The classes of all answers, which may be of several versions, in the order of the first."""
    return list(dict.fromkeys(label for answer in answers for label in answer.prediction.labels))


def tensors(answers: Sequence[Answer]) -> dict[str, Given]:
    """The answers as outputs by name; a class that a version does not know has the probability 0."""
    known = {label: place for place, label in enumerate(classes(answers))}
    predictions = [answer.prediction for answer in answers]
    probabilities = np.zeros((len(answers), len(known)), np.float32)
    for row, prediction in enumerate(predictions):
        probabilities[row, [known[label] for label in prediction.labels]] = prediction.scores
    values: dict[str, Any] = {
        "label": ["" if one.abstained else one.prediction.label for one in answers],
        "score": probabilities.max(axis=1),
        "probabilities": probabilities,
        "id": [prediction.id for prediction in predictions],
        "abstained": np.array([one.abstained for one in answers], np.bool_),
        "model_version": np.array([prediction.model_version for prediction in predictions], np.int32),
    }
    return {name: Given(name, TYPES[name], value) for name, value in values.items()}
