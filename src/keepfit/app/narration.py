"""What a worker says on the terminal: how far its retrainings are, and each alert as it is made."""

from __future__ import annotations

from rich.console import Console

from keepfit.alerts.alerts import Alert
from keepfit.app.progress import Lines
from keepfit.data.records import JobState
from keepfit.data.store import RecordStore
from keepfit.pipelines.progress import how_far


class Narrator:
    """Lines for people who watch `keepfit up` or `keepfit worker`; the record is in the store."""

    def __init__(self, store: RecordStore, console: Console | None = None) -> None:
        self._store, self._console = store, console or Console(stderr=True)
        self._lines: dict[str, Lines] = {}

    def look(self) -> None:
        """Tell of each retraining that runs what is new of it."""
        for job in self._store.jobs(kind="retrain", states=[JobState.RUNNING]):
            lines = self._lines.setdefault(job.id, Lines(self._console, f"{job.model}: "))
            lines.tell(how_far(self._store, job).metrics)

    def alert(self, alert: Alert) -> None:
        """The alert's title, and its words indented."""
        words = [f"  {line}" for line in alert.text.splitlines() if line]
        self._console.print("\n".join([alert.title, *words]), highlight=False, markup=False, soft_wrap=True)
