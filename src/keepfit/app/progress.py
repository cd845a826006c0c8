"""Progress bars on long work; silent when the output is for programs or not a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from keepfit.pipelines.progress import WAITING
from keepfit.tasks.task import Report

MOMENT = 1.0
"""Seconds; what is done sooner needs no bar."""


@contextmanager
def training_progress(quiet: bool) -> Iterator[Report]:
    """Shows what a training reports: step of steps, and the newest metrics; of a search also which trial it is."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    lines = Lines(console) if not quiet and not console.is_terminal else None
    with Progress(*columns, console=console, disable=quiet or lines is not None) as bar:
        task = bar.add_task("training", total=1.0)
        now = "training"

        def report(metrics: Mapping[str, float], step: int) -> None:
            nonlocal now
            before, now = now, phase(metrics)
            if now != before:
                bar.reset(task, description=now)
            bar.update(task, completed=metrics.get("progress", 0.0) or bar.tasks[0].completed)
            if lines is not None:
                lines.tell(metrics)
            if shown := losses(metrics):
                bar.update(task, description=f"{now}, step {step}  {shown}")

        yield report


class Lines:
    """Progress for a log: a line for each tenth that is done. `of` is said first, where several things go on."""

    def __init__(self, console: Console, of: str = "") -> None:
        self._console, self._of, self._told = console, of, ("", -1)

    def tell(self, metrics: Mapping[str, float]) -> None:
        """Print when another tenth is done, or something else is under way."""
        what, share = phase(metrics), metrics.get("progress")
        now = (what, -1 if share is None else int(10 * share))
        if now != self._told:
            self._told = now
            done = "" if share is None else f": {share:.0%}  {losses(metrics)}".rstrip()
            self._console.print(f"{self._of}{what}{done}", highlight=False, markup=False)


SHOWN = ("loss", "eval_loss", "validation_loss", "validation_accuracy", "accuracy")
STAGES = ("gathering the data", "training", "evaluating", "registering", "judging", "deploying")
"""Of a retraining, in the order of its steps."""


def losses(metrics: Mapping[str, float]) -> str:
    """The numbers that people look at while it trains.

    >>> losses({"loss": 0.25, "progress": 0.5})
    'loss 0.250'
    """
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name in SHOWN)


def phase(metrics: Mapping[str, float]) -> str:
    """What is under way: a step of a retraining, a fold of a cross-validation, or a trial of a search.

    >>> phase({"trial": 2.0, "trials": 12.0, "best": 0.25}), phase({"stage": 2.0})
    ('trial 2 of 12 (best 0.250)', 'evaluating')
    """
    if "fold" in metrics:
        return f"fold {metrics['fold']:.0f} of {metrics['folds']:.0f}"
    if "trial" not in metrics:
        stage = metrics.get("stage", 1.0)
        return "waiting for the worker" if stage == WAITING else STAGES[int(stage)]
    best = f" (best {metrics['best']:.3f})" if "best" in metrics else ""
    return f"trial {metrics['trial']:.0f} of {metrics['trials']:.0f}{best}"


@contextmanager
def counting_progress(
    quiet: bool, words: str, console: Console | None = None, seconds: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int, int | None], None]]:
    """Shows done of all and the remaining time, where it takes longer than a moment; nothing stays on the screen."""
    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    began = seconds()
    console = console or Console(stderr=True)
    bar = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
    task = bar.add_task(words, total=None)

    def progress(done: int, total: int | None) -> None:
        if not bar.live.is_started and seconds() - began > MOMENT:
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield progress
    finally:
        bar.stop()


@contextmanager
def stages_progress(quiet: bool) -> Iterator[Callable[[str, int, int | None], None]]:
    """Shows what is under way, done of all and the remaining time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("reading", total=None)
        now = "reading"

        def progress(what: str, done: int, total: int | None) -> None:
            nonlocal now
            if what != now:
                bar.reset(task, description=what)
                now = what
            bar.update(task, completed=done, total=total)

        yield progress


class RowRate(ProgressColumn):
    """Rows a second, once there is something to tell."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.0f} rows/s")


@contextmanager
def batch_progress(quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Shows rows done of rows, the rate and the remaining time."""
    columns = (
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        RowRate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("scoring", total=None)

        def progress(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield progress
