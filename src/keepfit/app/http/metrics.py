"""Prometheus metrics: requests as they pass; of the serving room when asked; of the store as it was read aside."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from keepfit.app.http.store_metrics import StoreCollector
from keepfit.app.service import Service
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
        yield from self._answers()
        yield from self._cascades()
        yield from self._versions()
        yield from self._memory()
        yield from self._machine()

    def _engines(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "keepfit_model_traffic_share", "Share of requests by version.", labels=["model", "version"]
        )
        waiting = GaugeMetricFamily("keepfit_queue_contents", "Contents that wait.", labels=["model", "version"])
        sizes = HistogramMetricFamily(
            "keepfit_batch_contents", "Contents in an engine call.", labels=["model", "version"]
        )
        seconds = CounterMetricFamily("keepfit_engine_seconds", "Time in the engine.", labels=["model", "version"])
        used = CounterMetricFamily(
            "keepfit_engine_cpu_seconds", "Processor time that passed during its calls.", labels=["model", "version"]
        )
        ready = GaugeMetricFamily("keepfit_ready", "1 when the model answers as it should.", labels=["model"])
        for name, served in self._service.models.items():
            ready.add_metric([name], float(served.trouble() is None))
            for version, share in served.predictor.live.traffic.shares.items():
                info.add_metric([name, str(version)], share)
            for version, batcher in served.predictor.batchers().items():
                counts = batcher.counts()
                waiting.add_metric([name, str(version)], batcher.waiting())
                seconds.add_metric([name, str(version)], counts.seconds)
                used.add_metric([name, str(version)], counts.cpu_seconds)
                sizes.add_metric([name, str(version)], buckets(counts), counts.contents)
        yield from (info, waiting, sizes, seconds, used, ready)

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

    def _cascades(self) -> Iterator[Metric]:
        on = GaugeMetricFamily(
            "keepfit_cascade_on", "1 while a version's first stage answers.", labels=["model", "version"]
        )
        from_ = GaugeMetricFamily(
            "keepfit_cascade_threshold", "The score from which on it answers.", labels=["model", "version"]
        )
        for name, served in self._service.models.items():
            for version, one in served.predictor.live.models.items():
                threshold = served.predictor.cascade.threshold(one)
                on.add_metric([name, str(version)], float(threshold is not None))
                if threshold is not None:
                    from_.add_metric([name, str(version)], threshold)
        yield from (on, from_)

    def _writer(self) -> Iterator[Metric]:
        writer = self._service.writer
        yield GaugeMetricFamily("keepfit_records_waiting", "Predictions not yet stored.", value=writer.waiting())
        yield CounterMetricFamily("keepfit_records_lost", "Predictions that could not be stored.", value=writer.lost)

    def _streams(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("keepfit_streams", "Cameras with an open session.", value=len(self._service.streams))

    def _answers(self) -> Iterator[Metric]:
        """Counted as they are recorded, the shadows' too."""
        said = CounterMetricFamily(
            "keepfit_predictions",
            "Answers by version and who gave them (model, cache, first, stream); shadow: nobody heard them.",
            labels=["model", "version", "stage", "shadow"],
        )
        for kind, n in self._service.writer.tally.counts().items():
            said.add_metric([kind.model, str(kind.version), kind.stage, str(kind.shadow).lower()], n)
        yield said

    def _versions(self) -> Iterator[Metric]:
        loaded = GaugeMetricFamily("keepfit_version_loaded", "1 for versions in memory.", labels=["model", "version"])
        shadow = GaugeMetricFamily("keepfit_version_shadow", "1 for versions asked aside.", labels=["model", "version"])
        applied = GaugeMetricFamily("keepfit_deployment_applied", "The deployment served here.", labels=["model"])
        for name, served in self._service.models.items():
            live = served.predictor.live
            applied.add_metric([name], live.deployment_id)
            for version in served.predictor.warm():
                loaded.add_metric([name, str(version)], 1.0)
            for version in live.traffic.shadow:
                shadow.add_metric([name, str(version)], 1.0)
        yield from (loaded, shadow, applied)

    def _memory(self) -> Iterator[Metric]:
        files = GaugeMetricFamily("keepfit_model_files_bytes", "Files of every version of a model.", labels=["model"])
        held = GaugeMetricFamily(
            "keepfit_model_resident_bytes", "Estimate: weights of the versions in memory.", labels=["model"]
        )
        rests = GaugeMetricFamily(
            "keepfit_model_unloaded", "1 while nobody asks a model, so that it is not in memory.", labels=["model"]
        )
        asked = GaugeMetricFamily("keepfit_model_asked_timestamp_seconds", "When it was asked last.", labels=["model"])
        for name in self._service.models if self._service.memory is not None else ():
            now = self._service.memory.of(name)  # type: ignore[union-attr]
            files.add_metric([name], now.files_bytes)
            held.add_metric([name], now.resident_bytes)
            rests.add_metric([name], float(now.unloaded))
            if now.asked is not None:
                asked.add_metric([name], now.asked.timestamp())
        yield from (files, held, rests, asked)

    def _machine(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("keepfit_state_free_bytes", "Free on the disk of the state folder.")
        size = GaugeMetricFamily("keepfit_state_size_bytes", "Size of the disk of the state folder.")
        with contextlib.suppress(OSError):  # a folder that is gone is the probes' matter
            disk = shutil.disk_usage(self._service.batches.parent)
            free.add_metric([], disk.free)
            size.add_metric([], disk.total)
        build = GaugeMetricFamily("keepfit_build_info", "The release that answers.", labels=["version"])
        build.add_metric([self._service.version], 1.0)
        yield from (free, size, build)


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
    if service.observed is not None:
        registry.register(StoreCollector(service.observed))
    ProcessCollector(registry=registry)
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
