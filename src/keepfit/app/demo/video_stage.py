"""The video demo's live display: phases with their progress; silent when the output is for programs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from keepfit.app.progress import phase


class Phases:
    """What people see: one line for each phase, with its progress; silent when the output is for programs."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                   TimeElapsedColumn(), TextColumn("{task.fields[words]}"))  # fmt: skip
        self._progress = Progress(*columns, console=self._console, disable=quiet)
        self._began, self._task = time.monotonic(), TaskID(0)
        self.moments: list[tuple[float, str]] = []
        """Seconds since the beginning, and what was noted then."""

    def __enter__(self) -> Phases:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def begin(self, words: str) -> None:
        """The next phase."""
        self._finish()
        if not self._console.is_terminal:
            self._console.print(f"demo: {words}")
        self._task = self._progress.add_task(words, total=None, words="")

    def _finish(self) -> None:
        for task in self._progress.tasks[-1:]:
            self._progress.update(task.id, total=1.0, completed=1.0)
            self._progress.stop_task(task.id)

    def share(self, done: float, words: str = "") -> None:
        """How much of the phase is done, from 0 to 1."""
        self._progress.update(self._task, total=1.0, completed=done, words=words)

    def training(self, metrics: Mapping[str, float], step: int) -> None:
        """What a training reports."""
        losses = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items() if "loss" in name)
        if "progress" in metrics:
            self.share(metrics["progress"], losses)
        else:
            self._progress.update(self._task, words=phase(metrics))

    def note(self, words: str) -> None:
        """Something that has happened; it stays, also in the report."""
        self.moments.append((time.monotonic() - self._began, words))
        self._console.print(words, highlight=False, markup=False)
