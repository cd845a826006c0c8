"""What the record store promises, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from sqlalchemy import event as sql_events
from sqlalchemy import insert, text

from keepfit.data.classes import ClassChange
from keepfit.data.costs import Cost
from keepfit.data.database import open_database
from keepfit.data.forgetting import Counts, Person, StoredTraces
from keepfit.data.labellers import Labeller
from keepfit.data.quota import Quota
from keepfit.data.records import (
    Cause,
    Event,
    Example,
    Failure,
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
from keepfit.data.retention import Keep, StoredRows
from keepfit.data.schema import DECISIONS
from keepfit.data.search import search_rows
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound, Overloaded, Refused

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


def test_disagreements_come_first_while_a_rollout_waits_and_parts_are_kept(store: RecordStore) -> None:
    store.add_predictions(M, [pair(name) for name in "123"])
    parts = {"1": {"uniform": 0.1}, "2": {"uniform": 0.1, "disagreement": 0.5}, "3": {"disagreement": 0.5}}
    items = [replace(item(name, float(name)), parts=parts[name]) for name in "123"]
    store.ask(items)
    assert store.queue(M, 10) == items
    assert [one.id for one in store.queue(M, 10, at(2.5))] == ["q-3", "q-1", "q-2"]
    assert [one.id for one in store.queue(M, 10, at(0))] == ["q-2", "q-3", "q-1"]
    found = store.parts_of(M, ["e-1", "e-2", "e-9"])
    assert found == {"e-1": {"uniform": at(1)}, "e-2": {"uniform": at(2), "disagreement": at(2)}}


def test_an_audit_is_answered_by_an_asked_label_alone(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2")])
    store.ask([replace(item("1", 1), parts={"audit": 0.01}), item("2", 1)])
    store.add_labels(M, [label(name, "good", 5, Source.COMPLETE) for name in "12"])
    assert [one.id for one in store.queue(M, 10)] == ["q-1"]
    everything = Window(at(0), at(100))
    assert [one.answered for one in store.asked(M, everything)] == [None, at(5)]
    store.add_labels(M, [label("1", "good", 7, Source.ASKED)])
    assert store.queue(M, 10) == []
    assert [one.answered for one in store.asked(M, everything)] == [at(7), at(5)]


def test_the_same_content_is_known_again_within_and_before_a_window(store: RecordStore) -> None:
    texts = ("Good day", "bad day", "good  DAY", "good day")
    for minutes, words in enumerate(texts, start=1):
        name = str(minutes)
        example, said = pair(name)
        example = replace(example, content=words, group=None)
        store.add_predictions(M, [(example, replace(said, time=at(minutes)))])
    assert store.repeated(M, at(0), Window(at(0), at(10))) == {"p-3", "p-4"}
    assert store.repeated(M, at(0), Window(at(4), at(10))) == {"p-4"}
    assert store.repeated(M, at(3.5), Window(at(4), at(10))) == set()
    alike = store.alike(M, ["e-1", "e-2", "e-3", "e-9"])
    assert alike["e-1"] == alike["e-3"] != alike["e-2"]
    assert alike["e-9"] == "e-9"


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


def test_decisions_are_found_up_to_a_moment_and_by_how_their_id_begins(store: RecordStore) -> None:
    for minute, name in enumerate(["ab%1", "ab%2", "AB%3", "abc", "b"]):
        store.add_decision(M, "trigger", Decision(Outcome.WAIT), at(minute), id=name)
    assert [d.id for d in store.decisions(M, until=at(1))] == ["ab%2", "ab%1"]
    assert [d.id for d in store.decisions(M, "trigger", limit=1, until=at(3))] == ["abc"]
    assert [d.id for d in store.decisions(M, begins="ab%")] == ["ab%2", "ab%1"]


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


def test_a_deployment_that_another_one_has_overtaken_writes_nothing(store: RecordStore) -> None:
    first = store.deploy(M, Traffic({1: 1.0}), Cause("ann", "first"), at(0))
    store.deploy("other", Traffic({9: 1.0}), Cause("bob", "another model"), at(1))
    second = store.deploy(M, Traffic({2: 1.0}), Cause("ann", "second"), at(2), first.id, {"rollout": {"step": 0}})
    assert store.get(M, "rollout") == {"step": 0}
    with pytest.raises(Refused, match="came between"):
        store.deploy(M, Traffic({3: 1.0}), Cause("bob", "late"), at(3), first.id, {"rollout": None})
    assert store.deployment(M) == second
    assert store.get(M, "rollout") == {"step": 0}


def test_of_two_who_deploy_upon_the_same_one_is_refused(url: str) -> None:
    with RecordStore.open(url) as store:
        first = store.deploy(M, Traffic({1: 1.0}), Cause("ann", "first"), at(0))

        def late(version: int) -> bool:
            with RecordStore.open(url) as mine:
                try:
                    mine.deploy(M, Traffic({version: 1.0}), Cause("w", "step"), at(1), first.id, {"rollout": version})
                except Refused:
                    return False
                return True

        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(late, range(2, 10)))
        assert done.count(True) == 1
        newest = store.deployment(M)
        assert newest is not None
        assert newest.traffic.shares == {store.get(M, "rollout"): 1.0}


def test_what_versions_could_not_do_is_kept_and_counted(store: RecordStore) -> None:
    store.add_failures(M, [])
    found = [
        Failure(2, at(0), "answer", NASTY, "here", 3),
        Failure(2, at(5), "slow", "late"),
        Failure(1, at(5), "load", "x"),
    ]
    store.add_failures(M, found)
    assert store.failures(M, at(0)) == found[::-1]
    assert store.failures(M, at(1), limit=1) == [found[2]]
    kinds = ("answer", "slow")
    assert (store.count_failures(M, 2, at(0), kinds), store.count_failures(M, 2, at(1), kinds)) == (4, 1)
    assert store.count_failures(M, 2, at(0), ["slow"]) == 1
    assert store.count_failures("other", 2, at(0), kinds) == 0


def test_answers_in_brief_have_their_label_and_no_embedding(store: RecordStore) -> None:
    example, one = pair("1", 1)
    slow = replace(one, measures={"ms": 12.5}, stage="cache")
    two = replace(predicted(example, "p-2", 2, version=2, shadow=True))
    store.add_predictions(M, [(example, slow), (example, two)])
    brief, other = store.briefs(M, Window(at(0), at(9)))
    assert (brief.version, brief.label, brief.confidence, brief.time) == (1, "good", 0.75, at(1))
    assert (brief.stage, brief.shadow, brief.measures) == ("cache", False, {"ms": 12.5})
    assert (other.version, other.shadow) == (2, True)
    assert store.briefs(M, Window(at(0), at(9)), version=2) == [other]
    assert store.briefs(M, Window(at(0), at(9)), limit=1) == [other]
    assert store.briefs(M, Window(at(3), at(9))) == []
    assert (brief.key, other.key) == (example.group_or_default(), example.group_or_default())
    assert store.briefs_of(M, Window(at(0), at(9)), [1, 2], 1) == [brief]
    assert store.briefs_of(M, Window(at(0), at(9)), [2], 9) == [other]


def test_the_answers_of_two_versions_to_the_same_examples(store: RecordStore) -> None:
    example, one = pair("1", 1)
    newer = replace(predicted(example, "p-3", 3), scores=np.array([0.9, 0.1], np.float32))
    store.add_predictions(M, [(example, one), (example, predicted(example, "p-4", 2, 2, True)), (example, newer)])
    store.add_predictions(M, [pair("2", 1)])
    ids = ["e-1", "e-2", "unknown"]
    assert store.answers(M, ids, [1, 2]) == {("e-1", 1): "bad", ("e-1", 2): "good", ("e-2", 1): "good"}
    assert store.answers(M, ids, [2]) == {("e-1", 2): "good"}
    assert store.answers(M, [], [1]) == {}


def test_complaints_are_volunteered_labels_that_contradict_the_answer_they_name(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2"), pair("3", version=2)])
    said = [
        replace(label("1", "bad", 1, Source.VOLUNTEERED), prediction_id="p-1"),
        replace(label("2", "good", 1, Source.VOLUNTEERED), prediction_id="p-2"),
        replace(label("3", "bad", 2, Source.VOLUNTEERED), prediction_id="p-3"),
        replace(label("3", "bad", 2, Source.ASKED, "bob"), prediction_id="p-3"),
    ]
    for minute, value in enumerate(2 * ["good", "bad"], start=3):
        said.append(replace(label("3", value, minute, Source.VOLUNTEERED), prediction_id="p-3"))
    store.add_labels(M, said)

    def versions(start: float) -> list[int]:
        return sorted(brief.version for brief in store.complaints(M, Window(at(start), at(9))))

    assert versions(0) == [1, 2], "one voice counts once, however often it changes"
    assert versions(2) == [2]
    store.set_labeller(Labeller(M, "ann", True, at(9), "boss"))
    assert versions(0) == [], "who is set apart is not heard"


def test_what_is_said_later_of_an_example_that_is_gone_does_not_bring_it_back(store: RecordStore) -> None:
    example, one = pair("1")
    store.add_predictions(M, [(example, one)])
    gone = predicted(pair("2")[0], "p-9", 5, version=2, shadow=True)
    store.add_later(M, [predicted(example, "p-8", 5, version=2, shadow=True), gone])
    assert store.answers(M, ["e-1", "e-2"], [2]) == {("e-1", 2): "good"}
    assert [e.id for e in store.examples(M, window())] == ["e-1"]


def test_values_are_put_together_unless_somebody_deployed_meanwhile(store: RecordStore) -> None:
    first = store.deploy(M, Traffic({1: 1.0}), Cause("ann", "first"), at(0))
    store.put_all(M, {"a": 1, "b": 2}, first.id)
    store.deploy(M, Traffic({2: 1.0}), Cause("ann", "second"), at(1))
    with pytest.raises(Refused, match="came between"):
        store.put_all(M, {"a": 9, "c": 9}, first.id)
    assert (store.get(M, "a"), store.get(M, "b"), store.get(M, "c")) == (1, 2, None)


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


def test_a_tokens_limits_are_kept_and_changed(store: RecordStore) -> None:
    token = Token("ci", "hash", ("predict",), at(0), model="reviews", per_minute=60, labels_per_day=100)
    store.add_token(token, "ann")
    assert store.tokens() == [token]
    store.change_token("ci", {"per_minute": None, "labels_per_day": 5}, "ann")
    assert store.tokens() == [replace(token, per_minute=None, labels_per_day=5)]
    with pytest.raises(NotFound):
        store.change_token("nobody", {"per_minute": 1}, "ann")


def test_a_days_labels_are_counted_together_by_everyone_who_writes(store: RecordStore) -> None:
    store.add_predictions(M, [pair(str(n)) for n in range(40)])
    quota, added = Quota("ci", 10, at(0)), []

    def add(n: int) -> None:
        try:
            added.append(store.add_labels(M, [label(str(n), "good", 0)], quota))
        except Overloaded:
            added.append(0)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    assert sum(added) == len(store.training_data(M)) == 10
    tomorrow = replace(quota, now=at(24 * 60))
    assert store.add_labels(M, [label(str(n), "bad", 1) for n in range(10)], tomorrow) == 10
    assert store.add_labels(M, [label("39", "good", 1)], replace(quota, who="other")) == 1


def test_labels_of_those_set_apart_are_kept_but_count_nowhere(store: RecordStore) -> None:
    store.add_predictions(M, [pair(str(n)) for n in range(4)])
    actors = ("ann", "evil", "evil:1", "evilest")
    store.add_labels(M, [label(str(n), "good", 1, actor=actor) for n, actor in enumerate(actors)])
    store.set_labeller(Labeller(M, "evil", True, at(2), "keepfit", ("a flood", NASTY)))
    assert [found.label.actor for found in store.training_data(M)] == ["ann", "evilest"]
    assert [found.actor for _, found in store.labelled(M, window())] == ["ann", "evilest"]
    assert len(store.labelled(M, window(), everyone=True)) == 4
    assert store.count_labels(M, at(0)) == 2
    assert [said.actor for said in store.said(M, 10)] == list(actors)
    assert {(said.value, said.answered, said.measures) for said in store.said(M, 10)} == {("good", "good", True)}
    store.set_labeller(Labeller(M, "evil", False, at(3), "ann", ("she knows them",)))
    assert len(store.training_data(M)) == 4
    assert store.labellers(M) == [Labeller(M, "evil", False, at(3), "ann", ("she knows them",))]
    assert store.labellers("tickets") == []


def test_arrivals_are_counted_by_people_in_the_order_in_which_they_came(store: RecordStore) -> None:
    store.add_predictions(M, [pair(str(n)) for n in range(6)])
    store.add_labels(M, [label("0", "good", 5), label("1", "good", -900), label("2", "good", 5, actor="bob")])
    newest, counts = store.arrived(M, 0)
    assert counts == {"ann": 2, "bob": 1}
    store.add_labels(M, [label("3", "good", 1), label("4", "good", 1, Source.COMPLETE, "silence")])
    store.add_labels(M, [label("5", "good", 1, Source.IMPORTED, "file")])
    after, fresh = store.arrived(M, newest)
    assert (fresh, after > newest) == ({"ann": 1}, True)
    assert store.arrived(M, after) == (after, {})
    assert store.arrived("tickets", 0) == (0, {})
    assert [said.example for said in store.said(M, 2)] == ["e-2", "e-3"]


def test_labellers_who_mean_the_same_do_not_seem_to_contradict_each_other_after_a_rename(store: RecordStore) -> None:
    store.deploy(M, Traffic({1: 1.0}), Cause("ann", "first"), at(0))
    store.add_predictions(M, [pair("1"), pair("2")])
    store.add_labels(M, [label("1", "good", 1), label("2", "bad", 1)])
    for change in (
        ClassChange(at(2), "ann", "rename", ("good",), "fine"),
        ClassChange(at(2), "ann", "accept", ("odd",)),
    ):
        store.change_classes(M, change, ("bad", "good"))
    store.change_classes(M, ClassChange(at(3), "ann", "retire", ("bad",)), ("bad", "good"))
    store.add_labels(M, [label("1", "fine", 4, actor="bob")])
    assert [(said.actor, said.value, said.answered) for said in store.said(M, 10)] == [
        ("ann", "fine", "fine"), ("bob", "fine", "fine")
    ]  # fmt: skip


def test_questions_that_nobody_answered_are_found_by_the_time_of_the_answer(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1", 1), pair("2", 2, version=2), pair("3", 3), pair("4", 4)])
    store.ask([item("1", 5), replace(item("2", 5), propensity=0.5), item("3", 5)])
    store.add_labels(M, [label("1", "good", 6), label("3", "good", 6, Source.VOLUNTEERED)])
    assert [(said.id, chance) for said, chance in store.unanswered(M, window(0, 9))] == [("p-2", 0.5), ("p-3", 0.25)]
    assert [said.id for said, _ in store.unanswered(M, window(0, 3))] == ["p-2"]
    assert [said.id for said, _ in store.unanswered(M, window(0, 9), version=1)] == ["p-3"]
    store.set_labeller(Labeller(M, "ann", True, at(7), "keepfit"))
    assert len(store.unanswered(M, window(0, 9))) == 3
    assert (store.count_heard(M, 1, at(1)), store.count_heard(M, 1, at(1), at(4))) == (3, 2)


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


# keeping and forgetting


def stored_pair(store: RecordStore, name: str, minutes: float, text: str, key: str | None = None) -> None:
    example = replace(pair(name, minutes, text=text)[0], key=key)
    store.add_predictions(M, [(example, replace(predicted(example, f"p-{name}", minutes), key=key))])


def test_old_predictions_go_with_their_examples_unless_labelled_or_asked_for(store: RecordStore) -> None:
    for number, name in enumerate("abcd"):
        stored_pair(store, name, number, f"text {name}")
    example = pair("d", text="text d")[0]
    store.add_predictions(M, [(example, predicted(example, "p-again", 50))])  # another answer about the same example
    store.add_labels(M, [label("b", "good", 5)])
    store.ask([item("c", 6)])
    rows, keep = StoredRows(store.database), Keep(timedelta(minutes=30))
    assert rows.old_predictions(M, keep, at(100), at(100)).count == 2 + 1
    assert rows.old_predictions(M, keep, at(60), at(100)).count == 2
    assert rows.old_predictions(M, keep, at(60), at(2)).count == 1, "a monitor looks at those since then"
    assert rows.spared_predictions(M, keep, at(60), at(2)) == {
        "they are labelled": 1, "their labels are asked for": 1, "a monitor still looks at them": 1,
    }  # fmt: skip
    while rows.delete_predictions(M, keep, at(60), at(100)):
        pass
    assert [p.id for p in store.predictions(M, window())] == ["p-b", "p-c", "p-again"]
    assert [e.id for e in store.examples(M, window())] == ["e-b", "e-c", "e-d"]
    assert rows.old_predictions("other", keep, at(60), at(100)).count == 0


def test_beyond_a_number_the_oldest_predictions_go(store: RecordStore) -> None:
    for number in range(6):
        stored_pair(store, str(number), number, "text")
    rows = StoredRows(store.database)
    assert rows.old_predictions(M, Keep(most=4), at(60), at(60)).count == 2
    assert rows.delete_predictions(M, Keep(most=4), at(60), at(60)) == 2
    assert rows.delete_predictions(M, Keep(most=4), at(60), at(60)) == 0
    assert rows.old_predictions(M, Keep(most=9), at(60), at(60)).count == 0
    assert [p.id for p in store.predictions(M, window())] == ["p-2", "p-3", "p-4", "p-5"]


def test_quiet_checks_are_thinned_to_one_an_hour_and_what_was_announced_last_stays(store: RecordStore) -> None:
    for minute in range(0, 120, 10):
        store.add_decision(M, "trigger", Decision(Outcome.WAIT, ("quiet",)), at(minute), id=f"d-{minute}")
    store.add_decision(M, "gate v1", Decision(Outcome.WAIT), at(1), id="other")
    store.put(M, "announced", {"decision": "d-110"})
    rows, age = StoredRows(store.database), timedelta(hours=1)
    assert rows.old_waits(M, age, at(180)).count == rows.delete_waits(M, age, at(180)) == 9
    assert rows.delete_waits(M, age, at(180)) == 0
    assert store.verify_audit().flaws == ()
    assert {d.id for d in store.decisions(M)} == {"d-0", "d-60", "d-110", "other"}


def test_of_the_looks_that_held_a_rollout_the_first_the_last_and_each_new_reason_stay(store: RecordStore) -> None:
    said = (
        "baking for 10 seconds of 1 minute", "baking for 20 seconds of 1 minute", "0 labels of 30 are in",
        "12 labels of 30 are in", "29 labels of 30 are in", "not yet proven: after 30 labels e = 0.4 of 20",
        "not yet proven: after 31 labels e = 1.2e+01 of 20", "not yet proven: after 32 labels e = 19 of 20",
    )  # fmt: skip
    for rollout in ("a", "b"):
        for minute, words in enumerate(said):
            held = Decision(Outcome.HOLD, (words,), {"rollout": rollout})
            store.add_decision(M, "rollout v2", held, at(minute), id=f"{rollout}{minute}")
        store.add_decision(M, "rollout v2", Decision(Outcome.ADVANCE, ("proven",)), at(9), id=f"{rollout}9")
    rows = StoredRows(store.database)
    assert rows.old_waits(M, timedelta(0), at(0)).count == 0
    planned = rows.old_waits(M, timedelta(minutes=60), at(180))
    assert planned.count == rows.delete_waits(M, timedelta(minutes=60), at(180)) == 8
    assert planned.size > 8 * 100
    kept = [d.id for d in reversed(store.decisions(M, "rollout v2", 100)) if d.id.startswith("a")]
    assert kept == ["a0", "a2", "a5", "a7", "a9"]
    assert rows.delete_waits(M, timedelta(minutes=60), at(180)) == 0
    assert store.verify_audit().whole


def test_a_person_is_found_by_the_ids_of_an_example_and_of_an_answer_and_by_a_key(store: RecordStore) -> None:
    stored_pair(store, "a", 0, "a text of ann's", "ann")
    stored_pair(store, "b", 1, "another text of ann's", "ann")
    stored_pair(store, "c", 2, "a text of ann's", "bob")
    people = StoredTraces(store.database)
    by_id, by_answer = people.find(Person("e-a")), people.find(Person("p-a"))
    assert by_id.texts == by_answer.texts == {"a text of ann's"}
    assert by_id.ids == {"e-a", "p-a"}
    assert people.examples(by_id) == [(M, "e-a"), (M, "e-c")], "the same text, whoever sent it"
    assert people.examples(people.find(Person(key="ann"))) == [(M, "e-a"), (M, "e-b"), (M, "e-c")]
    assert people.examples(people.find(Person("nobody"))) == []


def test_what_is_forgotten_is_in_no_row_any_more(store: RecordStore) -> None:
    secret = f"a {NASTY} secret of ann's"
    stored_pair(store, "a", 0, secret, "ann-4711")
    stored_pair(store, "b", 1, "a text of somebody else", "ann-47110")
    store.add_labels(M, [label("a", "good", 5), label("b", "good", 5)])
    store.ask([item("a", 6)])
    slip = {"before": secret, "after": secret.upper(), "said": "bad"}
    store.add_decision(M, "gate v1", Decision(Outcome.FAIL, (f"such as {secret}",), {"slips": [slip]}), at(7), id="d")
    store.put(M, "cameras", {"ann-4711": 1, "ann-47110": 2})
    people = StoredTraces(store.database)
    traces = people.find(Person(key="ann-4711"))
    needles = traces.needles().with_texts(people.changed_forms(traces.needles()))
    with store.database.read() as conn:
        assert search_rows(conn, needles).found > 0
    assert people.count(people.examples(traces)) == Counts(1, 1, 1, 1)
    assert people.quoting(needles, at(9)) == 2
    assert people.remove(people.examples(traces)) == Counts(1, 1, 1, 1)
    assert people.remove([(M, "e-a")]) == Counts()
    people.tidy()
    with store.database.read() as conn:
        assert search_rows(conn, needles).found == 0
    assert store.decision("d").decision.because == ("such as [forgotten]",)
    assert store.get(M, "cameras") == {"ann-47110": 2}
    assert [e.id for e in store.examples(M, window())] == ["e-b"]
    assert len(store.training_data(M)) == 1


def test_values_that_name_a_snapshot_follow_when_it_is_rewritten(store: RecordStore) -> None:
    store.put(M, "snapshot", "old")
    store.put(M, "awaiting_approval", {"version": 3, "adopt": {"snapshot": "old", "columns": ["old text"]}})
    StoredTraces(store.database).rename("old", "new")
    assert store.get(M, "snapshot") == "new"
    assert store.get(M, "awaiting_approval")["adopt"] == {"snapshot": "new", "columns": ["old text"]}


# costs and tallies


def cost(id_: str, minutes: float = 0, cpu: float = 1.0, kind: str = "serve", model: str = M) -> Cost:
    return Cost(id_, model, at(minutes), kind, 2.0, cpu, 0.5, 3.5, 2, {"answers": 10, "text": NASTY})


def test_a_cost_comes_back_as_it_was_and_one_of_the_same_id_replaces_it(store: RecordStore) -> None:
    store.put_cost(cost("a", 1))
    store.put_cost(cost("b", 2, kind="retrain"))
    store.put_cost(cost("a", 1, cpu=7.0))
    store.put_cost(cost("c", 1, model="other"))
    assert store.costs(M, window()) == [cost("a", 1, cpu=7.0), cost("b", 2, kind="retrain")]
    assert store.costs(M, window(), "retrain") == [cost("b", 2, kind="retrain")]
    assert store.costs(M, window(1.5, 2)) == []


def test_labels_that_people_gave_are_counted_by_source_and_silence_is_not(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2"), pair("3")])
    store.add_labels(
        M,
        [
            label("1", "good", 1),
            label("2", "bad", 2, Source.VOLUNTEERED),
            label("3", "bad", 3, Source.COMPLETE, "silence"),
        ],
    )
    assert store.spent_labels(M, window()) == {"asked": 1, "volunteered": 1}
    assert store.spent_labels(M, window(0, 2)) == {"asked": 1}


def test_the_request_that_asked_stays_with_its_prediction(store: RecordStore) -> None:
    example, said = pair("1")
    store.add_predictions(M, [(example, replace(said, request="req-7"))])
    assert store.prediction(M, said.id)[1].request == "req-7"
    assert [p.request for p in store.predictions(M, window())] == ["req-7"]


def test_tallies_go_on_from_the_reading_before_and_count_everything_once(store: RecordStore) -> None:
    seen = store.tallies()
    for number in range(3):
        store.add_decision(M, f"gate v{number}", Decision(Outcome.PASS), at(number))
        store.add_decision(M, "alert gate", Decision(Outcome.HOLD), at(number))
        seen = store.tallies(seen)
        assert seen.decided() == {(M, "gate", "pass"): number + 1}
        assert seen.alerted() == {(M, "gate", "hold"): number + 1}
    assert store.tallies(store.tallies(seen)).decisions.counts == store.tallies().decisions.counts


def test_the_lag_of_a_label_is_counted_from_its_answer_and_only_since_the_first_reading(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2"), pair("3")])
    store.add_labels(M, [replace(label("1", "good", 60), prediction_id="p-1")])
    seen = store.tallies()
    assert seen.lags == {}
    store.add_labels(M, [replace(label(name, "good", 5), prediction_id=f"p-{name}") for name in ("2", "3")])
    lags = store.tallies(seen).lags[M, "asked"]
    assert (lags.count, lags.seconds, dict(lags.by_bound)) == (2, 600.0, {600.0: 2})
    assert store.tallies(store.tallies(seen)).lags == store.tallies(seen).lags


def test_labels_that_are_waited_for_are_counted_with_the_oldest(store: RecordStore) -> None:
    store.add_predictions(M, [pair("1"), pair("2"), pair("3")])
    store.ask([item("1", 3), item("2", 1), item("3", 2)])
    assert store.tallies().asked == {M: (3, at(1))}
    store.add_labels(M, [label("2", "good", 9)])
    assert store.tallies().asked == {M: (2, at(2))}
    store.set_labeller(Labeller(M, "ann", True, at(9), "boss"))
    assert store.tallies().asked == {M: (3, at(1))}, "who is set apart has answered nothing"
    store.set_labeller(Labeller("other", "ann", True, at(9), "boss"))
    store.set_labeller(Labeller(M, "ann", False, at(9), "boss"))
    assert store.tallies().asked == {M: (2, at(2))}


def test_tallies_hold_jobs_costs_and_nothing_of_an_empty_store(store: RecordStore) -> None:
    empty = store.tallies()
    assert (empty.jobs, empty.spent, empty.failures, empty.finished, empty.asked) == ({}, {}, {}, {}, {})
    store.add_job(job("a"))
    store.update_job("a", state=JobState.DONE, finished_at=at(5))
    store.put_cost(cost("a"))
    store.put_cost(cost("b"))
    seen = store.tallies()
    assert seen.jobs == {(M, "retrain", "done"): 1}
    assert seen.finished == {(M, "done"): at(5)}
    assert seen.spent == {(M, "serve"): (4.0, 2.0, 1.0)}


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


def test_quiet_checks_are_looked_for_once_however_many_go(store: RecordStore) -> None:
    with store.database.write() as conn:
        conn.execute(insert(DECISIONS), [
            {"model": M, "id": f"hold-{n}", "at": at(0) + timedelta(seconds=n), "subject": "rollout v2",
             "outcome": "hold", "because": ["baking"], "evidence": {"rollout": "r"}}
            for n in range(1202)
        ])  # fmt: skip
    looks: list[str] = []

    def counted(conn: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT") and "evidence" in statement:
            looks.append(statement)

    sql_events.listen(store.database.engine, "before_cursor_execute", counted)
    assert StoredRows(store.database).delete_waits(M, timedelta(minutes=1), at(180)) == 1200
    sql_events.remove(store.database.engine, "before_cursor_execute", counted)
    assert len(looks) == 1
    assert {one.id for one in store.decisions(M)} == {"hold-0", "hold-1201"}
