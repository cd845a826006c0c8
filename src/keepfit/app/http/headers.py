"""Headers that every answer carries: what a browser may do with it, and that nobody keeps a copy."""

from __future__ import annotations

import base64
import hashlib

from flask import Flask, Response, request

from keepfit.app.http.health import STYLE

CONSOLE = "/console/"
NOTHING = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
"""For data: a browser that shows it as a page loads, runs and sends nothing."""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
PAGE = f"{NOTHING}; style-src 'sha256-{STYLE_HASH}'"
"""For /docs: its own style and nothing else."""
APPLICATION = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'self'; form-action 'self'"
)
"""For the console: what Dash needs, from this server alone. A stricter one that the answer brings stays."""
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}


def add(response: Response) -> Response:
    """The answer with its headers; those that it brings itself stay."""
    path = request.path
    console = path.startswith(CONSOLE)
    policy = APPLICATION if console else PAGE if path == "/docs" else NOTHING
    wanted = {**ALWAYS, "Content-Security-Policy": policy}
    if not (console and request.endpoint is not None and response.mimetype in STATIC):
        wanted["Cache-Control"] = "no-store"
    brought = {name.lower() for name, _ in response.headers}
    # `setdefault` of each would look for it by an exception: a tenth of what Flask costs for a request
    response.headers.extend({name: value for name, value in wanted.items() if name.lower() not in brought})
    return response


STATIC = frozenset(
    {"text/javascript", "application/javascript", "text/css", "image/svg+xml", "image/png", "font/woff2"}
)
"""Of the console, what is the same for everyone and may be kept."""


def install(app: Flask) -> None:
    """Give them to every answer of the application, errors too."""
    app.after_request(add)
