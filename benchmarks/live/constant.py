"""What a route can do at most: Flask on Granian answering a constant, or keepfit's own stack doing so.

python -m benchmarks.live.constant PORT plain|PROJECT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask, request
from granian import Granian
from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels

from keepfit.app import server
from keepfit.app.http import predict
from keepfit.app.http.routing import Call
from keepfit.app.http.schemas import PredictBody
from keepfit.app.serving import make

ANSWER = {
    "predictions": [
        {
            "id": "0" * 32, "example_id": "0" * 32, "label": "positive", "score": 0.987654,
            "probabilities": {"negative": 0.012346, "positive": 0.987654}, "model_version": 1, "abstained": False,
        }
    ],
    "model_version": 1,
}  # fmt: skip


def plain() -> Flask:
    """The least that Flask does for a JSON route."""
    app = Flask("constant")

    @app.post("/predict")
    def answer() -> dict[str, Any]:
        assert request.get_json()["text"]
        return ANSWER

    return app


def constant(call: Call, body: PredictBody) -> Any:
    """Instead of a prediction, once the request is read as any other."""
    predict.read_requests(body)
    return ANSWER


def main() -> None:
    """Serve until killed."""
    port, what = int(sys.argv[1]), sys.argv[2]
    if what != "plain":
        routes = tuple(replace(route, handler=constant) for route in predict.ROUTES)
        server.TABLE = (*routes, *(route for route in server.TABLE if route not in predict.ROUTES))
        server.serve(partial(make, Path(what)), "127.0.0.1", port)
        return
    Granian(
        "constant", address="127.0.0.1", port=port, interface=Interfaces.WSGI, http=HTTPModes.http1, workers=1,
        blocking_threads=32, backpressure=128, log_level=LogLevels.error,
    ).serve(target_loader=lambda *_: plain(), wrap_loader=False)  # fmt: skip


if __name__ == "__main__":
    main()
