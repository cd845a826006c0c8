"""What a worker says on the terminal: how far its retrainings are, and each alert as it is made."""

from __future__ import annotations

import contextlib

from rich.console import Console

from keepfit.alerts.alerts import Alert
from keepfit.app.progress import Lines
from keepfit.data.records import JobState
from keepfit.data.store import RecordStore
from keepfit.pipelines.progress import STEPS, how_far


class Terminal(Console):
    """Standard error as long as somebody is there; a worker outlives its terminal."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Rich would end the process."""
        self.quiet = True


class Narrator:
    """Lines for people who watch `keepfit up` or `keepfit worker`; the record is in the store."""

    def __init__(self, store: RecordStore, console: Console | None = None) -> None:
        self._store, self._console = store, console or Terminal()
        self._lines: dict[str, Lines] = {}

    def look(self) -> None:
        """Tell of each retraining that runs what is new of it."""
        running = [job for job in self._store.jobs(kind="retrain", states=[JobState.RUNNING]) if job.step in STEPS]
        self._lines = {job.id: self._lines.get(job.id) or Lines(self._console, f"{job.model}: ") for job in running}
        for job in running:
            with contextlib.suppress(OSError):  # a terminal that is gone
                self._lines[job.id].tell(how_far(self._store, job).metrics)

    def alert(self, alert: Alert) -> None:
        """The alert's title, and its words indented."""
        words = [f"  {line}" for line in alert.text.splitlines() if line]
        with contextlib.suppress(OSError):
            self._console.print("\n".join([alert.title, *words]), highlight=False, markup=False, soft_wrap=True)
