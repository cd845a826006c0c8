"""A model's folder as files: its manifest of SHA-256, verified; copied and replaced at once or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from filelock import FileLock, Timeout

from keepfit.errors import BackendError, InvalidInput

MANIFEST = "manifest.json"
CHUNK = 1 << 20
LOCK_SECONDS = 60.0


@contextmanager
def locked(folder: Path, seconds: float = LOCK_SECONDS, purpose: str = "lock") -> Iterator[None]:
    """Hold the folder's lock for this purpose against other threads and processes; it is freed when the holder dies.

    Raises BackendError when somebody holds it longer than `seconds`, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{purpose}", timeout=seconds)
        lock.acquire()
    except Timeout as error:
        raise BackendError(f"{folder} is in use by another process for {seconds:g} s; try again later") from error
    except OSError as error:
        raise BackendError(f"{folder} cannot be written ({error}); free the disk or fix its permissions") from error
    try:
        yield
    finally:
        lock.release()


def write_at_once(path: Path, text: str) -> None:
    """Replace a file so that a reader sees the old or the new content, also after a power cut. Raises BackendError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise BackendError(f"{path} cannot be written ({error}); make room on the disk and try again") from error


def check_model(folder: Path) -> None:
    """Raises InvalidInput unless the folder holds a model.json."""
    if not (folder / "model.json").is_file():
        raise InvalidInput(f"{folder} holds no model.json; give the folder that a training returned")


def manifest(folder: Path) -> dict[str, str]:
    """Relative path -> SHA-256 (hex) of every file but the manifest itself, sorted. Raises BackendError."""
    try:
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
        return {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    except OSError as error:
        raise BackendError(f"{folder} cannot be read ({error}); fetch or train the version again") from error


def sha256(path: Path) -> str:
    """The hash of a file, in hex, in constant memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def write_manifest(folder: Path) -> dict[str, str]:
    """Write the manifest of what is there, and return it."""
    found = manifest(folder)
    write_at_once(folder / MANIFEST, json.dumps(found, indent=1, sort_keys=True))
    return found


def damage(folder: Path) -> str | None:
    """What is wrong with a folder by its own manifest, in words; None when it is whole."""
    try:
        wanted = json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        return "it has no manifest"
    except (OSError, ValueError) as error:
        return f"its manifest cannot be read ({error})"
    found = manifest(folder)
    wrong = sorted(set(wanted) ^ set(found)) or sorted(name for name in wanted if wanted[name] != found[name])
    if wrong:
        kind = "missing" if wrong[0] not in found else "not part of it" if wrong[0] not in wanted else "changed"
        return f"{wrong[0]} is {kind}"
    return None


def place(target: Path, fill: Callable[[Path], Path | None]) -> None:
    """Put a whole folder at `target`: `fill` writes into an empty one beside it, which then takes its place.

    `fill` may return the folder inside its own that is meant. Call it under the lock of `target.parent`.
    Raises BackendError when the disk fails; nothing half-made is left.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise BackendError(f"{target} cannot be written ({error}); make room on the disk and try again") from error
    try:
        made = fill(part) or part
        if target.exists():
            shutil.rmtree(target)
        os.chmod(made, 0o755)  # mkdtemp makes it private, but a server may run as another user
        os.replace(made, target)
    except OSError as error:
        raise BackendError(f"{target} cannot be written ({error}); make room on the disk and try again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def link(source: str, target: str) -> None:
    """Another name for the same bytes, for copies that live for a moment; a real copy where links cannot be made."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; 0 when there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def remove(folder: Path) -> None:
    """Delete a whole folder; nothing happens when it is not there. Raises BackendError.

    It gives up its name first, so that nobody ever sees half of it.
    """
    try:
        if folder.exists():
            going = Path(mkdtemp(prefix=f".going-{folder.name}-", dir=folder.parent))
            os.replace(folder, going / folder.name)
            shutil.rmtree(going)
    except OSError as error:
        raise BackendError(f"{folder} cannot be removed ({error}); remove it by hand") from error
