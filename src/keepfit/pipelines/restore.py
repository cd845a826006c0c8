"""What makes the databases of a backup those of a project that begins again: the moment of the cut was a power cut.

Retrainings that were running are closed as interrupted, since their checkpoints are not in a backup and the original
may have finished them: nothing is done twice, and a trigger or a person asks again. Files that were being scored are
scored from their beginning. What waited still waits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select, update

from keepfit.data.archive import FORMAT
from keepfit.data.cut import Progress, copy_rows, empty, plain_engine, tables
from keepfit.data.records import JobState
from keepfit.data.schema import JOBS
from keepfit.data.store import RecordStore
from keepfit.data.upgrading import HEAD, VERSION_TABLE
from keepfit.errors import Refused

INTERRUPTED = (
    "interrupted by a restore: it was running when the backup was made; ask for it again if it is still wanted"
)
OPEN_WORKFLOWS = ("PENDING", "ENQUEUED", "DELAYED")


@dataclass(frozen=True)
class Begun:
    """What came of the jobs that were open."""

    interrupted: tuple[str, ...]
    anew: tuple[str, ...]
    waiting: int


def refuse_newer(about: Mapping[str, Any], source: Path) -> None:
    """Raises Refused for a backup whose form or schema this release does not know."""
    if int(about["format"]) > FORMAT or str(about["schema"]) > HEAD:
        raise Refused(
            f"{source} was made by keepfit {about.get('keepfit')} with schema {about['schema']} (form "
            f"{about['format']}); this keepfit knows schema {HEAD} (form {FORMAT}): install that release to restore it"
        )


def begin_again(store: RecordStore, now: datetime) -> Begun:
    """Close or put back what was running."""
    interrupted, anew = [], []
    for job in store.jobs(states=[JobState.RUNNING], limit=100_000):
        if job.kind == "batch":
            store.update_job(job.id, state=JobState.WAITING, step="")
            anew.append(job.id)
        else:
            result = {**job.result, "error": INTERRUPTED, "retry": True}
            store.update_job(job.id, state=JobState.FAILED, result=result, finished_at=now)
            interrupted.append(job.id)
    waiting = len(store.jobs(states=[JobState.WAITING], limit=100_000)) - len(anew)
    return Begun(tuple(interrupted), tuple(anew), waiting)


def move_jobs(store: RecordStore, old: str, new: str) -> None:
    """Files that were handed in lie in another folder now."""
    with store.database.write() as conn:
        for row in conn.execute(select(JOBS.c.seq, JOBS.c.request, JOBS.c.result)).all():
            now = {"request": _moved(row.request, old, new), "result": _moved(row.result, old, new)}
            if now != {"request": row.request, "result": row.result}:
                conn.execute(update(JOBS).where(JOBS.c.seq == row.seq).values(**now))


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _moved(each, old, new) for name, each in value.items()}
    return new + value[len(old) :] if isinstance(value, str) and value.startswith(f"{old}/") else value


def cancel_workflows(jobs: Path) -> int:
    """In a copy of the job database: nothing of it is gone on with; how many there were."""
    with closing(sqlite3.connect(jobs)) as conn, conn:
        marks = ", ".join("?" for _ in OPEN_WORKFLOWS)
        return conn.execute(
            f"UPDATE workflow_status SET status = 'CANCELLED' WHERE status IN ({marks})", OPEN_WORKFLOWS
        ).rowcount


def is_record(name: str) -> bool:
    """Whether a table is one of the record store's."""
    return name.startswith("keepfit_") and name != VERSION_TABLE


def pour(source: Path, engine: Engine, schema: str | None, wanted: Any, progress: Progress) -> int:
    """Put the rows of an SQLite file into the tables of another database, in place of what is there; how many.

    Tables that the backup has not, which are others', stay as they are.
    """
    there = plain_engine(source)
    try:
        with there.connect() as reading, engine.begin() as conn:
            brought = tables(reading, wanted)
            names = {table.name for table in brought}
            here = tables(conn, lambda name: wanted(name) and name in names, schema)
            empty(conn, here)
            return copy_rows(reading, brought, conn, here, progress)
    finally:
        there.dispose()
