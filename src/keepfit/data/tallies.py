"""Tallies: how much of everything is in the store, by few words each, for metrics; nothing scans the predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, exists, func, select

from keepfit.data.labellers import heard
from keepfit.data.records import Source
from keepfit.data.schema import COSTS, DECISIONS, FAILURES, JOBS, LABELS, PREDICTIONS, QUEUE

LAGS = (60.0, 600.0, 3600.0, 6 * 3600.0, 86400.0, 3 * 86400.0, 7 * 86400.0, 14 * 86400.0, 30 * 86400.0)
"""Upper bounds in seconds of the time from an answer to its label."""
MOST_LAGS = 20_000
"""Labels whose lag is looked up in one reading."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class Lags:
    """From an answer to its label, of one model and source."""

    count: int = 0
    seconds: float = 0.0
    by_bound: Mapping[float, int] = field(default_factory=dict)
    """Labels by the first of LAGS that holds them; longer ones are in none."""

    def and_(self, seconds: float) -> Lags:
        """One more."""
        bound = next((b for b in LAGS if seconds <= b), None)
        by_bound = dict(self.by_bound)
        if bound is not None:
            by_bound[bound] = by_bound.get(bound, 0) + 1
        return Lags(self.count + 1, self.seconds + seconds, by_bound)


@dataclass(frozen=True)
class Settled:
    """Counts of a table that only grows. What is begun before a reading may be committed a little after it, with a
    smaller number, so rows count for good only at the reading after the first that saw them."""

    upto: int = 0
    """Rows up to this are in `settled`, and are not read again."""
    newest: int = 0
    settled: Mapping[Key, int] = field(default_factory=dict)
    counts: Mapping[Key, int] = field(default_factory=dict)
    """Of all rows up to the newest."""


@dataclass(frozen=True)
class Tallies:
    """What is in the store. Each reading goes on from the one before."""

    decisions: Settled = field(default_factory=Settled)
    """By model, subject and outcome."""
    labels: Settled = field(default_factory=Settled)
    """By model and source."""
    lags: Mapping[tuple[str, str], Lags] = field(default_factory=dict)
    """By model and source, of the labels that came since the first reading."""
    lags_upto: int | None = None
    jobs: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """By model, kind and state."""
    finished: Mapping[tuple[str, str], datetime] = field(default_factory=dict)
    """When the last retraining ended, by model and state."""
    failures: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """By model, version and kind."""
    spent: Mapping[tuple[str, str], tuple[float, float, float]] = field(default_factory=dict)
    """Seconds, CPU seconds and GPU seconds, by model and kind."""
    asked: Mapping[str, tuple[int, datetime | None]] = field(default_factory=dict)
    """Labels that were asked for and did not come, and when the oldest was asked for, by model."""

    def decided(self) -> Counter[tuple[str, str, str]]:
        """Decisions by model, what was judged (`gate v3` counts as gate) and outcome."""
        found: Counter[tuple[str, str, str]] = Counter()
        for (model, subject, outcome), n in self.decisions.counts.items():
            if not subject.startswith("alert "):
                found[model, subject.split(maxsplit=1)[0], outcome] += n
        return found

    def alerted(self) -> Counter[tuple[str, str, str]]:
        """Alerts by model, kind and outcome (pass: sent, hold: waits for a summary, fail: did not reach everybody)."""
        found: Counter[tuple[str, str, str]] = Counter()
        for (model, subject, outcome), n in self.decisions.counts.items():
            if subject.startswith("alert "):
                found[model, subject.removeprefix("alert "), outcome] += n
        return found


