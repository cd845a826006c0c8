"""What a caller of the HTTP interface lives through, in process, with the toy task."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from keepfit.app.observing import Observed
from keepfit.app.server import create_app
from keepfit.app.service import HttpLimits, ServedModel, Service
from keepfit.clock import ManualClock
from keepfit.data.classes import ClassChange
from keepfit.data.records import MEASURING, Cause, JobState, QueueItem, Source, Traffic, Window, new_id
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token, hash_token
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, SettingsError
from keepfit.intervals import Interval
from keepfit.pipelines.costs import Ledger, Prices
from keepfit.rollout.rollout import Roller
from keepfit.rollout.strategies import Limits, immediate
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.toy import ToyModel

TABLES = {1: {"love": "good", "hate": "bad"}, 2: {"love": "bad", "hate": "good"}, 3: {"love": "good", "hate": "good"}}


@dataclass
class World:
    """A service with three versions that one may deploy, a clock, and a client."""

    service: Service
    client: FlaskClient
    clock: ManualClock

    @property
    def store(self) -> RecordStore:
        return self.service.store

    def deploy(self, version: int) -> None:
        self.clock.advance(timedelta(minutes=1))
        traffic = Traffic({version: 1.0})
        self.store.deploy("reviews", traffic, Cause("trainer", f"version {version} is better"), self.clock.now())
        self.service.models["reviews"].predictor.refresh()

    def predict(self, text: Any) -> dict[str, Any]:
        answer = self.client.post("/predict", json={"text": text})
        assert answer.status_code == 200, answer.json
        body: dict[str, Any] = answer.json or {}
        return body

    def labels(self, sources: frozenset[Source] = frozenset(Source)) -> list[tuple[str, Source]]:
        window = Window(self.clock.now() - timedelta(days=1), self.clock.now() + timedelta(days=1))
        return [(label.value, label.source) for _, label in self.store.labelled("reviews", window, sources=sources)]


def load(version: int) -> ToyModel:
    if version not in TABLES:
        raise BackendError(f"version {version} is not in this folder; fetch it")
    return ToyModel(["bad", "good"], TABLES[version], [0.6, 0.4])


def three_classes(version: int) -> ToyModel:
    return ToyModel(["billing", "other", "shipping"], {"where": "shipping"}, [0.2, 0.7, 0.1])


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database; copying it is faster than making it for each test."""
    path = tmp_path_factory.mktemp("empty") / "keepfit.db"
    RecordStore.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def world(empty: Path, tmp_path: Path, clock: ManualClock) -> Iterator[World]:
    shutil.copy(empty, tmp_path / "keepfit.db")
    with RecordStore.open(f"sqlite:///{tmp_path / 'keepfit.db'}") as store:
        writer = RecordWriter(store)
        reviews = Predictor("reviews", store, load, writer, clock)
        tickets = Predictor("tickets", store, three_classes, writer, clock)
        store.deploy("tickets", Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        observed = Observed(store, Ledger(store, ("reviews", "tickets"), Prices(), "UTC", clock), clock)
        service = Service(
            store=store,
            models={
                "reviews": ServedModel(
                    reviews, "toy", roller=Roller("reviews", store, immediate(timedelta(0), Limits()), clock)
                ),
                "tickets": ServedModel(tickets, "toy", Source.COMPLETE),
            },
            default="reviews",
            writer=writer,
            refresher=Refresher([reviews, tickets], interval_s=60),
            clock=clock,
            version="0.1.0",
            batches=tmp_path / "batches",
            limits=HttpLimits(body_bytes=100_000, file_bytes=10_000, items=50),
            observed=observed,
            aside=Refresher([observed], interval_s=60),
        )
        client = create_app(service).test_client()
        service.start()
        yield World(service, client, clock)
        service.close()


@pytest.fixture
def served(world: World) -> World:
    world.deploy(1)
    return world


# predicting


def test_the_call_of_the_report_is_answered_as_documented(served: World) -> None:
    answer = served.client.post(
        "/predict", data='{"text": ["love this product!"]}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 200
    body = answer.json or {}
    assert body["model_version"] == 1
    (prediction,) = body["predictions"]
    assert prediction["label"] == "good"
    assert prediction["score"] == pytest.approx(0.9)
    assert prediction["probabilities"] == {"bad": pytest.approx(0.1), "good": pytest.approx(0.9)}
    assert prediction["id"]


def test_texts_are_answered_in_order_alone_or_together(served: World) -> None:
    together = served.predict(["love", "hate", "love it"])["predictions"]
    assert [p["label"] for p in together] == ["good", "bad", "good"]
    assert served.predict("hate")["predictions"][0]["probabilities"] == together[1]["probabilities"]


def test_the_hugging_face_form_is_answered_in_its_own_way(served: World) -> None:
    one = served.client.post("/predict", json={"inputs": "love"}).json
    assert one == [[{"label": "good", "score": 0.9}, {"label": "bad", "score": 0.1}]]
    two = served.client.post("/predict", json={"inputs": ["love", "hate"], "parameters": {"top_k": 1}}).json
    assert two == [[{"label": "good", "score": 0.9}], [{"label": "bad", "score": 0.9}]]


def test_examples_carry_what_the_caller_knows(served: World) -> None:
    example = {
        "text": "love",
        "id": "review 7",
        "key": "user 3",
        "time": "2024-12-31T23:00:00+01:00",
        "context": {"shop": "north"},
    }
    body = served.client.post("/predict", json={"examples": [example]}).json or {}
    served.service.writer.flush()
    stored, prediction = served.store.prediction("reviews", body["predictions"][0]["id"])
    assert (stored.id, stored.key, stored.context) == ("review 7", "user 3", {"shop": "north"})
    assert stored.time.isoformat() == "2024-12-31T22:00:00+00:00"
    assert prediction.example_id == "review 7"


def test_one_of_several_models_is_addressed_by_its_name(served: World) -> None:
    body = served.client.post("/models/tickets/predict", json={"text": "where is it"}).json or {}
    assert body["predictions"][0]["label"] == "shipping"
    missing = served.client.post("/models/nothing/predict", json={"text": "x"})
    assert missing.status_code == 404
    assert "reviews, tickets" in (missing.json or {})["detail"]


def test_before_the_first_deployment_the_answer_says_what_to_do(world: World) -> None:
    answer = world.client.post("/predict", json={"text": "love"})
    assert answer.status_code == 503
    assert "keepfit train" in (answer.json or {})["detail"]
    assert world.client.get("/health/ready").status_code == 503
    assert world.client.get("/health/live").status_code == 200


def test_an_overloaded_server_answers_429_and_says_when_to_come_back(
    world: World,
) -> None:
    gate, entered = threading.Event(), threading.Semaphore(0)

    class Slow(ToyModel):
        def infer(self, prepared: Prepared) -> Output:
            if prepared.items != ["warm"]:
                entered.release()
                assert gate.wait(30)
            return super().infer(prepared)

    writer, limits = world.service.writer, ServingLimits(queue_items=2)
    slow = Predictor(
        "reviews", world.store, lambda _: Slow(["bad", "good"], {}, [0.6, 0.4]), writer, world.clock, limits=limits
    )
    world.store.deploy("reviews", Traffic({1: 1.0}), Cause("trainer", "slow"), world.clock.now())
    slow.refresh()
    client = create_app(replace(world.service, models={"reviews": ServedModel(slow, "toy")})).test_client

    def ask(*texts: str) -> int:
        return client().post("/predict", json={"text": list(texts)}).status_code

    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(ask, "one")
        assert entered.acquire(timeout=30)
        waiting = pool.submit(ask, "two", "three")
        pause = threading.Event()
        while next(iter(slow.batchers().values())).waiting() < 2:
            pause.wait(0.01)
        refused = client().post("/predict", json={"text": "four"})
        gate.set()
        assert (running.result(30), waiting.result(30)) == (200, 200)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
    slow.close()


# bad input

BAD_BODIES: list[tuple[str, bytes, int]] = [
    ("wrong json", b"{", 422),
    ("no object", b"[1]", 422),
    ("json in json", b'"{\\"text\\": \\"love\\"}"', 422),
    ("null", b"null", 422),
    ("nothing", b"{}", 422),
    ("empty text", b'{"text": ""}', 422),
    ("blank text", b'{"text": "  "}', 422),
    ("number", b'{"text": 5}', 422),
    ("numbers", b'{"text": ["love", 5]}', 422),
    ("null text", b'{"text": null}', 422),
    ("no texts", b'{"text": []}', 422),
    ("nested", b'{"text": [["love"]]}', 422),
    ("twice", b'{"text": "a", "text": "b"}', 422),
    ("NaN", b'{"text": NaN}', 422),
    ("lone surrogate", b'{"text": "\\ud800"}', 422),
    ("null character", b'{"text": "a\\u0000b"}', 422),
    ("not utf-8", b'{"text": "\xff"}', 422),
    ("unknown name", b'{"text": "love", "mood": 1}', 422),
    ("two forms", b'{"text": "love", "inputs": "love"}', 422),
    ("example without text", b'{"examples": [{"id": "a"}]}', 422),
    ("time as a number", b'{"examples": [{"text": "a", "time": 5}]}', 422),
    ("time too early", b'{"examples": [{"text": "a", "time": "0001-01-01T00:00:00+14:00"}]}', 422),
    ("empty id", b'{"examples": [{"text": "a", "id": ""}]}', 422),
    ("context of numbers", b'{"examples": [{"text": "a", "context": {"n": 1}}]}', 422),
    ("too many texts", json.dumps({"text": ["love"] * 51}).encode(), 413),
    ("too large a body", b'{"text": "' + b"a" * 200_000 + b'"}', 413),
]


@pytest.mark.parametrize(
    ("body", "status"), [(b, s) for _, b, s in BAD_BODIES], ids=[name for name, _, _ in BAD_BODIES]
)
def test_a_bad_request_gets_a_problem_document(served: World, body: bytes, status: int) -> None:
    answer = served.client.post("/predict", data=body, content_type="application/json")
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    problem = answer.json or {}
    assert set(problem) == {"type", "title", "status", "detail", "field"}
    assert problem["status"] == status
    assert "Traceback" not in problem["detail"]


def test_the_field_of_a_bad_text_is_named(served: World) -> None:
    answer = served.client.post("/predict", json={"examples": [{"text": "love"}, {"text": ["no"]}]})
    assert (answer.json or {})["field"] == "examples.1.text"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/predict", 405), ("POST", "/status", 405), ("GET", "/models//status", 404)],
)
def test_unknown_paths_and_methods_are_problem_documents(served: World, method: str, path: str, status: int) -> None:
    answer = served.client.open(path, method=method)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")


def test_another_content_type_is_refused(served: World) -> None:
    answer = served.client.post("/predict", data={"text": "love"})
    assert answer.status_code == 415
    assert "application/json" in (answer.json or {})["detail"]


def test_an_unknown_query_parameter_is_refused(served: World) -> None:
    assert served.client.get("/history?limt=5").status_code == 422
    assert served.client.get("/history?limit=0").status_code == 422
    assert served.client.get("/history?limit=x").status_code == 422


def test_an_error_of_our_own_tells_an_id_and_no_more(served: World, caplog: pytest.LogCaptureFixture) -> None:
    def broken(self: object, contents: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    class Broken(ToyModel):
        prepare = broken  # type: ignore[assignment]

    predictor = served.service.models["reviews"].predictor
    live = predictor.live
    model = Broken(["bad", "good"], {}, [0.5, 0.5])
    predictor._live = replace(live, models={1: replace(live.models[1], model=model)})
    answer = served.client.post("/predict", json={"text": "love"})
    assert answer.status_code == 500
    problem = answer.json or {}
    assert "secret" not in problem["detail"]
    assert problem["id"] in caplog.text


# labels


def test_a_label_by_the_answers_id_is_durable_and_sending_it_twice_changes_nothing(served: World) -> None:
    prediction = served.predict("love")["predictions"][0]["id"]
    body = {"labels": [{"prediction_id": prediction, "label": "bad"}]}
    first, second = (served.client.post("/labels", json=body) for _ in range(2))
    assert (first.status_code, first.json) == (200, {"accepted": 1, "new": 1})
    assert second.json == {"accepted": 1, "new": 0}
    assert served.labels() == [("bad", Source.VOLUNTEERED)]


def test_a_label_may_name_the_callers_own_id_or_the_very_text(served: World) -> None:
    served.client.post("/predict", json={"examples": [{"text": "love", "id": "mine"}, {"text": "hate that"}]})
    body = {"labels": [{"id": "mine", "wrong": True}, {"text": "Hate  that", "label": "good", "actor": "eve"}]}
    assert served.client.post("/labels", json=body).json == {"accepted": 2, "new": 2}
    assert sorted(served.labels()) == [("bad", Source.VOLUNTEERED), ("good", Source.VOLUNTEERED)]


def test_wrong_means_the_other_class_of_two_and_is_refused_for_more(served: World) -> None:
    text = {"text": "where is it"}
    served.client.post("/models/tickets/predict", json=text)
    refused = served.client.post("/models/tickets/labels", json={"labels": [text | {"wrong": True}]})
    assert refused.status_code == 422
    assert (refused.json or {})["field"] == "labels.0.wrong"
    assert "'shipping'" in (refused.json or {})["detail"]


def test_the_source_is_what_the_models_settings_say_or_asked_when_we_asked(served: World) -> None:
    served.client.post("/models/tickets/predict", json={"text": "where"})
    served.client.post("/models/tickets/labels", json={"labels": [{"text": "where", "label": "other"}]})
    window = Window(served.clock.now() - timedelta(days=1), served.clock.now() + timedelta(days=1))
    (pair,) = served.store.labelled("tickets", window)
    assert pair[1].source is Source.COMPLETE

    prediction_id = served.predict("love")["predictions"][0]["id"]
    served.service.writer.flush()
    example, prediction = served.store.prediction("reviews", prediction_id)
    item = QueueItem(
        new_id(), "reviews", prediction.id, example, 0.25, "uniform", served.clock.now(), prediction.labels
    )
    served.store.ask([item])
    queue = served.client.get("/labels/queue?limit=5").json or {}
    (asked,) = queue["items"]
    assert (asked["prediction_id"], asked["text"], asked["propensity"]) == (prediction.id, "love", 0.25)
    assert asked["labels"] == ["bad", "good"]
    served.client.post("/labels", json={"labels": [{"prediction_id": asked["prediction_id"], "label": "good"}]})
    assert served.labels(MEASURING) == [("good", Source.ASKED)]
    assert (served.client.get("/labels/queue").json or {})["items"] == []


def test_an_audit_is_answered_by_its_question_alone_and_an_objection_stays_what_it_was(served: World) -> None:
    said = (served.client.post("/models/tickets/predict", json={"text": "where"}).json or {})["predictions"][0]["id"]
    served.service.writer.flush()
    example, prediction = served.store.prediction("tickets", said)
    item = QueueItem(
        "q1", "tickets", said, example, 0.01, "an audit", served.clock.now(), prediction.labels, {"audit": 0.01}
    )
    served.store.ask([item])
    window = Window(served.clock.now() - timedelta(days=1), served.clock.now() + timedelta(days=1))

    def send(**label: str) -> None:
        assert served.client.post("/models/tickets/labels", json={"labels": [label]}).status_code == 200

    send(prediction_id=said, label="other", actor="agent")
    (asked,) = (served.client.get("/models/tickets/labels/queue").json or {})["items"]
    assert asked.keys() == {"question", "prediction_id", "id", "text", "reason", "propensity", "asked_at", "labels"}
    assert served.store.labelled("tickets", window)[0][1].source is Source.COMPLETE
    send(question=asked["question"], label="other", actor="auditor")
    assert (served.client.get("/models/tickets/labels/queue").json or {})["items"] == []
    label = served.store.labelled("tickets", window)[0][1]
    assert (label.source, label.propensity, label.actor) == (Source.ASKED, 0.01, "auditor")


@pytest.mark.parametrize(
    ("label", "status", "field"),
    [
        ({"question": "unknown", "label": "good"}, 404, None),
        ({"prediction_id": "unknown", "label": "good"}, 404, None),
        ({"id": "unknown", "label": "good"}, 404, None),
        ({"text": "never asked", "label": "good"}, 404, None),
        ({"text": "love", "label": "splendid"}, 422, "labels.1.label"),
        ({"text": "love"}, 422, "labels.1"),
        ({"text": "love", "label": "good", "wrong": True}, 422, "labels.1"),
        ({"text": "love", "wrong": False}, 422, "labels.1"),
        ({"text": 5, "label": "good"}, 422, "labels.1.text"),
        ({"label": "good"}, 422, "labels.1"),
    ],
)
def test_one_bad_label_refuses_them_all_and_is_named(
    served: World, label: dict[str, Any], status: int, field: str | None
) -> None:
    served.predict("love")
    answer = served.client.post("/labels", json={"labels": [{"text": "love", "label": "bad"}, label]})
    assert answer.status_code == status
    problem = answer.json or {}
    assert problem["field"] == field
    assert "labels.1" in problem["detail"]
    assert served.labels() == []


def test_an_unknown_label_names_the_known_ones(served: World) -> None:
    served.predict("love")
    answer = served.client.post("/labels", json={"labels": [{"text": "love", "label": "splendid"}]})
    assert "'bad', 'good'" in (answer.json or {})["detail"]


def test_a_new_class_must_be_declared_or_accepted(served: World) -> None:
    served.predict("love")
    declared = {"labels": [{"text": "love", "label": "splendid", "new_class": True}]}
    refused = served.client.post("/labels", json=declared)
    assert refused.status_code == 422
    assert "new classes are ignored here" in (refused.json or {})["detail"]
    change = ClassChange(served.clock.now(), "ann", "accept", ("splendid",))
    served.store.change_classes("reviews", change, ("bad", "good"))
    taken = served.client.post("/labels", json={"labels": [{"text": "love", "label": "splendid"}]})
    assert taken.status_code == 200


# a model's life


def test_going_back_takes_the_last_version_that_served_and_a_second_time_one_further(served: World) -> None:
    served.deploy(2)
    served.deploy(3)
    assert served.predict("hate")["model_version"] == 3
    back = served.client.post("/rollback")
    assert back.status_code == 200
    assert (back.json or {})["traffic"] == {"2": 1.0}
    assert (back.json or {})["applied"], "it answers when this process serves it"
    assert served.predict("love")["predictions"][0]["label"] == "bad"
    assert (served.client.post("/rollback", json={}).json or {})["traffic"] == {"1": 1.0}
    assert served.predict("love")["model_version"] == 1
    nothing = served.client.post("/rollback", json={})
    assert nothing.status_code == 409
    to = served.client.post("/rollback", json={"to": 3})
    assert (to.json or {})["traffic"] == {"3": 1.0}
    kinds = [row["kind"] for row in (served.client.get("/history").json or {})["deployments"]]
    assert kinds == ["rollback", "rollback", "rollback", "deploy", "deploy", "deploy"]


@pytest.mark.parametrize(("to", "status"), [(99, 404), (0, 422), (-1, 422), ("2", 422), (2**40, 422), (1, 409)])
def test_going_back_to_what_cannot_be_is_refused(served: World, to: object, status: int) -> None:
    assert served.client.post("/rollback", json={"to": to}).status_code == status


def test_a_second_request_to_retrain_joins_the_first(served: World) -> None:
    first = served.client.post("/retrain", json={"reason": "new products"})
    second = served.client.post("/retrain")
    assert (first.status_code, second.status_code) == (202, 202)
    assert (first.json or {})["id"] == (second.json or {})["id"]
    assert [(first.json or {})["joined"], (second.json or {})["joined"]] == [False, True]
    assert (second.json or {})["worker"] is False
    served.store.put("", "worker", {"at": served.clock.now().isoformat(), "pid": 1})
    assert (served.client.post("/retrain").json or {})["worker"] is True
    (fired,) = served.store.decisions("reviews", "trigger")
    assert fired.decision.because == ("new products",)
    status = served.client.get("/models/reviews/status").json or {}
    assert status["models"][0]["retraining"]["id"] == (first.json or {})["id"]


def test_a_version_that_waits_is_served_once_a_person_approves_it(served: World) -> None:
    assert served.client.post("/approve").status_code == 409
    served.store.put("reviews", "awaiting_approval", {"version": 2, "decision": "d1"})
    assert (served.client.get("/status").json or {})["models"][0]["awaiting_approval"] == 2
    assert served.client.post("/approve", json={"version": 3}).status_code == 409
    approved = served.client.post("/approve", json={"version": 2})
    assert approved.status_code == 200
    assert (approved.json or {})["decision_id"] == "d1"
    assert served.predict("love")["model_version"] == 2
    assert served.client.post("/approve").status_code == 409


def test_an_event_waits_for_the_next_check(served: World) -> None:
    answer = served.client.post("/events", json={"kind": "release", "details": {"tag": "v5"}})
    assert answer.status_code == 202
    (event,) = served.store.waiting_events("reviews")
    assert (event.id, event.kind, event.details) == ((answer.json or {})["id"], "release", {"tag": "v5"})
    assert served.client.post("/events", json={"kind": "1; drop"}).status_code == 422


def test_the_status_tells_where_everything_stands(served: World) -> None:
    decision = Decision(Outcome.WAIT, ("only 3 labels",), {"labels": 3})
    served.store.add_decision("reviews", "trigger", decision, served.clock.now())
    served.store.put("reviews", "accuracy", {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40})
    body = served.client.get("/status").json or {}
    reviews, tickets = body["models"]
    assert body["version"] == "0.1.0"
    assert (reviews["name"], reviews["champion"], reviews["traffic"]) == ("reviews", 1, {"1": 1.0})
    assert reviews["accuracy"] == {"value": 0.9, "low": 0.8, "high": 0.95, "n": 40}
    assert reviews["last_check"]["because"] == ["only 3 labels"]
    assert (tickets["accuracy"], tickets["last_check"], tickets["retraining"]) == (None, None, None)


def test_history_and_decisions_are_newest_first_and_may_be_limited(served: World) -> None:
    served.deploy(2)
    for n in range(3):
        served.clock.advance(timedelta(minutes=1))
        served.store.add_decision("reviews", "trigger", Decision(Outcome.WAIT, (str(n),)), served.clock.now())
    rows = (served.client.get("/history").json or {})["deployments"]
    assert [row["traffic"] for row in rows] == [{"2": 1.0}, {"1": 1.0}]
    assert rows[0]["applied"][0]["worker"] == "server"
    decisions = (served.client.get("/decisions?limit=2&subject=trigger").json or {})["decisions"]
    assert [d["because"] for d in decisions] == [["2"], ["1"]]
    assert set(decisions[0]) >= {"id", "at", "subject", "outcome", "because", "evidence"}


# files


def test_a_file_becomes_a_job_and_its_output_is_there_when_it_is_done(served: World) -> None:
    data = {"file": (io.BytesIO(b"text\nlove\n"), "../../etc/reviews 1.csv")}
    posted = served.client.post("/batches", data=data)
    assert posted.status_code == 202
    job = served.store.job((posted.json or {})["id"])
    source, target = Path(job.request["source"]), Path(job.request["target"])
    assert source.read_bytes() == b"text\nlove\n"
    assert source.parent == target.parent == served.service.batches / job.id
    assert served.client.get(f"/batches/{job.id}/output").status_code == 409
    target.write_bytes(b"text,label\nlove,good\n")
    served.store.update_job(job.id, state=JobState.DONE, result={"rows": 1})
    assert (served.client.get(f"/batches/{job.id}").json or {})["state"] == "done"
    with served.client.get(f"/batches/{job.id}/output") as output:
        assert output.data == b"text,label\nlove,good\n"
        assert "etc_reviews_1.csv" in output.headers["Content-Disposition"]
    assert served.client.get(f"/models/tickets/batches/{job.id}").status_code == 404


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"file": (io.BytesIO(b"x"), "run.exe")}, 422),
        ({"file": (io.BytesIO(b"x"), "")}, 422),
        ({}, 415),
        ({"text": "text"}, 415),
        ({"file": (io.BytesIO(b"x"), "a.csv"), "text": "text"}, 422),
        ({"other": (io.BytesIO(b"x"), "a.csv")}, 422),
        ({"file": (io.BytesIO(b"x" * 20_000), "a.csv")}, 413),
    ],
)
def test_a_file_that_cannot_be_taken_is_refused(served: World, data: dict[str, Any], status: int) -> None:
    answer = served.client.post("/batches", data=data)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert not served.service.batches.exists() or not list(served.service.batches.iterdir())


