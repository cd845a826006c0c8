"""The form of a backup: named files with their hashes and a manifest, as a folder or as one compressed file.

`about.json` comes first and says what made it, so that a wrong release is refused at once; `manifest.json` comes last
with the SHA-256 and size of every file, so that a backup without it is not whole. One file is a tar, compressed as its
name says (`.tar.zst`, `.tar.gz`, `.tgz`, `.tar`); other tools can read it. What is the same as an earlier one is stored
once, with a hard link to it, in the tar as in the folder; `unpacking.py` makes it a file of its own again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from keepfit.errors import BackendError, Refused

ABOUT, MANIFEST = "about.json", "manifest.json"
FORMAT = 2
"""Of backups; a higher one was made by a newer keepfit. 1 had no hard links."""
SMALL = 4096
"""Bytes; of a smaller file a link would spare next to nothing."""
CHUNK = 1 << 20
ENDS = re.compile(r"\.(tar|tar\.gz|tgz|tar\.zst)$")


class Sink(Protocol):
    """Where the files of a backup go."""

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        """Exactly `size` bytes of `source`."""
        ...

    def link(self, name: str, first: str) -> None:
        """The same content as `first`, which was added before."""
        ...


@dataclass
class Writing:
    """A backup that is being written; remembers the hash of each file."""

    sink: Sink
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    stored: int = 0
    """Bytes that were written, before any compression."""
    _firsts: dict[tuple[int, str], str] = field(default_factory=dict)
    """The first file of each size and hash."""

    def add_file(self, name: str, path: Path) -> bool:
        """A file as it is now; false when it is gone meanwhile. Raises BackendError when it cannot be read."""
        try:
            with path.open("rb") as source:
                size = os.fstat(source.fileno()).st_size
                if (first := self._same(source, size)) is not None:
                    self.sink.link(name, first)
                    self.files[name] = dict(self.files[first])
                    return True
                self._add(name, source, size)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise BackendError(f"{path} cannot be put into the backup: {error.strerror or error}") from error
        return True

    def add_json(self, name: str, value: Mapping[str, Any]) -> None:
        """A small document."""
        self.add_text(name, json.dumps(value, indent=1, sort_keys=True, default=str))

    def add_text(self, name: str, words: str) -> None:
        """A small text."""
        data = words.encode()
        self._add(name, io.BytesIO(data), len(data))

    def _add(self, name: str, source: IO[bytes], size: int) -> None:
        hashed = Hashed(source, size)
        self.sink.add(name, hashed, size)  # type: ignore[arg-type]
        if hashed.left:
            raise BackendError(f"{name} became shorter while it was read; try again")
        digest = hashed.digest.hexdigest()
        self.files[name] = {"sha256": digest, "size": size}
        self.stored += size
        self._firsts.setdefault((size, digest), name)

    def _same(self, source: IO[bytes], size: int) -> str | None:
        """An earlier file of the same content; only one of the same size is worth reading this one twice."""
        if size < SMALL or all(size != known for known, _ in self._firsts):
            return None
        digest = hashlib.file_digest(source, "sha256").hexdigest()  # type: ignore[arg-type]
        source.seek(0)
        return self._firsts.get((size, digest))

    def finish(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest; what it says."""
        manifest = {**about, "files": dict(self.files)}
        self.add_json(MANIFEST, manifest)
        return manifest


class Hashed:
    """Reads so many bytes of a file and hashes them on the way."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self.left = source, size
        self.digest = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        """At most `count` bytes."""
        wanted = self.left if count < 0 else min(count, self.left)
        data = self._source.read(wanted) if wanted else b""
        self.digest.update(data)
        self.left -= len(data)
        return data


class TarSink:
    """Into one file."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = size, 0o600
        self._tar.addfile(entry, source)

    def link(self, name: str, first: str) -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, first, 0o600
        self._tar.addfile(entry)


class FolderSink:
    """Into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
            file.flush()
            os.fsync(file.fileno())

    def link(self, name: str, first: str) -> None:
        source, target = self._folder / first, self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:  # not every disk has links
            with source.open("rb") as file:
                self.add(name, file, source.stat().st_size)


@contextmanager
def writing(target: Path) -> Iterator[tuple[Writing, Path]]:
    """Write a backup aside and give it its name at the end; whatever stops it, no half backup has that name.

    Yields the writing and a private folder for temporary files. Only its owner may read it: it holds texts. Raises
    Refused when the target exists, BackendError when the disk fails.
    """
    if target.exists():
        raise Refused(f"{target} exists already; give another name, or an existing folder to get a dated file in it")
    part = target.with_name(f".{target.name}.part")
    beside = target.with_name(f".{target.name}.databases")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(part)  # what a kill has left
        remove(beside)
        beside.mkdir(mode=0o700)
        if ENDS.search(target.name):
            with created(part) as file, tarfile.open(fileobj=file, mode="w|", bufsize=CHUNK) as tar:
                yield Writing(TarSink(tar)), beside
            settle(part)
        else:
            part.mkdir(mode=0o700)
            yield Writing(FolderSink(part)), beside
        os.replace(part, target)
        settle(target.parent)
    except OSError as error:
        raise BackendError(f"{target} cannot be written: {error.strerror or error}; make room, try again") from error
    finally:
        remove(part)
        remove(beside)


@contextmanager
def created(path: Path) -> Iterator[IO[bytes]]:
    """A new file that only its owner may read, compressed as its name says."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with pa.output_stream(str(path), compression=compression(path.name.removesuffix(".part"))) as file:
        yield file


def compression(name: str) -> str | None:
    """The codec by the name of the file.

    >>> compression("monday.tar.zst"), compression("monday.tgz"), compression("monday.tar")
    ('zstd', 'gzip', None)
    """
    return "zstd" if name.endswith(".zst") else "gzip" if name.endswith("gz") else None


def settle(path: Path) -> None:
    """Let it be on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """A file or a folder, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
