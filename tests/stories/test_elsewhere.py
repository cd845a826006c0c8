"""A model that is served elsewhere, told in sentences: watched, retrained, handed over, seen live, taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from keepfit.app.learning import announcer
from keepfit.app.project import Project
from keepfit.app.server import create_app
from keepfit.app.serving import make
from keepfit.app.wiring import intake
from keepfit.clock import ManualClock
from keepfit.data.foreign import FOREIGN_FROM
from keepfit.data.records import Label, Source
from keepfit.decision import Outcome
from keepfit.errors import BackendError
from keepfit.pipelines.handing_over import SIGNATURE, HandOver, signature
from keepfit.pipelines.intake import Intake, Said
from keepfit.registry.registry import Alias

SETTINGS = """
tracking = "local"
[models.reviews]
task = "toy"
served = "elsewhere"
cooldown = "10m"
triggers = [{kind = "accuracy_floor", floor = 0.8}, {kind = "on_demand"}]
[models.reviews.watch]
label_rate = 0.5
label_budget = 10000
window = "2h"
label_window = "6h"
[models.reviews.gate]
latency_ratio = 1000
invariances = {}
[models.reviews.elsewhere]
classes = ["bad", "good"]
"""
SECRET = "a secret of both"


@dataclass
class Hook:
    """The other system's webhook: what it got, and what it answers."""

    status: int = 204
    calls: list[tuple[dict[str, Any], dict[str, str], bytes]] = field(default_factory=list)

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> int:
        self.calls.append((json.loads(body), dict(headers), body))
        if self.status == 0:
            raise BackendError("nobody answered (ConnectionError)")
        return self.status


@dataclass
class World:
    """The other system, and keepfit beside it."""

    project: Project
    clock: ManualClock
    intake: Intake
    hook: Hook
    over: HandOver
    sent: int = 0

    def beat(self) -> Any:
        """What the worker does."""
        self.over.observe()
        decision = self.project.watch("reviews").tick()
        self.over.hand_over()
        self.project.follow()
        return decision

    def say(self, n: int, word: str, answer: str, truth: str, version: str) -> None:
        """The other system answers n texts, one every ten seconds, and the truth is known at once."""
        for _ in range(n):
            self.sent += 1
            other = "bad" if answer == "good" else "good"
            said = Said(f"r{self.sent}", version, f"{word} number {self.sent}", None, {answer: 0.9, other: 0.1})
            self.intake.take([said])
            label = Label(said.id, truth, self.clock.now(), Source.ASKED, f"ann {self.sent % 9}", 1.0, said.id)
            self.project.store.add_labels("reviews", [label])
            self.clock.advance(timedelta(seconds=10))

    def train(self, *words: tuple[str, str], n: int = 60) -> Mapping[str, Any]:
        """Data that a person brings."""
        file = self.project.folder / "data.csv"
        rows = [f"{word} said {i},{label}" for word, label in words for i in range(n)]
        file.write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
        return self.project.train(file)

    @property
    def live(self) -> Any:
        return self.project.store.deployment("reviews")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    clock = ManualClock(datetime(2026, 3, 1, 9, tzinfo=UTC))
    project = Project(tmp_path, environ={})
    project.home = replace(project.home, clock=clock)
    hook = Hook()
    over = replace(project.hand_over(), post=hook, secret=SECRET, clock=clock)
    yield World(project, clock, intake(project.home, "reviews", project.store), hook, over)
    project.close()


def test_the_first_answers_say_what_is_live_and_it_is_watched_at_once(world: World) -> None:
    world.say(60, "fine", "good", "good", "their-1")
    decision = world.beat()
    assert world.live.traffic.shares == {FOREIGN_FROM + 1: 1.0}
    assert world.live.applied
    assert world.live.kind == "elsewhere"
    assert "'their-1'" in world.live.reason
    measured = {m["name"]: m for m in decision.evidence["measurements"]}
    assert measured["accuracy"]["value"] == 1.0
    assert "without embeddings" in measured["embedding_drift"]["note"]
    assert world.hook.calls == []  # keepfit did not decide it, so it tells nobody


