"""Thresholds of live cameras follow what their streams show, version by version, and every judgement is stored."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import STREAM, UNWRITTEN, Cause, Example, Label, Prediction, Source, StoredDecision, Traffic
from keepfit.data.store import RecordStore
from keepfit.pipelines.refine import MOST_CAMERAS, Refine
from keepfit.serving.refined import LEVEL, Refined
from keepfit.tasks.video.timeline import LABELS, Threshold

OWN = Threshold(enter=12.0, exit=3.6, alarms_per_day=1_350.0, blocks=23)
"""A twentieth of the windows may be alarms."""
WINDOW = timedelta(seconds=3.2)


class World:
    """A store, a clock, and a worker's refining."""

    def __init__(self, store: RecordStore, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.refine = Refine("plaza", store, lambda version, camera: (OWN, WINDOW.total_seconds()), clock)
        self.refined = Refined(store, "plaza")
        self.rng = np.random.default_rng(5)

    def deploy(self, version: int) -> None:
        self.clock.advance(timedelta(seconds=1))
        self.store.deploy("plaza", Traffic({version: 1.0}), Cause("trainer", "it is better"), self.clock.now())

    def live(self, camera: str | None, n: int, version: int = 1, level: float | None = None) -> list[Prediction]:
        """So many windows of a camera, as the server records them."""
        session = f"session of {camera}"
        said = []
        for _ in range(n):
            self.clock.advance(WINDOW)
            value = float(self.rng.gumbel(1.0, 0.8)) if level is None else level
            example = Example(f"stream/{session}", self.clock.now(), key=camera or session)
            said.append(
                Prediction(
                    example.id, version, LABELS, np.array([0.5, 0.5], np.float32), np.zeros(3, np.float32),
                    self.clock.now(), key=example.key, context={"stream": session}, measures={LEVEL: value},
                    stage=STREAM,
                )
            )  # fmt: skip
            self.store.add_predictions("plaza", [(example, said[-1])])
        return said

    def beat(self) -> None:
        self.clock.advance(2 * UNWRITTEN)
        self.refine.tick()
        self.refined.refresh()

    def judgements(self, camera: str = "") -> list[StoredDecision]:
        found = self.store.decisions("plaza", "threshold")
        return [one for one in found if one.subject.endswith(camera)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with RecordStore.open(f"sqlite:///{tmp_path / 'keepfit.db'}") as store:
        made = World(store, ManualClock())
        made.deploy(1)
        yield made


def test_a_threshold_far_too_high_comes_down_to_what_the_camera_shows(world: World) -> None:
    world.live("gate 3", 60)
    world.beat()
    assert world.refined.of(1, "gate 3") is None
    world.live("gate 3", 100)
    world.beat()
    threshold = world.refined.of(1, "gate 3")
    assert threshold is not None
    assert 2.5 < threshold.enter < 5.5
    assert [one.decision.outcome for one in world.judgements("gate 3")] == ["pass", "wait"]
    assert "the version's own is 12.000" in world.judgements("gate 3")[0].decision.because[0]


def test_each_camera_has_its_own(world: World) -> None:
    world.live("gate 3", 120)
    world.live("park", 120, level=7.0)
    world.beat()
    gate, park = world.refined.of(1, "gate 3"), world.refined.of(1, "park")
    assert gate is not None
    assert park is not None
    assert gate.enter < 6
    assert park.enter > 7


def test_a_beat_without_news_changes_nothing(world: World) -> None:
    world.live("gate 3", 120)
    world.beat()
    before = world.refined.of(1, "gate 3")
    for _ in range(3):
        world.beat()
    assert world.refined.of(1, "gate 3") == before
    assert len(world.judgements()) == 1


def test_windows_that_are_counted_before_a_kill_are_not_counted_twice(world: World) -> None:
    world.live("gate 3", 120)
    world.beat()
    kept = world.store.get("plaza", "levels")
    world.store.put("plaza", "levels", None)  # as if the worker had been killed after it judged, before it noted so
    world.beat()
    assert world.store.get("plaza", "levels")["cameras"] == kept["cameras"]
    assert len(world.judgements()) == 1
    world.store.put("plaza", "levels", None)
    world.live("gate 3", 30)
    world.beat()
    assert sum(world.store.get("plaza", "levels")["cameras"]["gate 3"]["counts"].values()) == 150


def test_a_window_that_a_person_calls_an_anomaly_does_not_count_until_it_is_cleared(world: World) -> None:
    world.live("gate 3", 120)
    odd = world.live("gate 3", 30, level=30.0)
    world.beat()
    high = world.refined.of(1, "gate 3")
    assert high is not None
    assert high.enter > 30, "nobody has said that this is not life"

    def say(value: str) -> None:
        world.clock.advance(timedelta(seconds=1))
        said = [Label(p.example_id, value, world.clock.now(), Source.VOLUNTEERED, prediction_id=p.id) for p in odd]
        world.store.add_labels("plaza", said)

    say("1")
    world.beat()
    low = world.refined.of(1, "gate 3")
    assert low is not None
    assert low.enter < 6
    say("0")
    world.beat()
    again = world.refined.of(1, "gate 3")
    assert again is not None
    assert again.enter > 30


def test_what_was_missed_while_the_worker_was_away_is_read_piece_by_piece(world: World) -> None:
    world.live("gate 3", 40)
    world.clock.advance(timedelta(hours=5))
    world.live("gate 3", 80)
    world.clock.advance(timedelta(hours=3))
    world.beat()
    kept = world.store.get("plaza", "levels")
    assert sum(kept["cameras"]["gate 3"]["counts"].values()) == 120
    assert world.refined.of(1, "gate 3") is not None


def test_a_version_that_comes_back_is_judged_and_recorded_anew(world: World) -> None:
    world.live("gate 3", 120)
    world.beat()
    world.deploy(2)
    world.deploy(1)
    world.live("gate 3", 120)
    world.beat()
    assert len(world.judgements("gate 3")) == 2


def test_another_version_begins_with_its_own_threshold(world: World) -> None:
    world.live("gate 3", 120)
    world.beat()
    world.deploy(2)
    world.live("gate 3", 20, version=2)
    world.beat()
    assert world.refined.of(2, "gate 3") is None
    world.live("gate 3", 100, version=2)
    world.beat()
    assert world.refined.of(2, "gate 3") is not None


def test_a_session_that_names_no_camera_is_nobodys_and_read_once(world: World) -> None:
    world.live(None, 120)
    world.beat()
    assert world.judgements() == []
    assert world.store.get("plaza", "levels")["until"] == (world.clock.now() - UNWRITTEN).isoformat()


def test_callers_cannot_fill_the_store_with_names(world: World) -> None:
    for number in range(MOST_CAMERAS + 5):
        world.live(f"camera {number}", 1)
    world.beat()
    assert len(world.store.get("plaza", "levels")["cameras"]) == MOST_CAMERAS


def test_before_anything_is_deployed_there_is_nothing_to_do(tmp_path: Path) -> None:
    with RecordStore.open(f"sqlite:///{tmp_path / 'keepfit.db'}") as store:
        world = World(store, ManualClock())
        world.beat()
        assert world.judgements() == []
