"""The tables of MLflow, made where there are none yet, so that the rows of a backup have a place."""

from __future__ import annotations

from typing import Any

from mlflow.store.db.base_sql_model import Base
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import Engine, create_engine, func, inspect, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from keepfit.errors import BackendError


def make_tables(url: str, artifacts: str) -> None:
    """Make them. Raises BackendError when the database is away, or has tables of another release."""
    try:
        made: Any = SqlAlchemyStore
        made(url, artifacts).engine.dispose()
    except Exception as error:
        raise BackendError(f"MLflow's tables cannot be made: {error}") from error


def is_mlflows(name: str) -> bool:
    """Whether a table is MLflow's: others may share the database."""
    return name in Base.metadata.tables


def runs_in(url: str) -> int:
    """How many runs and registered models a database holds; 0 where it has no tables of MLflow yet.

    Raises BackendError when it is away.
    """
    engine = engine_of(url)
    try:
        with engine.connect() as conn:
            here = set(inspect(conn).get_table_names())
            some = [Base.metadata.tables[name] for name in ("runs", "registered_models") if name in here]
            return sum(int(conn.execute(select(func.count()).select_from(table)).scalar_one()) for table in some)
    except SQLAlchemyError as error:
        raise BackendError(f"MLflow's database cannot be read: {error}") from error
    finally:
        engine.dispose()


def engine_of(url: str) -> Engine:
    """Of MLflow's database."""
    return create_engine(make_url(url), hide_parameters=True)
