"""Relabelling: examples of a class that was split, to be asked about again before anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from keepfit.data.classes import SPLIT, ClassMap
from keepfit.data.labelling import queue_item, training_data
from keepfit.data.predictions import find_prediction
from keepfit.data.records import QueueItem


def to_relabel(conn: Connection, model: str, classes: ClassMap, limit: int) -> list[QueueItem]:
    """Examples whose current label is of a class that was split, oldest label first.

    One that was drawn by chance keeps its question and its chance, so that its new answer measures like the old one.
    Any other has no question and a chance of 0: it is answered by the prediction's id, and its label is as unasked as
    the one before.
    """
    if not any(change.action == SPLIT for change in classes.changes):
        return []
    found: list[QueueItem] = []
    for item in _items(conn, model, classes):
        if len(found) == limit:
            break
        found.append(item)
    return found


def _items(conn: Connection, model: str, classes: ClassMap) -> Iterator[QueueItem]:
    for row in training_data(conn, model, None):
        ended = classes.ended(row.label.value, row.label.time)
        if ended is None or not ended.parts:
            continue
        reason = f"its class {row.label.value!r} was split: which of its parts is it"
        drawn = queue_item(conn, model, None, row.example.id)
        if drawn is not None:
            yield replace(drawn, reason=reason, label_set=ended.parts)
        elif (pair := find_prediction(conn, model, row.example.id, None)) is not None:
            yield QueueItem("", model, pair[1].id, row.example, 0.0, reason, ended.at, ended.parts)


def joined(first: Sequence[QueueItem], others: Sequence[QueueItem], limit: int) -> list[QueueItem]:
    """Those to be labelled again before the others, but not more than half of all while others wait: what is asked
    by chance is what measures."""
    ours = {item.example.id for item in first}
    rest = [item for item in others if item.example.id not in ours]
    cut = max(limit - len(rest), (limit + 1) // 2)
    return [*first[:cut], *rest][:limit]