def test_an_unknown_job_is_not_found(served: World) -> None:
    assert served.client.get("/batches/nothing").status_code == 404
    assert served.client.get("/batches/nothing/output").status_code == 404


# doors


def test_probes_metrics_and_pages(served: World) -> None:
    served.predict(["love", "love", "hate"])
    assert served.client.get("/health/ready").json == {"ready": True}
    metrics = served.client.get("/metrics").text
    for name in (
        'keepfit_requests_total{code="200",method="POST",route="/predict"} 1.0',
        "keepfit_request_seconds_bucket",
        'keepfit_batch_contents_count{model="reviews",version="1"} 1.0',
        'keepfit_model_traffic_share{model="reviews",version="1"} 1.0',
        "keepfit_records_lost_total 0.0",
        "keepfit_cache_hits_total",
        "keepfit_queue_contents",
    ):
        assert name in metrics, name
    assert served.client.get("/").headers["Location"] == "/docs"
    page = served.client.get("/docs").text
    assert "/predict" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_accuracy_of_the_last_check_is_a_metric(served: World) -> None:
    assert "keepfit_accuracy{" not in served.client.get("/metrics").text
    served.service.store.put("reviews", "accuracy", Interval(0.9, 0.85, 0.93, 200).to_json())
    served.service.observed.refresh()  # type: ignore[union-attr]
    metrics = served.client.get("/metrics").text
    assert 'keepfit_accuracy{end="low",model="reviews"} 0.85' in metrics
    assert 'keepfit_accuracy_labels{model="reviews"} 200.0' in metrics


