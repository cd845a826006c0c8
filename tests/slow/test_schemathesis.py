"""Whatever the OpenAPI document allows or forbids, no request makes the server fail or leave its document."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keepfit.app.server import TABLE, create_app
from keepfit.app.service import ServedModel, Service
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore
from keepfit.serving.predictor import Predictor
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def load(version: int) -> ToyModel:
    return ToyModel(["bad", "good"], {"love": "good"}, [0.5, 0.5])


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder: Path = tmp_path_factory.mktemp("service")
    clock = ManualClock(datetime(2025, 1, 1, tzinfo=UTC))
    with RecordStore.open(f"sqlite:///{folder / 'keepfit.db'}") as store:
        writer = RecordWriter(store)
        predictor = Predictor("reviews", store, load, writer, clock)
        for version in (1, 2, 3):
            clock.advance(timedelta(minutes=1))
            deployment = store.deploy("reviews", Traffic({version: 1.0}), Cause("a test", "to go back"), clock.now())
            store.applied(deployment.id, "server", clock.now())
        models = {"reviews": ServedModel(predictor, "toy")}
        refresher = Refresher([predictor], interval_s=60)
        service = Service(store, models, "reviews", writer, refresher, clock, "0.1.0", folder / "batches")
        service.start()
        yield create_app(service)
        service.close()


BELOW = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
OPEN_INFERENCE = [
    *(("get", path) for path in ("/v2", "/v2/health/live", "/v2/health/ready")),
    *(("get", f"{start}{end}") for start in BELOW for end in ("", "/ready")),
    *(("post", f"{start}/infer") for start in BELOW),
]


@pytest.mark.parametrize(
    ("method", "path"), [*((r.method, r.rule.replace("<id>", "{id}")) for r in TABLE), *OPEN_INFERENCE]
)
def test_no_request_makes_the_server_fail(app: Flask, method: str, path: str) -> None:
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    here = {"name": "reviews", "version": "3"}  # others are not found, which says little

    @given(case=document[path][method].as_strategy())
    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    def check(case: schemathesis.Case) -> None:
        case.path_parameters |= {name: here[name] for name in case.path_parameters if name in here}
        case.call_and_validate(checks=CHECKS)

    check()


def test_the_document_is_valid_and_complete(app: Flask) -> None:
    document = app.test_client().get("/openapi.json").json or {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], f"{method} {path} has no summary"
            assert "422" in operation["responses"]


def test_a_file_may_be_handed_in(app: Flask) -> None:
    posted = app.test_client().post("/batches", data={"file": (io.BytesIO(b"text\nlove\n"), "a.csv")})
    assert posted.status_code == 202
