"""The tables of DBOS, made where there are none yet, so that the rows of a backup have a place."""

from __future__ import annotations

from dbos._sys_db import SystemDatabase
from sqlalchemy import Engine, create_engine, make_url

from keepfit.errors import BackendError
from keepfit.pipelines.durable import JsonSerializer

SCHEMA = "dbos"
"""Where they are on PostgreSQL."""


def engine_of(url: str) -> Engine:
    """Of the job database."""
    parsed = make_url(url)
    return create_engine(
        parsed.set(drivername="postgresql+psycopg") if parsed.get_backend_name() == "postgresql" else parsed,
        hide_parameters=True,
    )


def make_tables(url: str) -> None:
    """Make or upgrade them. Raises BackendError."""
    try:
        database = SystemDatabase.create(
            system_database_url=url, engine_kwargs={}, engine=None, schema=SCHEMA, serializer=JsonSerializer(),
            executor_id=None,
        )  # fmt: skip
        try:
            database.run_migrations()
        finally:
            database.engine.dispose()
    except Exception as error:
        raise BackendError(f"the job database cannot be made: {error}") from error
