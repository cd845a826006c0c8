"""Identity of a request: its id in the answer, in every line of the log, and beside what was predicted for it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Literal

from flask import Flask, Response, g, has_request_context, request

from keepfit.data.records import new_id
from keepfit.traces import OFF, Tracer

log = logging.getLogger(__name__)

HEADER = "X-Request-ID"
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+=-]{0,127}")
"""A caller's own id that may be stored and logged as it is."""
QUIET = ("/health/live", "/health/ready", "/metrics")
"""Asked every few seconds by machines."""

TRACE = ("traceparent", "tracestate")
"""Headers by which a caller says to which trace the request belongs."""

AccessLog = Literal["none", "requests", "all"]


def accepted(given: str | None) -> str:
    """The caller's id where it is safe, else a new one.

    >>> accepted("job-17:3")
    'job-17:3'
    """
    return given if given is not None and SAFE.fullmatch(given) else new_id()


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

    def begin() -> None:
        g.request_id = accepted(request.headers.get(HEADER))
        g.began = time.perf_counter()
        rule = request.url_rule.rule if request.url_rule else "unknown"
        g.spans = ExitStack()
        trace = {name: request.headers[name] for name in TRACE if name in request.headers}
        span = tracer.span("request", trace, route=rule, method=request.method, request=g.request_id)
        g.span = g.spans.enter_context(span)

    def end(response: Response) -> Response:
        response.headers[HEADER] = g.get("request_id") or new_id()
        rule = request.url_rule.rule if request.url_rule else "unknown"
        if "span" in g:
            g.span.note(code=response.status_code)
        if access == "all" or (access == "requests" and rule not in QUIET):
            caller = g.get("caller")
            facts = {
                "route": rule, "method": request.method if request.url_rule else "other", "code": response.status_code,
                "seconds": round(time.perf_counter() - g.get("began", time.perf_counter()), 6),
                "model": (request.view_args or {}).get("name"), "caller": getattr(caller, "name", None),
                **g.get("about", {}),
            }  # fmt: skip
            log.info("answered", extra=facts)
        return response

    def over(error: BaseException | None) -> None:
        if (spans := g.pop("spans", None)) is not None:
            spans.close()

    app.before_request(begin)
    app.after_request(end)
    app.teardown_request(over)
