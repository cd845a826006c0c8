"""How many cores a training takes: all of them while the machine is quiet, fewer while others work there.

A lower priority alone does not keep answers fast: threads of one training wait for each other at every layer, so one
that has to give way slows down all, while the caches and the memory go on being shared. One thread less leaves a core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

EVERY_S = 1.0
"""Between two looks."""
QUIET = 0.25
"""Cores' worth of other work that is passed over: a desktop, a scrape of the metrics."""


@dataclass(frozen=True)
class Usage:
    """Seconds that have gone by, and processor seconds, all cores together, since some moment."""

    clock: float
    busy: float
    """Of all processes."""
    own: float
    """Of this process."""


def usage() -> Usage:
    """Now, of this machine."""
    times = psutil.cpu_times()
    # time that the host gave to other machines (steal) is nobody's work here
    idle = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "steal", 0.0)
    return Usage(time.monotonic(), sum(times[:8]) - idle, time.process_time())


def others(before: Usage, now: Usage) -> float:
    """How many cores other processes kept busy between two moments.

    >>> others(Usage(0.0, 100.0, 10.0), Usage(2.0, 103.0, 12.0))
    0.5
    """
    return max(0.0, (now.busy - before.busy - (now.own - before.own)) / max(now.clock - before.clock, 1e-9))


def usable() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fitting(most: int, taken: float, cores: int) -> int:
    """Threads, at most `most`, that leave to others what they take of all cores; one at least.

    >>> fitting(2, 0.1, 2), fitting(2, 0.8, 2), fitting(8, 2.4, 8), fitting(2, 2.0, 2), fitting(8, 7.9, 16)
    (2, 1, 5, 1, 8)
    """
    return most if taken < QUIET else max(1, min(most, int(cores - taken)))


def gives_way() -> bool:
    """True in a process of lowered priority, such as the worker; a training that somebody waits for takes all cores."""
    return os.nice(0) > 0


class GiveWay(TrainerCallback):
    """Between two steps takes up or gives up cores, as others need them."""

    def __init__(
        self,
        most: int,
        look: Callable[[], Usage] = usage,
        take: Callable[[int], None] = torch.set_num_threads,
        cores: int | None = None,
    ) -> None:
        """`cores`: of the machine; None: those that this process may run on."""
        self._cores = usable() if cores is None else cores
        self._most, self._look, self._take = most, look, take
        self._seen, self._threads = look(), most

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Look around, unless that was done just now."""
        now = self._look()
        if now.clock - self._seen.clock < EVERY_S:
            return
        threads, self._seen = fitting(self._most, others(self._seen, now), self._cores), now
        if threads != self._threads:
            self._take(threads)
            self._threads = threads

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """What comes after the training finds the threads as they were."""
        self._take(self._most)
