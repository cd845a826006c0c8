"""How much came into the store lately: answers with their rough bytes, questions and their answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from keepfit.data.database import Database
from keepfit.data.records import Source, Window
from keepfit.data.schema import EXAMPLES, LABELS, PREDICTIONS, QUEUE

SAMPLE = 500
"""Newest answers whose bytes are looked at."""
ROW = 950
"""Bytes of an answer's rows, index entries and unfilled pages besides what it holds; an estimate, from one database of
33,000 answers in SQLite."""


@dataclass(frozen=True)
class Recent:
    """What came in during a window."""

    answers: int
    bytes_each: float
    asked: int
    answered: int
    first: datetime | None
    """When the oldest answer that is kept was given."""


def recent(database: Database, model: str, window: Window) -> Recent:
    """Of one model; counts by indexes and looks at a few rows, so that it is quick with many."""
    p, q, label = PREDICTIONS.c, QUEUE.c, LABELS.c
    e = EXAMPLES.c
    with database.read() as conn:
        within = (p.model == model, p.time >= window.start, p.time < window.end)
        answers = conn.execute(select(func.count()).select_from(PREDICTIONS).where(*within)).scalar_one()
        held = func.length(p.scores) + func.length(p.embedding) + func.length(p.context) + func.length(p.measures)
        some = (
            select((held + func.length(e.content) + func.length(e.context)).label("size"))
            .join(EXAMPLES, (e.model == p.model) & (e.id == p.example_id))
            .where(*within).order_by(p.time.desc()).limit(SAMPLE).subquery()
        )  # fmt: skip
        size = conn.execute(select(func.avg(some.c.size))).scalar()
        asked = conn.execute(
            select(func.count()).select_from(QUEUE)
            .where(q.model == model, q.asked_at >= window.start, q.asked_at < window.end)
        ).scalar_one()  # fmt: skip
        answered = conn.execute(
            select(func.count()).select_from(LABELS)
            .where(label.model == model, label.time >= window.start, label.time < window.end)
            .where(label.source == Source.ASKED.value)
        ).scalar_one()  # fmt: skip
        first = conn.execute(select(func.min(p.time)).where(p.model == model)).scalar()
    return Recent(int(answers), float(size or 0) + ROW, int(asked), int(answered), first)
