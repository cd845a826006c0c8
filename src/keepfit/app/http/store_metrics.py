"""Metrics of what is in the store: from the last reading of `Observed`, so that a scrape asks no database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from keepfit.alerts.alerts import AlertKind
from keepfit.app.observing import Observed, Seen
from keepfit.data.records import JobState
from keepfit.data.tallies import LAGS, Lags
from keepfit.decision import Outcome

MOST = 30
"""Values of a label that others have a say in; the rest is added up as `other`."""
ENDED = frozenset({"done", "failed"})
SUBJECTS = ("trigger", "gate", "rollout", "retrain")
KNOWN = frozenset({*SUBJECTS, *AlertKind})
ALERTED = (Outcome.PASS, Outcome.HOLD, Outcome.FAIL)


class StoreCollector(Collector):
    """Every family, from what was seen last; families without a sample while nothing was seen."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def describe(self) -> list[Metric]:
        """Nothing in advance: the labels depend on what is stored."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All that is known."""
        seen = self._observed.seen
        yield CounterMetricFamily(
            "keepfit_observed_failures", "Readings of the store for these metrics that failed.",
            value=self._observed.misses,
        )  # fmt: skip
        for family in (quality, labels, decisions, jobs, costs, worker, reading):
            yield from family(seen)


Family = Callable[[Seen | None], Iterator[Metric]]


def quality(seen: Seen | None) -> Iterator[Metric]:
    """How good the model is, as the last check measured it."""
    accuracy = gauge("accuracy", "Realised accuracy on labels asked for, with its 95 % interval.", "model", "end")
    resting = gauge("accuracy_labels", "Labels that the accuracy rests on.", "model")
    value = gauge("measurement", "What the last check measured, with its interval.", "model", "name", "end")
    breached = gauge("measurement_breached", "1 where it was beyond its limit.", "model", "name")
    checked = gauge("check_timestamp_seconds", "When the last check was made.", "model")
    wanted = gauge("deployment_wanted", "The number of the newest deployment in the store.", "model")
    deployed = gauge("deployment_timestamp_seconds", "When it was made.", "model")
    for name, model in seen.models.items() if seen else ():
        if model.accuracy is not None:
            for end in ("value", "low", "high"):
                accuracy.add_metric([name, end], model.accuracy[end])
            resting.add_metric([name], model.accuracy["n"])
        for one in model.measurements:
            for end in ("value", "low", "high"):
                if one[end] is not None:
                    value.add_metric([name, one["name"], end], one[end])
            breached.add_metric([name, one["name"]], float(one["breached"]))
        wanted.add_metric([name], model.deployment)
        stamp(deployed, [name], model.deployed)
        stamp(checked, [name], model.checked)
    yield from (accuracy, resting, value, breached, checked, wanted, deployed)


def labels(seen: Seen | None) -> Iterator[Metric]:
    """The truth that comes later, and how much later."""
    total = counter("labels", "Labels in the store by source.", "model", "source")
    lag = HistogramMetricFamily(
        "keepfit_label_lag_seconds",
        "From an answer to its label, since the server's start.",
        labels=["model", "source"],
    )
    waiting = gauge("labels_asked_waiting", "Labels that were asked for and have not come.", "model")
    oldest = gauge("labels_asked_oldest_timestamp_seconds", "When the oldest of them was asked for.", "model")
    if seen is not None:
        for key, n in seen.tallies.labels.counts.items():
            total.add_metric(key, n)
        for pair, lags in seen.tallies.lags.items():
            lag.add_metric(pair, lag_buckets(lags), lags.seconds)
        for name in seen.models:
            n, since = seen.tallies.asked.get(name, (0, None))
            waiting.add_metric([name], n)
            stamp(oldest, [name], since)
    yield from (total, lag, waiting, oldest)


def decisions(seen: Seen | None) -> Iterator[Metric]:
    """Judgements, alarms, and what versions could not do."""
    decided = counter("decisions", "Stored decisions by what was judged, and outcome.", "model", "subject", "outcome")
    alerted = counter(
        "alerts", "Alerts by kind: pass was sent, hold waits for a summary, fail missed somebody.",
        "model", "kind", "outcome",
    )  # fmt: skip
    failed = counter("failures", "What versions could not do, by kind.", "model", "version", "kind")
    all_failed = counter("model_failures", "Failures of all versions together.", "model")
    if seen is not None:
        fill(decided, {**from_zero(seen.models, SUBJECTS, Outcome), **seen.tallies.decided()}, 1)
        fill(alerted, {**from_zero(seen.models, AlertKind, ALERTED), **seen.tallies.alerted()}, 1)
        fill(failed, newest_versions(seen.tallies.failures), 2)
        for name in seen.models:
            all_failed.add_metric([name], sum(n for key, n in seen.tallies.failures.items() if key[0] == name))
    yield from (decided, alerted, failed, all_failed)