def test_the_whole_loop_but_the_routing(world: World) -> None:
    # their own model answers well; the data it was made from is here, too, for later
    world.say(60, "fine", "good", "good", "their-1")
    world.say(60, "bad", "bad", "bad", "their-1")
    world.beat()
    # the words turn: what is awful is called good
    world.say(80, "awful", "good", "bad", "their-1")
    # a person brings the data; what comes of it is handed over, since it is better than the recorded answers
    result = world.train(("fine", "good"), ("nice", "good"), ("bad", "bad"), ("great", "good"), ("awful", "bad"))
    assert result["verdict"] == "pass", result["because"]
    assert world.live.traffic.shares == {1: 1.0}
    assert not world.live.applied
    world.over.hand_over()
    body, headers, raw = world.hook.calls[0]
    assert (body["version"], body["model"], body["deployment_id"]) == ("1", "reviews", world.live.id)
    assert body["decision_id"]
    assert body["because"]
    assert "model.json" in body["files"]
    assert Path(body["path"], "model.json").is_file()
    assert headers[SIGNATURE] == signature(SECRET, raw)
    world.over.hand_over()
    assert len(world.hook.calls) == 1  # once for each deployment
    assert world.project.registry.alias("reviews", Alias.CHAMPION) == 1
    # the other system loads it, and its first answer is the sign
    world.say(40, "awful", "bad", "bad", "models:/reviews/1")
    world.beat()
    assert [worker for worker, _ in world.live.applied] == ["elsewhere"]
    world.clock.advance(timedelta(minutes=70))
    world.say(5, "awful", "bad", "bad", "1")
    world.beat()
    # harm of the new version is seen, and it is retrained without anybody's word
    world.say(120, "meh", "good", "bad", "1")
    assert world.beat().outcome is Outcome.FIRE
    job = world.project.store.running_or_waiting("reviews", "retrain")
    assert job is not None
    result = world.project.finish(job, lambda *_: None)
    assert result["verdict"] == "pass", result["because"]
    assert world.live.traffic.shares == {2: 1.0}
    world.over.hand_over()
    assert world.hook.calls[-1][0]["version"] == "2"
    # and back: the version before is handed over the same way
    world.say(5, "meh", "bad", "bad", "2")
    world.beat()
    world.project.rollback()
    world.over.hand_over()
    assert (world.hook.calls[-1][0]["version"], world.hook.calls[-1][0]["kind"]) == ("1", "rollback")
    assert world.project.registry.alias("reviews", Alias.CHAMPION) == 1


def test_the_way_back_can_lead_to_a_version_that_keepfit_never_had(world: World) -> None:
    world.say(60, "awful", "good", "bad", "their-1")
    world.beat()
    world.train(("fine", "good"), ("bad", "bad"), ("awful", "bad"))
    world.say(5, "awful", "bad", "bad", "1")
    world.beat()
    world.project.rollback()
    world.beat()
    body = world.hook.calls[-1][0]
    assert (body["version"], body["mlflow_uri"], body["path"]) == ("their-1", None, None)
    assert world.project.registry.alias("reviews", Alias.CHAMPION) is None


def test_a_version_that_does_harm_while_it_is_watched_is_taken_back_there_too(world: World) -> None:
    world.train(("fine", "good"), ("bad", "bad"))
    world.say(60, "fine", "good", "good", "1")
    world.beat()
    world.clock.advance(timedelta(minutes=70))
    world.beat()
    world.train(("fine", "good"), ("bad", "bad"), ("meh", "good"))
    world.say(60, "meh", "good", "bad", "2")  # version 1, which keepfit can ask, would have said bad
    world.beat()
    assert world.live.kind == "rollback"
    assert [call[0]["version"] for call in world.hook.calls] == ["1", "1"]


def test_a_webhook_that_is_away_is_told_again_with_longer_pauses_and_people_hear_of_it(world: World) -> None:
    world.hook.status = 0
    world.train(("fine", "good"), ("bad", "bad"))
    for _ in range(40):
        world.over.hand_over()
        world.clock.advance(timedelta(seconds=1))
    assert len(world.hook.calls) == 6  # after 1, 2, 4, 8 and 16 seconds
    stored = world.project.store.decisions("reviews", limit=50)
    told = [d.decision for d in stored if d.subject == "hand over v1"]
    assert [d.outcome for d in told] == [Outcome.FAIL, Outcome.HOLD]
    heard: list[Any] = []
    announcer(world.project.home, "reviews", world.project.store, heard.append).announce()
    assert any("hand-over failed" in alert.title for alert in heard)
    world.hook.status = 200
    world.clock.advance(timedelta(minutes=10))
    world.over.hand_over()
    keys = {headers["Idempotency-Key"] for _, headers, _ in world.hook.calls}
    bodies = {raw for _, _, raw in world.hook.calls}
    assert len(keys) == len(bodies) == 1
    assert world.project.store.get("reviews", "handed_over")["done"]


