"""The forecast of disk and labelling: from what came in, with what it rests on, and nothing from too little."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import Example, Label, Prediction, QueueItem, Source
from keepfit.data.store import RecordStore
from keepfit.pipelines.forecast import Forecast, told

FREE = 10_000_000_000


def lived(store: RecordStore, clock: ManualClock, days: int, first: int = 0) -> None:
    """A hundred answers a day, four of them asked about, two answered."""
    for day in range(first, first + days):
        pairs = []
        for i in range(100):
            example = Example("x" * 1000, clock.now(), f"e{day}-{i}")
            scores, embedding = np.array([0.1, 0.9], np.float32), np.zeros(384, np.float32)
            pairs.append(
                (example, Prediction(example.id, 1, ("a", "b"), scores, embedding, clock.now(), f"p{day}-{i}"))
            )
        store.add_predictions("m", pairs)
        store.ask(
            [QueueItem(f"q{day}-{i}", "m", f"p{day}-{i}", pairs[i][0], 0.04, "drawn", clock.now()) for i in range(4)]
        )
        store.add_labels(
            "m", [Label(f"e{day}-{i}", "a", clock.now(), Source.ASKED, "ann", 0.04, f"p{day}-{i}") for i in range(2)]
        )
        clock.advance(timedelta(days=1))


@pytest.fixture
def store(store_url: str, clock: ManualClock) -> Iterator[RecordStore]:
    opened = RecordStore.open(store_url, clock)
    yield opened
    opened.close()


def forecast(store: RecordStore, clock: ManualClock, state: Path, free: int = FREE) -> Forecast:
    return Forecast(("m",), store, state, clock, 15.0, lambda: free)


def test_hours_and_days_follow_from_the_last_weeks(store: RecordStore, clock: ManualClock, tmp_path: Path) -> None:
    lived(store, clock, 10)
    state = tmp_path / "state"
    for age, size in ((1, 30_000_000), (100, 500_000_000)):
        file = state / f"models/m/{age}/model.bin"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        os.truncate(file, size)
        moment = (clock.now() - timedelta(days=age)).timestamp()
        os.utime(file, (moment, moment))
    found = forecast(store, clock, state).run()
    assert found["days"] == 10
    daily = found["disk"]["bytes_a_day"]
    assert daily["versions"] == 3_000_000, "what is older than the window is not growth"
    assert 100 * (1000 + 768) < daily["answers"] < 100 * 3000
    assert found["disk"]["full_in_days"] == pytest.approx(FREE / sum(daily.values()), abs=0.1)
    labels = found["labels"]["m"]
    assert (labels["asked_a_day"], labels["answered_a_day"]) == (4, 2)
    assert labels["hours_a_week"] == round(7 * 4 * 15 / 3600, 2)
    disk, labelling = told(found, "m")
    assert disk.startswith("full in ")
    assert "15 seconds a label [costs.seconds_per_label]" in labelling


def test_a_disk_that_is_far_from_full_is_not_counted_in_days(
    store: RecordStore, clock: ManualClock, tmp_path: Path
) -> None:
    lived(store, clock, 10)
    disk, _ = told(forecast(store, clock, tmp_path / "state", free=10**15).run(), "m")
    assert disk.startswith("not full within ten years: ")


@pytest.mark.parametrize("days", [0, 2])
def test_a_short_history_says_nothing(store: RecordStore, clock: ManualClock, tmp_path: Path, days: int) -> None:
    lived(store, clock, days)
    found = forecast(store, clock, tmp_path / "state").run()
    assert found["disk"]["full_in_days"] is None
    assert found["labels"]["m"]["hours_a_week"] is None
    assert all("cannot say yet" in words and "3 days of them" in words for words in told(found, "m"))


def test_only_the_last_four_weeks_count(store: RecordStore, clock: ManualClock, tmp_path: Path) -> None:
    lived(store, clock, 3)
    clock.advance(timedelta(days=60))
    lived(store, clock, 1, first=3)
    found = forecast(store, clock, tmp_path / "state").run()
    assert found["days"] == 28
    assert found["labels"]["m"]["asked_a_day"] == round(4 / 28, 1)
