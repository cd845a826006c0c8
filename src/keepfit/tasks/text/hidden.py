"""Hidden states on the disk: what layers that do not learn have given for a text, one file a text and cut.

    hidden/STACK/ab/abcd...-1234...      float16, shape (tokens, width)

STACK names the layers and their weights. A file's name is made from the text (so that it can be forgotten) and from the
token ids (so that another cut, another cleaning or another tokenizer is another file). All of it can be computed again,
so a file that is missing or torn costs time and nothing else, and several processes may work in it at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from keepfit.data.splits import parts_of

FOLDER = "hidden"
"""Beside the snapshots."""
SPARE = 2**30
"""Bytes of the disk that are left to others."""
MARK = "used"
"""The file of a stack whose time says when it was used last."""
_OF_CONTENT = 32

States = NDArray[np.float16]
"""Shape (tokens, width)."""


@dataclass
class HiddenStates:
    """The states of one stack of layers; `most` bytes for all stacks together."""

    place: Path
    """The folder `hidden/`."""
    stack: str
    width: int
    most: int
    found: int = field(default=0, init=False)
    """Texts that were there, counted each time."""
    kept: int = field(default=0, init=False)
    """Texts that were written."""
    refused: int = field(default=0, init=False)
    """Texts for which there was no room; they are computed each time."""

    def __post_init__(self) -> None:
        self._room = self._expected = 0
        if self.most > 0:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / MARK).touch()
                self._room = self._free()
            except OSError:  # a disk that takes nothing costs time, not the training
                self._room = 0

    @property
    def folder(self) -> Path:
        """Of this stack."""
        return self.place / self.stack

    def expect(self, size: int) -> None:
        """So many bytes more will come: other stacks go, those unused for longest first, until there is room."""
        self._expected += size
        for other in sorted(_stacks(self.place), key=_used) if self.most > 0 else ():
            if self._room >= self._expected:
                return
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)
                self._room = self._free()

    def has(self, name: str) -> bool:
        """Whether something is kept under a name."""
        return self._path(name).is_file()

    def names(self, contents: Sequence[Any], ids: Sequence[list[int]]) -> list[str]:
        """The names of n contents that were cut to these tokens."""
        return [f"{of_content(self.stack, c)}-{_digest(_bytes(i), 16)}" for c, i in zip(contents, ids, strict=True)]

    def get(self, name: str, tokens: int) -> States | None:
        """What is kept of a text of so many tokens."""
        try:
            flat = np.fromfile(self._path(name), np.float16)
        except OSError:
            return None
        if flat.size != tokens * self.width:
            return None
        self.found += 1
        return flat.reshape(tokens, self.width)

    def put(self, name: str, states: States) -> None:
        """Keep it, as long as there is room; whole or not at all."""
        if states.nbytes > self._room:
            self.refused += 1
            return
        path = self._path(name)
        partial = path.with_name(f"{uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            states.tofile(partial)
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            self._room *= isinstance(error, FileNotFoundError)  # a pruning came between; else the disk takes no more
            self.refused += 1
            return
        self._room, self.kept = self._room - states.nbytes, self.kept + 1

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _free(self) -> int:
        used = sum(_size(entry) for stack in _stacks(self.place) for entry in _files(stack))
        return min(self.most - used, shutil.disk_usage(self.place).free - SPARE)


def place_beside(snapshots: Path) -> Path:
    """The folder `hidden/` of a project, by that of its snapshots."""
    return snapshots.parent / FOLDER


def of_content(stack: str, content: Any) -> str:
    """The part of a name that is made from the content; without the stack's name it tells nothing."""
    return _digest("\x1f".join((stack, *parts_of(content))).encode("utf-8", "surrogatepass"), _OF_CONTENT)


def keep_only(place: Path, contents: Iterable[Any], change: bool = True) -> tuple[int, int]:
    """Delete the states of every text but these, and what was being written; how many files went, and their bytes.

    A text whose data is gone must not live on in what was computed from it.
    """
    stacks = _stacks(place)
    if not stacks:
        return 0, 0
    known: dict[str, set[str]] = {stack.name: set() for stack in stacks}
    for content in contents:
        for name, names in known.items():
            names.add(of_content(name, content))
    count = size = 0
    for stack in stacks:
        for entry in list(_files(stack)):
            if entry.name != MARK and entry.name.split("-")[0] not in known[stack.name]:
                count, size = count + 1, size + _size(entry)
                if change:
                    Path(entry.path).unlink(missing_ok=True)
    return count, size


def _stacks(place: Path) -> list[Path]:
    inside = place.iterdir() if place.is_dir() else ()
    return [path for path in inside if path.is_dir() and not path.name.startswith(".")]


def _used(stack: Path) -> float:
    mark = stack / MARK
    return mark.stat().st_mtime if mark.is_file() else 0.0


def _files(stack: Path) -> Iterator[os.DirEntry[str]]:
    """Without what another process takes away meanwhile."""
    for entry in _inside(stack):
        if entry.is_dir():
            yield from _inside(entry.path)
        else:
            yield entry


def _inside(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    """In bytes; 0 for what has gone meanwhile."""
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, np.int64).tobytes()


def _digest(content: bytes, digits: int) -> str:
    return hashlib.sha256(content).hexdigest()[:digits]
