"""How far a retraining is: written by the process that does it, read by any other that shows it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from keepfit.data.records import Job
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.tasks.task import Report

STEPS = ("snapshot", "fit", "evaluate", "register", "judge", "deploy")
"""The steps of a retraining, in their order."""
WAITING = -1.0
"""The stage of a job that no worker has taken up yet; the others are places in STEPS."""
KEY = "progress"


@dataclass(frozen=True)
class HowFar:
    """What a `Report` is called with."""

    metrics: Mapping[str, float] = field(default_factory=lambda: {"stage": WAITING})
    """`stage`, and while it trains `progress` (0 to 1) and what the training reports."""
    step: int = 0
    """Of the training."""


def kept(store: RecordStore, job: Job) -> Report:
    """A report that leaves what it is told in the store, at each whole percent; a store that is away stops nothing."""
    written = -1

    def report(metrics: Mapping[str, float], step: int) -> None:
        nonlocal written
        percent = int(100 * metrics.get("progress", 0.0))
        if percent == written:
            return
        numbers = {name: value for name, value in metrics.items() if math.isfinite(value)}
        written = percent
        with contextlib.suppress(BackendError):  # a training of hours must not end for a line that people watch
            store.put(job.model, KEY, {"job": job.id, "step": step, "metrics": numbers})

    return report


def how_far(store: RecordStore, job: Job) -> HowFar:
    """Where this job is now."""
    if job.step not in STEPS:
        return HowFar()
    stage = {"stage": float(STEPS.index(job.step))}
    told = store.get(job.model, KEY) if job.step == "fit" else None
    if not told or told["job"] != job.id:
        return HowFar(stage)
    return HowFar({**told["metrics"], **stage}, told["step"])
