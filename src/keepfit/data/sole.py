"""Sole: what one process at most may hold of all that use a database; it is free when that process, or its line, dies.

On SQLite it is a lock on a file beside the database, on PostgreSQL an advisory lock of a connection of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, select, text

from keepfit.data.database import Database, said
from keepfit.errors import BackendError, Refused

PAUSE_S = 0.1
FORGETTING = "forgetting"
"""Its holder removes data; a job that may use the data is not begun meanwhile (`RecordStore.nobody_forgets`)."""
KEEPING = "keeping"
"""Its holder reads or deletes stored files: a backup, a pruning and a forgetting never run at once."""
ASKING_S = 2.0
"""Who only asks whether there is one, such as `keepfit status`, holds it for a moment."""
SILENT_HOLDER = ("SET tcp_keepalives_idle = 30", "SET tcp_keepalives_interval = 10", "SET tcp_keepalives_count = 3")
"""A machine that lost its power says no goodbye: PostgreSQL gives its lock to another one after a minute."""


@contextmanager
def keeping(sole: Sole, what: str, wait: float = 0) -> Iterator[None]:
    """Hold the role KEEPING. Raises Refused, which says `what` cannot begin, when it is held for longer than `wait`."""
    try:
        sole.acquire(wait)
    except Refused as error:
        raise Refused(
            f"{what} cannot begin: a backup, a pruning or a forgetting is under way for these records, and what one "
            "reads another may delete; try again when it has ended"
        ) from error
    try:
        yield
    finally:
        sole.release()


class Sole:
    """The only one of its `role`. Not for several threads at once."""

    def __init__(self, database: Database, role: str) -> None:
        self._database, self._role = database, role
        self._file = None if database.path is None else FileLock(f"{database.path}.{role}.lock", timeout=0)
        self._line: Connection | None = None

    def acquire(self, wait: float = 0) -> None:
        """Raises Refused while another process holds it, BackendError when the database does not answer."""
        end = time.monotonic() + wait
        while not (self._take_file() if self._file is not None else self._take_line()):
            if time.monotonic() >= end:
                raise Refused(
                    f"another {self._role} runs for the records in {self._database.name}; stop it first, or let it do "
                    "the work"
                )
            time.sleep(PAUSE_S)

    def check(self) -> None:
        """Whether it is still ours. A line that broke is made anew: Refused when another process was faster.

        Raises BackendError while the database does not answer.
        """
        if self._file is not None:
            return
        if self._line is not None:
            try:
                with said(self._database.name):
                    self._line.execute(text("SELECT 1"))
                return
            except BackendError:
                self._drop_line()
        self.acquire(wait=ASKING_S)

    def release(self) -> None:
        """Let another process have it."""
        if self._file is not None:
            self._file.release()
        self._drop_line()

    def _take_file(self) -> bool:
        assert self._file is not None
        try:
            self._file.acquire()
        except Timeout:
            return False
        except OSError as error:
            raise BackendError(f"the {self._role}'s lock {self._file.lock_file} cannot be taken: {error}") from error
        return True

    def _take_line(self) -> bool:
        with said(self._database.name):
            line = self._database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                for setting in SILENT_HOLDER:
                    line.execute(text(setting))
                key = func.hashtextextended(f"keepfit {self._role}", 0)
                taken = bool(line.execute(select(func.pg_try_advisory_lock(key))).scalar())
            except BaseException:
                line.invalidate()
                line.close()
                raise
        self._line = line
        if not taken:
            self._drop_line()
        return taken

    def _drop_line(self) -> None:
        """The connection ends with all that it holds; it does not go back to the others."""
        line, self._line = self._line, None
        if line is not None:
            line.invalidate()
            line.close()
