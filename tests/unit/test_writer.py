"""The record writer loses nothing silently, whatever the store does."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from keepfit.data.database import open_database
from keepfit.data.records import Example, Prediction
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.serving.writer import RecordWriter

NOW = datetime(2025, 1, 1, tzinfo=UTC)


class Moody(RecordStore):
    """A real store that can be told to fail, and that waits at a gate."""

    def __init__(self, url: str) -> None:
        super().__init__(open_database(url))
        self.failing, self.poison = False, ""
        self.tried, self.commits = threading.Semaphore(0), 0
        self.gate = threading.Event()
        self.gate.set()

    def add_predictions(self, model: str, pairs: Sequence[tuple[Example, Prediction]]) -> None:
        self.tried.release()
        assert self.gate.wait(10)
        if self.failing:
            raise BackendError("the disk is full")
        if self.poison and any(prediction.id == self.poison for _, prediction in pairs):
            raise ValueError("not storable")
        super().add_predictions(model, pairs)
        self.commits += 1


def pair(n: int = 0) -> tuple[Example, Prediction]:
    example = Example(f"text {n}", NOW)
    scores = np.array([0.2, 0.8], np.float32)
    return example, Prediction(example.id, 1, ("bad", "good"), scores, np.zeros(4, np.float32), NOW)


@pytest.fixture
def store(store_url: str) -> Iterator[Moody]:
    with Moody(store_url) as opened:
        yield opened


def test_what_is_added_is_in_the_store_after_a_flush(store: Moody) -> None:
    writer = RecordWriter(store)
    pairs = [pair(n) for n in range(5)]
    writer.add("reviews", pairs)
    writer.flush()
    assert {store.prediction("reviews", p.id)[0].content for _, p in pairs} == {f"text {n}" for n in range(5)}
    writer.close()


def test_many_small_additions_share_a_transaction(store: Moody) -> None:
    writer = RecordWriter(store, linger_s=5)
    for n in range(100):
        writer.add("reviews", [pair(n)])
    writer.flush()
    assert store.count_predictions("reviews") == 100
    assert store.commits <= 2
    writer.close()


def test_it_writes_by_itself_within_its_time(store: Moody) -> None:
    writer = RecordWriter(store)
    writer.add("reviews", [pair()])
    assert store.tried.acquire(timeout=5)
    writer.flush()
    assert writer.waiting() == 0
    writer.close()


def test_closing_writes_what_waits(store: Moody) -> None:
    writer = RecordWriter(store, linger_s=60)
    writer.add("reviews", [pair(n) for n in range(3)])
    writer.close()
    assert store.count_predictions("reviews") == 3
    assert writer.lost == 0


def test_while_the_store_fails_records_wait_and_are_written_when_it_is_back(store: Moody) -> None:
    store.failing = True
    writer = RecordWriter(store)
    writer.add("reviews", [pair()])
    with pytest.raises(BackendError, match="the disk is full"):
        writer.flush(timeout_s=0.2)
    assert "the disk is full" in (writer.ready() or "")
    store.failing = False
    writer.flush()
    assert writer.ready() is None
    assert store.count_predictions("reviews") == 1
    writer.close()


def test_what_does_not_fit_while_the_store_fails_is_counted(store: Moody) -> None:
    store.failing = True
    writer = RecordWriter(store, capacity=10)
    for n in range(15):
        writer.add("reviews", [pair(n)])
    assert writer.lost == 5
    store.failing = False
    writer.flush()
    assert store.count_predictions("reviews") == 10
    writer.close()


def test_a_record_that_no_store_takes_does_not_hold_up_the_others(store: Moody) -> None:
    writer = RecordWriter(store, linger_s=5)
    pairs = [pair(n) for n in range(3)]
    store.poison = pairs[1][1].id
    writer.add("reviews", pairs)
    writer.flush()
    assert store.count_predictions("reviews") == 2
    assert writer.lost == 1
    writer.close()


def test_what_cannot_be_written_at_the_end_is_counted_as_lost(store: Moody) -> None:
    store.failing = True
    writer = RecordWriter(store)
    writer.add("reviews", [pair()])
    writer.close(timeout_s=5)
    assert writer.lost == 1


def test_two_models_share_one_writer(store: Moody, tmp_path: Path) -> None:
    writer = RecordWriter(store)
    for n in range(6):
        writer.add("even" if n % 2 == 0 else "odd", [pair(n)])
    writer.flush()
    assert (store.count_predictions("even"), store.count_predictions("odd")) == (3, 3)
    writer.close()
