"""The batcher joins what waits, refuses what is too much, and fails nobody but the culprit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from keepfit.errors import BackendError, Overloaded, TooLarge
from keepfit.serving.batching import DEAD_AFTER, Batcher, ClosedError
from keepfit.tasks.task import Output, Prepared

DEADLINE = 10.0


class Echo:
    """A model that answers each number with itself; its engine waits at a gate, so that a test decides when."""

    labels = ("only",)
    abstain_below = None

    def __init__(self, open_gate: bool = True) -> None:
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.batches: list[list[int]] = []
        if open_gate:
            self.gate.set()

    def read(self, raw: Any) -> Any:
        return raw

    def knows(self, content: Any) -> bool:
        return True

    def prepare(self, contents: Sequence[Any]) -> Prepared:
        return prepared(*contents)

    def infer(self, prepared: Prepared) -> Output:
        self.entered.release()
        assert self.gate.wait(DEADLINE)
        self.batches.append(list(prepared.items))
        if any(item < 0 for item in prepared.items):
            raise RuntimeError("a negative number")
        scores = np.array(prepared.items, np.float32).reshape(-1, 1)
        return Output(scores, np.zeros((len(prepared.items), 2), np.float32))


class TwoLanes(Echo):
    """Answers two calls at once, and would have contents of one cost together."""

    lanes = 2

    def together(self, costs: Sequence[int]) -> Sequence[int]:
        return [place for place, cost in enumerate(costs) if cost == costs[0]]


class Talkative(Echo):
    """Has something to add to each number of an engine call that holds an even one; finds that 13 is no number."""

    def infer(self, prepared: Prepared) -> Output:
        if 13 in prepared.items:
            raise TooLarge("13 is no number", "number")
        output = super().infer(prepared)
        even = any(item % 2 == 0 for item in prepared.items)
        return replace(output, details=[f"said {item}" for item in prepared.items]) if even else output


class Slow:
    """Details that are not told before a test allows it."""

    def __init__(self, allowed: threading.Event) -> None:
        self._allowed = allowed

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> str:
        assert self._allowed.wait(DEADLINE)
        if place:
            raise IndexError
        return "at last"


class SlowToTell(Echo):
    """Says something slow with the number 1."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed = threading.Event()

    def infer(self, prepared: Prepared) -> Output:
        output = super().infer(prepared)
        return replace(output, details=Slow(self.allowed)) if prepared.items == [1] else output


class Dying(Echo):
    def infer(self, prepared: Prepared) -> Output:
        raise SystemExit("the engine is gone")


def prepared(*numbers: int, cost: int = 1) -> Prepared:
    return Prepared(list(numbers), [cost] * len(numbers), [{}] * len(numbers))


def wait_until(condition: Callable[[], bool]) -> None:
    """Give other threads their turn until the condition holds."""
    done = threading.Event()
    for _ in range(int(DEADLINE / 0.005)):
        if condition():
            return
        done.wait(0.005)
    raise AssertionError("it did not happen in time")


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(16) as threads:
        yield threads


