"""Turns: which retraining may begin. One at a time of a model, and so many of all; what waits is told, and why."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from keepfit.clock import Clock
from keepfit.data.records import Job, JobState
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound

RETRAIN = "retrain"
MANY = 1000
"""More retrainings than ever wait at once: of each model one is open at most."""


@dataclass(frozen=True)
class Turns:
    """Of one worker. `most` bounds the retrainings of all its models together."""

    store: RecordStore
    models: Collection[str]
    most: int
    clock: Clock

    def take(self) -> Job | None:
        """The retraining that waits longest, claimed; None where none waits, or as many run as may.

        Each that has to wait gets a stored decision, once.
        """
        running = self.store.jobs(kind=RETRAIN, states=[JobState.RUNNING], limit=MANY)
        if len(running) < self.most:
            return self.store.claim_job("worker", [RETRAIN], self.models)
        for job in self.store.jobs(kind=RETRAIN, states=[JobState.WAITING], limit=MANY):
            self._tell(job, running)
        return None

    def close_orphans(self) -> None:
        """Ends jobs of models that are not in the settings (any more): nobody would, and they would hold a turn."""
        for job in self.store.jobs(states=[JobState.RUNNING, JobState.WAITING], limit=MANY):
            if job.model in self.models or job.kind not in (RETRAIN, "batch"):
                continue
            words = f"the model {job.model!r} is not in keepfit.toml; put [models.{job.model}] back and ask again"
            now, decision = self.clock.now(), Decision(Outcome.FAIL, (f"the {job.kind} job stopped: {words}",))
            self.store.add_decision(job.model, job.kind, decision, now, id=f"{job.id}-orphan")
            self.store.update_job(job.id, state=JobState.FAILED, result={"error": words}, finished_at=now)

    def _tell(self, job: Job, running: Collection[Job]) -> None:
        names = ", ".join(sorted(f"{one.model!r}" for one in running))
        words = (
            f"the retraining of {job.model!r} waits: {len(running)} of {self.most} that may run at once "
            f"{'runs' if len(running) == 1 else 'run'} ({names}) [worker.retrainings_at_once]"
        )
        evidence = {"job": job.id, "running": [one.id for one in running], "at_once": self.most}
        self.store.add_decision(
            job.model, RETRAIN, Decision(Outcome.HOLD, (words,), evidence), self.clock.now(), id=waiting_id(job)
        )


def waiting_id(job: Job) -> str:
    """Of the decision that says why a job waits."""
    return f"{job.id}-waits"


def why_it_waits(store: RecordStore, job: Job) -> str | None:
    """What a waiting job was told; None for one that does not wait, or was told nothing."""
    if job.state is not JobState.WAITING:
        return None
    try:
        return store.decision(waiting_id(job)).decision.because[0]
    except NotFound:
        return None
