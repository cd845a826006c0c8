"""Snapshot: the immutable, content-addressed data that a model is made from, and its split by group."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from keepfit import __version__
from keepfit.data import parquet
from keepfit.data.files import Columns, read_rows
from keepfit.data.growth import Growth
from keepfit.data.importing import kept_rows
from keepfit.data.records import LabelledExample
from keepfit.data.report import Report, survey
from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow, Split, split_of
from keepfit.errors import BackendError, InvalidInput, NotFound

__all__ = [
    "UNKNOWN_TIME",
    "Rows",
    "Snapshot",
    "SnapshotRow",
    "Split",
    "grow",
    "import_file",
    "open_snapshot",
    "split_of",
    "write_snapshot",
]

T = TypeVar("T")
REWRITTEN = "rewritten.json"
"""Beside the snapshots: which were replaced by which, since somebody had to be forgotten (see `rewriting`)."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a snapshot, column by column; all of length n."""

    contents: tuple[Any, ...]
    truth: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    times: tuple[datetime, ...]
    """UNKNOWN_TIME (1970) for imported rows that name none."""
    fresh: NDArray[np.bool_]
    """True where the label came from life (asked, complete, volunteered), false where it was imported."""
    weights: NDArray[np.float32]
    """What each row counts in the training loss; mean 1."""

    def __len__(self) -> int:
        return len(self.truth)

    def only(self, places: Sequence[int]) -> Rows:
        """Some of them, in the order of `places`."""
        chosen = list(places)

        def of(column: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(column[i] for i in chosen)

        return Rows(
            of(self.contents), of(self.truth), of(self.ids), of(self.groups), of(self.times), self.fresh[chosen],
            self.weights[chosen],
        )  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """One Parquet file `<folder>/<id>.parquet`, with its lineage beside it in `<id>.json`."""

    id: str
    path: Path
    labels: tuple[str, ...]
    """The classes that occur, sorted."""
    columns: tuple[str, ...] = ("text",)
    """The content columns; one means that contents are str, several mean tuples of str in this order."""
    lineage: dict[str, Any] = field(default_factory=dict, compare=False)

    def rows(self, split: Split | None = None) -> Rows:
        """The rows of one part (all when None), in the order of their ids, whatever order they were written in."""
        found = sorted(parquet.read_values(self.path, split), key=lambda values: str(values["id"]))
        names = [parquet.stored_name(column) for column in self.columns]
        weights = np.array([values["weight"] for values in found], dtype=np.float32)
        return Rows(
            contents=tuple(v[names[0]] if len(names) == 1 else tuple(v[name] for name in names) for v in found),
            truth=tuple(values["label"] for values in found),
            ids=tuple(values["id"] for values in found),
            groups=tuple(values["group"] for values in found),
            times=tuple(values["time"] for values in found),
            fresh=np.array([values["fresh"] for values in found], dtype=np.bool_),
            weights=weights / weights.mean() if len(weights) else weights,
        )

    def stored(self) -> Iterator[SnapshotRow]:
        """Every row with all that is known of it, streaming, in the order of the file."""
        return parquet.read_rows(self.path, self.columns)

    def contradicted_ids(self) -> frozenset[str]:
        """The rows whose label from life differs from the one that the parent snapshot had for the same text."""
        return frozenset(v["id"] for v in parquet.read_values(self.path) if v["contradicted"])


def write_snapshot(
    folder: Path, rows: Iterable[SnapshotRow], columns: tuple[str, ...], lineage: Mapping[str, Any]
) -> Snapshot:
    """Store the rows under the hash of their content; writing the same rows again changes nothing.

    Streams: a few thousand rows are in memory, and 32 bytes for each. The files appear whole or not at all, the
    lineage first. `lineage` is read after the last row, and gains `created_by`, `rows`, `parts` and `classes`.
    Raises BackendError when it cannot be written (then nothing is left behind), InvalidInput when a content does not
    fit the columns.
    """
    folder = Path(folder)
    parts: Counter[str] = Counter()
    classes: Counter[str] = Counter()

    def counted() -> Iterator[SnapshotRow]:
        for row in rows:
            parts[row.split.value] += 1
            classes[row.label] += 1
            yield row

    temporary, id, labels = parquet.write_rows(folder, counted(), columns)
    path = folder / f"{id}.parquet"
    full = {"created_by": f"keepfit {__version__}", "parents": [], "contradicted": 0, **lineage}
    full |= {"rows": parts.total(), "parts": dict(sorted(parts.items())), "classes": dict(sorted(classes.items()))}
    full = json.loads(json.dumps(full))  # as `open_snapshot` will read it
    try:
        present = _present(folder, id)
        if present is None:
            parquet.write_text(path.with_suffix(".json"), json.dumps(full, ensure_ascii=False, indent=1))
            parquet.move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if present is not None:
        return present
    return Snapshot(id, path, tuple(labels), columns, full)


def open_snapshot(folder: Path, id: str) -> Snapshot:
    """The snapshot of this id, after its content was hashed again (about a second for 50,000 film reviews).

    One that was re-written without somebody who is forgotten is opened as it is now, under its new id.
    Raises NotFound when there is none, BackendError when it is damaged.
    """
    return _open(folder, current_id(Path(folder), id))


def current_id(folder: Path, id: str) -> str:
    """The id under which a snapshot's rows are now: its own, unless it was re-written."""
    known, seen = read_rewritten(folder), {id}
    while not (folder / f"{id}.parquet").exists() and id in known and known[id]["to"] not in seen:
        id = known[id]["to"]
        seen.add(id)
    return id


def read_rewritten(folder: Path) -> dict[str, Any]:
    """By id: `to`, `at`, and the number of `rows` that went. Raises BackendError when the note is damaged."""
    path = folder / REWRITTEN
    if not path.is_file():
        return {}
    with parquet.readable(path):
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def _open(folder: Path, id: str) -> Snapshot:
    path = Path(folder) / f"{id}.parquet"
    if not path.exists() or path.parent != Path(folder):
        raise NotFound(f"there is no snapshot {id} in {folder}; import the data again")
    columns = parquet.read_columns(path)
    digest, labels = parquet.ContentHash(columns), set[str]()
    for values in parquet.read_values(path):
        digest.add(values)
        labels.add(values["label"])
    if digest.hexdigest() != id:
        raise BackendError(f"the snapshot {path} does not match its id: it was changed; restore it from a backup")
    with parquet.readable(path.with_suffix(".json")):
        lineage = json.loads(path.with_suffix(".json").read_text("utf-8"))
    return Snapshot(id, path, tuple(sorted(labels)), columns, lineage)


def import_file(
    folder: Path,
    path: Path,
    columns: Columns = Columns(),  # noqa: B008
    shares: tuple[float, float] = (0.1, 0.1),
) -> tuple[Snapshot, Report]:
    """Check a labelled file and make it a snapshot; `shares` are those of validation and test.

    What is left out is counted in `lineage["dropped"]`: unreadable, empty and unlabelled rows; of a text with two
    labels the rows of the minority (all when it is a tie); copies in a lower part of a text that several parts of a
    split column have; classes with a single row. Repeats with one label are kept: they are how often it happens.

    Raises InvalidInput with the report's problems when the file cannot be learnt from, BackendError when the
    snapshot cannot be written.
    """
    path = Path(path)
    report, census, allocation = survey(path, columns, shares)
    if report.problems:
        raise InvalidInput(f"{path.name} cannot be learnt from: {'; '.join(report.problems)}")
    dropped = {"unreadable": census.unreadable, "empty": census.empty, "unlabelled": census.unlabelled}
    lineage = {
        "kind": "import",
        "source": path.name,
        "source_sha256": file_hash(path),
        "source_rows": report.rows,
        "columns": report.columns.to_json(),
        "shares": list(shares),
        "dropped": dropped,
    }
    kept = kept_rows(read_rows(path, report.columns), allocation, report.columns, dropped)
    return write_snapshot(folder, kept, report.columns.text, lineage), report


def grow(
    folder: Path,
    base: Snapshot,
    fresh: Sequence[LabelledExample],
    holdout: float = 0.4,
    recent_share: float = 0.5,
) -> Snapshot:
    """The base's rows and labels from life; the same arguments always give the same snapshot.

    A group that is in base keeps its split; a new one goes to test with the share `holdout`, to validation with 0.1,
    by hash. Where a text of base was labelled again its rows give way to the new one, which is marked `contradicted`
    when the label differs (`lineage["contradicted"]` counts them). Of several examples with one text the label that
    arrived last counts (`lineage["superseded"]` counts the others that said otherwise). The new train rows together
    get `recent_share` of the train part's weight, each between one and ten times an old row's.

    Examples with other columns than the base's, from before its columns changed, are left out (`lineage["unfit"]`).

    Raises BackendError when it cannot be written.
    """
    fit = [row for row in fresh if fits(row.example.content, len(base.columns))]
    growth = Growth(base.stored, fit, holdout, recent_share)
    lineage = {
        "kind": "grow",
        "parents": [base.id],
        "fresh": len(fit),
        "unfit": len(fresh) - len(fit),
        "holdout": holdout,
        "recent_share": recent_share,
        "contradicted": growth.contradicted,
        "superseded": growth.superseded,
        "replaced": growth.replaced,
        "fresh_weight": growth.ratio,
    }
    return write_snapshot(folder, growth.rows(), base.columns, lineage)


def renewed(folder: Path, old: Snapshot, new: Snapshot) -> Snapshot:
    """The new rows, and the old ones of keys that none of the new has. Raises BackendError when it cannot be written.

    For data in which a key (a camera) stands for itself: what is newer of one takes the place of what was there of it.
    """
    shown = {row.key for row in new.stored()}
    others = [row for row in old.stored() if row.key not in shown]
    if not others:
        return new
    rows = itertools.chain(others, new.stored())
    return write_snapshot(folder, rows, new.columns, {**new.lineage, "kind": "renew", "parents": [old.id, new.id]})


def fits(content: Any, columns: int) -> bool:
    """Whether a content has so many columns.

    >>> fits("one text", 1), fits(("subject", "body"), 2), fits("one text", 2)
    (True, True, False)
    """
    return (len(content) if isinstance(content, tuple) else 1) == columns


def _present(folder: Path, id: str) -> Snapshot | None:
    """The snapshot if it lies there whole; a damaged one is as good as none, since we hold what replaces it."""
    try:
        return _open(folder, id)
    except (NotFound, BackendError):
        return None


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
