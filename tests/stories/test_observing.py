"""What an operator sees of a running keepfit: ids that lead from a request to its label, metrics, logs, costs."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from keepfit.app.http import identity
from keepfit.app.logs import Lines, write_logs
from keepfit.app.observing import Observed
from keepfit.app.server import create_app
from keepfit.app.service import ServedModel, Service
from keepfit.clock import ManualClock
from keepfit.data.costs import Cost
from keepfit.data.records import Cause, Job, JobState, QueueItem, Traffic, new_id
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.costs import Ledger, Prices
from keepfit.serving.costs import ServingCosts
from keepfit.serving.predictor import Predictor
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel
from keepfit.traces import MemoryTracer

SECRET = "the-lovely-secret-text"


@dataclass
class World:
    """A served model, a client, and what was logged."""

    service: Service
    client: FlaskClient
    clock: ManualClock
    logged: io.StringIO
    handler: logging.StreamHandler[Lines]
    tracer: MemoryTracer

    @property
    def store(self) -> RecordStore:
        return self.service.store

    def predict(self, text: str = "love it", **headers: str) -> tuple[dict[str, Any], str]:
        """The prediction, and the id of the request."""
        answer = self.client.post("/predict", json={"text": text}, headers=headers)
        assert answer.status_code == 200, answer.json
        return (answer.json or {})["predictions"][0], answer.headers["X-Request-ID"]

    def metrics(self) -> str:
        assert self.service.observed is not None
        self.service.observed.refresh()
        return self.client.get("/metrics").text

    def value(self, sample: str) -> float:
        found = re.search(rf"(?m)^{re.escape(sample)} (\S+)$", self.metrics())
        assert found, f"{sample} is no sample"
        return float(found[1])

    def log(self) -> str:
        """All that was logged so far."""
        self.handler.stream.close(10)
        return self.logged.getvalue()

    def lines(self, **facts: Any) -> list[dict[str, Any]]:
        said = [json.loads(line) for line in self.log().splitlines()]
        return [one for one in said if all(one.get(name) == value for name, value in facts.items())]


@pytest.fixture
def prices() -> Prices:
    return Prices()


@pytest.fixture
def world(store_url: str, tmp_path: Path, clock: ManualClock, prices: Prices) -> Iterator[World]:
    tracer = MemoryTracer()
    with RecordStore.open(store_url) as store:
        writer = RecordWriter(store)

        def load(version: int) -> ToyModel:
            return ToyModel(["bad", "good"], {"love": "good"}, [0.6, 0.4])

        predictor = Predictor("m", store, load, writer, clock, "here", tracer=tracer)
        store.deploy("m", Traffic({1: 0.75, 2: 0.25}), Cause("trainer", "first"), clock.now())
        books = Ledger(store, ("m",), prices, "UTC", clock)
        observed, spent = Observed(store, books, clock), ServingCosts(store, {"m": predictor}, writer.tally, clock)
        service = Service(
            store, {"m": ServedModel(predictor, "toy")}, "m", writer, Refresher([predictor], 60), clock, "0.1.0",
            tmp_path / "batches", observed=observed, aside=Refresher([observed, spent], 60), spent=spent,
            ledger=books, tracer=tracer,
        )  # fmt: skip
        stream = io.StringIO()
        handler = write_logs("json", identity.known, stream)
        service.start()
        yield World(service, create_app(service).test_client(), clock, stream, handler, tracer)
        service.close()
        logging.getLogger().removeHandler(handler)


# ids and logs


def test_a_request_s_id_follows_the_prediction_to_its_label(world: World) -> None:
    said, id_ = world.predict(**{"X-Request-ID": "order-77"})
    assert id_ == "order-77"
    labelled = world.client.post("/labels", json={"labels": [{"prediction_id": said["id"], "label": "bad"}]})
    assert world.store.prediction("m", said["id"])[1].request == "order-77"
    (line,) = world.lines(prediction=said["id"])
    assert (line["asked_by"], line["version"], line["model"]) == ("order-77", said["model_version"], "m")
    assert line["request"] == labelled.headers["X-Request-ID"] != "order-77"


@pytest.mark.parametrize("path", ["/predict", "/nowhere", "/status"])
def test_every_answer_names_its_request_errors_too(world: World, path: str) -> None:
    answer = world.client.post(path, json={"text": 7}, headers={"X-Request-ID": "bad id\t"})
    assert answer.status_code >= 400
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert [line["code"] for line in world.lines(request=answer.headers["X-Request-ID"])] == [answer.status_code]


def test_the_access_log_says_who_asked_what_and_is_quiet_about_probes(world: World) -> None:
    said, id_ = world.predict()
    world.client.get("/health/live")
    world.client.get("/metrics")
    (line,) = world.lines(message="answered")
    assert (line["route"], line["method"], line["code"], line["request"]) == ("/predict", "POST", 200, id_)
    assert (line["model"], line["version"], line["caller"]) == ("m", said["model_version"], "anonymous")
    assert line["seconds"] >= 0


@pytest.mark.parametrize(("access", "count"), [("none", 0), ("requests", 1), ("all", 3)])
def test_how_much_the_access_log_says_is_set(world: World, access: Any, count: int) -> None:
    client = create_app(replace(world.service, access_log=access)).test_client()
    for path in ("/status", "/health/live", "/metrics"):
        client.get(path)
    assert len(world.lines(message="answered")) == count


def test_no_text_and_no_label_is_in_the_log(world: World) -> None:
    said, _ = world.predict(SECRET)
    world.client.post("/labels", json={"labels": [{"prediction_id": said["id"], "label": "good"}]})
    world.client.post("/labels", json={"labels": [{"text": SECRET, "label": SECRET}]})
    world.client.get(f"/status?{SECRET}=1", headers={"Authorization": f"Bearer {SECRET}"})
    assert world.lines(message="answered")
    assert SECRET not in world.log()
    assert '"good"' not in world.log()


def test_a_request_is_a_trace_from_the_door_to_the_record(world: World) -> None:
    _, id_ = world.predict()
    names = [(span.name, span.parent) for span in world.tracer.spans]
    assert names == [
        ("request", None), ("tokenise", "request"), ("queue", "request"), ("infer", "request"), ("record", "request"),
    ]  # fmt: skip
    assert world.tracer.spans[0].facts == {"route": "/predict", "method": "POST", "request": id_, "code": 200}


# metrics


def test_answers_are_counted_by_version_and_who_gave_them(world: World) -> None:
    version = world.predict()[0]["model_version"]
    world.predict()
    for stage in ("model", "cache"):
        sample = f'keepfit_predictions_total{{model="m",shadow="false",stage="{stage}",version="{version}"}}'
        assert world.value(sample) == 1
    assert world.value('keepfit_model_traffic_share{model="m",version="2"}') == 0.25
    assert world.value('keepfit_version_loaded{model="m",version="2"}') == 1
    assert world.value('keepfit_deployment_applied{model="m"}') == world.value('keepfit_deployment_wanted{model="m"}')


def test_labels_are_counted_with_their_lag_and_those_that_are_waited_for(world: World) -> None:
    said, _ = world.predict()
    world.service.writer.flush()
    example, prediction = world.store.prediction("m", said["id"])
    asked_at = world.clock.now()
    world.store.ask([QueueItem(new_id(), "m", prediction.id, example, 1.0, "drawn", asked_at, ("bad", "good"))])
    assert world.value('keepfit_labels_asked_waiting{model="m"}') == 1
    oldest = world.value('keepfit_labels_asked_oldest_timestamp_seconds{model="m"}')
    assert oldest == asked_at.timestamp()
    world.clock.advance(timedelta(hours=2))
    world.client.post("/labels", json={"labels": [{"prediction_id": said["id"], "label": "bad"}]})
    assert world.value('keepfit_label_lag_seconds_sum{model="m",source="asked"}') == 7200
    assert world.value('keepfit_labels_total{model="m",source="asked"}') == 1
    assert world.value('keepfit_labels_asked_waiting{model="m"}') == 0


def test_judgements_alarms_and_retrainings_are_counted_by_outcome(world: World) -> None:
    now = world.clock.now()
    for subject, outcome in (("gate v3", Outcome.FAIL), ("gate v4", Outcome.FAIL), ("rollout v4", Outcome.ROLL_BACK)):
        world.store.add_decision("m", subject, Decision(outcome), now)
    world.store.add_decision("m", "alert rollback", Decision(Outcome.PASS), now)
    world.store.add_job(Job("j", "m", "retrain", now))
    world.store.update_job("j", state=JobState.FAILED, finished_at=now)
    world.store.put_cost(Cost("c", "m", now, "retrain", 5.0, 9.0))
    assert world.value('keepfit_decisions_total{model="m",outcome="fail",subject="gate"}') == 2
    assert world.value('keepfit_decisions_total{model="m",outcome="roll back",subject="rollout"}') == 1
    assert world.value('keepfit_alerts_total{kind="rollback",model="m",outcome="pass"}') == 1
    assert world.value('keepfit_jobs_finished_total{kind="retrain",model="m",state="failed"}') == 1
    assert world.value('keepfit_retraining_timestamp_seconds{model="m",state="failed"}') == now.timestamp()
    assert world.value('keepfit_spent_seconds_total{kind="retrain",model="m",resource="cpu"}') == 9


def test_what_the_last_check_measured_is_there_but_not_every_class_of_it(world: World) -> None:
    one = {"value": 0.8, "low": 0.7, "high": 0.9, "breached": True}
    measured = [{"name": "accuracy", **one}, {"name": "share:spam", **one}]
    decision = Decision(Outcome.WAIT, ("fine",), {"measurements": measured})
    world.store.add_decision("m", "trigger", decision, world.clock.now())
    assert world.value('keepfit_measurement{end="low",model="m",name="accuracy"}') == 0.7
    assert world.value('keepfit_measurement_breached{model="m",name="accuracy"}') == 1
    assert "share:spam" not in world.metrics()


def test_the_worker_s_sign_of_life_and_its_figures_come_through_the_store(world: World) -> None:
    now = world.clock.now()
    world.store.put("", "worker", {"at": now.isoformat(), "pid": 1})
    figures = {"at": now.isoformat(), "cpu_seconds": 4.0, "resident_bytes": 1000, "started": 5.0}
    world.store.put("", "worker_process", figures)
    assert world.value("keepfit_worker_beat_timestamp_seconds") == now.timestamp()
    assert world.value("keepfit_worker_cpu_seconds_total") == 4


def test_a_scrape_asks_the_store_nothing_and_old_figures_say_how_old_they_are(world: World, tmp_path: Path) -> None:
    world.predict()
    before = world.value("keepfit_observed_timestamp_seconds")
    world.service.writer.flush()
    (tmp_path / "keepfit.db").rename(tmp_path / "away.db")
    world.clock.advance(timedelta(minutes=5))
    try:
        assert world.value("keepfit_observed_timestamp_seconds") == before
        assert world.value("keepfit_observed_failures_total") >= 1
    finally:
        (tmp_path / "away.db").rename(tmp_path / "keepfit.db")


def test_no_label_of_a_metric_grows_without_bound(world: World) -> None:
    now = world.clock.now()
    for number in range(100):
        world.store.add_decision("m", f"subject{number} x", Decision(Outcome.PASS), now)
        world.store.add_decision("m", f"alert kind{number}", Decision(Outcome.PASS), now)
    metrics = world.metrics()
    assert len(set(re.findall(r'(?m)^keepfit_decisions_total.*subject="(\w+)"', metrics))) == 31
    assert world.value('keepfit_alerts_total{kind="other",model="m",outcome="pass"}') > 70
    assert world.value('keepfit_alerts_total{kind="rollback",model="m",outcome="pass"}') == 0


# costs


@pytest.mark.parametrize("prices", [Prices("EUR", per_cpu_hour=3600.0, monthly_budget=100.0)])
def test_costs_are_told_over_http_and_as_metrics(world: World) -> None:
    world.predict()
    world.predict()
    assert world.service.spent is not None
    world.service.spent.write()
    world.store.put_cost(Cost("c", "m", world.clock.now(), "batch", 5.0, 20.0))
    report = world.client.get("/costs").json or {}
    assert report["month"] == "2025-01"
    assert report["models"]["m"]["batch"]["money"] == pytest.approx(20.0)
    assert report["budget"]["share"] >= 0.2
    saved = {one["by"]: one for one in report["models"]["m"]["saved"]}
    assert "1 answers given again" in saved["cache"]["arithmetic"]
    assert world.value('keepfit_month_budget{currency="EUR"}') == 100
    assert (world.client.get("/models/m/costs?month=2024-12").json or {})["total"]["money"] == 0


def test_what_is_no_month_is_refused_with_the_field(world: World) -> None:
    for month in ("november", "2026-13"):
        answer = world.client.get(f"/costs?month={month}")
        assert (answer.status_code, (answer.json or {})["field"]) == (422, "month")