def read_tallies(conn: Connection, before: Tallies) -> Tallies:
    """The present tallies; cheap when `before` was read lately."""
    labels = settle(conn, LABELS, ("model", "source"), before.labels)
    lags, upto = read_lags(conn, before, labels.newest)
    return Tallies(
        decisions=settle(conn, DECISIONS, ("model", "subject", "outcome"), before.decisions),
        labels=labels,
        lags=lags,
        lags_upto=upto,
        jobs={(model, kind, state): n for model, kind, state, n in _grouped(conn, JOBS, "model", "kind", "state")},
        finished=_finished(conn),
        failures=_failures(conn),
        spent=_spent(conn),
        asked=_asked(conn),
    )


def settle(conn: Connection, table: Table, names: tuple[str, ...], before: Settled) -> Settled:
    """The counts of all rows of a table that only grows; only what is new is read."""
    t = table.c
    columns = [t[name] for name in names]

    def between(low: int, high: int) -> Counter[Key]:
        query = select(*columns, func.count()).where(t.seq > low, t.seq <= high).group_by(*columns)
        return Counter({tuple(map(str, row[:-1])): row[-1] for row in conn.execute(query)})

    newest = int(conn.execute(select(func.max(t.seq))).scalar() or 0)
    settled = Counter(dict(before.settled)) + between(before.upto, before.newest)
    return Settled(before.newest, newest, settled, settled + between(before.newest, newest))


def read_lags(conn: Connection, before: Tallies, newest: int) -> tuple[dict[tuple[str, str], Lags], int]:
    """The lags of the labels that came since the last reading; the first reading only begins to count."""
    if before.lags_upto is None:
        return {}, newest
    c, p = LABELS.c, PREDICTIONS.c
    joined = LABELS.join(PREDICTIONS, (p.model == c.model) & (p.id == c.prediction_id))
    query = select(c.seq, c.model, c.source, c.time, p.time).select_from(joined)
    query = query.where(c.seq > before.lags_upto, c.seq <= newest).order_by(c.seq).limit(MOST_LAGS)
    lags, upto = dict(before.lags), newest
    rows = conn.execute(query).all()
    for seq, model, source, labelled, answered in rows:
        known = lags.get((model, source), Lags())
        lags[model, source] = known.and_(max((labelled - answered).total_seconds(), 0.0))
        upto = seq if len(rows) == MOST_LAGS else newest
    return lags, upto


def _grouped(conn: Connection, table: Table, *names: str) -> Any:
    columns = [table.c[name] for name in names]
    return conn.execute(select(*columns, func.count()).group_by(*columns))


def _finished(conn: Connection) -> dict[tuple[str, str], datetime]:
    j = JOBS.c
    query = select(j.model, j.state, func.max(j.finished_at)).where(j.kind == "retrain", j.finished_at.is_not(None))
    return {(model, state): at for model, state, at in conn.execute(query.group_by(j.model, j.state))}


def _failures(conn: Connection) -> dict[tuple[str, str, str], int]:
    f = FAILURES.c
    query = select(f.model, f.version, f.kind, func.sum(f.count)).group_by(f.model, f.version, f.kind)
    return {(model, str(version), kind): int(n) for model, version, kind, n in conn.execute(query)}


def _spent(conn: Connection) -> dict[tuple[str, str], tuple[float, float, float]]:
    c = COSTS.c
    sums = func.sum(c.seconds), func.sum(c.cpu_seconds), func.sum(c.gpu_seconds)
    query = select(c.model, c.kind, *sums).group_by(c.model, c.kind)
    return {(model, kind): (a, b, g) for model, kind, a, b, g in conn.execute(query)}


def _asked(conn: Connection) -> dict[str, tuple[int, datetime | None]]:
    q, c = QUEUE.c, LABELS.c
    measured = c.source.in_([Source.ASKED.value, Source.COMPLETE.value])
    # as in `labelling.queue`: who is set apart has answered nothing
    answered = exists().where(c.model == q.model, c.example_id == q.example_id, measured, heard(q.model))
    query = select(q.model, func.count(), func.min(q.asked_at)).where(~answered).group_by(q.model)
    return {model: (n, oldest) for model, n, oldest in conn.execute(query)}
