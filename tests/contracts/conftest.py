"""A store on SQLite and one on a real PostgreSQL, for the contracts that both must keep."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest

from keepfit.data.schema import METADATA


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, store_url: str) -> str:
    if request.param == "sqlite":
        return store_url
    url: str = request.getfixturevalue("postgresql")
    with psycopg.connect(url) as connection, suppress(psycopg.errors.UndefinedTable):
        connection.execute(f"TRUNCATE {', '.join(METADATA.tables)} RESTART IDENTITY")
    return url
