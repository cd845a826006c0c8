"""Reading a backup: every file verified, also where another one stands for it, and nothing outside of the target."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow as pa

from keepfit.data.archive import ABOUT, CHUNK, MANIFEST, compression
from keepfit.errors import InvalidInput, NotFound

_SAFE = re.compile(r"[^\x00-\x1f\\]+")

Bytes = Callable[[int], None]
"""Hears how many more bytes were handled."""


def about(source: Path) -> dict[str, Any]:
    """What a backup says of itself. Raises NotFound, or InvalidInput when it is none."""
    for name, file in entries(source):
        if name == ABOUT and not isinstance(file, str):
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
        if name == MANIFEST and not isinstance(file, str):
            manifest = document(read(file, source, -1), source)
            continue
        place = target / safe(name, source)
        if name in found:
            raise InvalidInput(f"{source} holds {name!r} twice; it is no keepfit backup")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(file, str):
            found[name] = poured(file, source, place, on_bytes)
        elif file in found:
            with (target / file).open("rb") as first:
                found[name] = poured(first, source, place, on_bytes)
        else:
            raise InvalidInput(f"{source} has {name!r} as the same as {file!r}, which is not before it; it is damaged")
    if manifest is None:
        raise InvalidInput(f"{source} is not whole: its end is missing; take another backup")
    check(found, manifest["files"], source)
    return manifest


def poured(file: IO[bytes], source: Path, place: Path, on_bytes: Bytes) -> dict[str, Any]:
    """Write a file of a backup to its place; its hash and size."""
    digest, size = hashlib.sha256(), 0
    with place.open("xb") as out:
        while chunk := read(file, source):
            digest.update(chunk)
            size += len(chunk)
            out.write(chunk)
            on_bytes(len(chunk))
    return {"sha256": digest.hexdigest(), "size": size}


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


def entries(source: Path) -> Iterator[tuple[str, IO[bytes] | str]]:
    """Name and content of every file, in the order in which they were written (of a folder: by name).

    In the place of a content the name of an earlier file that has the same.
    """
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
            if entry.islnk():
                yield entry.name, entry.linkname
                continue
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
