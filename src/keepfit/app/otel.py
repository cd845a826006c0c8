"""OtelTracer: spans to OpenTelemetry, exported as the OTEL_* environment says; needs the extra `keepfit[otel]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from keepfit import __version__
from keepfit.errors import SettingsError
from keepfit.traces import Fact

EXPORTERS = "opentelemetry_traces_exporter"
"""The group of entry points under which OpenTelemetry's packages offer their exporters."""
PROTOCOLS = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
LONGEST = 200
"""Characters of a fact."""


class OtelSpan:
    """A span of OpenTelemetry."""

    def __init__(self, span: Any) -> None:
        self._span = span

    def note(self, **facts: Fact) -> None:
        """Attributes with the prefix keepfit."""
        self._span.set_attributes(attributes(facts))


class OtelTracer:
    """Spans of keepfit as spans of OpenTelemetry, by a provider of our own: other libraries' traces are theirs."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("keepfit", __version__)

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str] | None = None, **facts: Fact) -> Iterator[OtelSpan]:
        """A child of the span under way in this thread, else of the one that `traceparent` names."""
        under_way = trace.get_current_span().get_span_context().is_valid
        context = None if under_way or headers is None else propagate.extract(headers)
        with self._tracer.start_as_current_span(name, context, attributes=attributes(facts)) as span:
            yield OtelSpan(span)

    def past(self, name: str, began: float, ended: float, **facts: Fact) -> None:
        """With the times that were measured."""
        span = self._tracer.start_span(name, attributes=attributes(facts), start_time=int(began * 1e9))
        span.end(int(ended * 1e9))

    def close(self) -> None:
        """Send what waits, for as long as OTEL_BSP_EXPORT_TIMEOUT allows; spans after this are lost."""
        self._provider.shutdown()


def attributes(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """As OpenTelemetry wants them; a text is cut, for nothing here should be long."""
    return {f"keepfit.{name}": value[:LONGEST] if isinstance(value, str) else value for name, value in facts.items()}


def tracer(environ: Mapping[str, str]) -> OtelTracer:
    """With the exporters of OTEL_TRACES_EXPORTER (otlp unless set; several by commas).

    Raises SettingsError for one that is not installed, and where none is wanted.
    """
    names = [name.strip() for name in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",") if name.strip()]
    if not names or "none" in names:
        raise SettingsError("traces = true, but OTEL_TRACES_EXPORTER says none; set one of them otherwise")
    named = {} if environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: "keepfit"}
    provider = TracerProvider(resource=Resource.create(named))
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(exporter(name, environ)))
    return OtelTracer(provider)


def exporter(name: str, environ: Mapping[str, str]) -> SpanExporter:
    """The exporter of this name. Raises SettingsError with what to install."""
    if name == "otlp":
        own = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        protocol = own or "http/protobuf"
        if protocol not in PROTOCOLS:
            raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol} is unknown; use {' or '.join(PROTOCOLS)}")
        name = PROTOCOLS[protocol]
    for point in entry_points(group=EXPORTERS, name=name):
        made: SpanExporter = point.load()()
        return made
    raise SettingsError(
        f"traces = true needs the exporter {name!r}, which is not installed: pip install 'keepfit[otel]', "
        "or name another one in OTEL_TRACES_EXPORTER"
    )
