"""The worker's beat: what is due is done, and no part that fails stops another."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from keepfit.app.turns import why_it_waits
from keepfit.app.worker import SETTLED, WatchedModel, Worker, WorkerLock
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Job, JobState, Label, Prediction, Source, new_id
from keepfit.data.sole import FORGETTING
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, Refused
from keepfit.pipelines.announce import Announcer
from keepfit.pipelines.watch import Watch

EVERY = timedelta(minutes=1)


@dataclass
class Part:
    """Stands where the watch, the announcer, the mirror or the durable jobs stand: counts, and fails when told to."""

    trouble: Exception | None = None
    calls: int = 0
    started: list[str] = field(default_factory=list)
    under_way: set[str] = field(default_factory=set)

    def __call__(self) -> None:
        self.calls += 1
        if self.trouble is not None:
            raise self.trouble

    tick = announce = __call__

    def goes_on(self, job_id: str) -> bool:
        return job_id in self.under_way

    def start(self, model: str, job_id: str) -> None:
        self()
        self.started.append(job_id)
        self.under_way.add(job_id)


@dataclass
class Bench:
    """A worker made of parts."""

    clock: ManualClock
    store: RecordStore
    inbox: Path
    watch: Part = field(default_factory=Part)
    announcer: Part = field(default_factory=Part)
    mirror: Part = field(default_factory=Part)
    durable: Part = field(default_factory=Part)
    score: Callable[[Job], Mapping[str, Any]] = lambda job: {"rows": 3}

    def worker(self, *models: str) -> Worker:
        watched = WatchedModel(
            cast(Watch, self.watch), cast(Announcer, self.announcer), self.mirror, EVERY, self.inbox
        )  # fmt: skip
        models = models or ("m",)
        return Worker(self.store, dict.fromkeys(models, watched), self.durable, self.score, self.clock)

    def job(self, kind: str, state: JobState = JobState.WAITING, model: str = "m") -> str:
        job = Job(new_id(), model, kind, self.clock.now(), state)
        self.store.add_job(job)
        return job.id

    def drop(self, name: str, content: str = "text,label\n") -> Path:
        """A file that is written just now, by the manual clock."""
        file = self.inbox / name
        file.write_text(content, "utf-8")
        now = self.clock.now().timestamp()
        os.utime(file, (now, now))
        return file


@pytest.fixture
def bench(store_url: str, clock: ManualClock, tmp_path: Path) -> Iterator[Bench]:
    (tmp_path / "inbox").mkdir()
    with RecordStore.open(store_url) as store:
        yield Bench(clock, store, tmp_path / "inbox")


def beat(worker: Worker) -> None:
    """A beat, and the alerts that are told aside."""
    worker.beat()
    assert worker.alert_thread is not None
    worker.alert_thread.join(30)
    assert not worker.alert_thread.is_alive()


def finish_batch(worker: Worker) -> None:
    assert worker.batch_thread is not None
    worker.batch_thread.join(30)
    assert not worker.batch_thread.is_alive()


# what is due


def test_the_watch_beats_at_its_own_rhythm_and_announcing_is_never_late(bench: Bench) -> None:
    worker = bench.worker()
    for seconds in (0, 30, 30, 10, 50):
        bench.clock.advance(timedelta(seconds=seconds))
        beat(worker)
    assert bench.watch.calls == bench.mirror.calls == 3
    assert bench.announcer.calls == 5


def test_a_beat_leaves_a_sign_of_life(bench: Bench) -> None:
    bench.worker().beat()
    assert bench.store.get("", "worker") == {"at": bench.clock.now().isoformat(), "pid": os.getpid(), "models": ["m"]}


@pytest.mark.parametrize("trouble", [BackendError("the database is locked"), RuntimeError("a bug")])
@pytest.mark.parametrize("part", ["watch", "mirror", "announcer", "durable"])
def test_a_part_that_fails_stops_no_other_and_is_tried_again(bench: Bench, part: str, trouble: Exception) -> None:
    getattr(bench, part).trouble = trouble
    worker = bench.worker("m", "n")
    bench.job("retrain")
    beat(worker)
    bench.clock.advance(EVERY)
    beat(worker)
    assert bench.watch.calls == bench.announcer.calls == bench.mirror.calls == 4


# jobs


def test_retrainings_are_handed_on_once(bench: Bench) -> None:
    jobs = [bench.job("retrain"), bench.job("retrain", model="n")]
    worker = bench.worker("m", "n")
    worker.at_once = 2
    worker.beat()
    worker.beat()
    assert bench.durable.started == jobs
    assert {bench.store.job(id_).state for id_ in jobs} == {JobState.RUNNING}


def test_no_more_retrainings_run_at_once_than_are_set_and_the_one_that_waits_says_why(bench: Bench) -> None:
    first, second = bench.job("retrain"), bench.job("retrain", model="n")
    worker = bench.worker("m", "n")
    worker.beat()
    worker.beat()
    assert bench.durable.started == [first]
    (waits,) = bench.store.decisions("n", "retrain")
    assert waits.decision.because == (
        "the retraining of 'n' waits: 1 of 1 that may run at once runs ('m') [worker.retrainings_at_once]",
    )
    assert why_it_waits(bench.store, bench.store.job(second)) == waits.decision.because[0]
    assert bench.store.decisions("m", "retrain") == []

    bench.store.update_job(first, state=JobState.DONE)
    worker.beat()
    assert bench.durable.started == [first, second]
    assert why_it_waits(bench.store, bench.store.job(second)) is None


def test_a_job_of_a_model_that_was_taken_out_of_the_settings_is_closed_and_holds_up_nobody(bench: Bench) -> None:
    gone = bench.job("retrain", JobState.RUNNING, model="gone")
    mine = bench.job("retrain")
    worker = bench.worker("m")
    worker.beat()
    assert bench.durable.started == [mine]
    assert bench.store.job(gone).state is JobState.FAILED
    assert "put [models.gone] back" in bench.store.decisions("gone", "retrain")[0].decision.because[0]


def test_batch_files_are_scored_one_after_another(bench: Bench) -> None:
    gate = threading.Event()

    def score(job: Job) -> Mapping[str, Any]:
        assert gate.wait(30)
        return {"rows": 3, "job": job.id}

    bench.score = score
    first, second = bench.job("batch"), bench.job("batch")
    worker = bench.worker()
    worker.beat()
    worker.beat()
    assert bench.store.job(second).state is JobState.WAITING
    gate.set()
    finish_batch(worker)
    worker.beat()
    finish_batch(worker)
    for id_ in (first, second):
        done = bench.store.job(id_)
        assert (done.state, done.result) == (JobState.DONE, {"rows": 3, "job": id_})
        assert done.finished_at == bench.clock.now()


@pytest.mark.parametrize(
    ("trouble", "words"),
    [(InvalidInput("it has no text column"), "it has no text column"), (KeyError("x"), "KeyError: 'x'")],
)
def test_the_failure_of_a_batch_is_its_result(bench: Bench, trouble: Exception, words: str) -> None:
    def score(job: Job) -> Mapping[str, Any]:
        raise trouble

    bench.score = score
    id_ = bench.job("batch")
    worker = bench.worker()
    worker.beat()
    finish_batch(worker)
    job = bench.store.job(id_)
    assert (job.state, job.result) == (JobState.FAILED, {"error": words})


def test_what_a_killed_worker_left_is_gone_on_with(bench: Bench) -> None:
    retraining, batch = bench.job("retrain", JobState.RUNNING), bench.job("batch", JobState.RUNNING)
    done = bench.job("retrain", JobState.DONE)
    worker = bench.worker()
    worker.take_up()
    finish_batch(worker)
    assert bench.durable.started == [retraining]
    assert bench.store.job(batch).state is JobState.DONE
    assert done not in bench.durable.started


def test_a_compression_that_was_killed_is_not_the_workers_to_go_on_with(bench: Bench) -> None:
    left = bench.job("compress", JobState.RUNNING)
    worker = bench.worker()
    worker.take_up()
    assert worker.batch_thread is None
    assert bench.store.job(left).state is JobState.RUNNING


def test_run_ends_when_it_is_told_to(bench: Bench) -> None:
    id_ = bench.job("retrain", JobState.RUNNING)
    stop = threading.Event()
    stop.set()
    bench.worker().run(stop)
    assert bench.durable.started == [id_]
    assert bench.watch.calls == 0


def test_a_retraining_that_stopped_without_an_end_goes_on(bench: Bench) -> None:
    id_ = bench.job("retrain")
    worker = bench.worker()
    worker.beat()
    worker.beat()
    assert bench.durable.started == [id_]
    bench.durable.under_way.clear()
    worker.beat()
    worker.beat()
    assert bench.durable.started == [id_, id_]


def test_a_channel_that_hangs_holds_up_neither_checks_nor_other_alerts_for_ever(bench: Bench) -> None:
    go = threading.Event()

    class Hanging(Part):
        def announce(self) -> None:
            self()
            assert go.wait(30)

    bench.announcer = Hanging()
    worker = bench.worker()
    worker.beat()
    bench.clock.advance(EVERY)
    worker.beat()
    assert (bench.watch.calls, bench.announcer.calls) == (2, 1)
    go.set()
    assert worker.alert_thread is not None
    worker.alert_thread.join(30)
    beat(worker)
    assert bench.announcer.calls == 2


# the watched folder


def test_a_new_file_is_one_event_once_it_has_stopped_growing(bench: Bench) -> None:
    worker = bench.worker()
    file = bench.drop("new.csv")
    worker.beat()
    assert bench.store.waiting_events("m") == []
    bench.clock.advance(SETTLED)
    worker.beat()
    worker.beat()
    (event,) = bench.store.waiting_events("m")
    assert (event.kind, event.details) == ("new_data", {"file": str(file)})
    assert bench.store.get("m", "data_files") == [str(file)]


def test_a_kill_between_the_event_and_its_mark_neither_loses_nor_repeats_it(bench: Bench) -> None:
    bench.drop("new.csv")
    bench.clock.advance(SETTLED)
    bench.worker().beat()
    bench.store.put("m", "folder_files", {})
    bench.worker().beat()
    assert len(bench.store.waiting_events("m")) == 1


def test_a_file_that_changes_is_another_event_but_one_source_of_data(bench: Bench) -> None:
    worker = bench.worker()
    file = bench.drop("new.csv")
    bench.clock.advance(SETTLED)
    worker.beat()
    bench.drop("new.csv", "text,label\ngood,pos\n")
    bench.clock.advance(SETTLED)
    worker.beat()
    assert len(bench.store.waiting_events("m")) == 2
    assert bench.store.get("m", "data_files") == [str(file)]


def test_a_restarted_worker_knows_the_files_it_has_seen(bench: Bench) -> None:
    bench.drop("new.csv")
    bench.clock.advance(SETTLED)
    bench.worker().beat()
    bench.worker().beat()
    assert len(bench.store.waiting_events("m")) == 1


def test_hidden_files_folders_and_a_missing_folder_are_passed_over(bench: Bench) -> None:
    bench.drop(".part")
    (bench.inbox / "folder").mkdir()
    bench.clock.advance(SETTLED)
    bench.worker().beat()
    bench.inbox = bench.inbox / "missing"
    bench.worker().beat()
    assert bench.store.waiting_events("m") == []


# one worker


def test_a_project_has_one_worker_at_a_time(tmp_path: Path) -> None:
    first, second = WorkerLock(tmp_path / "state"), WorkerLock(tmp_path / "state")
    first.acquire()
    with pytest.raises(Refused, match="another worker"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_new_labels_that_measure_bring_a_check_on(bench: Bench) -> None:
    example = Example("a text", bench.clock.now(), "e")
    scores, embedding = np.array([0.5, 0.5], np.float32), np.zeros(2, np.float32)
    bench.store.add_predictions(
        "m", [(example, Prediction("e", 1, ("a", "b"), scores, embedding, bench.clock.now(), "p"))]
    )
    worker = bench.worker()
    worker.beat()
    assert bench.watch.calls == 1
    bench.clock.advance(timedelta(seconds=11))
    worker.beat()
    assert bench.watch.calls == 1, "nothing is new"
    bench.store.add_labels("m", [Label("e", "a", bench.clock.now(), Source.VOLUNTEERED)])
    worker.beat()
    assert bench.watch.calls == 1, "volunteered labels do not measure"
    bench.store.add_labels("m", [Label("e", "b", bench.clock.now(), Source.ASKED)])
    worker.beat()
    assert bench.watch.calls == 2
    worker.beat()
    assert bench.watch.calls == 2, "once"


# pruning


def test_the_worker_prunes_when_it_is_due_and_a_failure_stops_nothing(bench: Bench) -> None:
    calls = []

    def prune() -> None:
        calls.append(bench.clock.now())
        raise BackendError("the disk is away")

    worker = bench.worker()
    worker.prune = prune
    worker.beat()
    worker.beat()
    assert len(calls) == 2
    assert bench.announcer.calls == 2


def test_a_clock_that_is_set_back_does_not_stop_the_watch(bench: Bench) -> None:
    worker = bench.worker()
    worker.beat()
    bench.clock.advance(timedelta(hours=-3))
    worker.beat()
    assert bench.watch.calls == 2, "it would else look again in three hours"
    worker.beat()
    assert bench.watch.calls == 2


def test_a_worker_whose_place_was_taken_ends(bench: Bench) -> None:
    def taken() -> None:
        raise Refused("another worker runs")

    worker = bench.worker()
    worker.still = taken
    with pytest.raises(Refused, match="another worker"):
        worker.run(threading.Event())
    assert bench.watch.calls == 0


def test_a_worker_goes_on_while_the_store_cannot_say_whether_it_is_the_only_one(bench: Bench) -> None:
    stop = threading.Event()

    def away() -> None:
        stop.set()
        raise BackendError("the database does not answer")

    worker = bench.worker()
    worker.still = away
    worker.run(stop)
    assert bench.watch.calls == 1


def test_two_projects_on_one_record_store_have_one_worker(tmp_path: Path, store_url: str) -> None:
    with RecordStore.open(store_url) as here, RecordStore.open(store_url) as there:
        first, second = WorkerLock(tmp_path / "a", here), WorkerLock(tmp_path / "b", there)
        first.acquire()
        first.check()
        with pytest.raises(Refused, match="another worker"):
            second.acquire()
        first.release()
        second.acquire()
        second.release()
        WorkerLock(tmp_path / "b").acquire()


def test_no_job_begins_while_somebody_is_forgotten_and_then_it_does(bench: Bench) -> None:
    forgetting = bench.store.sole(FORGETTING)
    forgetting.acquire()
    worker = bench.worker("m")
    job = bench.job("retrain")
    worker.take_jobs()
    assert bench.store.job(job).state is JobState.WAITING
    forgetting.release()
    worker.take_jobs()
    assert bench.store.job(job).state is JobState.RUNNING
