"""What answering costs is added up by hour and version, nothing twice, and is kept while the store is away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.clock import ManualClock
from keepfit.data.costs import Cost
from keepfit.data.records import Cause, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.serving.costs import ServingCosts
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel


@dataclass
class Server:
    """A predictor whose process's time moves when told to, and its costs."""

    store: RecordStore
    clock: ManualClock
    predictor: Predictor
    writer: RecordWriter
    costs: ServingCosts
    used: list[float]

    def answer(self, *texts: str) -> None:
        self.predictor.predict([Request(text) for text in texts])
        self.writer.flush()

    def rows(self) -> list[Cost]:
        now = self.clock.now()
        return self.store.costs("m", Window(now - timedelta(days=1), now + timedelta(days=1)))


@pytest.fixture
def server(store_url: str, clock: ManualClock) -> Iterator[Server]:
    used = [100.0]
    with RecordStore.open(store_url) as store:
        writer = RecordWriter(store)
        predictor = Predictor(
            "m", store, lambda n: ToyModel(["a", "b"], {}, [0.5, 0.5]), writer, clock, "w", ServingLimits()
        )
        store.deploy("m", Traffic({1: 1.0}), Cause("me", "first"), clock.now())
        predictor.refresh()
        costs = ServingCosts(store, {"m": predictor}, writer.tally, clock, lambda: used[0])
        yield Server(store, clock, predictor, writer, costs, used)
        predictor.close()
        writer.close()


def test_answers_contents_and_cached_ones_are_counted_by_version(server: Server) -> None:
    server.answer("one", "two")
    server.answer("one", "three")
    server.costs.write()
    own = next(row for row in server.rows() if row.version == 1)
    assert own.details == {"contents": 3, "answers": 4, "cached": 1, "shadow": 0}
    assert own.seconds > 0


def test_all_that_the_process_used_is_in_the_rows_and_nothing_twice(server: Server) -> None:
    for _ in range(3):
        server.answer("one")
        server.used[0] += 2.0
        server.costs.write()
    assert sum(row.cpu_seconds for row in server.rows()) == pytest.approx(6.0, abs=0.1)
    assert {row.version for row in server.rows()} == {1, None}


def test_each_hour_has_rows_of_its_own_and_a_minute_is_not_written_twice(server: Server) -> None:
    server.answer("one")
    server.costs.refresh()
    assert server.rows() == []  # nothing is due
    server.clock.advance(timedelta(minutes=1))
    server.costs.refresh()
    server.clock.advance(timedelta(hours=1))
    server.answer("two")
    server.costs.refresh()
    mine = [row for row in server.rows() if row.version == 1]
    assert [row.details["answers"] for row in mine] == [1, 1]
    assert mine[1].at - mine[0].at == timedelta(hours=1)


def test_while_the_store_is_away_what_was_spent_waits(server: Server, tmp_path: Path) -> None:
    server.answer("one")
    (tmp_path / "keepfit.db").rename(tmp_path / "away.db")
    server.costs.write()
    server.clock.advance(timedelta(hours=1))
    (tmp_path / "away.db").rename(tmp_path / "keepfit.db")
    server.costs.close()
    assert [row.details["answers"] for row in server.rows() if row.version == 1] == [1]
