"""A snapshot of another window of the past, or with other names of classes: made of one that is there, row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from keepfit.data.classes import ClassMap
from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow


def narrowed(folder: Path, whole: Snapshot, weights: Mapping[str, float], lineage: Mapping[str, Any]) -> Snapshot:
    """The snapshot with other weights of its train rows, by id; those with weight 0 are left out.

    How many are, its lineage says. Other parts stay as they are: no row ever moves from test to train. Raises
    BackendError when it cannot be written.
    """
    told = {**whole.lineage, "parents": [whole.id], **lineage, "left_out": sum(w <= 0 for w in weights.values())}

    def rows() -> Iterator[SnapshotRow]:
        for row in whole.stored():
            if row.split is not Split.TRAIN:
                yield row
            elif (weight := weights.get(row.id, row.weight)) > 0:
                yield replace(row, weight=round(weight, 6))

    return write_snapshot(folder, rows(), whole.columns, told)


def renamed(folder: Path, whole: Snapshot, classes: ClassMap) -> Snapshot:
    """The snapshot with classes as they are called today, without those that were retired or split.

    Itself where nothing differs; else its lineage says how many rows were `renamed`, and left out as `retired` or as
    `unclear` (of a class that was split).
    """
    counts = {"renamed": 0, "retired": 0, "unclear": 0}
    for row in whole.stored():
        now, ended = classes.traced(row.label, row.time)
        counts["renamed"] += now is not None and now != row.label
        counts["retired"] += ended is not None and not ended.parts
        counts["unclear"] += ended is not None and bool(ended.parts)
    if not any(counts.values()):
        return whole

    def rows() -> Iterator[SnapshotRow]:
        for row in whole.stored():
            if (now := classes.read(row.label, row.time)) is not None:
                yield replace(row, label=now)

    return write_snapshot(
        folder, rows(), whole.columns, {**whole.lineage, "parents": [whole.id], "classes_map": counts}
    )
