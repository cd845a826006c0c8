"""Alone: a lock in the folder of what may run only once at a time for a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from keepfit.errors import BackendError, Refused

SEARCHING = "another search runs for this model; wait for it, or stop it"
"""A trial under way would be taken for one that was killed."""


@contextmanager
def alone(workdir: Path, otherwise: str) -> Iterator[None]:
    """The folder, made where it is missing, is this process's until the end.

    Raises Refused with the sentence `otherwise` when another process has it, BackendError when the disk fails.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(workdir / "lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise Refused(otherwise) from error
    except OSError as error:
        raise BackendError(f"{workdir} cannot be written ({error}); make room on the disk") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def working(folder: Path, otherwise: str) -> Iterator[Path]:
    """The folder to work in, for this process alone; gone when all is done.

    Raises as `alone`; BackendError also when the disk fails meanwhile.
    """
    with alone(folder, otherwise):
        try:
            yield folder
            shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise BackendError(f"cannot work in {folder} ({error}); make room on the disk and start again") from error
