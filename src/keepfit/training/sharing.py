"""Sharing: several processes, on one machine or many, try recipes of one search; each sees which others are alive.

A trial under way carries a number that its process raises every few seconds. Whoever sees the same number for a while,
by a clock of its own, takes the trial for dead and lets it be tried again: so no clocks have to agree.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

log = logging.getLogger(__name__)
SHARE, PULSE = "share", "pulse"
"""What a trial of a shared search carries: whose it is, and the number that shows that it is alive."""
EVERY_S = 10.0
DEAD_S = 90.0
"""A trial whose number has stood still for so long is tried again."""


@contextlib.contextmanager
def alive(trial: optuna.Trial, share: str, every: float = EVERY_S) -> Iterator[None]:
    """Say, in a thread, that the trial is alive, and whose it is; `share` of "": of a process that searches alone."""
    if share:
        trial.set_user_attr(SHARE, share)
    stop = Event()

    def beat() -> None:
        beats = 0
        while not stop.wait(every):
            beats += 1
            try:
                trial.set_user_attr(PULSE, beats)
            except (SQLAlchemyError, StorageInternalError) as error:  # the next one may come through
                log.warning("that a trial is alive could not be said: %s", error)
            except RuntimeError:  # others took it for dead
                return

    thread = Thread(target=beat, name="trial-pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass
class Others:
    """The trials under way of other processes."""

    share: str
    """This process's."""
    dead_after: float = DEAD_S
    clock: Callable[[], float] = time.monotonic
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)
    """By trial number: its pulse, and since when it has been that."""

    def running(self, study: optuna.Study) -> list[FrozenTrial]:
        """Those that are alive; the dead ones are given up, so that somebody tries again."""
        found = []
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial.user_attrs.get(SHARE) == self.share:
                continue
            pulse, now = int(trial.user_attrs.get(PULSE, 0)), self.clock()
            before, since = self.seen.get(trial.number, (-1, now))
            self.seen[trial.number] = (pulse, since if pulse == before else now)
            if pulse == before and now - since >= self.dead_after:
                study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            else:
                found.append(trial)
        return found
