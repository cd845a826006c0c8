"""The tables of MLflow, made where there are none yet, so that the rows of a backup have a place."""

from __future__ import annotations

from typing import Any

from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, create_engine, make_url

from keepfit.errors import BackendError


def make_tables(url: str, artifacts: str) -> None:
    """Make them. Raises BackendError when the database is away, or has tables of another release."""
    try:
        made: Any = SqlAlchemyStore
        made(url, artifacts).engine.dispose()
    except Exception as error:
        raise BackendError(f"MLflow's tables cannot be made: {error}") from error


def engine_of(url: str) -> Engine:
    """Of MLflow's database."""
    return create_engine(make_url(url), hide_parameters=True)
