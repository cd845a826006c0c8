"""A backup, told from top to bottom: the databases are cut one after another, then the files that they name.

The order makes the cut consistent without stopping anybody. What names something is read before what it names: the
jobs before the records (a step is noted in the jobs after its effect is in the records, and is safe to do again), the
records before the registry, the registry before files. Files never change under their names, and while the backup
holds the role KEEPING nothing deletes them, so that what a row names is in the backup.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.archive import ABOUT, FORMAT, Writing, writing
from keepfit.data.cut import Progress
from keepfit.data.foreign import is_foreign
from keepfit.data.sole import KEEPING, keeping
from keepfit.data.store import RecordStore
from keepfit.data.upgrading import HEAD
from keepfit.telling import Tell, silent

JOBS, RECORDS, REGISTRY, SEARCHES = "jobs", "records", "registry", "searches"
STATE, DATABASES, SETTINGS = "state", "databases", "settings"
"""Folders of a backup."""
LAST = "backup"
"""Under this name the store keeps when the last backup was made, and where."""
MADE_ANEW = ("work", "backtests", "hidden")
"""Folders of the state that keepfit makes anew when it needs them: checkpoints, and what spares computing again."""
_PASSING = re.compile(r"^\.|\.(lock|part|parts)$|-(wal|shm|journal)$")
NOT_IN = (
    "the environment, and files that the settings name by file: or by their path",
    "checkpoints of trainings under way, hidden states and what backtests keep (.keepfit/work, hidden, backtests)",
    "answers of the last 50 ms, which servers still held in memory",
)


@dataclass(frozen=True)
class Cut:
    """A database and how it is copied into an SQLite file."""

    name: str
    copy: Callable[[Path, Progress], None]
    kind: str
    """sqlite or postgresql."""
    file: Path | None = None
    """The file that it is, so that it is not taken twice."""


@dataclass(frozen=True)
class Backup:
    """The backup of one project."""

    store: RecordStore
    state: Path
    cuts: Sequence[Cut]
    """In the order JOBS, RECORDS, REGISTRY, SEARCHES; those that there are."""
    settings: str | None
    """The text of keepfit.toml without secrets; None where there is none."""
    release: Mapping[str, Any]
    """The releases of what made it."""
    clock: Clock
    left_out: Sequence[str] = ()
    """What else is not in it, as sentences."""
    models: Sequence[str] = ()
    _moments: dict[str, str] = field(default_factory=dict)

    def run(self, target: Path, actor: str, tell: Tell = silent) -> dict[str, Any]:
        """Write it; its manifest without the list of files, and where it is.

        Raises Refused when the target exists or a pruning or forgetting runs, BackendError when a disk or database
        fails; then nothing has the target's name.
        """
        began = self.clock.now()
        with keeping(self.store.sole(KEEPING), "a backup"):
            about = self.about(began.isoformat())
            with writing(target) as (into, beside):
                into.add_json(ABOUT, about)
                self.databases(into, beside, tell)
                self.files(into, tell)
                manifest = into.finish({**about, "cut": dict(self._moments), "missing": self.missing(into)})
        size = sum(each["size"] for each in manifest["files"].values())
        written = target.stat().st_size if target.is_file() else into.stored
        told = {"at": began.isoformat(), "file": str(target), "bytes": written}
        self.store.put("", LAST, told)
        self.store.note("", actor, "backup", target.name, {"files": len(manifest["files"]), "bytes": written}, began)
        rest = {name: value for name, value in manifest.items() if name != "files"}
        return {**rest, "file": str(target), "files": len(manifest["files"]), "bytes": size, "written_bytes": written}

    def about(self, made: str) -> dict[str, Any]:
        """What is said first."""
        return {
            "format": FORMAT, "schema": HEAD, "made": made, "state": str(self.state.absolute()), **self.release,
            "databases": {cut.name: cut.kind for cut in self.cuts}, "not_in": [*NOT_IN, *self.left_out],
        }  # fmt: skip

    def databases(self, into: Writing, beside: Path, tell: Tell) -> None:
        """Each as an SQLite file, in their order."""
        for cut in self.cuts:
            self._moments[cut.name] = self.clock.now().isoformat()
            copy = beside / f"{cut.name}.db"
            cut.copy(copy, lambda done, of, name=cut.name: tell(f"copying the {name}", done, of))  # type: ignore[misc]
            into.add_file(f"{DATABASES}/{cut.name}.db", copy)
            copy.unlink()

    def files(self, into: Writing, tell: Tell) -> None:
        """All files of the state that are not made anew; those that go meanwhile were never named by a row."""
        if self.settings is not None:
            into.add_text(f"{SETTINGS}/keepfit.toml", self.settings)
        own = {cut.file.name for cut in self.cuts if cut.file is not None and cut.file.parent == self.state.absolute()}
        found = [path for path in state_files(self.state) if path.name not in own or path.parent != self.state]
        sizes = {path: size for path in found if (size := size_of(path)) is not None}
        total, done = sum(sizes.values()), 0
        for path, size in sizes.items():
            into.add_file(f"{STATE}/{path.relative_to(self.state).as_posix()}", path)
            done += size
            tell("copying files", done, total)

    def missing(self, into: Writing) -> list[str]:
        """Versions that answer by the records and whose files are not here: they were not here before either."""
        lacking = []
        for model in self.models:
            live = self.store.deployment(model)
            for number in live.traffic.shares if live is not None else ():
                if not is_foreign(number) and f"{STATE}/models/{model}/{number}/model.json" not in into.files:
                    lacking.append(f"version {number} of {model!r} has no files on this machine")
        return lacking


def state_files(state: Path) -> Iterator[Path]:
    """The files below the state folder that a backup holds, sorted; nothing that passes, such as locks.

    A folder that is a link (to a bigger disk) is gone into, once.
    """
    seen: set[str] = set()
    for folder, below, names in os.walk(state, followlinks=True):
        here = Path(folder)
        if (real := os.path.realpath(here)) in seen:
            below[:] = []
            continue
        seen.add(real)
        top = here == state
        below[:] = sorted(name for name in below if not name.startswith(".") and not (top and name in MADE_ANEW))
        yield from (here / name for name in sorted(names) if not _PASSING.search(name))


def size_of(path: Path) -> int | None:
    """Bytes; None when it is gone, or no plain file."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
