"""Traces are sent where the settings and OTEL_* say, or refused with a sentence: never silently none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from keepfit.app.http.identity import Ids, accepted
from keepfit.app.tracing import tracer_of
from keepfit.app.wiring import LATE, named
from keepfit.errors import SettingsError
from keepfit.traces import OFF


def test_traces_are_off_unless_asked_for() -> None:
    assert tracer_of(False) is OFF


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "none"}, "says none"),
        ({"OTEL_TRACES_EXPORTER": "pigeon"}, "'pigeon', which is not installed"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "smoke"}, "is unknown"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_a_sentence(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        named(LATE["tracer"])(environ)


SEND = """
from keepfit.app.tracing import tracer_of
tracer = tracer_of(True)
with tracer.span("request", route="/predict"):
    pass
tracer.close()
"""


def test_spans_reach_the_exporter_that_the_environment_names() -> None:
    environ = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    done = subprocess.run([sys.executable, "-c", SEND], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"keepfit.route": "/predict"' in done.stdout
    assert '"service.name": "keepfit"' in done.stdout


def test_a_collector_receives_the_spans_by_otlp(answering: Callable[[Any], AbstractContextManager[str]]) -> None:
    got: list[ExportTraceServiceRequest] = []

    @Request.application
    def collector(request: Request) -> Response:
        assert request.path == "/v1/traces"
        got.append(ExportTraceServiceRequest.FromString(request.get_data()))
        return Response(ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf")

    with answering(make_server("127.0.0.1", 0, collector, threaded=True)) as url:
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url}
        done = subprocess.run([sys.executable, "-c", SEND], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (resource,) = [resource for request in got for resource in request.resource_spans]
    (span,) = [span for scope in resource.scope_spans for span in scope.spans]
    assert span.name == "request"
    assert {fact.key: fact.value.string_value for fact in span.attributes} == {"keepfit.route": "/predict"}
    assert "keepfit" in {fact.value.string_value for fact in resource.resource.attributes}


def test_without_opentelemetry_the_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "keepfit.app.otel", raising=False)
    tracer_of.cache_clear()
    with pytest.raises(SettingsError, match=r"pip install 'keepfit\[otel\]'"):
        tracer_of(True)


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "one\ntwo", "<script>", "-starts-badly"])
def test_an_id_that_is_not_safe_is_replaced(given: str | None) -> None:
    assert accepted(given, Ids()) != given
    assert len(accepted(given, Ids())) == 32


@pytest.mark.parametrize("given", ["7", "req-1:2", "0af76519/16cd43dd", "a" * 128])
def test_a_safe_id_is_kept(given: str) -> None:
    assert accepted(given, Ids()) == given
