"""Prometheus metrics: requests as they pass, everything else read from the serving room when it is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from keepfit.app.service import Service
from keepfit.errors import BackendError
from keepfit.serving.batching import BUCKETS, BatchCounts

LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds in seconds."""


class ServingCollector(Collector):
    """What the predictors and the record writer know about themselves."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> list[Metric]:
        """Nothing in advance: the labels depend on what is deployed."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every family, read now."""
        yield from self._engines()
        yield from self._caches()
        yield from self._writer()
        yield from self._streams()
        yield from self._quality()

    def _engines(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "keepfit_model_traffic_share", "Share of requests by version.", labels=["model", "version"]
        )
        waiting = GaugeMetricFamily("keepfit_queue_contents", "Contents that wait.", labels=["model", "version"])
        sizes = HistogramMetricFamily(
            "keepfit_batch_contents", "Contents in an engine call.", labels=["model", "version"]
        )
        seconds = CounterMetricFamily("keepfit_engine_seconds", "Time in the engine.", labels=["model", "version"])
        ready = GaugeMetricFamily("keepfit_ready", "1 when the model answers as it should.", labels=["model"])
        for name, served in self._service.models.items():
            ready.add_metric([name], float(served.predictor.ready() is None))
            for version, share in served.predictor.live.traffic.shares.items():
                info.add_metric([name, str(version)], share)
            for version, batcher in served.predictor.batchers().items():
                counts = batcher.counts()
                waiting.add_metric([name, str(version)], batcher.waiting())
                seconds.add_metric([name, str(version)], counts.seconds)
                sizes.add_metric([name, str(version)], buckets(counts), counts.contents)
        yield from (info, waiting, sizes, seconds, ready)

    def _caches(self) -> Iterator[Metric]:
        hits = CounterMetricFamily("keepfit_cache_hits", "Answers given again.", labels=["model"])
        misses = CounterMetricFamily("keepfit_cache_misses", "Answers that had to be made.", labels=["model"])
        held = GaugeMetricFamily("keepfit_cache_bytes", "Memory of the answer cache.", labels=["model"])
        for name, served in self._service.models.items():
            cache = served.predictor.cache
            hits.add_metric([name], cache.hits)
            misses.add_metric([name], cache.misses)
            held.add_metric([name], cache.bytes)
        yield from (hits, misses, held)

    def _writer(self) -> Iterator[Metric]:
        writer = self._service.writer
        yield GaugeMetricFamily("keepfit_records_waiting", "Predictions not yet stored.", value=writer.waiting())
        yield CounterMetricFamily("keepfit_records_lost", "Predictions that could not be stored.", value=writer.lost)

    def _streams(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("keepfit_streams", "Cameras with an open session.", value=len(self._service.streams))

    def _quality(self) -> Iterator[Metric]:
        """The realised accuracy of the last check; no sample while no label measures, or while the store is away."""
        accuracy = GaugeMetricFamily(
            "keepfit_accuracy",
            "Realised accuracy on labels asked for, with its 95 % interval.",
            labels=["model", "end"],
        )
        labels = GaugeMetricFamily("keepfit_accuracy_labels", "Labels that it rests on.", labels=["model"])
        for name in self._service.models:
            try:
                found = self._service.store.get(name, "accuracy")
            except BackendError:  # probes say so; the other metrics are still wanted
                continue
            if found is not None:
                for end in ("value", "low", "high"):
                    accuracy.add_metric([name, end], found[end])
                labels.add_metric([name], found["n"])
        yield from (accuracy, labels)


def buckets(counts: BatchCounts) -> list[tuple[str, float]]:
    """Cumulative counts, as Prometheus wants them."""
    total, listed = 0.0, []
    for bound in BUCKETS:
        total += counts.by_size.get(bound, 0)
        listed.append((str(float(bound)), total))
    return [*listed, ("+Inf", float(counts.calls))]


def install(app: Flask, service: Service) -> CollectorRegistry:
    """Count and time every request; returns the registry of this application."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServingCollector(service))
    names = ("route", "method", "code")
    requests = Counter("keepfit_requests", "Requests by route and answer.", names, registry=registry)
    latency = Histogram(
        "keepfit_request_seconds", "Time to the answer.", ("route",), buckets=LATENCIES, registry=registry
    )

    def start() -> None:
        g.started = time.perf_counter()

    def stop(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "unknown"
        requests.labels(route, request.method if request.url_rule else "other", str(response.status_code)).inc()
        latency.labels(route).observe(time.perf_counter() - g.get("started", time.perf_counter()))
        return response

    app.before_request(start)
    app.after_request(stop)
    return registry
