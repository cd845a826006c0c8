"""What a rollout looks at in the store: answers in brief, the answers of two versions to one example, failures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, func, insert, select

from keepfit.data.database import chunks
from keepfit.data.labellers import heard
from keepfit.data.predictions import best_label, label_sets
from keepfit.data.records import Failure, Source, Window
from keepfit.data.schema import FAILURES, LABELS, PREDICTIONS
from keepfit.data.today import read_today

P = PREDICTIONS.c
L = LABELS.c
F = FAILURES.c


@dataclass(frozen=True)
class Brief:
    """An answer without its embedding."""

    version: int
    label: str
    confidence: float
    time: datetime
    stage: str = "model"
    shadow: bool = False
    measures: Mapping[str, float] = field(default_factory=dict)
    key: str = ""
    """By what it was routed: the caller's key, else the group of its content."""


COLUMNS = (P.version, P.time, P.label_set, P.scores, P.stage, P.shadow, P.measures, func.coalesce(P.key, P.group))


def briefs(conn: Connection, model: str, window: Window, version: int | None, limit: int | None) -> list[Brief]:
    """Oldest first, the shadows' too; with a limit the newest ones."""
    query = select(*COLUMNS).where(P.model == model, P.time >= window.start, P.time < window.end)
    if version is not None:
        query = query.where(P.version == version)
    return _read(conn, model, query.order_by(P.time.desc()).limit(limit))[::-1]


def briefs_of(conn: Connection, model: str, window: Window, versions: Collection[int], limit: int) -> list[Brief]:
    """The oldest ones, oldest first."""
    query = select(*COLUMNS).where(P.model == model, P.time >= window.start, P.time < window.end)
    return _read(conn, model, query.where(P.version.in_(list(versions))).order_by(P.time).limit(limit))


def _read(conn: Connection, model: str, query: Select[Any]) -> list[Brief]:
    sets, found = label_sets(conn, model), []
    for version, time, label_set, scores, stage, shadow, measures, key in conn.execute(query):
        values = np.frombuffer(scores, np.float32)
        best = int(values.argmax())
        found.append(Brief(version, sets[label_set][best], float(values[best]), time, stage, shadow, measures, key))
    return found


def answers(
    conn: Connection, model: str, example_ids: Collection[str], versions: Collection[int]
) -> dict[tuple[str, int], str]:
    """The label that a version gave to an example (its newest), as it is called today, by (example id, version)."""
    found: dict[tuple[str, int], str] = {}
    sets, today = label_sets(conn, model), read_today(conn, model)
    for some in chunks(example_ids):
        query = select(P.example_id, P.version, P.time, P.label_set, P.scores).where(
            P.model == model, P.example_id.in_(some), P.version.in_(list(versions))
        )
        for example_id, version, time, label_set, scores in conn.execute(query.order_by(P.time, P.id)):
            found[example_id, version] = today.answer(version, best_label(sets[label_set], scores), time)
    return found


def complaints(conn: Connection, model: str, window: Window) -> list[Brief]:
    """The answers that a volunteered label of the window contradicts, each once; nobody set apart is heard.

    Names are read as they are today; a label of a retired class contradicts nothing.
    """
    said = select(L.value, L.time, L.prediction_id).where(
        L.model == model, L.source == Source.VOLUNTEERED.value, heard(model)
    )
    said = said.where(L.time >= window.start, L.time < window.end, L.prediction_id.is_not(None)).distinct()
    values: dict[str, set[str]] = {}
    today = read_today(conn, model)
    for value, given, prediction_id in conn.execute(said):
        if (truth := today.truth(value, given)) is not None:
            values.setdefault(prediction_id, set()).add(truth)
    found = []
    for some in chunks(values):
        query = select(P.id, *COLUMNS).where(P.model == model, P.id.in_(some), P.shadow.is_(False))
        rows = conn.execute(query.order_by(P.time)).all()
        sets = label_sets(conn, model)
        for id_, version, time, label_set, scores, stage, shadow, measures, key in rows:
            label = best_label(sets[label_set], scores)
            named = {today.answer(version, label, time)}
            if any(not today.fair(version, label, time, truth) for truth in values[id_] - named):
                found.append(Brief(version, label, 0.0, time, stage, shadow, measures, key))
    return found


def count_heard(conn: Connection, model: str, version: int, since: datetime, until: datetime | None) -> int:
    """How many answers of a version users saw, from `since` on (inclusive), before `until` (None: all)."""
    query = select(func.count()).select_from(PREDICTIONS).where(P.model == model, P.version == version)
    query = query.where(P.time >= since, P.shadow.is_(False))
    return int(conn.execute(query if until is None else query.where(P.time < until)).scalar_one())


def add_failures(conn: Connection, model: str, failures: Sequence[Failure]) -> None:
    """Appends."""
    names = ("version", "at", "kind", "message", "worker", "count")
    if failures:
        rows: list[dict[str, Any]] = [{"model": model} | {name: getattr(f, name) for name in names} for f in failures]
        conn.execute(insert(FAILURES), rows)


def failures(conn: Connection, model: str, since: datetime, limit: int) -> list[Failure]:
    """Those from `since` on (inclusive), newest first."""
    query = select(F.version, F.at, F.kind, F.message, F.worker, F.count)
    query = query.where(F.model == model, F.at >= since).order_by(F.seq.desc()).limit(limit)
    return [Failure(*row) for row in conn.execute(query)]


def count_failures(conn: Connection, model: str, version: int, since: datetime, kinds: Collection[str]) -> int:
    """How often a version failed in these ways, from `since` on (inclusive)."""
    query = select(func.coalesce(func.sum(F.count), 0)).where(F.model == model, F.version == version, F.at >= since)
    return int(conn.execute(query.where(F.kind.in_(list(kinds)))).scalar_one())
