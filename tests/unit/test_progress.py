"""Progress where nobody looks at a bar (a log), and where the work is done by another process."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from keepfit.alerts.alerts import Alert, AlertKind
from keepfit.app.narration import Narrator, Terminal
from keepfit.app.progress import STAGES, Lines, counting_progress, phase
from keepfit.clock import ManualClock
from keepfit.data.records import Job, JobState
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.pipelines.progress import STEPS, HowFar, how_far, kept


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        yield opened


def test_a_log_gets_a_line_for_each_tenth_and_each_new_thing() -> None:
    written = io.StringIO()
    lines = Lines(Console(file=written, width=100))
    for step in range(40):
        lines.tell({"progress": step / 40, "loss": 1 - step / 40, "learning_rate": 0.1})
    lines.tell({"progress": 0.0, "trial": 2.0, "trials": 3.0})
    told = written.getvalue().splitlines()
    assert len(told) == 11
    assert told[0] == "training: 0%  loss 1.000"
    assert told[-1] == "trial 2 of 3: 0%"


def test_every_step_of_a_retraining_has_its_words() -> None:
    assert len(STAGES) == len(STEPS)
    assert [phase(HowFar({"stage": float(place)}).metrics) for place in range(len(STEPS))] == list(STAGES)
    assert phase(HowFar().metrics) == "waiting for the worker"


def test_how_far_a_job_is_can_be_read_by_another_process(store: RecordStore, clock: ManualClock) -> None:
    job = Job("job-1", "m", "retrain", clock.now())
    store.add_job(job)
    assert how_far(store, job) == HowFar()
    store.update_job(job.id, state=JobState.RUNNING, step="fit")
    tell = kept(store, job)
    tell({"progress": 0.25, "loss": 0.5, "grad_norm": math.nan}, 10)
    tell({"progress": 0.2501, "loss": 0.4}, 11)
    assert how_far(store, store.job(job.id)) == HowFar({"progress": 0.25, "loss": 0.5, "stage": 1.0}, 10)
    store.update_job(job.id, step="judge")
    assert how_far(store, store.job(job.id)) == HowFar({"stage": 4.0})


def test_what_an_earlier_job_told_is_not_taken_for_this_one(store: RecordStore, clock: ManualClock) -> None:
    earlier, job = Job("job-1", "m", "retrain", clock.now()), Job("job-2", "m", "retrain", clock.now(), step="fit")
    kept(store, earlier)({"progress": 0.9}, 90)
    assert how_far(store, job) == HowFar({"stage": 1.0})


def test_a_store_that_is_away_does_not_stop_a_training(store: RecordStore, store_url: str, clock: ManualClock) -> None:
    Path(store_url.removeprefix("sqlite:///")).unlink()
    with pytest.raises(BackendError):
        store.put("m", "progress", {})
    kept(store, Job("job-1", "m", "retrain", clock.now()))({"progress": 0.5}, 5)


def test_a_worker_tells_each_new_thing_once_and_every_alert(store: RecordStore, clock: ManualClock) -> None:
    written = io.StringIO()
    narrator = Narrator(store, Console(file=written, width=60))
    job = Job("job-1", "m", "retrain", clock.now(), JobState.RUNNING)
    store.add_job(job)
    narrator.look()  # it is claimed, and nothing is done of it yet
    store.update_job(job.id, step="fit")
    for share in (0.0, 0.01, 0.5):
        kept(store, job)({"progress": share, "loss": 1 - share}, int(100 * share))
        narrator.look()
    store.update_job(job.id, state=JobState.DONE)
    narrator.look()
    narrator.alert(
        Alert(AlertKind.DEPLOYMENT, "m", "m: version 2 is in use", "Why: [better]", clock.now(), "keepfit rollback")
    )
    assert written.getvalue().splitlines() == [
        "m: training: 0%  loss 1.000",
        "m: training: 50%  loss 0.500",
        "m: version 2 is in use",
        "  Why: [better]",
        "  To undo this: keepfit rollback",
    ]


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe whose reader has ended."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")])
def test_a_worker_outlives_its_terminal(store: RecordStore, clock: ManualClock, error: OSError) -> None:
    terminal = Terminal()
    terminal.file = Gone(error)
    narrator = Narrator(store, terminal)
    store.add_job(Job("job-1", "m", "retrain", clock.now(), JobState.RUNNING, step="fit"))
    narrator.look()
    narrator.alert(Alert(AlertKind.GATE, "m", "m: version 2 passed its tests", "", clock.now()))


@pytest.mark.parametrize(("later", "terminal", "shown"), [(0.5, True, False), (5.0, True, True), (5.0, False, False)])
def test_a_count_has_a_bar_on_a_terminal_and_only_when_it_takes_a_while(
    later: float, terminal: bool, shown: bool
) -> None:
    times, out = iter([0.0, later, later, later]), io.StringIO()
    console = Console(file=out, force_terminal=terminal)
    with counting_progress(False, "verifying", console, lambda: next(times)) as progress:
        progress(1, 2)
        progress(2, 2)
    assert ("verifying" in out.getvalue()) == shown
    assert bool(out.getvalue()) == shown
