"""Durable steps on a real DBOS with SQLite; the steps themselves are small."""

from __future__ import annotations

from collections.abc import Iterator
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
    made: Any = DurableRetrainings(f"sqlite:///{tmp_path / 'jobs.db'}", lambda model: steps)  # type: ignore[arg-type, return-value]
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


def test_only_json_is_stored() -> None:
    serializer = JsonSerializer()
    assert serializer.deserialize(serializer.serialize({"args": ["a"], "kwargs": {}})) == {"args": ["a"], "kwargs": {}}
    assert str(serializer.deserialize(serializer.serialize(BackendError("away")))) == "away"
    with pytest.raises(TypeError):
        serializer.serialize(object())
