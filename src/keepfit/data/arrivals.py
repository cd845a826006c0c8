"""Labels that measure, in the order in which they came in, beside what was answered: what the harm detector reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, exists, select

from keepfit.data.asked import repeated
from keepfit.data.labellers import heard, labels_after
from keepfit.data.predictions import label_sets
from keepfit.data.records import MEASURING, STREAM, Source, Window
from keepfit.data.schema import LABELS, PREDICTIONS
from keepfit.data.today import read_today

P = PREDICTIONS.c
L = LABELS.c
EARLIER = LABELS.alias("earlier")
SMALLEST_CHANCE = 1e-9


@dataclass(frozen=True)
class Arrival:
    """The first label that measures of one answer."""

    seq: int
    """Rises in the order in which labels came in, whatever their times say."""
    arrived: datetime
    """When the label came."""
    answered: datetime
    """When the answer was given."""
    group: str
    """The same for answers to one content, such as a storm of duplicates."""
    wrong: bool
    confidence: float
    """The score of what was answered."""
    chance: float
    """With which the label was asked for; 1 where every outcome becomes known."""
    context: Mapping[str, str]
    missing: bool = False
    """Nobody has answered the question, and it is taken to be right."""


@dataclass(frozen=True)
class Settled:
    """Answers of which every outcome is known by now: those that were given between the two moments."""

    start: datetime
    end: datetime


def arrivals(
    conn: Connection, model: str, version: int, since: datetime, after: int | Settled, limit: int
) -> list[Arrival]:
    """Of live answers that a version gave from `since` on: labels numbered above `after`, the oldest `limit` ones.

    Or, where every outcome becomes known, those of the answers that have settled, in the order of the answers: what is
    wrong is said at once and silence confirms late, so in the order of arrival the first labels are all bad.

    Only the first measuring label of an example counts: a later one would know what evidence the first one gave.
    Labels of those who were set apart count nowhere, nor do those of retired classes; names are read as they are
    today. Of several answers to one example the newest counts.
    """
    query = _query(model, version, since, limit)
    sets, today, found = label_sets(conn, model), read_today(conn, model), dict[int, Arrival]()
    while not found and (rows := conn.execute(_page(query, model, after)).all()):
        for seq, arrived, value, source, propensity, time, group, label_set, scores, context in rows:
            truth = today.truth(value, arrived)
            if truth is None:
                continue
            values = np.frombuffer(scores, np.float32)
            best = int(values.argmax())
            said = today.answer(version, sets[label_set][best], time)
            asked = source == Source.ASKED.value and propensity is not None
            found[seq] = Arrival(
                seq, arrived, time, group,
                said != truth and not today.fair(version, sets[label_set][best], time, truth), float(values[best]),
                min(1.0, max(float(propensity), SMALLEST_CHANCE)) if asked else 1.0, context,
            )  # fmt: skip
        last = rows[-1]
        after = Settled(last.said + timedelta(microseconds=1), after.end) if isinstance(after, Settled) else last.seq
    return list(found.values())


def _query(model: str, version: int, since: datetime, limit: int) -> Select[Any]:
    """Measuring labels beside the answers, without those that follow another one of the same example."""
    sources = [source.value for source in MEASURING]
    e = EARLIER.c
    before = exists().where(
        e.model == model, e.example_id == L.example_id, e.seq < L.seq, e.source.in_(sources), heard(model, e.actor)
    )
    return (
        select(
            L.seq, L.time, L.value, L.source, L.propensity,
            P.time.label("said"), P.group, P.label_set, P.scores, P.context,
        )
        .select_from(LABELS.join(PREDICTIONS, (P.model == model) & (P.example_id == L.example_id)))
        .where(L.source.in_(sources), heard(model), ~before)
        .where(P.version == version, P.shadow.is_(False), P.time >= since)
        .limit(limit)
    )  # fmt: skip


def _page(query: Select[Any], model: str, after: int | Settled) -> Select[Any]:
    if isinstance(after, Settled):
        return query.where(L.model == model, P.time >= after.start, P.time < after.end).order_by(P.time, P.id, L.seq)
    return query.where(*labels_after(model, after)).order_by(L.seq, P.time, P.id)


def expected_wrong(conn: Connection, model: str, version: int, window: Window, day: datetime) -> tuple[float, int]:
    """How wrong a version expected to be on the answers of a window from which labels are drawn, and how many they are.

    One less the score, on average, over the answers that users saw, of each content the first since `day` began:
    exactly those that the queue may draw.
    """
    again = repeated(conn, model, day, window)
    query = select(P.id, P.scores).where(
        P.model == model, P.version == version, P.shadow.is_(False), P.stage != STREAM, P.time >= window.start,
        P.time < window.end,
    )  # fmt: skip
    scores = [1.0 - float(np.frombuffer(row, np.float32).max()) for id_, row in conn.execute(query) if id_ not in again]
    return (float(np.mean(scores)) if scores else 0.0), len(scores)
