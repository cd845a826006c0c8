"""Imports of models that were killed and never given again: their jobs are closed, so that nothing waits for them."""

from __future__ import annotations

from pathlib import Path

from keepfit.clock import Clock
from keepfit.data.records import JobState
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.overdue import is_locked

IMPORT = "import"
"""Of jobs, of the versions that come of them, and before the model's name in the folder that an import works in."""
WORDS = "the import was interrupted; the same command goes on with it"


def close_interrupted(store: RecordStore, work: Path, clock: Clock) -> None:
    """Close the import jobs that no process is at, as the lock of the folder says in which it works."""
    for job in store.jobs(kind=IMPORT, states=[JobState.RUNNING]):
        if is_locked(work / f"{IMPORT}-{job.model}"):
            continue
        now, said = clock.now(), Decision(Outcome.FAIL, (WORDS,), {"job": job.id})
        store.add_decision(job.model, IMPORT, said, now, id=f"{job.id}-interrupted")
        result = {"error": WORDS, "retry": True}
        store.update_job(job.id, state=JobState.FAILED, result=result, finished_at=now)
