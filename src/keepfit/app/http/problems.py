"""Problem documents (RFC 9457): every error leaves as one, with a sentence and no stack trace."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson
from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, UnsupportedMediaType

from keepfit.data.records import new_id
from keepfit.errors import (
    BackendError,
    Forbidden,
    InvalidInput,
    KeepfitError,
    NotFound,
    Overloaded,
    Refused,
    TooLarge,
)

log = logging.getLogger(__name__)

DRAIN = 64 * 2**20
"""Bytes of a refused body that are read and thrown away at most."""

MEDIA_TYPE = "application/problem+json"

V2 = "/v2"
"""Below it errors have the form of the Open Inference Protocol."""

TITLES = {
    400: "The request is malformed",
    401: "A token is needed",
    403: "The token does not allow this",
    404: "Not found",
    405: "This method is not allowed here",
    408: "The request came too slowly",
    409: "Not possible now",
    411: "The length is missing",
    413: "Too large",
    415: "This content type is not understood",
    422: "The request cannot be understood",
    429: "Too much at once",
    500: "An error of keepfit itself",
    503: "Not available now",
}

STATUS: tuple[tuple[type[KeepfitError], int], ...] = (
    (TooLarge, 413),
    (InvalidInput, 422),
    (NotFound, 404),
    (Refused, 409),
    (Overloaded, 429),
    (BackendError, 503),
)
"""The first that fits; Forbidden is apart, since it may be 401 or 403."""


def problem(status: int, detail: str, field: str | None = None, **more: Any) -> Response:
    """The document as a response. `field` is the culprit's place in the request, such as `examples.3.text`."""
    title = TITLES.get(status, "Error")
    kind = "about:blank" if status not in TITLES else "urn:keepfit:problem:" + title.lower().replace(" ", "-")
    if request.path == V2 or request.path.startswith(f"{V2}/"):
        return Response(orjson.dumps({"error": detail}), status, content_type="application/json")
    body = {"type": kind, "title": title, "status": status, "detail": detail, "field": field, **more}
    return Response(orjson.dumps(body), status, content_type=MEDIA_TYPE)


def of_keepfit(error: KeepfitError) -> Response:
    """One of our own errors."""
    if isinstance(error, Forbidden):
        response = problem(403 if error.known else 401, str(error))
        if not error.known:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response
    status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
    response = problem(status, str(error), error.field if isinstance(error, InvalidInput) else None)
    if isinstance(error, Overloaded):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after))
    if status == 503:
        response.headers["Retry-After"] = "1"
        log.warning("%s %s: %s", request.method, quote(request.path), error)
    return response


def of_http(error: HTTPException) -> Response:
    """An error of the framework: unknown path, wrong method, too large a body."""
    if error.response is not None and isinstance(error.response, Response):
        return error.response
    status = error.code or 500
    if status in (413, 415):
        drain()
    response = problem(status, DETAILS.get(status) or error.description or TITLES.get(status, "Error"))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def drain() -> None:
    """Read on for a while: a client that is still sending would see a broken connection and not the answer."""
    stream, left = request.environ["wsgi.input"], DRAIN
    while left > 0 and (chunk := stream.read(min(2**20, left))):
        left -= len(chunk)


DETAILS: Mapping[int, str] = {
    404: "there is nothing at this path; /docs lists the routes",
    405: "this path does not know this method; see the Allow header and /docs",
    413: "the body is over this server's limit; send fewer texts a call, a file to POST /batches, or a shorter video",
}


def of_validation(error: ValidationError) -> Response:
    """A request that does not fit its schema: the first culprit, and how many more there are."""
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    field = ".".join(str(part) for part in first["loc"]) or None
    more = f" (and {len(others)} more)" if others else ""
    message = SENTENCES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    return problem(422, f"{field}: {message}{more}" if field else f"{message}{more}", field)


SENTENCES: Mapping[str, str] = {
    "extra_forbidden": "this name is unknown here; /docs has the known ones",
    "missing": "this is missing",
    "too_short": "this is empty; it takes one or more",
}
"""Where pydantic's own words help less."""


def of_bug(error: Exception) -> Response:
    """What nobody foresaw: logged with an id, which is all that the caller is told."""
    id_ = new_id()
    log.error("error %s in %s %s", id_, request.method, quote(request.path), exc_info=error)
    return problem(500, f"something went wrong inside keepfit; the server's log has it under {id_}", id=id_)


def wrong_type(wanted: str) -> UnsupportedMediaType:
    """A 415 that says what is wanted."""
    error = UnsupportedMediaType(f"send this with Content-Type: {wanted}, not {request.mimetype or 'none'}")
    return error


def install(app: Flask) -> None:
    """Let every error of the application leave as a problem document."""
    app.register_error_handler(KeepfitError, of_keepfit)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(ValidationError, of_validation)
    app.register_error_handler(Exception, of_bug)
