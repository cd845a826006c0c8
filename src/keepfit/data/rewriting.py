"""Rewriting: a snapshot without some of its rows, under its new id, and the note that says so.

A snapshot is addressed by its content, so one without a row is another one. `rewritten.json` beside the snapshots tells
for each that was replaced by which, when, and how many rows went; `open_snapshot` follows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.data import parquet
from keepfit.data.needles import Needles
from keepfit.data.snapshot import REWRITTEN, Snapshot, read_rewritten, write_snapshot
from keepfit.data.splits import SnapshotRow, Split
from keepfit.errors import BackendError

Goes = Callable[[SnapshotRow], bool]


def snapshots(folder: Path) -> list[Snapshot]:
    """Every snapshot of a folder, without hashing what is in it."""
    found = []
    for path in sorted(folder.glob("*.parquet")):
        beside = path.with_suffix(".json")
        lineage = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
        found.append(Snapshot(path.stem, path, (), parquet.read_columns(path), lineage))
    return found


def places(snapshot: Snapshot, goes: Goes) -> tuple[int, list[int], int]:
    """How many rows go, where they are in the test part (in the order of `rows`), and how large that part is."""
    test, count = [], 0
    for row in snapshot.stored():
        count += goes(row)
        if row.split is Split.TEST:
            test.append((row.id, goes(row)))
    return count, [place for place, (_, out) in enumerate(sorted(test)) if out], len(test)


def rewrite(snapshot: Snapshot, goes: Goes, needles: Needles, at: datetime) -> Snapshot:
    """The same without these rows, and the note; the old file still lies there. Done again, it gives the same."""
    folder = snapshot.path.parent
    gone = 0

    def kept(row: SnapshotRow) -> bool:
        nonlocal gone
        gone += goes(row)
        return not goes(row)

    lineage: dict[str, Any] = needles.scrubbed(snapshot.lineage)
    lineage = {**lineage, "rewritten_from": [*lineage.get("rewritten_from", ()), snapshot.id]}
    new = write_snapshot(folder, (row for row in snapshot.stored() if kept(row)), snapshot.columns, lineage)
    if new.id != snapshot.id:
        note(folder, snapshot.id, {"to": new.id, "at": at.isoformat(), "rows": gone})
    return new


def note(folder: Path, old: str, about: dict[str, Any]) -> None:
    """Write down that a snapshot was re-written."""
    known = read_rewritten(folder)
    if known.get(old, {}).get("to") != about["to"]:
        parquet.write_text(folder / REWRITTEN, json.dumps({**known, old: about}, indent=1, sort_keys=True))


def delete(snapshot: Snapshot) -> None:
    """The rows first: a kill leaves at most the lineage, which says nothing of a person. Raises BackendError."""
    try:
        snapshot.path.unlink(missing_ok=True)
        snapshot.path.with_suffix(".json").unlink(missing_ok=True)
    except OSError as error:
        raise BackendError(f"{snapshot.path} cannot be removed ({error}); check its permissions") from error