def test_the_openapi_document_lists_every_route_bare_and_by_model(served: World) -> None:
    document = served.client.get("/openapi.json").json or {}
    assert document["openapi"].startswith("3.1")
    protocol = {path for path in document["paths"] if path.startswith("/v2")}
    below = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    ends = {f"{start}{end}" for start in below for end in ("", "/ready", "/infer")}
    assert protocol == {"/v2", "/v2/health/live", "/v2/health/ready", *ends}
    bare = {path for path in document["paths"] if not path.startswith("/models/")} - protocol
    assert bare == {
        "/", "/predict", "/predictions", "/labels", "/labels/queue", "/batches", "/batches/{id}",
        "/batches/{id}/output",
        "/retrain", "/rollback", "/approve", "/events", "/status", "/history", "/decisions",
        "/audit", "/lineage/{id}",
        "/streams", "/streams/{id}", "/streams/{id}/frames", "/costs",
    }  # fmt: skip
    assert {f"/models/{{name}}{path}" for path in bare} == set(document["paths"]) - bare - protocol
    problem = document["paths"]["/predict"]["post"]["responses"]["422"]["content"]
    assert list(problem) == ["application/problem+json"]


def test_tokens_rule_who_may_do_what(world: World) -> None:
    world.deploy(1)
    for name, role in (("app", "predict"), ("desk", "label"), ("lead", "approve"), ("boss", "admin")):
        world.store.add_token(Token(name, hash_token(name), (role,), world.clock.now()))
    client = create_app(world.service, "0.0.0.0").test_client()

    def call(token: str | None, method: str, path: str) -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = {"text": "love"} if path == "/predict" else {}
        return client.open(path, method=method, headers=headers, json=body if method == "POST" else None).status_code

    assert call(None, "POST", "/predict") == 401
    assert call("nobody", "POST", "/predict") == 401
    assert call("app", "POST", "/predict") == 200
    assert call("app", "POST", "/rollback") == 403
    assert call("app", "GET", "/status") == 200
    assert call(None, "GET", "/status") == 401
    assert call("desk", "GET", "/labels/queue") == 200
    assert call("desk", "POST", "/retrain") == 403
    assert call("lead", "GET", "/audit") == 403
    assert call("boss", "GET", "/audit") == 200
    assert call("lead", "POST", "/rollback") == 409
    assert call("boss", "POST", "/retrain") == 202
    assert call(None, "GET", "/health/ready") == 200
    unknown = client.post("/predict", json={"text": "love"})
    assert unknown.headers["WWW-Authenticate"] == "Bearer"