def jobs(seen: Seen | None) -> Iterator[Metric]:
    """Retrainings and files."""
    open_ = gauge("jobs", "Jobs that wait or run.", "model", "kind", "state")
    ended = counter("jobs_finished", "Jobs that are done or failed.", "model", "kind", "state")
    last = gauge("retraining_timestamp_seconds", "When the last retraining ended, by how.", "model", "state")
    if seen is not None:
        found = from_zero(seen.models, ("retrain",), JobState)
        for key, n in {**found, **seen.tallies.jobs}.items():
            (ended if key[2] in ENDED else open_).add_metric(key, n)
        for pair, at in seen.tallies.finished.items():
            stamp(last, list(pair), at)
    yield from (open_, ended, last)


def costs(seen: Seen | None) -> Iterator[Metric]:
    """What was spent."""
    spent = counter(
        "spent_seconds", "Seconds spent on retrain, tune, compress, batch and serve; of the clock, cores or GPUs.",
        "model", "kind", "resource",
    )  # fmt: skip
    month = gauge("month_cost", "What this month has cost so far, where prices are set.", "currency")
    budget = gauge("month_budget", "What a month may cost, where it is set.", "currency")
    if seen is not None:
        for (model, kind), amounts in seen.tallies.spent.items():
            for resource, seconds in zip(("wall", "cpu", "gpu"), amounts, strict=True):
                spent.add_metric([model, kind, resource], seconds)
        if seen.money is not None and seen.money.spent is not None:
            month.add_metric([seen.money.currency], seen.money.spent)
            if seen.money.budget is not None:
                budget.add_metric([seen.money.currency], seen.money.budget)
    yield from (spent, month, budget)


def worker(seen: Seen | None) -> Iterator[Metric]:
    """The other process."""
    beat = gauge("worker_beat_timestamp_seconds", "The worker's last sign of life.")
    started = gauge("worker_start_time_seconds", "When the worker started.")
    memory = gauge("worker_resident_bytes", "Memory of the worker.")
    used = counter("worker_cpu_seconds", "Processor time of the worker and its ended children.")
    if seen is not None:
        stamp(beat, [], seen.worker)
        if seen.process is not None:
            started.add_metric([], seen.process["started"])
            memory.add_metric([], seen.process["resident_bytes"])
            used.add_metric([], seen.process["cpu_seconds"])
    yield from (beat, started, memory, used)


def reading(seen: Seen | None) -> Iterator[Metric]:
    """How old all this is."""
    at = gauge("observed_timestamp_seconds", "When the figures from the store were read.")
    took = gauge("observed_read_seconds", "How long reading them took.")
    if seen is not None:
        stamp(at, [], seen.at)
        took.add_metric([], seen.seconds)
    yield from (at, took)


def gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    """A family without samples yet."""
    return GaugeMetricFamily(f"keepfit_{name}", words, labels=list(labels))


def counter(name: str, words: str, *labels: str) -> CounterMetricFamily:
    """A family without samples yet."""
    return CounterMetricFamily(f"keepfit_{name}", words, labels=list(labels))


def stamp(family: GaugeMetricFamily, labels: list[str], at: datetime | None) -> None:
    """A moment as seconds since 1970, where there is one."""
    if at is not None:
        family.add_metric(labels, at.timestamp())


def from_zero(models: Iterable[str], first: Iterable[str], second: Iterable[str]) -> dict[tuple[str, str, str], int]:
    """Zeros for what may happen: Prometheus sees no increase where a count begins at one."""
    return {(model, str(a), str(b)): 0 for model in models for a in first for b in second}


def fill(family: CounterMetricFamily, counts: Mapping[tuple[str, str, str], int], place: int) -> None:
    """The samples; beyond MOST values at this place, the rest is added up as `other`."""
    values = sorted({key[place] for key in counts}, key=lambda value: (value not in KNOWN, value))
    known = set(values[:MOST])
    bounded: dict[tuple[str, ...], int] = {}
    for key, n in counts.items():
        short = key if key[place] in known else (*key[:place], "other", *key[place + 1 :])
        bounded[short] = bounded.get(short, 0) + n
    for short, n in sorted(bounded.items()):
        family.add_metric(short, n)


def newest_versions(failures: Mapping[tuple[str, str, str], int]) -> dict[tuple[str, str, str], int]:
    """Of each model the MOST newest versions; older ones are added up as `older`."""
    found: dict[tuple[str, str, str], int] = {}
    for model in {key[0] for key in failures}:
        kept = set(sorted({int(key[1]) for key in failures if key[0] == model})[-MOST:])
        for (_, version, kind), n in ((key, n) for key, n in failures.items() if key[0] == model):
            short = (model, version if int(version) in kept else "older", kind)
            found[short] = found.get(short, 0) + n
    return found


def lag_buckets(lags: Lags) -> list[tuple[str, float]]:
    """Cumulative counts, as Prometheus wants them."""
    total, listed = 0.0, []
    for bound in LAGS:
        total += lags.by_bound.get(bound, 0)
        listed.append((str(bound), total))
    return [*listed, ("+Inf", float(lags.count))]
