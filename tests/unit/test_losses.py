"""The running summary of a champion's mistakes: the same as reading all labels, at a cost that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from keepfit.data.classes import ClassChange
from keepfit.data.labellers import Labeller
from keepfit.data.records import Cause, Example, Label, Prediction, Source, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.evaluation.evaluator import Reference
from keepfit.pipelines.harming import Harming
from keepfit.pipelines.losses import VALUE, Summary, Summing
from keepfit.pipelines.taking import Taking
from keepfit.pipelines.worth import Valued, Worth
from keepfit.triggers.alarm import Harm
from keepfit.triggers.facts import MOST

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
BEGAN = datetime.fromisoformat("2025-01-01T00:00:00+00:00")
REFERENCE = Reference(
    np.tile(np.array([0.9, 0.1], np.float32), (200, 1)), np.zeros((200, 2), np.float32), np.arange(200) // 190
)


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as made:
        made.deploy("m", Traffic({1: 1.0}), Cause("test", "first"), BEGAN)
        yield made


def answers(store: RecordStore, n: int, start: int = 0, every: timedelta = MINUTE) -> list[Prediction]:
    """One a minute; "a" is said."""
    said = []
    for number in range(start, start + n):
        example = Example(f"text {number}", BEGAN + number * every, f"e{number}")
        scores, nothing = np.array([0.9, 0.1], np.float32), np.zeros(2, np.float32)
        said.append((example, Prediction(f"e{number}", 1, ("a", "b"), scores, nothing, example.time, f"p{number}")))
    store.add_predictions("m", said)
    return [one for _, one in said]


def tell(store: RecordStore, said: list[Prediction], value: str, at: datetime, chance: float = 0.5) -> None:
    store.add_labels("m", [Label(p.example_id, value, at, Source.ASKED, "t", chance, p.id) for p in said])


def summing(store: RecordStore) -> Summing:
    return Summing("m", store, Taking("m", store))


@contextmanager
def work_of(store: RecordStore) -> Iterator[list[int]]:
    """How many tens of steps SQLite's machine takes, for every row that is looked at takes some."""
    steps = [0]

    def count() -> int:
        steps[0] += 1
        return 0

    def watch(connection: object, *_: object) -> None:
        connection.set_progress_handler(count, 10)  # type: ignore[attr-defined]

    engine = store.database.engine
    event.listen(engine, "checkout", watch)
    yield steps
    event.remove(engine, "checkout", watch)


@pytest.mark.parametrize("measured", ["losses", "harm"])
def test_the_work_of_a_check_does_not_grow_with_the_history(store: RecordStore, measured: str) -> None:
    worth, harming = Worth("m", store, Valued()), Harming("m", store, Harm())

    def check(now: datetime) -> int:
        if measured == "losses":
            return int(worth.facts(1, BEGAN, now)["losses"].labels)
        return harming.measure(1, BEGAN, REFERENCE, None, Window(BEGAN, now))[0].n

    taken = []
    for days in range(20):
        said = answers(store, 288, 288 * days, 5 * MINUTE)
        tell(store, said[:100], "b" if days % 10 == 9 else "a", said[-1].time)
        check(said[-1].time + MINUTE)  # takes the day in
        with work_of(store) as steps:
            assert check(said[-1].time + 2 * MINUTE) == 100 * (days + 1)
        taken.append(steps[0])
    assert taken[0] > 0
    assert max(taken[15:]) <= 1.5 * max(taken[1:4]), taken
    if measured == "losses":
        assert len(store.get("m", VALUE)["parts"]) <= MOST
        assert worth.facts(1, BEGAN, said[-1].time + MINUTE)["losses"].predictions == 288 * 20


def test_it_is_the_same_however_often_one_looks_and_in_which_order_labels_come(store: RecordStore) -> None:
    said, rng = answers(store, 600), np.random.default_rng(4)
    order, now = rng.permutation(600), BEGAN + DAY
    for k in range(0, 600, 50):
        some = [said[i] for i in order[k : k + 50]]
        tell(store, [one for one in some if int(one.id[1:]) >= 400], "b", now, 0.25)
        tell(store, [one for one in some if int(one.id[1:]) < 400], "a", now)
        summing(store).losses(1, BEGAN, now)
    often = summing(store).losses(1, BEGAN, now)
    store.put("m", VALUE, None)
    once = summing(store).losses(1, BEGAN, now)
    for found in (often, once):
        assert (found.labels, found.largest, found.predictions) == (600, 4.0, 600)
        assert sum(one.weight for one in found.stretches) == pytest.approx(400 * 2 + 200 * 4)
        assert sum(one.wrong for one in found.stretches) == pytest.approx(200 * 4)
        assert MOST / 2 <= len(found.stretches) <= MOST
        mixed = [one for one in found.stretches if 0 < one.wrong < one.weight]
        assert sum(one.labels for one in mixed) < 60, "the change is seen where it was"


def test_an_attempt_a_labeller_set_apart_and_a_class_that_is_merged_begin_it_anew(store: RecordStore) -> None:
    said, now = answers(store, 100), BEGAN + DAY
    tell(store, said, "b", now)
    assert summing(store).losses(1, BEGAN, now).labels == 100
    later = summing(store).losses(1, said[60].time, now)
    assert (later.labels, later.predictions) == (40, 40)
    store.change_classes("m", ClassChange(now, "ann", "accept", ("c",)), ("a", "b"))
    store.change_classes("m", ClassChange(now, "ann", "merge", ("b",), "a"), ("a", "b", "c"))
    merged = summing(store).losses(1, BEGAN, now)
    assert (merged.labels, sum(one.wrong for one in merged.stretches)) == (100, 0.0)
    store.set_labeller(Labeller("m", "t", True, now, "ann"))
    assert summing(store).losses(1, BEGAN, now).labels == 0


def test_what_is_older_than_three_months_is_left_out(store: RecordStore) -> None:
    said = answers(store, 200, every=DAY)
    for one in said:
        tell(store, [one], "a", one.time)
    found = summing(store).losses(1, BEGAN, said[-1].time + MINUTE)
    assert 90 <= found.predictions <= 91
    assert 90 <= found.labels <= 96


def test_answers_that_are_written_late_are_counted(store: RecordStore) -> None:
    answers(store, 10)
    assert summing(store).losses(1, BEGAN, BEGAN + 20 * MINUTE).predictions == 10
    answers(store, 10, 10)  # two of them nine minutes late
    assert summing(store).losses(1, BEGAN, BEGAN + 21 * MINUTE).predictions == 20


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5000), st.booleans(), st.sampled_from([1.0, 4.0])), max_size=400))
def test_parts_never_overlap_lose_nothing_and_survive_the_store(labels: list[tuple[int, bool, float]]) -> None:
    summary = Summary("x")
    for minute, wrong, weight in labels:
        summary.take(BEGAN + minute * MINUTE, wrong, weight)
    assert all(a.end <= b.start for a, b in zip(summary.parts, summary.parts[1:], strict=False))
    assert len(summary.parts) <= MOST
    assert sum(part.weight for part in summary.parts) == pytest.approx(sum(weight for *_, weight in labels))
    assert sum(part.wrong for part in summary.parts) == pytest.approx(sum(w for _, wrong, w in labels if wrong))
    assert Summary.from_json(asdict(summary)) == summary