def test_a_redirect_is_not_followed_but_said(world: World) -> None:
    world.hook.status = 302
    world.train(("fine", "good"), ("bad", "bad"))
    world.over.hand_over()
    stored = world.project.store.decisions("reviews", limit=1)[0].decision
    assert "redirects are not followed" in stored.because[0]


def test_a_version_that_nobody_loads_is_said_after_a_while(world: World) -> None:
    world.say(30, "awful", "good", "bad", "their-1")
    world.beat()
    world.train(("fine", "good"), ("bad", "bad"), ("awful", "bad"))
    world.clock.advance(timedelta(hours=2))
    world.say(1, "awful", "good", "bad", "their-1")
    world.over.observe()
    world.over.observe()
    stored = [d.decision for d in world.project.store.decisions("reviews") if d.subject == "hand over v1"]
    assert [d.outcome for d in stored] == [Outcome.FAIL]
    assert "'their-1' still answers" in stored[0].because[0]


def test_what_takes_over_there_by_itself_is_in_the_history(world: World) -> None:
    world.say(30, "fine", "good", "good", "their-1")
    world.beat()
    world.say(19, "fine", "good", "good", "their-2")
    world.beat()
    assert world.live.traffic.shares == {FOREIGN_FROM + 1: 1.0}  # so few may be stragglers or a trial
    world.say(1, "fine", "good", "good", "their-2")
    world.beat()
    assert world.live.traffic.shares == {FOREIGN_FROM + 2: 1.0}


@pytest.fixture
def client(world: World) -> Iterator[FlaskClient]:
    service = make(world.project.folder)
    yield create_app(service).test_client()
    service.close()
    service.store.close()


ONE = {"id": "a", "version": "their-1", "text": "fine day", "probabilities": {"good": 0.75, "bad": 0.25}}


def test_an_answer_is_stored_once_however_often_it_is_sent(world: World, client: FlaskClient) -> None:
    assert client.post("/predictions", json=ONE).json == {"accepted": 1, "new": 1, "known": 0}
    assert client.post("/predictions", json=ONE).json == {"accepted": 1, "new": 0, "known": 1}
    many = [ONE, {**ONE, "id": "b", "time": "2026-01-31T12:00:00"}]
    assert client.post("/predictions", json={"predictions": many}).json == {"accepted": 2, "new": 1, "known": 1}
    example, prediction = world.project.store.prediction("reviews", "b")
    assert example.time == datetime(2026, 1, 31, 12, tzinfo=UTC)  # without a zone it is UTC
    assert prediction.labels == ("bad", "good")
    assert prediction.scores.tolist() == [0.25, 0.75]
    label = client.post("/labels", json={"labels": [{"id": "a", "label": "bad"}, {"text": "fine day", "label": "bad"}]})
    assert label.json is not None
    assert label.json["accepted"] == 2


def as_written(client: FlaskClient, path: str, value: Any) -> Any:
    """Posts it with its keys in their order, which the client's own JSON sorts."""
    return client.post(path, data=json.dumps(value), content_type="application/json")


def test_the_columns_of_a_text_may_come_in_any_order(world: World, client: FlaskClient) -> None:
    text, turned = {"title": "Fine", "body": "a day"}, {"body": "a day", "title": "Fine"}
    for number, sent in enumerate((text, turned)):
        answer = as_written(client, "/predictions", {**ONE, "text": sent})
        assert answer.json == {"accepted": 1, "new": 1 - number, "known": number}
    as_written(client, "/predictions", {**ONE, "id": "b", "text": turned})
    assert world.project.store.prediction("reviews", "b")[0].content == ("Fine", "a day")
    for sent in (text, turned):
        assert as_written(client, "/labels", {"labels": [{"text": sent, "label": "bad"}]}).status_code == 200
    world.project.store.put("reviews", "columns", {"text": ["body", "title"]})  # as a training of such a table does
    as_written(client, "/predictions", {**ONE, "id": "c", "text": text})
    assert world.project.store.prediction("reviews", "c")[0].content == ("a day", "Fine")
    answer = client.post("/predictions", json={"predictions": [{**ONE, "id": "d", "text": {"title": "Fine"}}]})
    assert answer.status_code == 422
    assert "wants exactly body, title" in answer.json["detail"]
    assert answer.json["field"] == "predictions.0.text"