def test_another_address_than_loopback_needs_a_token_first(world: World) -> None:
    with pytest.raises(SettingsError, match="token"):
        create_app(world.service, "0.0.0.0")


def test_a_store_that_is_gone_is_a_problem_and_not_a_crash(served: World, tmp_path: Path) -> None:
    prediction = served.predict("love")["predictions"][0]["id"]
    served.service.writer.flush()
    (tmp_path / "keepfit.db").rename(tmp_path / "elsewhere.db")
    label = {"labels": [{"prediction_id": prediction, "label": "good"}]}
    assert served.client.post("/labels", json=label).status_code == 503
    assert served.client.get("/status").status_code == 503
    assert served.client.get("/health/ready").status_code == 503
    assert served.client.post("/predict", json={"text": "love"}).status_code == 200, "answering goes on"
    (tmp_path / "elsewhere.db").rename(tmp_path / "keepfit.db")
    served.service.writer.flush()
    assert served.client.post("/labels", json=label).status_code == 200


def test_the_audit_says_who_changed_what_for_all_models_or_for_one(served: World) -> None:
    served.client.post("/events", json={"kind": "release", "details": {"by": "ops"}})
    served.deploy(2)
    found = served.client.get("/audit").json or {}
    said = [(e["model"], e["actor"], e["action"], e["subject"]) for e in found["entries"]]
    assert said[0] == ("reviews", "trainer", "deploy", "deployment 3")
    assert (said[1][0], said[1][2]) == ("reviews", "event")
    assert [entry["seq"] for entry in found["entries"]] == [5, 4, 3, 2, 1]
    assert found["head"] == f"5:{found['entries'][0]['hash']}"
    page = served.client.get("/models/tickets/audit?limit=1&before=5").json or {}
    assert [entry["subject"] for entry in page["entries"]] == ["deployment 1"]
    assert served.client.get("/audit?limit=0").status_code == 422


def test_an_answer_leads_back_to_its_version_its_deployment_and_its_labels(served: World) -> None:
    answer = served.predict("love this")["predictions"][0]
    found = served.client.get(f"/lineage/{answer['id']}").json or {}
    assert (found["prediction"]["label"], found["prediction"]["version"]) == (answer["label"], 1)
    assert (found["deployment"]["id"], found["deployment"]["actor"]) == (2, "trainer")
    assert found["labels"] == []
    served.deploy(2)
    served.client.post("/labels", json={"labels": [{"prediction_id": answer["id"], "label": "bad", "actor": "ann"}]})
    found = served.client.get(f"/models/reviews/lineage/{answer['id']}").json or {}
    assert [(label["value"], label["actor"]) for label in found["labels"]] == [("bad", "ann")]
    assert found["labels"][0]["named_this_answer"]
    assert found["deployment"]["id"] == 2, "what it was answered under, not what is live now"
    assert served.client.get("/lineage/nobody").status_code == 404
    assert served.client.get(f"/models/tickets/lineage/{answer['id']}").status_code == 404
