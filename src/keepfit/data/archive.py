"""The form of a backup: named files with their hashes and a manifest, as a folder or as one compressed file.

`about.json` comes first and says what made it, so that a wrong release is refused at once; `manifest.json` comes last
with the SHA-256 and size of every file, so that a backup without it is not whole. One file is a tar, compressed as its
name says (`.tar.zst`, `.tar.gz`, `.tgz`, `.tar`); other tools can read it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import pyarrow as pa

from keepfit.errors import BackendError, InvalidInput, NotFound, Refused

ABOUT, MANIFEST = "about.json", "manifest.json"
FORMAT = 1
"""Of backups; a higher one was made by a newer keepfit."""
CHUNK = 1 << 20
ENDS = re.compile(r"\.(tar|tar\.gz|tgz|tar\.zst)$")
_SAFE = re.compile(r"[^\x00-\x1f\\]+")

Bytes = Callable[[int], None]
"""Hears how many more bytes were handled."""


class Sink(Protocol):
    """Where the files of a backup go."""

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        """Exactly `size` bytes of `source`."""
        ...


@dataclass
class Writing:
    """A backup that is being written; remembers the hash of each file."""

    sink: Sink
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add_file(self, name: str, path: Path) -> bool:
        """A file as it is now; false when it is gone meanwhile. Raises BackendError when it cannot be read."""
        try:
            with path.open("rb") as source:
                self._add(name, source, os.fstat(source.fileno()).st_size)
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
        self.files[name] = {"sha256": hashed.digest.hexdigest(), "size": size}

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


def about(source: Path) -> dict[str, Any]:
    """What a backup says of itself. Raises NotFound, or InvalidInput when it is none."""
    for name, file in entries(source):
        if name == ABOUT:
            return document(read(file, source, -1), source)
        break
    raise InvalidInput(f"{source} is no backup of keepfit: it does not begin with {ABOUT}")


def unpack(source: Path, target: Path, on_bytes: Bytes = lambda count: None) -> dict[str, Any]:
    """Write the files of a backup into an empty folder and verify each; the manifest.

    Raises InvalidInput for a backup that is not whole or was changed.
    """
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    for name, file in entries(source):
        if manifest is not None:
            raise InvalidInput(f"{source} goes on after its manifest ({name}); it was changed, take another backup")
        if name == MANIFEST:
            manifest = document(read(file, source, -1), source)
            continue
        place = target / safe(name, source)
        if name in found:
            raise InvalidInput(f"{source} holds {name!r} twice; it is no keepfit backup")
        place.parent.mkdir(parents=True, exist_ok=True)
        digest, size = hashlib.sha256(), 0
        with place.open("xb") as out:
            while chunk := read(file, source):
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
                on_bytes(len(chunk))
        found[name] = {"sha256": digest.hexdigest(), "size": size}
    if manifest is None:
        raise InvalidInput(f"{source} is not whole: its end is missing; take another backup")
    check(found, manifest["files"], source)
    return manifest


def check(found: Mapping[str, Any], wanted: Mapping[str, Any], source: Path) -> None:
    """Raises InvalidInput that names the first file that is missing, new or changed."""
    odd = sorted(set(found) ^ set(wanted)) or sorted(name for name in wanted if wanted[name] != found[name])
    if odd:
        how = "is missing" if odd[0] not in found else "is not in its manifest" if odd[0] not in wanted else "changed"
        raise InvalidInput(f"{source} is damaged: {odd[0]} {how} ({len(odd)} such files); take another backup")


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Raises InvalidInput for what cannot be read."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError) as error:  # Arrow's errors are OSErrors, too
        raise InvalidInput(f"{source} cannot be read as a backup ({error}); it is not whole, or none") from error


def read(file: IO[bytes], source: Path, count: int = CHUNK) -> bytes:
    """Some bytes of a file in a backup."""
    with readable(source):
        return file.read(count)


def entries(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every file, in the order in which they were written (of a folder: by name)."""
    if source.is_dir():
        names = sorted(p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file())
        for name in sorted(names, key=lambda name: (name != ABOUT, name == MANIFEST, name)):
            with (source / name).open("rb") as file:
                yield name, file
        return
    if not source.is_file():
        raise NotFound(f"there is no backup {source}")
    with readable(source), ExitStack() as stack:
        stream = stack.enter_context(pa.input_stream(str(source), compression=compression(source.name)))
        tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK))
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise InvalidInput(f"{source} holds {entry.name!r}, which is no plain file; it is no keepfit backup")
            yield entry.name, content


def safe(name: str, source: Path) -> str:
    """The name of a file below the target. Raises InvalidInput for one that leads elsewhere."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not _SAFE.fullmatch(name):
        raise InvalidInput(f"{source} names a file outside of the project ({name!r}); it is no keepfit backup")
    return name


def document(data: bytes, source: Path) -> dict[str, Any]:
    """A JSON object. Raises InvalidInput."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise InvalidInput(f"{source} is damaged: a document in it cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{source} is damaged: a document in it is no object")
    return value