def test_an_idle_engine_starts_at_once_and_what_waits_meanwhile_is_joined(pool: ThreadPoolExecutor) -> None:
    model = Echo(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    first = pool.submit(batcher.ask, prepared(1), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    others = [pool.submit(batcher.ask, prepared(n), DEADLINE) for n in (2, 3, 4)]
    wait_until(lambda: batcher.waiting() == 3)
    model.gate.set()
    assert first.result(DEADLINE).scores.tolist() == [[1.0]]
    assert [other.result(DEADLINE).scores.item() for other in others] == [2, 3, 4]
    assert [len(batch) for batch in model.batches] == [1, 3]
    assert batcher.counts().by_size == {1: 1, 4: 1}


def test_the_engine_goes_on_while_answers_are_handed_out(pool: ThreadPoolExecutor) -> None:
    model = SlowToTell()
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    slow = pool.submit(batcher.ask, prepared(1), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    assert batcher.ask(prepared(2), DEADLINE).scores.item() == 2
    assert not slow.done()
    model.allowed.set()
    assert slow.result(DEADLINE).details == ["at last"]


def test_a_model_with_two_lanes_is_asked_twice_at_once_and_a_third_call_waits(pool: ThreadPoolExecutor) -> None:
    model = TwoLanes(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    calls = [pool.submit(batcher.ask, prepared(1), DEADLINE)]
    assert model.entered.acquire(timeout=DEADLINE)
    calls.append(pool.submit(batcher.ask, prepared(2), DEADLINE))
    assert model.entered.acquire(timeout=DEADLINE)
    calls.append(pool.submit(batcher.ask, prepared(3), DEADLINE))
    wait_until(lambda: batcher.waiting() == 1)
    assert not model.entered.acquire(timeout=0.05)
    model.gate.set()
    assert [call.result(DEADLINE).scores.item() for call in calls] == [1, 2, 3]


def test_the_model_says_who_is_asked_beside_the_oldest(pool: ThreadPoolExecutor) -> None:
    model = TwoLanes(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    first = []
    for number in (1, 2):
        first.append(pool.submit(batcher.ask, prepared(number), DEADLINE))
        assert model.entered.acquire(timeout=DEADLINE)
    mixed = Prepared([10, 11, 12, 13], [5, 7, 5, 7], [{}] * 4)
    waiting = pool.submit(batcher.ask, mixed, DEADLINE)
    wait_until(lambda: batcher.waiting() == 4)
    model.gate.set()
    assert waiting.result(DEADLINE).scores[:, 0].tolist() == [10, 11, 12, 13]
    assert [call.result(DEADLINE).scores.item() for call in first] == [1, 2]
    assert sorted(model.batches) == [[1], [2], [10, 12], [11, 13]]


def test_calls_side_by_side_count_the_time_of_the_processor_once(pool: ThreadPoolExecutor) -> None:
    model = TwoLanes(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    before = time.process_time()
    calls = []
    for number in (1, 2):
        calls.append(pool.submit(batcher.ask, prepared(number), DEADLINE))
        assert model.entered.acquire(timeout=DEADLINE)
    both = time.process_time()
    while time.process_time() < both + 0.05:  # as if the engine worked
        pass
    model.gate.set()
    assert all(call.result(DEADLINE) for call in calls)
    wait_until(lambda: batcher.counts().calls == 2)
    assert 0.05 <= batcher.counts().cpu_seconds <= time.process_time() - before


def test_closing_ends_the_threads_of_every_lane() -> None:
    batcher = Batcher(TwoLanes(), batch_cost=100, queue_items=100)
    batcher.close()
    batcher.join(DEADLINE)
    assert not [thread for thread in batcher.threads if thread.is_alive()]


def test_a_batch_ends_where_its_cost_would_pass_the_budget(pool: ThreadPoolExecutor) -> None:
    model = Echo()
    batcher = Batcher(model, batch_cost=10, queue_items=100)
    output = batcher.ask(prepared(1, 2, 3, 4, 5, cost=4), DEADLINE)
    assert output.scores[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert model.batches == [[1, 2], [3, 4], [5]]


def test_a_single_dear_content_still_runs() -> None:
    assert len(Batcher(Echo(), batch_cost=10, queue_items=10).ask(prepared(7, cost=99), DEADLINE).scores) == 1


def test_a_full_queue_refuses_and_says_when_to_come_back(pool: ThreadPoolExecutor) -> None:
    model = Echo(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=3)
    running = pool.submit(batcher.ask, prepared(0), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    waiting = pool.submit(batcher.ask, prepared(1, 2), DEADLINE)
    wait_until(lambda: batcher.waiting() == 2)
    with pytest.raises(Overloaded) as refused:
        batcher.ask(prepared(3, 4), DEADLINE)
    assert refused.value.retry_after >= 1
    model.gate.set()
    assert len(running.result(DEADLINE).scores) + len(waiting.result(DEADLINE).scores) == 3


def test_only_the_culprit_of_a_failed_batch_hears_of_it(pool: ThreadPoolExecutor) -> None:
    model = Echo(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    first = pool.submit(batcher.ask, prepared(0), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    good, bad = pool.submit(batcher.ask, prepared(1, 2), DEADLINE), pool.submit(batcher.ask, prepared(-1), DEADLINE)
    wait_until(lambda: batcher.waiting() == 3)
    model.gate.set()
    assert first.result(DEADLINE).scores.tolist() == [[0.0]]
    assert good.result(DEADLINE).scores[:, 0].tolist() == [1, 2]
    with pytest.raises(BackendError, match="negative"):
        bad.result(DEADLINE)
    assert batcher.trouble() is None


def test_what_else_the_model_says_reaches_its_caller_from_whatever_engine_call(pool: ThreadPoolExecutor) -> None:
    model = Talkative(open_gate=False)
    batcher = Batcher(model, batch_cost=2, queue_items=100)
    first = pool.submit(batcher.ask, prepared(1), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    some = pool.submit(batcher.ask, prepared(2, 3, 5), DEADLINE)
    wait_until(lambda: batcher.waiting() == 3)
    none = pool.submit(batcher.ask, prepared(7), DEADLINE)
    wait_until(lambda: batcher.waiting() == 4)
    all_ = pool.submit(batcher.ask, prepared(4, 6), DEADLINE)
    wait_until(lambda: batcher.waiting() == 6)
    model.gate.set()
    assert first.result(DEADLINE).details is None
    assert some.result(DEADLINE).details == ["said 2", "said 3", None]
    assert none.result(DEADLINE).details is None
    assert all_.result(DEADLINE).details == ["said 4", "said 6"]


def test_what_only_the_engine_sees_is_wrong_is_still_the_callers_fault(pool: ThreadPoolExecutor) -> None:
    model = Talkative()
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    refusals = []
    for _ in range(DEAD_AFTER + 1):
        with pytest.raises(TooLarge, match="13 is no number") as refused:
            batcher.ask(prepared(13), DEADLINE)
        refusals.append(refused.value)
    assert {error.field for error in refusals} == {"number"}
    assert all(error is not error.__cause__ for error in refusals), "each caller gets an error of its own"
    assert batcher.trouble() is None, "the engine is well"


def test_an_engine_that_fails_again_and_again_is_reported_until_it_recovers() -> None:
    batcher = Batcher(Echo(), batch_cost=100, queue_items=100)
    for _ in range(DEAD_AFTER):
        with pytest.raises(BackendError):
            batcher.ask(prepared(-1), DEADLINE)
    assert "failed" in (batcher.trouble() or "")
    batcher.ask(prepared(1), DEADLINE)
    assert batcher.trouble() is None


def test_a_dead_engine_thread_fails_its_callers_and_says_so() -> None:
    batcher = Batcher(Dying(), batch_cost=100, queue_items=100)
    for _ in range(2):
        with pytest.raises(BackendError, match="the engine is gone"):
            batcher.ask(prepared(1), DEADLINE)
    assert "died" in (batcher.trouble() or "")


def test_a_call_that_is_not_answered_in_time_is_told_so_and_not_asked_later(pool: ThreadPoolExecutor) -> None:
    model = Echo(open_gate=False)
    batcher = Batcher(model, batch_cost=100, queue_items=100)
    first = pool.submit(batcher.ask, prepared(1), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    with pytest.raises(BackendError, match="no answer within"):
        batcher.ask(prepared(2), 0.01)
    model.gate.set()
    first.result(DEADLINE)
    batcher.ask(prepared(3), DEADLINE)
    assert model.batches == [[1], [3]]


def test_closing_answers_what_waits_and_refuses_what_comes_later(pool: ThreadPoolExecutor) -> None:
    model = Echo(open_gate=False)
    batcher = Batcher(model, batch_cost=1, queue_items=100)
    waiting = pool.submit(batcher.ask, prepared(1, 2, 3), DEADLINE)
    assert model.entered.acquire(timeout=DEADLINE)
    batcher.close()
    model.gate.set()
    assert waiting.result(DEADLINE).scores[:, 0].tolist() == [1, 2, 3]
    with pytest.raises(ClosedError):
        batcher.ask(prepared(4), DEADLINE)


def test_nothing_asked_is_nothing_answered() -> None:
    assert Batcher(Echo(), 10, 10).ask(prepared(), DEADLINE).scores.shape == (0, 1)
