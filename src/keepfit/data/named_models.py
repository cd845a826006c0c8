"""The models that the store knows something of, whether or not the settings still name them."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from keepfit.data.schema import DEPLOYMENTS, JOBS, LABELS, PREDICTIONS


def models(conn: Connection) -> list[str]:
    """Those that had a job or a deployment, by name."""
    found: set[str] = set()
    for table in (JOBS, DEPLOYMENTS):
        found |= set(conn.execute(select(table.c.model).distinct()).scalars())
    return sorted(found - {""})


def amounts(conn: Connection, model: str) -> tuple[int, int]:
    """Answers and labels that are stored of a model."""
    answers, labels = (
        conn.execute(select(func.count()).select_from(table).where(table.c.model == model)).scalar_one()
        for table in (PREDICTIONS, LABELS)
    )
    return int(answers), int(labels)
