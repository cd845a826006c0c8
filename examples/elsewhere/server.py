"""A server that is not keepfit's: Flask, its own first model, and later what keepfit hands over through MLflow.

    python server.py --port 5001 --keepfit http://127.0.0.1:8080 --tracking sqlite:////path/.keepfit/mlflow.db

HOOK_SECRET in the environment is the secret of `[models.reviews.hand_over]`.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import os
from collections.abc import Callable, Mapping

import mlflow
from flask import Flask, Response, jsonify, request
from reporting import Reporter
from werkzeug.serving import make_server

Classify = Callable[[str], Mapping[str, float]]


def own_model(text: str) -> Mapping[str, float]:
    """Stands for the model that you have: a transformers pipeline, a scikit-learn model, anything."""
    negative = text.split(maxsplit=1)[0].lower() in {"bad", "poor"}
    return {"neg": 0.9, "pos": 0.1} if negative else {"neg": 0.1, "pos": 0.9}


def from_registry(uri: str) -> Classify:
    """A version that keepfit made, as any MLflow model."""
    model = mlflow.pyfunc.load_model(uri)

    def classify(text: str) -> Mapping[str, float]:
        row = model.predict([text]).iloc[0]
        return {name.removeprefix("p_"): float(row[name]) for name in row.index if name.startswith("p_")}

    return classify


def make(keepfit: str, secret: str) -> Flask:
    """The application. What answers is one pair (version, model), so no answer mixes two."""
    app, reports = Flask(__name__), Reporter(f"{keepfit}/models/reviews/predictions")
    live: list[tuple[str, Classify]] = [("own-2026-01", own_model)]

    @app.post("/classify")
    def classify() -> Response:
        version, model = live[0]
        text = request.get_json()["text"]
        chances = model(text)
        id_ = reports.report(text, chances, version)
        return jsonify(id=id_, label=max(chances, key=lambda label: chances[label]), version=version)

    @app.post("/hooks/keepfit")
    def taken_over() -> tuple[str, int]:
        wanted = "sha256=" + hmac.new(secret.encode(), request.get_data(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, request.headers.get("X-Keepfit-Signature", "")):
            return "the signature is wrong", 401
        told = request.get_json()
        uri = told["mlflow_uri"]
        # a version without a URI is one of our own, which keepfit goes back to; loaded before it is acknowledged
        live[0] = (told["version"], own_model) if uri is None else (uri, from_registry(uri))
        return "", 204

    return app


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--keepfit", default="http://127.0.0.1:8080")
    parser.add_argument("--tracking", required=True)
    given = parser.parse_args()
    mlflow.set_tracking_uri(given.tracking)
    app = make(given.keepfit, os.environ["HOOK_SECRET"])
    make_server("127.0.0.1", given.port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
