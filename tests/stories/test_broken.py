"""What is broken in one process: a byte of a version, and the clock, in both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from keepfit.app.project import Project
from keepfit.app.wiring import answering_half
from keepfit.data.records import Cause
from keepfit.decision import Outcome
from keepfit.errors import BackendError
from keepfit.rollout.rollout import rollback, under_way
from keepfit.rollout.strategies import Limits, Strategy, canary

DAY = timedelta(days=1)
JUMPS = [timedelta(hours=2), -timedelta(hours=2), 3 * DAY, -3 * DAY]


@pytest.fixture
def strategy() -> Strategy:
    return canary((0.5,), timedelta(minutes=10), timedelta(hours=1), Limits(min_labels=20, longest=DAY))


def test_a_version_with_one_changed_byte_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "toy"\n', "utf-8")
    rows = [f"{word} thing number {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(tmp_path)
    project.train(tmp_path / "data.csv")
    load = answering_half(project.home, "default", project.store)
    load(1)
    file = project.home.models / "default" / "1" / "model.json"
    content = file.read_text("utf-8")
    file.write_text(content.replace('"good": "pos"', '"gooe": "pos"'), "utf-8")
    assert json.loads(file.read_text("utf-8")), "it still looks like a model"
    with pytest.raises(BackendError, match=r"model\.json is changed"):
        load(1)
    with pytest.raises(BackendError, match=r"model\.json is changed"):
        project.promote(1)
    file.write_text(content, "utf-8")
    load(1)
    project.close()


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_a_clock_that_jumps_gives_a_challenger_nothing(world: Any, by: timedelta) -> None:
    world.train(("good", "pos"), ("bad", "neg"))
    world.live(3, "good", "pos")
    first, folder = world.registry.version("toy", 1), world.registry.fetch("toy", 1)
    lineage = replace(first.lineage, job_id="again")
    second = world.registry.register("toy", folder, lineage, first.evaluation, world.clock.now())
    world.retraining.roller.start(second.number, Cause("tester", "a challenger", token="again"), {})
    world.live(3, "good", "pos")
    world.clock.advance(by)
    world.watch.tick()
    rollout = under_way(world.store, "toy")
    if by > DAY:
        assert world.shares == {1: 1.0}, "the time was over without proof, so the champion stays"
    else:
        assert rollout is not None
        assert rollout.step == 0
        last = world.store.decisions("toy", rollout.subject, 1)[0].decision
        assert last.outcome is Outcome.HOLD
    world.live(2, "good", "pos")
    labels = len(world.store.training_data("toy"))
    world.clock.advance(-by)
    for _ in range(8):
        world.live(40, "good", "pos")
        world.clock.advance(timedelta(minutes=10))
        world.watch.tick()
    assert len(world.store.training_data("toy")) == labels + 320, "no label is lost"
    assert world.shares == ({1: 1.0} if by > DAY else {2: 1.0})
    if by < DAY:
        world.predictor.refresh()
        rollback(world.store, "toy", None, "tester", world.clock)
        assert world.shares == {1: 1.0}
