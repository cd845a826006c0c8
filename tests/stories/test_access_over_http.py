"""What somebody who means no good meets at the HTTP server, and what a token may do, in process with the toy task."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from keepfit.app.http.access import GUESSES
from keepfit.app.server import create_app
from keepfit.app.service import HttpLimits, ServedModel, Service
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, JobState, Traffic
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token, hash_token
from keepfit.rollout.rollout import Roller
from keepfit.rollout.strategies import Limits, immediate
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.refresher import Refresher
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel

AT_ONCE = immediate(timedelta(0), Limits())


@dataclass
class World:
    """Two models behind one server, and callers with tokens."""

    service: Service
    clock: ManualClock
    client: FlaskClient

    @property
    def store(self) -> RecordStore:
        return self.service.store

    def token(self, name: str, *roles: str, **limits: Any) -> None:
        self.store.add_token(Token(name, hash_token(name), roles, self.clock.now(), **limits))

    def again(self, **limits: Any) -> None:
        """The server restarts, perhaps with other limits."""
        service = replace(self.service, limits=replace(self.service.limits, **limits))
        self.client = create_app(service).test_client()

    def call(self, method: str, path: str, token: str | None = None, **more: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if method == "POST" and "data" not in more:
            more.setdefault("json", {})
        return self.client.open(path, method=method, headers=headers, **more)

    def predict(self, token: str | None = None, path: str = "/predict", text: str = "love") -> TestResponse:
        return self.call("POST", path, token, json={"text": text})

    def label(self, token: str | None, n: int, begin: int = 0, asked: bool = True, **more: Any) -> TestResponse:
        """Labels for n answers, which are given first, unless they were already."""
        texts = [f"love {number}" for number in range(begin, begin + n)]
        if asked:
            self.service.models["reviews"].predictor.predict([Request(text) for text in texts])
        body = {"labels": [{"text": text, "label": "good", **more} for text in texts]}
        return self.call("POST", "/labels", token, json=body)

    def actors(self) -> set[str]:
        return {pair.label.actor for pair in self.store.training_data("reviews")}


def load(version: int) -> ToyModel:
    return ToyModel(["bad", "good"], {"love": "good"}, [0.6, 0.4])


@pytest.fixture
def world(store_url: str, tmp_path: Path, clock: ManualClock) -> Iterator[World]:
    with RecordStore.open(store_url) as store:
        writer = RecordWriter(store)
        predictors = [
            Predictor(
                name, store, lambda version: ToyModel(["bad", "good"], {"love": "good"}, [0.6, 0.4]), writer, clock
            )
            for name in ("reviews", "tickets")
        ]
        for predictor in predictors:
            store.deploy(predictor.name, Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        service = Service(
            store,
            {p.name: ServedModel(p, "toy", roller=Roller(p.name, store, AT_ONCE, clock)) for p in predictors},
            "reviews", writer,
            Refresher(predictors, interval_s=60), clock, "0.1.0", tmp_path / "batches",
            limits=HttpLimits(body_bytes=100_000, file_bytes=10_000, items=500),
        )  # fmt: skip
        service.start()
        yield World(service, clock, create_app(service).test_client())
        service.close()


# limits


def test_a_token_that_calls_too_often_is_told_when_to_come_back_and_others_are_not_held_up(world: World) -> None:
    world.token("busy", "predict", per_minute=3)
    world.token("calm", "predict")
    assert [world.predict("busy").status_code for _ in range(5)] == [200, 200, 200, 429, 429]
    refused = world.predict("busy")
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert "'busy'" in (refused.json or {})["detail"]
    assert world.predict("calm").status_code == 200
    assert world.call("GET", "/health/live").status_code == 200


def test_callers_without_a_token_are_limited_by_the_settings(world: World) -> None:
    world.again(requests_per_minute=2, labels_per_day=3)
    assert world.label(None, 3).status_code == 200
    assert world.label(None, 1, begin=10).status_code == 429
    assert world.predict().status_code == 429


def test_the_labels_of_a_day_are_counted_in_the_store_so_that_a_restart_forgets_nothing(world: World) -> None:
    world.token("desk", "label", labels_per_day=10)
    assert world.label("desk", 8).json == {"accepted": 8, "new": 8}
    again = world.label("desk", 8, asked=False)
    assert again.json == {"accepted": 8, "new": 0}, "what was said already costs nothing"
    world.again()
    refused = world.label("desk", 3, begin=100)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) == 24 * 3600
    assert len(world.store.training_data("reviews")) == 8, "all or none"
    assert world.label("desk", 2, begin=200).status_code == 200
    world.clock.advance(timedelta(days=1))
    assert world.label("desk", 10, begin=300).status_code == 200


def test_labels_that_claim_to_be_of_yesterday_count_today(world: World) -> None:
    world.token("desk", "label", labels_per_day=4)
    assert world.label("desk", 4, time="2024-12-01T00:00:00Z").status_code == 200
    assert world.label("desk", 1, begin=50, time="2024-12-02T00:00:00Z").status_code == 429


def test_an_admin_who_speaks_for_others_pays_with_the_same_token(world: World) -> None:
    world.token("boss", "admin", labels_per_day=4)
    assert world.label("boss", 3, actor="ann").status_code == 200
    assert world.label("boss", 3, begin=50, actor="bob").status_code == 429


# one model


def test_a_token_for_one_model_opens_no_other_and_learns_nothing_of_it(world: World) -> None:
    world.token("narrow", "admin", model="tickets")
    assert world.predict("narrow", "/models/tickets/predict").status_code == 200
    for path in ("/predict", "/models/reviews/predict", "/models/unknown/predict"):
        refused = world.predict("narrow", path)
        assert refused.status_code == 403
        assert "/models/tickets/" in (refused.json or {})["detail"]
    for path in ("/history", "/decisions", "/labels/queue", "/models/reviews/status"):
        assert world.call("GET", path, "narrow").status_code == 403
    (only,) = (world.call("GET", "/status", "narrow").json or {})["models"]
    assert only["name"] == "tickets"


# who did it


@pytest.mark.parametrize(
    ("token", "role", "actor", "recorded"),
    [
        (None, "", None, "anonymous"), (None, "", "ann", "ann"), ("shop", "label", None, "shop"),
        ("shop", "label", "ann", "shop:ann"), ("shop", "label", "shop", "shop"), ("shop", "label", "boss", "shop:boss"),
        ("boss", "admin", "ann", "ann"), ("boss", "admin", None, "boss"),
    ],
)  # fmt: skip
def test_a_token_speaks_for_itself_and_only_an_admins_for_anybody(
    world: World, token: str | None, role: str, actor: str | None, recorded: str
) -> None:
    if token is not None:
        world.token(token, role)
    assert world.label(token, 1, **({} if actor is None else {"actor": actor})).status_code == 200
    assert world.actors() == {recorded}


@pytest.mark.parametrize("actor", ["silence", "file", "ann\n", "\x1b[31mann", "a\u202eb", "", "x" * 201])
def test_nobody_speaks_as_keepfit_itself_or_writes_into_terminals(world: World, actor: str) -> None:
    assert world.label(None, 1, actor=actor).status_code == 422


def test_whoever_changes_something_is_on_record(world: World) -> None:
    world.token("boss", "admin")
    world.store.deploy("reviews", Traffic({1: 1.0}), Cause("trainer", "x"), world.clock.now())
    world.store.put("reviews", "awaiting_approval", {"version": 1, "decision": "d"})
    assert world.call("POST", "/approve", "boss", json={}).status_code == 200
    assert world.call("POST", "/retrain", "boss", json={"reason": "new season"}).status_code == 202
    assert world.call("POST", "/events", "boss", json={"kind": "release"}).status_code == 202
    world.call("POST", "/batches", "boss", data={"file": (io.BytesIO(b"text\nx\n"), "a.csv")})
    deployment = world.store.deployment("reviews")
    assert deployment is not None
    assert deployment.actor == "boss"
    assert {job.request["actor"] for job in world.store.jobs("reviews")} == {"boss"}
    assert world.store.decisions("reviews", "trigger")[0].decision.evidence["actor"] == "boss"
    assert world.store.waiting_events("reviews")[0].actor == "boss"


# tokens


def test_every_token_that_does_not_work_gets_the_same_answer(world: World) -> None:
    world.token("app", "predict")
    world.token("old", "predict", expires=world.clock.now())
    world.token("gone", "predict", revoked=True)
    answers = [world.predict(token) for token in ("nobody", "old", "gone", "x" * 5000, "é")]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.data for answer in answers}) == 1


def test_who_guesses_tokens_is_told_to_wait_and_a_known_token_still_works(world: World) -> None:
    world.token("app", "predict")
    said = [world.predict(f"guess {number}").status_code for number in range(GUESSES + 5)]
    assert said == [401] * GUESSES + [429] * 5
    assert world.predict("app").status_code == 200
    assert f"keepfit_unknown_tokens_total {GUESSES + 5}.0" in world.call("GET", "/metrics").text


def test_a_token_in_an_address_is_no_token(world: World) -> None:
    world.token("app", "admin")
    for query in ("token=app", "access_token=app", "Authorization=Bearer%20app"):
        assert world.call("GET", f"/status?{query}").status_code == 401
        assert world.call("GET", f"/status?{query}", "app").status_code == 422


def test_who_may_not_call_is_refused_before_anything_is_read(world: World) -> None:
    world.token("app", "predict")

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

    answer = world.client.post("/predict", input_stream=Endless(), content_length=99, content_type="application/json")
    assert answer.status_code == 401


# answers


PATHS = ("/docs", "/openapi.json", "/health/live", "/metrics", "/status", "/nothing", "/", "/console/x")


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_carries_its_headers(world: World, path: str) -> None:
    headers = world.call("GET", path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    policy = headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert ("script-src" in policy) == path.startswith("/console/")


def test_the_page_of_routes_may_use_its_own_style_and_nothing_else(world: World) -> None:
    policy = world.call("GET", "/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "style-src 'sha256-" in policy
    assert "unsafe" not in policy


def test_no_other_site_is_let_in_by_cors(world: World) -> None:
    answer = world.client.options("/predict", headers={"Origin": "https://evil.example"})
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]


def test_an_answer_of_a_fault_tells_nothing_of_the_inside(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.store.close()
    with caplog.at_level(logging.WARNING):
        answer = world.call("GET", "/models/rev%0Aiews%1B[31m/status")
    assert answer.status_code == 404
    assert "Traceback" not in answer.text
    assert "\x1b" not in caplog.text


# bodies


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"text": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}",
        b"[" * 50_000, b'{"text":' + b"[" * 50_000,
    ],
)  # fmt: skip
def test_a_body_nested_without_end_is_refused(world: World, body: bytes) -> None:
    answer = world.call("POST", "/predict", data=body, content_type="application/json")
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "text/json", "application/xml", "image/png", None]
)
def test_only_json_is_read_as_json(world: World, kind: str | None) -> None:
    """A page of another site can send these without asking; it cannot send application/json."""
    for path in ("/labels", "/retrain", "/rollback", "/approve", "/events"):
        answer = world.call("POST", path, data=b'{"kind": "release"}', content_type=kind)
        assert answer.status_code == 415, path


NAMES = (
    "../../../etc/cron.d/x.csv", "/etc/passwd.csv", "..\\..\\x.csv", "C:\\Windows\\x.csv", "x/../../y.csv",
    "%2e%2e%2fx.csv", "\u2025\u2215\u2044x.csv", "\uff0e\uff0e\uff0fx.csv", "a" * 5000 + ".csv", "nul\x00l.csv", ".csv",
    "-rf.csv", "$(id).csv", "x.csv\r\nX-Evil: 1.csv",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_leads_nowhere(world: World, tmp_path: Path, name: str) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    world.call("POST", "/batches", data={"file": (io.BytesIO(b"text\nfine\n"), name)})
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    for path in made:
        assert path.parent.parent == tmp_path / "batches"
        assert path.name == "input.csv"
    for job in world.store.jobs("reviews"):
        target = Path(job.request["target"])
        target.write_text("text,label\nfine,good\n", "utf-8")
        world.store.update_job(job.id, state=JobState.DONE)
        answer = world.call("GET", f"/batches/{job.id}/output")
        assert answer.status_code == 200
        answer.close()
        assert "X-Evil" not in answer.headers
        assert "/" not in answer.headers["Content-Disposition"].partition("filename")[2]


@pytest.mark.parametrize("id_", ["..", "%2e%2e", "..%2f..%2fkeepfit.db", "%00", "a" * 4000, "\uff0e\uff0e"])
def test_a_jobs_id_leads_nowhere(world: World, id_: str) -> None:
    assert world.call("GET", f"/batches/{id_}/output").status_code in {404, 308}