@pytest.mark.parametrize(
    "other", [{"text": "another text"}, {"probabilities": {"good": 0.7, "bad": 0.3}}, {"version": "their-2"}]
)
def test_an_id_with_other_content_is_refused_by_name_and_nothing_of_the_call_is_stored(
    client: FlaskClient, world: World, other: dict[str, Any]
) -> None:
    client.post("/predictions", json=ONE)
    answer = client.post("/predictions", json={"predictions": [{**ONE, "id": "new"}, {**ONE, **other}]})
    assert answer.status_code == 409
    assert answer.json is not None
    assert "'a'" in answer.json["detail"]
    assert world.project.store.find_prediction("reviews", example_id="new") is None


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"probabilities": {"good": 0.9, "bad": 0.3}}, "probabilities", "add up to 1.2"),
        ({"probabilities": {"good": 1.5, "bad": -0.5}}, "probabilities", "between 0 and 1"),
        ({"probabilities": {"good": 0.5, "ugly": 0.5}}, "probabilities", "'ugly' is none of the classes"),
        ({"text": None}, "text", "without either"),
        ({"text": "  "}, "text", "is empty"),
        ({"text": 3}, "text", "must be a string"),
        ({"time": "2999-01-01T00:00:00Z"}, "time", "2200"),
        ({"time": "2100-01-01T00:00:00Z"}, "time", "future"),
        ({"time": 1700000000}, "time", "write a time like"),
        ({"version": "7"}, "version", "never handed over"),
        ({"label": "good", "score": 0.9}, "probabilities", "exactly one"),
        ({"probabilities": None, "label": "good"}, "score", "needs its"),
        ({"embedding": []}, "embedding", "empty"),
        ({"surprise": 1}, "surprise", "unknown"),
    ],
)
def test_bad_input_is_refused_with_its_place(
    client: FlaskClient, change: dict[str, Any], field: str, words: str
) -> None:
    single = client.post("/predictions", json={**ONE, **change})
    many = client.post("/predictions", json={"predictions": [ONE, {**ONE, "id": "b", **change}]})
    assert (single.status_code, many.status_code) == (422, 422)
    assert single.json is not None
    assert many.json is not None
    assert words in single.json["detail"]
    assert words in many.json["detail"]
    assert single.json["field"] == field
    assert many.json["field"] == f"predictions.1.{field}"


def test_embeddings_of_a_version_are_all_alike(client: FlaskClient) -> None:
    assert client.post("/predictions", json={**ONE, "embedding": [0.5, 1, 2]}).status_code == 200
    answer = client.post("/predictions", json={**ONE, "id": "b"})
    assert answer.status_code == 422
    assert answer.json is not None
    assert "embeddings of 3 numbers" in answer.json["detail"]
    only = {**ONE, "id": "c", "embedding": [0.5, 1, 2]}
    del only["text"]
    assert client.post("/predictions", json=only).status_code == 200


def test_a_huge_bulk_is_refused_before_it_is_read(client: FlaskClient) -> None:
    answer = client.post("/predictions", json={"predictions": [{**ONE, "id": str(i)} for i in range(1001)]})
    assert answer.status_code == 413


def test_keepfit_answers_nothing_for_it_and_is_ready_all_the_same(client: FlaskClient) -> None:
    answer = client.post("/predict", json={"text": "fine"})
    assert answer.status_code == 409
    assert answer.json is not None
    assert "served elsewhere" in answer.json["detail"]
    for path in ("/health/ready", "/models/reviews/health/ready", "/v2/health/ready"):
        assert client.get(path).status_code == 200


def test_clients_of_the_open_inference_protocol_are_told_the_same(client: FlaskClient) -> None:
    below = "/v2/models/reviews", "/v2/models/reviews/versions/1"
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["fine"]}]}
    answers = [client.post(f"{path}/infer", json=body) for path in below]
    answers += [client.get(f"{path}{end}") for path in below for end in ("", "/ready")]
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json is not None
        assert "ask that server, and send its answers to POST /predictions" in answer.json["error"]


def test_a_model_that_is_served_here_takes_no_answers(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.reviews]\ntask = "toy"\n', "utf-8")
    service = make(tmp_path)
    answer = create_app(service).test_client().post("/predictions", json=ONE)
    service.close()
    service.store.close()
    assert answer.status_code == 404
