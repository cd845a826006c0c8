"""What every tracer keeps to, the shipped fake and OpenTelemetry's alike."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from keepfit.app.otel import OtelTracer
from keepfit.traces import OFF, MemoryTracer, Tracer

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass(frozen=True)
class Kept:
    """A span that was kept, in plain words."""

    name: str
    parent: str | None
    began: float
    ended: float
    facts: dict[str, Any]
    failed: bool


@dataclass(frozen=True)
class Kind:
    tracer: Tracer
    kept: Callable[[], list[Kept]]


def fake() -> Kind:
    tracer = MemoryTracer()

    def kept() -> list[Kept]:
        return [
            Kept(s.name, s.parent, s.began, s.ended or 0.0, s.facts, s.error is not None)
            for s in sorted(tracer.spans, key=lambda s: s.began)
        ]

    return Kind(tracer, kept)


def opentelemetry() -> Kind:
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))

    def kept() -> list[Kept]:
        spans = sorted(memory.get_finished_spans(), key=lambda s: s.start_time)
        names = {s.context.span_id: s.name for s in spans}
        return [
            Kept(
                s.name,
                None if s.parent is None else names.get(s.parent.span_id, CALLER),
                s.start_time / 1e9,
                s.end_time / 1e9,
                {name.removeprefix("keepfit."): value for name, value in s.attributes.items()},
                not s.status.is_ok and s.status.description is not None,
            )
            for s in spans
        ]

    return Kind(OtelTracer(provider), kept)


@pytest.fixture(params=[fake, opentelemetry])
def kind(request: pytest.FixtureRequest) -> Kind:
    made: Kind = request.param()
    return made


def test_a_span_inside_another_is_its_child(kind: Kind) -> None:
    with kind.tracer.span("request", route="/predict"):
        with kind.tracer.span("tokenise"):
            pass
        with kind.tracer.span("record"):
            pass
    assert [(s.name, s.parent) for s in kind.kept()] == [
        ("request", None), ("tokenise", "request"), ("record", "request"),
    ]  # fmt: skip
    assert kind.kept()[0].facts == {"route": "/predict"}


def test_a_span_ends_with_its_block_also_when_that_raises(kind: Kind) -> None:
    with pytest.raises(ValueError, match="bad"), kind.tracer.span("infer"):
        raise ValueError("bad")
    with kind.tracer.span("next"):
        pass
    first, second = kind.kept()
    assert first.failed
    assert first.ended >= first.began
    assert second.parent is None


def test_facts_may_be_added_while_it_is_under_way(kind: Kind) -> None:
    with kind.tracer.span("request", method="POST") as span:
        span.note(code=200)
    assert kind.kept()[0].facts == {"method": "POST", "code": 200}


def test_what_was_measured_before_keeps_its_times_and_its_parent(kind: Kind) -> None:
    with kind.tracer.span("request"):
        kind.tracer.past("queue", 1000.0, 1000.25, contents=3)
    queue = next(s for s in kind.kept() if s.name == "queue")
    assert (queue.began, queue.ended) == pytest.approx((1000.0, 1000.25))
    assert (queue.parent, queue.facts) == ("request", {"contents": 3})


def test_a_caller_s_trace_goes_on(kind: Kind) -> None:
    with kind.tracer.span("request", {"traceparent": CALLER}):
        pass
    assert kind.kept()[0].parent == CALLER


def test_threads_do_not_see_each_other_s_spans(kind: Kind) -> None:
    def aside() -> None:
        with kind.tracer.span("aside"):
            pass

    with kind.tracer.span("request"):
        thread = threading.Thread(target=aside)
        thread.start()
        thread.join()
    assert next(s for s in kind.kept() if s.name == "aside").parent is None


def test_without_traces_nothing_is_kept_and_nothing_fails() -> None:
    with OFF.span("request") as span:
        span.note(code=200)
        OFF.past("queue", 0.0, 1.0)
    OFF.close()
