"""Identity of a request: its id in the answer, in every line of the log, and beside what was predicted for it."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal

from flask import Flask, Request, Response, g, has_request_context, request

from keepfit.traces import OFF, Tracer

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
KEY = "HTTP_X_REQUEST_ID"
"""The same in WSGI's environment."""
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")
"""A caller's own id that may be stored and logged as it is."""
QUIET = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds by machines."""

TRACE = ("traceparent", "tracestate")
"""Headers by which a caller says to which trace the request belongs."""

AccessLog = Literal["none", "requests", "all"]


class Ids:
    """Random for the application, counted within it: the system's randomness costs too much for each request."""

    def __init__(self) -> None:
        self._prefix, self._numbers = secrets.token_hex(12), itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}{next(self._numbers):08x}"


def accepted(given: str | None, fresh: Callable[[], str]) -> str:
    """The caller's id where it is safe, else a new one.

    >>> accepted("job-17:3", Ids())
    'job-17:3'
    """
    return given if given is not None and SAFE.fullmatch(given) else fresh()


def request_id() -> str | None:
    """Of the request under way; None outside of one."""
    found: str | None = g.get("request_id") if has_request_context() else None
    return found


def known() -> Mapping[str, Any]:
    """For the log: the request under way."""
    found = request_id()
    return {} if found is None else {"request": found}


def about(model: str, version: int | None) -> None:
    """What this request's line in the access log is about."""
    g.about = {"model": model, "version": version}


def install(app: Flask, access: AccessLog, tracer: Tracer = OFF) -> None:
    """Give every request an id and a span before anything else, and write the access log."""

    ids = Ids()

    def begin() -> None:
        # the objects behind Flask's proxies: each use of a proxy costs a microsecond
        here, asked = g._get_current_object(), request._get_current_object()  # type: ignore[attr-defined]
        here.request_id = accepted(asked.environ.get(KEY), ids)
        here.began = time.perf_counter()

    def end(response: Response) -> Response:
        here, asked = g._get_current_object(), request._get_current_object()  # type: ignore[attr-defined]
        response.headers[HEADER] = here.get("request_id") or ids()
        rule = asked.url_rule.rule if asked.url_rule else "unknown"
        if access == "all" or (access == "requests" and rule not in QUIET):
            tell(facts(here, asked, rule, response.status_code))
        return response

    app.before_request(begin)
    app.after_request(end)
    if tracer is not OFF:
        traced(app, tracer)


def tell(said: Mapping[str, Any]) -> None:
    """A line; without looking for who calls, which costs as much as all the rest of it."""
    if log.isEnabledFor(logging.INFO):
        record = logging.LogRecord(log.name, logging.INFO, __file__, 0, "answered", (), None)
        record.__dict__.update(said)
        log.handle(record)


def facts(here: Any, asked: Request, rule: str, code: int) -> dict[str, Any]:
    """What the access log says of a request."""
    return {
        "request": here.get("request_id"),
        "route": rule,
        "method": asked.method if asked.url_rule else "other",
        "code": code,
        "seconds": round(time.perf_counter() - here.get("began", time.perf_counter()), 6),
        "model": (asked.view_args or {}).get("name"),
        "caller": getattr(here.get("caller"), "name", None),
        **here.get("about", {}),
    }


def traced(app: Flask, tracer: Tracer) -> None:
    """Every request is a span, and those of its parts are its children."""

    def begin() -> None:
        trace = {name: request.headers[name] for name in TRACE if name in request.headers}
        rule = request.url_rule.rule if request.url_rule else "unknown"
        g.spans = ExitStack()
        span = tracer.span("request", trace, route=rule, method=request.method, request=g.request_id)
        g.span = g.spans.enter_context(span)

    def end(response: Response) -> Response:
        if "span" in g:
            g.span.note(code=response.status_code)
        return response

    def over(error: BaseException | None) -> None:
        if (spans := g.pop("spans", None)) is not None:
            spans.close()

    app.before_request(begin)
    app.after_request(end)
    app.teardown_request(over)
