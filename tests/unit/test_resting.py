"""A model that nobody asks leaves the memory, and the next request loads it within itself."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.resting import Resting
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel

IDLE = timedelta(minutes=10)
ASK = [Request("who", key="a")]


class Loads:
    """Loads toy models that answer `who` with their own number; a test may break some."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.broken: set[int] = set()

    def __call__(self, number: int) -> ToyModel:
        if number in self.broken:
            raise BackendError(f"version {number} is damaged")
        self.loaded.append(number)
        return ToyModel(["v1", "v2"], {"who": f"v{number}"}, [0.5, 0.5])


class Bench:
    """A predictor that rests after ten minutes."""

    def __init__(self, store: RecordStore, clock: ManualClock) -> None:
        self.store, self.clock, self.loads = store, clock, Loads()
        self.writer = RecordWriter(store)
        self.rest = Resting(clock, IDLE)
        self.predictor = Predictor("m", store, self.loads, self.writer, clock, "here", rest=self.rest)

    def deploy(self, *versions: int) -> None:
        self.clock.advance(timedelta(seconds=1))
        traffic = Traffic(dict.fromkeys(versions, 1 / len(versions)))
        self.store.deploy("m", traffic, Cause("me", "a test"), self.clock.now())
        self.predictor.refresh()

    def idle(self) -> None:
        self.clock.advance(IDLE)
        self.predictor.refresh()

    def ask(self) -> str:
        return self.predictor.predict(ASK)[0].prediction.label


@pytest.fixture
def bench(store_url: str, clock: ManualClock) -> Iterator[Bench]:
    with RecordStore.open(store_url) as store:
        made = Bench(store, clock)
        yield made
        made.predictor.close()
        made.writer.close()


def test_an_idle_model_is_unloaded_and_the_next_request_loads_it(bench: Bench) -> None:
    bench.deploy(1)
    bench.ask()
    bench.idle()
    assert bench.predictor.warm() == ()
    assert bench.predictor.ready() is None
    assert bench.predictor.live.traffic.shares == {1: 1.0}
    bench.predictor.refresh()
    assert bench.loads.loaded == [1], "only a request loads it"
    assert bench.ask() == "v1"
    assert bench.loads.loaded == [1, 1]
    bench.predictor.refresh()
    assert bench.predictor.warm() == (1,)


def test_a_model_that_is_asked_stays(bench: Bench) -> None:
    bench.deploy(1)
    for _ in range(4):
        bench.clock.advance(IDLE / 2)
        bench.ask()
        bench.predictor.refresh()
    assert bench.loads.loaded == [1]
    assert bench.rest.asked == bench.clock.now()


def test_an_open_stream_keeps_a_model_in_memory(bench: Bench) -> None:
    bench.deploy(1)
    bench.rest.busy = lambda: True
    bench.idle()
    assert bench.predictor.warm() == (1,)
    bench.rest.busy = lambda: False
    bench.clock.advance(IDLE / 2)
    bench.predictor.refresh()
    assert bench.predictor.warm() == (1,), "it is idle since the stream was closed"
    bench.idle()
    assert bench.predictor.warm() == ()


def test_many_requests_at_once_load_it_once(bench: Bench) -> None:
    bench.deploy(1)
    bench.idle()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: bench.ask(), range(16))) == {"v1"}
    assert bench.loads.loaded == [1, 1]


def test_a_new_deployment_wakes_it(bench: Bench) -> None:
    bench.deploy(1)
    bench.idle()
    bench.deploy(2)
    assert bench.predictor.warm() == (2,)
    assert bench.ask() == "v2"


def test_shares_hold_after_a_rest(bench: Bench) -> None:
    bench.deploy(1, 2)
    bench.idle()
    said = {bench.predictor.predict([Request("who", key=str(i))])[0].prediction.label for i in range(40)}
    assert said == {"v1", "v2"}
    assert bench.predictor.live.traffic.shares == {1: 0.5, 2: 0.5}


def test_one_that_cannot_be_loaded_again_goes_on_saying_why(bench: Bench) -> None:
    bench.deploy(1)
    bench.idle()
    bench.loads.broken = {1}
    for _ in range(2):
        with pytest.raises(BackendError, match="version 1 is damaged"):
            bench.ask()
        bench.predictor.refresh()
        assert "version 1 is damaged" in (bench.predictor.ready() or "")
    bench.loads.broken = set()
    bench.predictor.insist()
    assert bench.ask() == "v1"
    assert bench.predictor.ready() is None


def test_when_a_new_version_cannot_be_loaded_the_resting_one_answers_again(bench: Bench) -> None:
    bench.deploy(1)
    bench.idle()
    bench.loads.broken = {2}
    bench.deploy(2)
    assert bench.ask() == "v1"
    assert "version 2 is damaged" in (bench.predictor.ready() or "")


def test_without_the_setting_nothing_is_unloaded(bench: Bench) -> None:
    bench.rest.after = timedelta(0)
    bench.deploy(1)
    bench.clock.advance(timedelta(days=300))
    bench.predictor.refresh()
    assert bench.predictor.warm() == (1,)
