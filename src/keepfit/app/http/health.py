"""Probes, metrics, and the pages that say what there is."""

from __future__ import annotations

from collections.abc import Collection
from html import escape

from flask import Flask, Response, redirect
from flask_openapi3.openapi import OpenAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from werkzeug.wrappers import Response as BaseResponse

from keepfit.app.http.problems import problem
from keepfit.app.http.routing import json_response
from keepfit.app.service import Service
from keepfit.errors import BackendError


def install(app: OpenAPI, service: Service, registry: CollectorRegistry) -> None:
    """Add the routes that concern the process, not a model."""

    def live() -> Response:
        """Whether the process runs; never asks anything else."""
        return json_response({"live": True})

    def ready() -> Response:
        """200 when this process may get traffic; otherwise 503 with the reasons."""
        return readiness(service, not_ready(service))

    def ready_of_model(name: str) -> Response:
        """200 when this model answers here (an unloaded one does: the next request loads it); otherwise 503."""
        trouble = service.model(name).trouble()
        return readiness(service, [] if trouble is None else [trouble], [name])

    def metrics() -> Response:
        """Counters and measures in the text form of Prometheus."""
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    def openapi() -> Response:
        """The OpenAPI document of every route."""
        return json_response(app.api_doc)

    def docs() -> Response:
        """A page that lists the routes; it loads nothing from elsewhere."""
        return Response(page(app), content_type="text/html; charset=utf-8")

    def root() -> BaseResponse:
        """Leads to `/docs`."""
        return redirect("/docs")

    for rule, view in (("/health/live", live), ("/health/ready", ready), ("/metrics", metrics)):
        Flask.add_url_rule(app, rule, view.__name__, view)
    Flask.add_url_rule(app, "/models/<name>/health/ready", ready_of_model.__name__, ready_of_model)
    for rule, view in (("/openapi.json", openapi), ("/docs", docs)):
        Flask.add_url_rule(app, rule, view.__name__, view)
    Flask.add_url_rule(app, "/", "root", root)


def readiness(service: Service, reasons: list[str], names: Collection[str] | None = None) -> Response:
    """Ready or not, and which of these models (None: of all) are unloaded until somebody asks."""
    if reasons:
        return problem(503, "; ".join(reasons), reasons=reasons)
    models = service.models if names is None else names
    unloaded = sorted(name for name in models if service.models[name].predictor.rest.asleep)
    return json_response({"ready": True, **({"unloaded": unloaded} if unloaded else {})})


def not_ready(service: Service) -> list[str]:
    """Why this process should get no traffic."""
    reasons = service.trouble()
    try:
        service.store.ping()
    except BackendError as error:
        reasons.append(str(error))
    return reasons


STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h2{font-size:1.1rem;margin:1.6rem 0 .2rem}code,pre{background:#f3f4f6;border-radius:4px;padding:.1rem .3rem}
pre{padding:.6rem;overflow:auto}.m{display:inline-block;min-width:3.2rem;font-weight:600}p{margin:.2rem 0}"""


def page(app: OpenAPI) -> str:
    """The routes in plain HTML, made from the OpenAPI document; it loads nothing from elsewhere."""
    spec = app.api_doc
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>keepfit</title><style>{STYLE}</style>",
        f"<h1>keepfit {escape(spec['info']['version'])}</h1>",
        "<p>The full description is at <a href=/openapi.json>/openapi.json</a>. "
        "Each route that is not below <code>/v2</code> is there under <code>/models/NAME</code>, too.</p>",
        "<pre>curl -X POST /predict -H 'Content-Type: application/json' "
        '-d \'{"text": ["I love this product!"]}\'</pre>',
    ]
    for path, methods in sorted(spec["paths"].items()):
        if not path.startswith("/models/"):
            parts += [entry(path, method, operation) for method, operation in methods.items()]
    return "\n".join(parts)


def entry(path: str, method: str, operation: dict[str, object]) -> str:
    """One route."""
    summary = escape(str(operation.get("summary", "")))
    more = escape(str(operation.get("description", "")).replace("<br/>", " ").strip())
    return f"<h2><span class=m>{method.upper()}</span> <code>{escape(path)}</code></h2><p>{summary}</p><p>{more}</p>"
