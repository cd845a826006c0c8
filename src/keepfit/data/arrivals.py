"""Labels that measure, in the order in which they came in, beside what was answered: what the harm detector reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from sqlalchemy import Connection, exists, select

from keepfit.data.labellers import heard
from keepfit.data.predictions import label_sets
from keepfit.data.records import MEASURING, Source
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


def arrivals(conn: Connection, model: str, version: int, since: datetime, after: int, limit: int) -> list[Arrival]:
    """Of live answers that a version gave from `since` on: labels numbered above `after`, the oldest `limit` ones.

    Only the first measuring label of an example counts: a later one would know what evidence the first one gave.
    Labels of those who were set apart count nowhere, nor do those of retired classes; names are read as they are
    today. Of several answers to one example the newest before the label.
    """
    sources = [source.value for source in MEASURING]
    e = EARLIER.c
    before = exists().where(
        e.model == model, e.example_id == L.example_id, e.seq < L.seq, e.source.in_(sources), heard(model, e.actor)
    )
    query = (
        select(L.seq, L.value, L.time, L.source, L.propensity, P.time, P.group, P.label_set, P.scores, P.context)
        .select_from(LABELS.join(PREDICTIONS, (P.model == L.model) & (P.example_id == L.example_id)))
        .where(L.model == model, L.source.in_(sources), heard(model), ~before)
        .where(P.version == version, P.shadow.is_(False), P.time >= since)
        .order_by(L.seq, P.time, P.id)
        .limit(limit)
    )
    sets, today, found = label_sets(conn, model), read_today(conn, model), dict[int, Arrival]()
    while not found and (rows := conn.execute(query.where(L.seq > after)).all()):
        for seq, value, given, source, propensity, time, group, label_set, scores, context in rows:
            truth = today.truth(value, given)
            if truth is None:
                continue
            values = np.frombuffer(scores, np.float32)
            best = int(values.argmax())
            said = today.answer(version, sets[label_set][best], time)
            asked = source == Source.ASKED.value and propensity is not None
            found[seq] = Arrival(
                seq, time, group, said != truth, float(values[best]),
                min(1.0, max(float(propensity), SMALLEST_CHANCE)) if asked else 1.0, context,
            )  # fmt: skip
        after = rows[-1].seq
    return list(found.values())
