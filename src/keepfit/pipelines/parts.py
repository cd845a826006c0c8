"""The finished chunks of an output that is still being written, kept so that a killed job goes on from them.

They lie in the folder `<output>.parts`: `manifest.json` says of what they are the parts, and each finished chunk is
one file, written elsewhere, flushed to the disk and then renamed. The output itself appears at once, by a rename.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from keepfit.errors import BackendError, Refused

_MANIFEST = "manifest.json"
_LOCK = "lock"
_SUFFIX = ".part"


@dataclass(frozen=True)
class Part:
    """One finished chunk; its file's name tells its place, its rows and how many of them are bad."""

    path: Path
    number: int
    rows: int
    errors: int


class Parts:
    """The parts of one output; held by one process at a time (see `opened`)."""

    def __init__(self, target: Path, folder: Path, finished: list[Part], anew: bool) -> None:
        self._target = target
        self._folder = folder
        self._finished = finished
        self.anew = anew
        """Whether parts were there that belong to something else and were thrown away."""

    @property
    def rows(self) -> int:
        """Rows in the finished parts."""
        return sum(part.rows for part in self._finished)

    @property
    def errors(self) -> int:
        """Bad rows in the finished parts."""
        return sum(part.errors for part in self._finished)

    def add(self, content: bytes, rows: int, errors: int) -> None:
        """Durable when it returns. Raises BackendError when the disk is full."""
        number = len(self._finished)
        path = self._folder / f"{number:08d}.{rows}.{errors}{_SUFFIX}"
        with _explained(self._target):
            _write(path, lambda file: file.write(content))
        self._finished.append(Part(path, number, rows, errors))

    def publish(self, join: Callable[[Iterator[Path], IO[bytes]], None]) -> None:
        """Makes the output of the parts, all at once, and removes them. Raises BackendError."""
        with _explained(self._target):
            joined = self._folder / "joined"
            _write(joined, lambda file: join((part.path for part in self._finished), file))
            os.replace(joined, self._target)
            _sync_folder(self._target.parent)
            shutil.rmtree(self._folder)


@contextmanager
def opened(target: Path, origin: Mapping[str, Any]) -> Iterator[Parts]:
    """The parts of `target` that were made from `origin` (JSON values); others are thrown away.

    Raises Refused when another process is at it, BackendError when the folder cannot be written.
    """
    folder = target.with_name(target.name + ".parts")
    with _explained(target):
        folder.mkdir(exist_ok=True)
        lock = (folder / _LOCK).open("w")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Refused(f"Another process is writing {target}; wait for it, or choose another output.") from error
        with _explained(target):
            parts = _recover(target, folder, json.loads(json.dumps(origin)))
        yield parts


def _recover(target: Path, folder: Path, origin: Any) -> Parts:
    known = _manifest(folder)
    finished = list(_finished(folder)) if known == origin else []
    kept = {_LOCK, _MANIFEST, *(part.path.name for part in finished)}
    for path in folder.iterdir():
        if path.name not in kept:
            path.unlink()
    if known != origin:
        content = json.dumps(origin, indent=1).encode()
        _write(folder / _MANIFEST, lambda file: file.write(content))
    return Parts(target, folder, finished, anew=known is not None and known != origin)


def _manifest(folder: Path) -> Any:
    try:
        return json.loads((folder / _MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _finished(folder: Path) -> Iterator[Part]:
    """The parts in order, up to the first that is missing."""
    for number, path in enumerate(sorted(folder.glob(f"*{_SUFFIX}"))):
        place, rows, errors = map(int, path.name.removesuffix(_SUFFIX).split("."))
        if place != number:
            return
        yield Part(path, place, rows, errors)


def _write(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """The file appears under its name only when it is whole and on the disk."""
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            reason = "the disk is full; free some space and start the same job again, it goes on where it stopped"
        else:
            reason = f"{error.strerror or error}; mend that and start the same job again"
        raise BackendError(f"The output {target} cannot be written: {reason}.") from error
