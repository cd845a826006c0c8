"""Durable steps on a real DBOS with SQLite; the steps themselves are small."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keepfit.errors import BackendError, InvalidInput, KeepfitError
from keepfit.pipelines.durable import DurableRetrainings, JsonSerializer
from keepfit.pipelines.progress import STEPS
from keepfit.pipelines.retrain import State


@dataclass
class Steps:
    """Stands where a Retraining stands: notes its steps, and fails when told to."""

    trouble: dict[str, list[Exception]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def step(self, name: str, state: State) -> State:
        if self.trouble.get(name):
            raise self.trouble[name].pop(0)
        self.done.append(name)
        return {**state, name: True}

    def failed(self, job_id: str, error: KeepfitError) -> None:
        self.closed.append(str(error))


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def durable(tmp_path: Path, steps: Steps) -> Iterator[DurableRetrainings]:
    """Without a grace: of what was begun here it is known when it is done with."""
    made: Any = DurableRetrainings(f"sqlite:///{tmp_path / 'jobs.db'}", lambda model: steps, grace_s=0.0)  # type: ignore[arg-type, return-value]
    with made:
        yield made


def test_every_step_is_done_once_and_in_order(durable: DurableRetrainings, steps: Steps) -> None:
    state = durable.run("m", "job-1")
    assert steps.done == list(STEPS)
    assert state == {"job": "job-1", **dict.fromkeys(STEPS, True)}


def test_a_job_that_was_done_is_not_done_again(durable: DurableRetrainings, steps: Steps) -> None:
    durable.run("m", "job-1")
    durable.run("m", "job-1")
    assert steps.done == list(STEPS)


def test_what_cannot_be_mended_ends_the_job_with_its_sentence(durable: DurableRetrainings, steps: Steps) -> None:
    steps.trouble["fit"] = [InvalidInput("one class only")]
    state = durable.run("m", "job-1")
    assert state["error"] == "one class only"
    assert steps.closed == ["one class only"]
    assert steps.done == ["snapshot"]


def test_what_may_pass_is_tried_again(durable: DurableRetrainings, steps: Steps) -> None:
    steps.trouble["register"] = [BackendError("the registry is away")]
    durable.run("m", "job-1")
    assert steps.done == list(STEPS)
    assert steps.closed == []


@pytest.mark.parametrize("tables", [("operation_outputs",), ("operation_outputs", "workflow_status")], ids=len)
def test_a_job_whose_steps_could_not_be_noted_goes_on_or_is_closed(
    tables: tuple[str, ...], durable: DurableRetrainings, steps: Steps, tmp_path: Path
) -> None:
    """As on a full disk: what the job database cannot take is not tried again by itself."""

    def rename(end_before: str, end_after: str) -> None:
        with closing(sqlite3.connect(tmp_path / "jobs.db", timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA legacy_alter_table = ON")
            for table in tables:
                connection.execute(f"ALTER TABLE {table}{end_before} RENAME TO {table}{end_after}")

    began = threading.Event()

    class Full(Steps):
        def step(self, name: str, state: State) -> State:
            if name == "fit" and "fit" not in steps.done:
                assert began.wait(60), "who begins a job asks for its status, and is to find the tables"
                rename("", "_away")
            return steps.step(name, state)

    durable._retraining = lambda model: Full()  # type: ignore[assignment, return-value]
    durable.start("m", "job-1")
    began.set()
    eventually(lambda: "fit" in steps.done and not durable.goes_on("job-1"))
    rename("_away", "")
    durable._retraining = lambda model: steps  # type: ignore[assignment, return-value]

    def closed() -> bool:
        durable.start("m", "job-1")  # as the worker does at each beat
        return bool(steps.closed)

    if len(tables) == 1:  # that it failed could be noted
        eventually(closed)
        assert "given up" in steps.closed[0]
    else:
        durable.start("m", "job-1")
        eventually(lambda: steps.done[-1] == STEPS[-1])
        assert steps.done == ["snapshot", "fit", *STEPS[1:]], "only what was not noted is done again"
        assert steps.closed == []


def test_who_leaves_during_a_step_leaves_quietly_and_the_next_one_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    begun, free = threading.Event(), threading.Event()

    class Long(Steps):
        def step(self, name: str, state: State) -> State:
            if name == "fit":
                begun.set()
                assert free.wait(60)
            return super().step(name, state)

    long, later, url = Long(), Steps(), f"sqlite:///{tmp_path / 'jobs.db'}"
    made: Any = DurableRetrainings(url, lambda model: long)  # type: ignore[arg-type, return-value]
    with made:
        made.start("m", "job-1")
        assert begun.wait(60)
    free.set()
    eventually(lambda: not made._active)
    assert capfd.readouterr().err == ""
    again: Any = DurableRetrainings(url, lambda model: later)  # type: ignore[arg-type, return-value]
    with again:
        again.run("m", "job-1")
    assert later.done == list(STEPS[1:]), "from the last finished step"
    assert later.closed == []


def eventually(condition: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.02)


def test_only_json_is_stored() -> None:
    serializer = JsonSerializer()
    assert serializer.deserialize(serializer.serialize({"args": ["a"], "kwargs": {}})) == {"args": ["a"], "kwargs": {}}
    assert str(serializer.deserialize(serializer.serialize(BackendError("away")))) == "away"
    with pytest.raises(TypeError):
        serializer.serialize(object())
