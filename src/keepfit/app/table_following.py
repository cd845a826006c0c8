"""Followers put together from the settings: a folder of the project, or a database by its SQLAlchemy URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from keepfit.app.wiring import Home
from keepfit.data.past_source import foreign_engine
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.pipelines.folder_following import FolderSource
from keepfit.pipelines.intake import Intake
from keepfit.pipelines.table_following import ROWS, Follower, QuerySource, Roles, Source
from keepfit.redaction import redacted


def follower(home: Home, name: str, store: RecordStore, intake: Intake) -> Follower:
    """Follows what the settings of a model name."""
    settings = home.settings.model(name)[1].follow
    columns = settings.names
    texts = (columns.text,) if isinstance(columns.text, str) else columns.text
    roles = Roles(
        columns.id, texts, columns.label, columns.score, columns.probabilities, columns.version, columns.key,
        columns.time, settings.version,
    )  # fmt: skip
    source: Source
    if settings.folder is not None:
        source = FolderSource((home.folder / settings.folder).absolute(), home.clock.now)
    else:
        source = QuerySource(
            rows_of(str(settings.url), str(settings.query)), str(settings.cursor), settings.start, text_name(settings)
        )
    return Follower(name, store, source, roles, intake, home.clock, settings.every)


def text_name(settings: Any) -> str:
    """The mark of a query is its own: another query begins at its start."""
    return f"query {settings.cursor}: {settings.query}"


def rows_of(url: str, query: str) -> Callable[[Any], Iterator[Mapping[str, Any]]]:
    """The rows of a query for a cursor, read only. Raises SettingsError for a URL that is none, BackendError later."""
    engine = foreign_engine(url, pool_pre_ping=True)

    def rows(cursor: Any) -> Iterator[Mapping[str, Any]]:
        try:
            with engine.connect() as conn:
                found = conn.execute(text(query), {"cursor": cursor}).mappings().fetchmany(ROWS)
        except SQLAlchemyError as error:
            raise BackendError(redacted(f"what is followed cannot be read: {type(error).__name__}")) from error
        yield from ({str(name): value for name, value in row.items()} for row in found)

    return rows
