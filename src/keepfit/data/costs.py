"""Costs in the store: what trainings, searches, batches and answers have used, each row with its kind and version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from keepfit.data.database import one_at_a_time
from keepfit.data.labellers import SILENCE
from keepfit.data.records import Window
from keepfit.data.schema import COSTS, LABELS

C = COSTS.c
L = LABELS.c

RETRAIN, TUNE, BATCH, SERVE, COMPRESS = "retrain", "tune", "batch", "serve", "compress"
"""What was done: a step of a retraining, a search for a recipe, a file, an hour of answering, a compression."""


@dataclass(frozen=True)
class Cost:
    """What one thing has used. A row of the same id replaces it, so that what goes on can be added up."""

    id: str
    model: str
    at: datetime
    """When it ended; for an hour of answering when that began."""
    kind: str
    seconds: float
    """Of the clock."""
    cpu_seconds: float
    """Of all cores together."""
    gpu_seconds: float = 0.0
    """During which a GPU was held."""
    joules: float | None = None
    """Of the whole machine meanwhile; None where it does not tell."""
    version: int | None = None
    """None where it is not known yet, or no version's own."""
    details: Mapping[str, Any] = field(default_factory=dict)


def put_cost(conn: Connection, cost: Cost) -> None:
    """Writes it; a row of its id is replaced."""
    one_at_a_time(conn, "costs", cost.model)
    row = {
        "model": cost.model, "at": cost.at, "kind": cost.kind, "version": cost.version, "seconds": float(cost.seconds),
        "cpu_seconds": float(cost.cpu_seconds), "gpu_seconds": float(cost.gpu_seconds), "joules": cost.joules,
        "details": cost.details,
    }  # fmt: skip
    if conn.execute(update(COSTS).where(C.id == cost.id).values(**row)).rowcount == 0:
        conn.execute(insert(COSTS).values(id=cost.id, **row))


def costs(conn: Connection, model: str, window: Window, kind: str | None) -> list[Cost]:
    """Oldest first."""
    columns = (
        C.id, C.model, C.at, C.kind, C.seconds, C.cpu_seconds, C.gpu_seconds, C.joules, C.version, C.details
    )  # fmt: skip
    query = select(*columns).where(C.model == model, C.at >= window.start, C.at < window.end)
    if kind is not None:
        query = query.where(C.kind == kind)
    return [_cost(row) for row in conn.execute(query.order_by(C.at, C.seq))]


def _cost(row: Sequence[Any]) -> Cost:
    id_, model, at, kind, seconds, cpu_seconds, gpu_seconds, joules, version, details = row
    return Cost(id_, model, at, kind, seconds, cpu_seconds, gpu_seconds, joules, version, details)


def spent_labels(conn: Connection, model: str, window: Window) -> dict[str, int]:
    """Labels that people gave in the window, by source."""
    query = select(L.source, func.count()).where(L.model == model, L.time >= window.start, L.time < window.end)
    rows = conn.execute(query.where(L.actor != SILENCE).group_by(L.source))
    return {row[0]: row[1] for row in rows}
