"""Routing: how a handler becomes two routes, the bare one and the one under /models/NAME."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from flask import Response, g, request
from flask_openapi3.openapi import OpenAPI
from pydantic import BaseModel, Field
from werkzeug.exceptions import LengthRequired

from keepfit.app.http.access import Access, Caller, Role
from keepfit.app.http.patience import Bodies, Body
from keepfit.app.http.problems import MEDIA_TYPE, wrong_type
from keepfit.app.service import ServedModel, Service
from keepfit.errors import InvalidInput

OPTIONAL_TOKEN: list[dict[str, list[Any]]] = [{"token": []}, {}]
"""Of OpenAPI: with a token, or without where none is set."""

FORM = "multipart/form-data"

Handler = Callable[..., Any]


class NamePath(BaseModel):
    """The path of a route that addresses one of several models."""

    name: str = Field(description="The model's name.")


class IdPath(BaseModel):
    """The path of a route to one thing."""

    id: str = Field(description="The id that the server gave.")


class NameIdPath(NamePath, IdPath):
    """Both."""


@dataclass(frozen=True)
class Call:
    """What every handler gets: the service, the model that is addressed, and who calls."""

    service: Service
    name: str
    caller: Caller
    named: bool = False
    """Whether the path named the model."""

    @property
    def served(self) -> ServedModel:
        """The addressed model. Raises NotFound."""
        return self.service.model(self.name)


@dataclass(frozen=True)
class Route:
    """One line of a table of routes.

    `handler(call, *, body, query, form, id)` gets those that the route declares, and returns a JSON-able value or a
    Response.
    """

    method: Literal["get", "post", "delete"]
    rule: str
    handler: Handler
    role: Role
    answer: type[BaseModel] | None = None
    """The schema of the answer, for the documents."""
    status: int = 200
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    form: type[BaseModel] | None = None
    upload: Callable[[Call], Any] | None = None
    """Answers instead of the handler where the request is multipart; it reads `upload_form` itself."""
    upload_form: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    """Besides 401, 403, 404, 422, 429 and 503, which every route may answer."""
    whole: bool = False
    """Bare, it speaks of every model that the caller may know."""
    media: dict[str, Any] = field(default_factory=dict)
    """Other content types of the answer, as OpenAPI wants them."""


def add(app: OpenAPI, service: Service, access: Access, route: Route) -> None:
    """Install the route, bare and under /models/NAME."""
    has_id = "<id>" in route.rule
    for named in (False, True):
        path = (NameIdPath if has_id else NamePath) if named else (IdPath if has_id else None)
        view = view_of(service, access, route, path)
        view.__name__ = route.handler.__name__ + ("_of_model" if named else "")
        view.__doc__ = route.handler.__doc__
        rule = f"/models/<name>{route.rule}" if named else route.rule
        method = {"get": app.get, "post": app.post, "delete": app.delete}[route.method]
        method(rule, responses=responses(route), operation_id=view.__name__, security=OPTIONAL_TOKEN)(view)
        app.config["ROLES"][view.__name__] = route


def view_of(service: Service, access: Access, route: Route, path: type[BaseModel] | None) -> Callable[..., Response]:
    """The view function, with the annotations from which flask-openapi3 reads and documents a request."""

    def view(**given: Any) -> Response:
        place = given.pop("path", None)
        if (id_ := getattr(place, "id", None)) is not None:
            given["id"] = id_
        answer = route.handler(call_of(service, getattr(place, "name", None)), **given)
        return answer if isinstance(answer, Response) else json_response(answer, route.status)

    parts = {"path": path, "body": route.body, "query": route.query, "form": route.form}
    view.__annotations__ = {name: kind for name, kind in parts.items() if kind is not None}
    return view


def call_of(service: Service, name: str | None) -> Call:
    """The call to a named model, or to the default one. Raises NotFound."""
    service.model(name or service.default)
    return Call(service, name or service.default, g.caller, name is not None)


def json_response(value: Any, status: int = 200) -> Response:
    """The value as JSON; times as RFC 3339 in UTC."""
    return Response(
        orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS),
        status,
        content_type="application/json",
    )


def responses(route: Route) -> dict[Any, Any]:
    """What the documents say that a route may answer."""
    known: dict[Any, Any] = {
        str(code): {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for code in sorted({401, 403, 404, 422, 429, 500, 503, *route.errors})
    }
    if route.body is not None:
        known |= {str(code): known["422"].copy() for code in (413, 415)}
    known[str(route.status)] = route.answer or {"content": route.media or {"application/json": {}}}
    return known


def guard(app: OpenAPI, service: Service, access: Access) -> None:
    """Before anything is read: may this caller call this, and how much may the body bring?"""

    bodies = Bodies(service.limits.threads)

    def check() -> Response | None:
        route: Route | None = app.config["ROLES"].get(request.endpoint or "")
        if request.endpoint is None:
            return None
        g.caller = access.check(request, route.role if route else "open", addressed(service, route) if route else None)
        if request.content_length != 0:  # only now, and not from those who may not call
            request.environ["wsgi.input"] = Body(request.environ["wsgi.input"], bodies, g.caller.name)
        if route is not None and route.query is None and request.args:
            name = next(iter(request.args))
            raise InvalidInput(f"{name}: this route has no query parameters", name)
        if route is not None and route.form is not None:
            if request.mimetype != FORM:
                raise wrong_type(FORM)
            allow_file(service)
        if route is not None and route.upload is not None and request.mimetype == FORM:
            allow_file(service)
            call = call_of(service, (request.view_args or {}).get("name"))
            return json_response(route.upload(call), route.status)
        return None

    app.before_request(check)


def addressed(service: Service, route: Route) -> str | None:
    """The model that a request is about; None where it is about all."""
    named: str | None = (request.view_args or {}).get("name")
    return named or (None if route.whole else service.default)


def allow_file(service: Service) -> None:
    """Let this request bring a file. Raises LengthRequired when it does not say how long it is."""
    if request.content_length is None:
        raise LengthRequired("say how long the file is: send a Content-Length")
    request.max_content_length = service.limits.file_bytes


def document_uploads(spec: dict[str, Any], routes: Mapping[str, Route]) -> dict[str, Any]:
    """The OpenAPI document, with the multipart form of the routes that take one besides their JSON body."""
    for methods in spec["paths"].values():
        for operation in methods.values():
            route = routes.get(operation.get("operationId", ""))
            if route is not None and route.upload_form is not None:
                operation["requestBody"]["content"][FORM] = {"schema": route.upload_form.model_json_schema()}
    return spec
