"""A version is compressed, judged and registered like any other; what cannot be is refused in a sentence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tests.stories.conftest import MODEL, World

from keepfit.app.project import Project
from keepfit.clock import ManualClock
from keepfit.data.classes import ClassChange
from keepfit.data.records import Cause, Job, JobState, Traffic
from keepfit.data.snapshot import Snapshot, Split
from keepfit.data.sole import FORGETTING
from keepfit.decision import Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused, SettingsError
from keepfit.pipelines.alone import working
from keepfit.pipelines.compressing import BUSY, Compressing, Compressor, Tell, goes_on
from keepfit.rollout.rollout import WAITING, Roller, under_way
from keepfit.rollout.strategies import Limits, canary
from keepfit.serving.predictor import Request

WORDS = (("good", "pos"), ("bad", "neg"))


@dataclass(frozen=True)
class Came:
    """What a compressor came to."""

    folder: Path | None
    because: tuple[str, ...] = ("half the words: taken, nothing is lost",)

    def to_json(self) -> dict[str, Any]:
        return {"points": [{"name": "half the words"}]}


@dataclass(frozen=True)
class Copying:
    """Compresses nothing: the candidate is a copy of the version, damaged where that is asked for."""

    seen: Any
    taken: bool = True
    damaged: bool = False

    def __call__(
        self, version: Path, snapshot: Snapshot, recorded: Sequence[Any], tell: Tell, workdir: Path, against: Path
    ) -> Came:
        self.seen.append(list(recorded))
        tell("halving", 0, None)
        if not self.taken:
            return Came(None, ("half the words: not taken, too much is lost",))
        ignored = shutil.ignore_patterns("manifest.json", "reference.npz", "evaluation.json")
        shutil.copytree(version, workdir / "model", ignore=ignored)
        if self.damaged:
            (workdir / "model" / "model.json").write_text("{}", "utf-8")
        return Came(workdir / "model")


def watching(seen: list[tuple[list[Any], Path]]) -> Compressor:
    """The same; it remembers what it was shown, and by whom it was to be judged."""

    @dataclass(frozen=True)
    class Watching:
        def __call__(
            self, version: Path, snapshot: Snapshot, recorded: Sequence[Any], tell: Tell, workdir: Path, against: Path
        ) -> Came:
            seen.append((list(recorded), against))
            return Copying(list[Any]())(version, snapshot, recorded, tell, workdir, against)

    return Watching()


def compress(
    world: World, number: int = 1, dry_run: bool = False, meanwhile: Callable[[], object] | None = None, **how: bool
) -> dict[str, Any]:
    """`meanwhile` happens while the compressor is at it."""

    def tell(what: str, done: int, of: int | None) -> None:
        if what == "halving" and meanwhile is not None:
            meanwhile()

    return Compressing(world.retraining, Copying([], **how)).run(number, "ann", tell, dry_run)


def jobs(world: World) -> list[Job]:
    return world.store.jobs(kind="compress")


def test_a_compressed_version_goes_through_the_gate_and_serves(world: World) -> None:
    world.train(*WORDS)
    result = compress(world)
    assert result["version"] == 2
    assert world.shares == {2: 1.0}
    version = world.registry.version(MODEL, 2)
    assert (version.lineage.reason, version.lineage.parent) == ("compress", 1)
    assert version.lineage.recipe == world.registry.version(MODEL, 1).lineage.recipe
    assert version.verdict is not None
    assert version.verdict.outcome is Outcome.PASS
    assert world.subjects()[-2:] == ["compress v1", "gate v2"]
    (job,) = jobs(world)
    assert job.state is JobState.DONE
    assert world.waiting_job() is None
    assert not list((world.folder / "work").iterdir())
    assert world.live(3, "good", "pos") == ["pos"] * 3
    said = world.store.deployments(MODEL)[0]
    assert said.actor == "ann"


def test_a_dry_run_registers_nothing_and_is_on_record(world: World) -> None:
    world.train(*WORDS)
    result = compress(world, dry_run=True)
    assert result["version"] is None
    assert [version.number for version in world.registry.versions(MODEL)] == [1]
    stored = world.store.decision(result["decision"]).decision
    assert stored.outcome is Outcome.HOLD
    assert "dry run" in stored.because[0]
    assert stored.evidence["points"] == [{"name": "half the words"}]
    assert not jobs(world)
    assert not list((world.folder / "work").iterdir())


def test_where_no_method_is_worth_it_the_version_stays_and_the_reasons_are_kept(world: World) -> None:
    world.train(*WORDS)
    result = compress(world, taken=False)
    assert (result["outcome"], result["version"]) == ("fail", None)
    stored = world.store.decision(result["decision"]).decision
    assert stored.because[1] == "half the words: not taken, too much is lost"
    assert world.shares == {1: 1.0}


def test_traffic_is_looked_at_once_and_without_what_the_data_of_the_version_have(world: World) -> None:
    world.train(*WORDS)
    snapshot = world.store.get(MODEL, "snapshot")
    world.live(4, "good", "pos")
    for split in (Split.TRAIN, Split.VALIDATION, Split.TEST):
        known = world.retraining.snapshot_of({"snapshot": snapshot}).rows(split).contents[0]
        word, _, rest = known.partition(" ")
        world.predictor.predict([Request(f"{word.upper()} {rest}")])
    for _ in range(3):
        world.predictor.predict([Request("good day again and again")])
    world.writer.flush()
    copying = Copying([])
    Compressing(world.retraining, copying).run(1, "ann", lambda what, done, of: None, dry_run=True)
    (recorded,) = copying.seen
    assert len(recorded) == 5, "what was learnt or is judged on is left out, however it is written, and so are repeats"
    assert all(text.startswith("good day") for text in recorded)


def test_what_is_not_there_cannot_be_compressed(world: World) -> None:
    world.train(*WORDS)
    with pytest.raises(NotFound, match="no version 7"):
        compress(world, 7)


def test_while_a_retraining_is_under_way_it_is_refused(world: World) -> None:
    world.train(*WORDS)
    world.store.add_job(Job("j", MODEL, "retrain", world.clock.now()))
    with pytest.raises(Refused, match="compress when it is over"):
        compress(world)


def test_while_a_version_waits_for_approval_it_is_refused(world: World) -> None:
    world.train(*WORDS)
    waiting = {"version": 7, "decision": None, "adopt": {}}
    world.store.put(MODEL, WAITING, waiting)
    with pytest.raises(Refused, match="version 7 waits for approval"):
        compress(world)
    assert world.store.get(MODEL, WAITING) == waiting


def test_what_came_to_wait_for_approval_meanwhile_is_not_overwritten(world: World) -> None:
    world.train(*WORDS)
    waiting = {"version": 7, "decision": None, "adopt": {}}
    with pytest.raises(Refused, match="version 7 waits for approval"):
        compress(world, meanwhile=lambda: world.store.put(MODEL, WAITING, waiting))
    assert world.store.get(MODEL, WAITING) == waiting
    assert [version.number for version in world.registry.versions(MODEL)] == [1]
    last = world.store.decisions(MODEL, "compress v1")[0].decision
    assert last.outcome is Outcome.HOLD
    assert "nothing is registered: version 7 waits" in last.because[0]


def test_a_rollout_that_began_meanwhile_is_not_ended(world: World) -> None:
    world.train(*WORDS)
    with pytest.raises(Refused, match="a rollout of version 2 is under way"):
        compress(world, meanwhile=lambda: rolled_out(world))
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    assert rollout.version == 2
    with pytest.raises(Refused, match="compress when it is over"):
        compress(world)
    assert [version.number for version in world.registry.versions(MODEL)] == [1]


def rolled_out(world: World) -> None:
    """Version 2 has no more than a part of the traffic."""
    staged = canary((0.5,), timedelta(minutes=10), timedelta(hours=1), Limits())
    Roller(MODEL, world.store, staged, world.clock).start(2, Cause("ann", "she likes it"), {})


def test_a_champion_that_is_newer_by_then_stays(world: World) -> None:
    world.train(*WORDS)
    with pytest.raises(Refused, match="another version answers by now"):
        compress(world, meanwhile=lambda: by_hand(world))
    assert world.shares == {9: 1.0}
    assert [version.number for version in world.registry.versions(MODEL)] == [1]


def by_hand(world: World) -> None:
    """Somebody gave another version all the traffic."""
    world.store.deploy(MODEL, Traffic({9: 1.0}), Cause("bob", "by hand"), world.clock.now())


def test_while_somebody_is_forgotten_no_text_is_read(world: World) -> None:
    world.train(*WORDS)
    forgetting, seen = world.store.sole(FORGETTING), list[Any]()
    forgetting.acquire()
    try:
        with pytest.raises(Refused, match="being forgotten"):
            Compressing(world.retraining, Copying(seen)).run(1, "ann", lambda what, done, of: None)
    finally:
        forgetting.release()
    assert not seen
    assert compress(world)["version"] == 2


def test_a_job_that_a_kill_left_open_is_closed_by_the_next_compression_of_that_version(world: World) -> None:
    world.train(*WORDS)
    for number in (1, 3):
        request = {"compressed": number}
        job = Job(f"j{number}", MODEL, "compress", world.clock.now(), JobState.RUNNING, request)
        world.store.add_job(job)
    compress(world, dry_run=True)
    closed = world.store.job("j1")
    assert (closed.state, closed.result["error"]) == (JobState.FAILED, "it was stopped")
    assert world.store.job("j3").state is JobState.RUNNING, "another process may be at it"


def test_a_version_whose_classes_were_renamed_is_refused(world: World) -> None:
    world.train(*WORDS)
    world.clock.advance(timedelta(hours=1))
    world.store.change_classes(MODEL, ClassChange(world.clock.now(), "ann", "rename", ("pos",), "fine"), {"pos", "neg"})
    with pytest.raises(Refused, match="classes were renamed"):
        compress(world)


def test_stopped_while_it_is_registered_nothing_waits_for_it(world: World) -> None:
    world.train(*WORDS)
    with pytest.raises(BackendError):
        compress(world, damaged=True)
    (job,) = jobs(world)
    assert job.state is JobState.FAILED
    assert [version.number for version in world.registry.versions(MODEL)] == [1]
    assert compress(world)["version"] == 2


def test_a_stopped_run_goes_on_where_it_was_and_other_arguments_begin_anew(tmp_path: Path, clock: ManualClock) -> None:
    folder, found = tmp_path / "compress", list[bool]()

    def stopped_in(arguments: dict[str, int]) -> None:
        with working(folder, BUSY) as place:
            goes_on(place, arguments, clock.now())
            found.append((place / "distilling").is_dir())
            (place / "distilling").mkdir(exist_ok=True)
            raise KeyboardInterrupt

    for layers in (3, 3, 2):
        with pytest.raises(KeyboardInterrupt):
            stopped_in({"layers": layers})
    assert found == [False, True, False]
    with working(folder, BUSY) as place:
        goes_on(place, {"layers": 2}, clock.now())
        assert (place / "distilling").is_dir()
        clock.advance(timedelta(days=3))
        goes_on(place, {"layers": 2}, clock.now())
        assert not (place / "distilling").is_dir(), "what is so old begins anew"
    assert not folder.exists()


def test_new_traffic_does_not_make_a_stopped_run_begin_anew(world: World) -> None:
    world.train(*WORDS)
    world.live(5, "good", "pos")
    seen = list[tuple[list[Any], Path]]()
    copying = watching(seen)

    def stopped(what: str, done: int, of: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Compressing(world.retraining, copying).run(1, "ann", stopped)
    (world.folder / "work" / "compress-toy-1" / "distilling").mkdir()
    world.live(5, "bad", "neg")
    heard = []
    Compressing(world.retraining, copying).run(
        1, "ann", lambda *_: heard.append((world.folder / "work" / "compress-toy-1" / "distilling").is_dir())
    )
    assert heard[0], "its checkpoints are still there"
    assert seen[0] == seen[1], "it goes on with the texts that it began with"
    Compressing(world.retraining, copying).run(1, "ann", lambda *_: None, dry_run=True)
    assert len(seen[2][0]) > len(seen[0][0]), "the next one looks at all of the traffic"


def test_a_version_that_was_compressed_is_judged_by_the_one_that_was_not(world: World) -> None:
    """Else each compression might lose as much again."""
    world.train(*WORDS)
    seen = list[tuple[list[Any], Path]]()
    copying = watching(seen)
    for number in (1, 2, 3):
        result = Compressing(world.retraining, copying).run(number, "ann", lambda *_: None)
        assert result["against"] == 1
    first = world.registry.fetch(MODEL, 1)
    assert [against for _, against in seen] == [first] * 3
    assert "version 3 was compressed before: losses are measured against version 1" in result["because"]
    world.registry.remove(MODEL, 1, world.clock.now())
    with pytest.raises(Refused, match="compressed from version 1, whose files were removed"):
        Compressing(world.retraining, copying).run(4, "ann", lambda *_: None)


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "compress").mkdir()
    lock, refused = FileLock(tmp_path / "compress" / "lock"), pytest.raises(Refused, match="being compressed already")
    with lock, refused, working(tmp_path / "compress", BUSY):
        pass


# the command's verb


@pytest.mark.parametrize("task", ["toy", "video"])
def test_what_has_no_words_to_trim_is_refused_in_a_sentence(task: str, tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(f'tracking = "local"\n[models.default]\ntask = "{task}"\n', "utf-8")
    project = Project(tmp_path)
    with pytest.raises(SettingsError, match=f"a model of {task} cannot be compressed"):
        project.compress()
    project.close()


def test_a_loss_that_makes_no_sense_and_a_project_without_a_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n', "utf-8")
    project = Project(tmp_path)
    for loss in (0.0, -1.0, 101.0):
        with pytest.raises(SettingsError, match="points of accuracy"):
            project.compress(loss=loss)
    with pytest.raises(NotFound, match="no version"):
        project.compress()
    project.close()


def test_a_compressed_version_is_not_reproduced_by_a_training(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(
        'tracking = "local"\n[models.default]\ntask = "toy"\n[models.default.gate.invariances]\ncase = 0.1\n', "utf-8"
    )
    data = [f"{word} thing number {i},{label}" for i in range(60) for word, label in WORDS]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(data) + "\n", "utf-8")
    project = Project(tmp_path)
    project.train(tmp_path / "data.csv")
    compressing = Compressing(project.retraining("default"), Copying([]))
    assert compressing.run(1, "ann", lambda what, done, of: None)["version"] == 2
    with pytest.raises(InvalidInput, match="it is version 1, compressed"):
        project.reproduce(2)
    project.close()
