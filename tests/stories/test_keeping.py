"""What is old goes, what is needed stays, and what went is on record."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.data.records import Job, JobState, Label, QueueItem, Source, new_id
from keepfit.data.retention import PINNED, REMOVED, Keep
from keepfit.data.snapshot import Split, open_snapshot, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused
from keepfit.pipelines.overdue import Overdue, Places, Policy
from keepfit.pipelines.prune import Prune
from keepfit.rollout.rollout import rollback
from keepfit.serving.predictor import Request
from keepfit.tasks.text.hidden import HiddenStates

MODEL = "toy"
GOOD_AND_BAD = (("good", "pos"), ("bad", "neg"))
DAYS = timedelta(days=1)


def pruning(world, **limits: Keep | timedelta) -> Prune:
    at = world.folder
    folders = ("snapshots", "work", "videos", "batches", "mailbox", "backtests")
    places = Places(*(at / name for name in folders))
    policy = Policy(**limits)  # type: ignore[arg-type]
    return Prune(Overdue((MODEL,), world.store, world.registry, policy, places, world.clock, lambda model: 2 * DAYS))


def ask_about(world, *texts: str) -> list[str]:
    """Users ask; the ids of the answers."""
    answers = world.predictor.predict([Request(text, id=f"user's {text}") for text in texts])
    world.writer.flush()
    return [answer.prediction.id for answer in answers]


def versions(world, count: int) -> None:
    """So many versions, each served for a day."""
    for _ in range(count):
        world.train(*GOOD_AND_BAD)
        world.clock.advance(DAYS)


def aged(world, path: Path, days: float) -> Path:
    """A file or folder that was changed so long ago."""
    moment = (world.clock.now() - days * DAYS).timestamp()
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(each, (moment, moment))
    return path


def test_old_answers_go_and_those_with_labels_or_in_the_queue_stay(world) -> None:
    world.train(*GOOD_AND_BAD)
    world.live(3, "good", "pos")
    plain, asked = ask_about(world, "good old day", "bad old day")
    item = QueueItem(new_id(), MODEL, asked, world.store.prediction(MODEL, asked)[0], 0.5, "drawn", world.clock.now())
    world.store.ask([item])
    world.clock.advance(10 * DAYS)
    (young,) = ask_about(world, "good young day")
    prune = pruning(world, predictions=Keep(5 * DAYS))
    planned = prune.plan()
    assert [(one.thing.kind, one.thing.count) for one in planned.gone] == [("predictions", 1)]
    assert {one.because.split(", but ")[1]: one.thing.count for one in planned.kept} == {
        "they are labelled": 3, "their labels are asked for": 1,
    }  # fmt: skip
    assert world.store.count_predictions(MODEL) == 6, "a plan deletes nothing"
    done = prune.run("ann")
    assert done.inside > 0
    with pytest.raises(NotFound):
        world.store.prediction(MODEL, plain)
    assert world.store.prediction(MODEL, asked)[0].content == "bad old day"
    assert world.store.prediction(MODEL, young)[0].content == "good young day"
    assert len(world.store.training_data(MODEL)) == 3
    assert prune.run("ann").gone == ()
    first, second = world.store.decisions(MODEL, "prune")
    assert "older than 5 days" in second.decision.because[0]
    assert second.decision.evidence["actor"] == "ann"
    assert first.decision.because == ("nothing that may go is over its limit",)


def test_answers_that_a_monitor_looks_at_stay_however_many_there_are(world) -> None:
    world.train(*GOOD_AND_BAD)
    ask_about(world, *(f"good day {i}" for i in range(5)))
    world.clock.advance(1 * DAYS)
    ask_about(world, *(f"bad day {i}" for i in range(5)))
    planned = pruning(world, predictions=Keep(most=3)).plan()
    assert planned.gone == ()
    assert "a monitor still looks at them" in planned.kept[0].because
    world.clock.advance(30 * DAYS)
    pruning(world, predictions=Keep(most=3)).run("ann")
    assert world.store.count_predictions(MODEL) == 5, "those of one moment are not told apart"


def test_answers_that_were_not_considered_for_labels_yet_stay(world) -> None:
    world.train(*GOOD_AND_BAD)
    world.store.set_asked_until(MODEL, world.clock.now())
    ask_about(world, "good day")
    world.clock.advance(30 * DAYS)
    prune = pruning(world, predictions=Keep(5 * DAYS))
    assert prune.run("ann").gone == ()
    world.store.set_asked_until(MODEL, world.clock.now())
    assert len(prune.run("ann").gone) == 1


def test_old_versions_lose_their_files_and_nothing_else(world) -> None:
    versions(world, 5)
    served = [d.id for d in world.store.deployments(MODEL)]
    for id_ in served:
        world.store.applied(id_, "a server", world.clock.now())
    world.store.put(MODEL, PINNED, {"1": {"actor": "ann", "at": "then"}})
    done = pruning(world, versions=Keep(most=1)).run("ann")
    assert {one.thing.name for one in done.gone} == {"2", "3"}
    assert done.freed > 0
    reasons = {one.thing.name: one.because for one in done.kept}
    assert "but rollback would go to it" in reasons["4"]
    assert "but it is pinned" in reasons["1"]
    for number in (2, 3):
        known = world.registry.version(MODEL, number)
        assert (known.removed, known.verdict.outcome) == (world.clock.now(), Outcome.PASS)
        assert known.evaluation.n > 0
        with pytest.raises(NotFound, match="were removed"):
            world.registry.fetch(MODEL, number)
    assert world.predictor.predict([Request("good day")])[0].prediction.model_version == 5


def test_rollback_never_goes_to_a_version_without_files(world) -> None:
    versions(world, 4)
    for row in world.store.deployments(MODEL):
        world.store.applied(row.id, "a server", world.clock.now())
    world.store.put(MODEL, PINNED, {"1": {}})
    pruning(world, versions=Keep(most=1)).run("ann")
    with pytest.raises(Refused, match="files of version 2 were removed"):
        rollback(world.store, MODEL, 2, "ann", world.clock)
    assert rollback(world.store, MODEL, None, "ann", world.clock).traffic.shares == {3: 1.0}
    world.store.applied(world.store.deployment(MODEL).id, "a server", world.clock.now())
    assert rollback(world.store, MODEL, None, "ann", world.clock).traffic.shares == {1: 1.0}


def test_a_version_that_is_needed_since_the_plan_was_made_stays(world) -> None:
    versions(world, 3)
    prune = pruning(world, versions=Keep(most=1))
    (one,) = (one for one in prune.plan().gone if one.thing.name == "1")
    world.store.put(MODEL, PINNED, {"1": {}})
    assert not prune.delete(one)
    assert (world.registry.fetch(MODEL, 1) / "model.json").is_file()


def test_a_removal_that_was_interrupted_is_finished_by_the_next_pruning(world) -> None:
    versions(world, 3)
    world.store.put(MODEL, REMOVED, {"1": {"at": world.clock.now().isoformat()}})  # killed before the registry
    left = world.folder / "work" / ".going-x"
    left.mkdir(parents=True)
    pruning(world).run("ann")
    assert world.registry.version(MODEL, 1).removed is not None
    assert world.store.get(MODEL, REMOVED)["1"]["done"]
    assert not left.exists()


def test_snapshots_stay_with_the_versions_and_the_parents_that_need_them(world) -> None:
    for words in (GOOD_AND_BAD, (*GOOD_AND_BAD, ("fine", "pos")), (*GOOD_AND_BAD, ("awful", "neg"))):
        world.train(*words)
        world.live(20, "good", "pos")
        world.clock.advance(DAYS)
    world.run_job({"reason": "routine"})  # grown from the third
    folder = world.folder / "snapshots"
    for path in folder.iterdir():
        aged(world, path, 50)
    lineages = {v.number: v.lineage.snapshot_id for v in world.registry.versions(MODEL)}
    assert len({*lineages.values()}) == 4
    prune = pruning(world, versions=Keep(most=1), snapshots=Keep(30 * DAYS))
    planned = prune.plan()
    gone = {one.thing.name for one in planned.gone if one.thing.kind == "snapshot"}
    live = world.registry.version(MODEL, max(world.shares))
    assert live.lineage.snapshot_id not in gone
    assert world.store.get(MODEL, "snapshot") not in gone
    assert set(open_snapshot(folder, live.lineage.snapshot_id).lineage["parents"]).isdisjoint(gone)
    assert gone, [str(one) for one in planned.kept]
    prune.run("ann")
    for id_ in gone:
        assert not list(folder.glob(f"{id_}*"))
    world.run_job({"reason": "routine"})


def test_while_a_training_is_under_way_snapshots_and_its_files_stay(world) -> None:
    world.train(*GOOD_AND_BAD)
    job = Job("job-7", MODEL, "retrain", world.clock.now())
    world.store.join_or_add_job(job)
    (world.folder / "work" / "job-7").mkdir(parents=True)
    (world.folder / "work" / "job-6").mkdir()
    for path in [*(world.folder / "work").iterdir(), *(world.folder / "snapshots").iterdir()]:
        aged(world, path, 60)
    prune = pruning(world, snapshots=Keep(DAYS), checkpoints=Keep(7 * DAYS))
    done = prune.run("ann")
    assert [one.thing.name for one in done.gone] == ["job-6"]
    assert any("its job is not finished" in one.because for one in done.kept)
    assert any("start from it" in one.because for one in done.kept)
    world.store.update_job("job-7", state=JobState.FAILED)
    assert [one.thing.name for one in prune.run("ann").gone] == ["job-7"]


def test_files_that_were_handed_in_and_alerts_go_by_age_and_number(world) -> None:
    for number in range(4):
        batch = world.folder / "batches" / f"job{number}"
        batch.mkdir(parents=True)
        (batch / "input.csv").write_text("text\n" + "word " * 100, "utf-8")
        aged(world, batch, number)
        letter = world.folder / "mailbox" / f"{number}.eml"
        letter.parent.mkdir(exist_ok=True)
        letter.write_text("hello", "utf-8")
        aged(world, letter, number)
    world.store.add_job(Job("job3", MODEL, "batch", world.clock.now(), JobState.RUNNING))
    done = pruning(world, batches=Keep(most=1), alerts=Keep(2.5 * DAYS)).run("ann")
    assert {one.thing.name for one in done.gone} == {"job1", "job2", "3.eml"}
    assert done.freed == 2 * 505 + 5
    assert sorted(path.name for path in (world.folder / "batches").iterdir()) == ["job0", "job3"]


def test_checks_that_came_to_nothing_are_thinned_to_one_an_hour_and_other_decisions_stay(world) -> None:
    world.train(*GOOD_AND_BAD)
    for number in range(180):
        outcome = Outcome.FIRE if number == 7 else Outcome.WAIT
        world.store.add_decision(MODEL, "trigger", Decision(outcome, (f"check {number}",)), world.clock.now())
        world.clock.advance(timedelta(minutes=1))
    world.clock.advance(30 * DAYS)
    prune = pruning(world, quiet_checks=7 * DAYS)
    assert [one.thing.count for one in prune.plan().gone] == [176]
    prune.run("ann")
    left = [d.decision.because[0] for d in world.store.decisions(MODEL, "trigger")]
    assert left == ["check 120", "check 60", "check 7", "check 0"]
    assert world.store.decisions(MODEL, "gate")
    assert prune.run("ann").gone == ()


def test_what_went_is_on_record_also_when_pruning_is_stopped_half_way(world) -> None:
    for number in range(3):
        letter = world.folder / "mailbox" / f"{number}.eml"
        letter.parent.mkdir(exist_ok=True)
        letter.write_text("hello", "utf-8")
        aged(world, letter, 9)

    class Stopped(Prune):
        def delete(self, one):
            if one.thing.name == "1.eml":
                raise KeyboardInterrupt
            return super().delete(one)

    prune = pruning(world, alerts=Keep(DAYS))
    with pytest.raises(KeyboardInterrupt):
        Stopped(prune.overdue).run("ann")
    (stored,) = world.store.decisions(MODEL, "prune")
    assert stored.decision.because == ("pruned alert 2.eml: it is older than 1 day",)
    assert {path.name for path in (world.folder / "mailbox").iterdir()} == {"0.eml", "1.eml"}
    assert {one.thing.name for one in prune.run("ann").gone} == {"0.eml", "1.eml"}


def test_runs_of_which_no_version_came_go(world) -> None:
    world.train(*GOOD_AND_BAD)
    version = world.registry.version(MODEL, 1)
    world.registry.progress("failed", MODEL, replace(version.lineage, job_id="failed"))({"loss": 1.0}, 1)
    for path in (world.folder / "models" / MODEL / "runs").iterdir():
        aged(world, path, 40)
    done = pruning(world, runs=Keep(30 * DAYS)).run("ann")
    assert [one.thing.kind for one in done.gone] == ["run"]
    assert world.registry.runs(MODEL) == []


def test_videos_go_when_nothing_has_a_window_of_them(world) -> None:
    world.train(*GOOD_AND_BAD)
    videos = world.folder / "videos"
    videos.mkdir()
    for name in ("aaaa.mp4", ".aaaa.mp4.times.npy", "bbbb.mp4", "cccc.mp4"):
        (videos / name).write_bytes(b"pictures")
        aged(world, videos / name, 90)
    world.predictor.predict([Request("bbbb.mp4#0-32", id="labelled")])
    world.writer.flush()
    world.store.add_labels(MODEL, [Label("labelled", "pos", world.clock.now(), Source.ASKED)])
    row = SnapshotRow("a", "cccc.mp4#0-32", "pos", "g", Split.TRAIN)
    write_snapshot(world.folder / "snapshots", [row], ("text",), {"kind": "test"})
    done = pruning(world, videos=Keep(30 * DAYS)).run("ann")
    assert sorted(path.name for path in videos.iterdir()) == ["bbbb.mp4", "cccc.mp4"]
    assert [(one.thing.name, one.thing.size) for one in done.gone] == [("aaaa.mp4", 16)]
    reasons = {one.thing.name: one.because for one in done.kept}
    assert "its windows are labelled" in reasons["bbbb.mp4"]
    assert "has windows of it" in reasons["cccc.mp4"]


def test_a_snapshot_that_is_needed_since_the_plan_was_made_stays(world) -> None:
    world.train(*GOOD_AND_BAD)
    row = SnapshotRow("a", "a text", "pos", "g", Split.TRAIN)
    spare = write_snapshot(world.folder / "snapshots", [row], ("text",), {"kind": "test"})
    aged(world, spare.path, 90)
    prune = pruning(world, snapshots=Keep(30 * DAYS))
    (one,) = prune.plan().gone
    world.store.put(MODEL, "snapshot", spare.id)
    assert not prune.delete(one)
    world.store.put(MODEL, "snapshot", None)
    world.store.join_or_add_job(Job("j", MODEL, "retrain", world.clock.now()))
    assert not prune.delete(one)
    assert spare.path.exists()


def test_what_old_backtests_have_kept_goes_whatever_the_policy(world) -> None:
    world.train(*GOOD_AND_BAD)
    (world.folder / "backtests").mkdir()
    for name, days in (("old.npy", 31), ("old.part", 31), ("young.npy", 29)):
        (world.folder / "backtests" / name).write_bytes(b"heads")
        aged(world, world.folder / "backtests" / name, days)
    done = pruning(world).run("ann")
    assert {one.thing.name for one in done.gone if one.thing.kind == "backtest"} == {"old.npy", "old.part"}
    assert [path.name for path in (world.folder / "backtests").iterdir()] == ["young.npy"]


def hidden(world, stack: str, *texts: str) -> list[Path]:
    """What frozen layers gave for texts, as files."""
    store = HiddenStates(world.folder / "hidden", stack, 2, 10_000)
    names = store.names(texts, [[1, 2]] * len(texts))
    for name in names:
        store.put(name, np.ones((2, 2), np.float16))
    return [store.folder / name[:2] / name for name in names]


def test_what_frozen_layers_gave_goes_with_the_last_snapshot_of_its_text(world) -> None:
    world.train(*GOOD_AND_BAD)
    folder = world.folder / "snapshots"
    known = next(open_snapshot(folder, world.store.get(MODEL, "snapshot")).stored()).content
    row = SnapshotRow("1", "a text of the past", "pos", "g", Split.TRAIN)
    spare = write_snapshot(folder, [row], ("text",), {"kind": "test"})
    here, gone = hidden(world, "stack", known, "a text of the past")
    aged(world, spare.path, 90)
    done = pruning(world, snapshots=Keep(30 * DAYS)).run("ann")
    assert [one.thing.kind for one in done.gone] == ["snapshot", "hidden states"]
    assert here.exists()
    assert not gone.exists()
    assert "no snapshot has these texts any more" in world.store.decisions(MODEL, "prune")[0].decision.because[1]


def test_what_frozen_layers_gave_goes_when_no_training_has_used_them_for_long(world) -> None:
    world.train(*GOOD_AND_BAD)
    (old,), (young,) = hidden(world, "old", "good"), hidden(world, "young", "good")
    aged(world, world.folder / "hidden" / "old", 30)
    aged(world, world.folder / "hidden" / "young", 0.5)
    done = pruning(world, checkpoints=Keep(timedelta(hours=1))).run("ann")
    assert [one.thing.name for one in done.gone if one.thing.kind == "hidden states"] == ["old"]
    assert (old.exists(), young.exists()) == (False, True)
    assert any("it was used within a day" in one.because for one in done.kept)
