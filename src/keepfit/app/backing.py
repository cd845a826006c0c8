"""Backups, put together from the settings: which databases there are, how each is copied, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, make_url

from keepfit import __version__
from keepfit.app.secrets import without_secrets
from keepfit.app.wiring import LATE, Home, named
from keepfit.data.cut import Progress, copy_rows, copy_sqlite, empty, one_moment, plain_engine, tables
from keepfit.data.database import open_database
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput, NotFound
from keepfit.pipelines.backup import JOBS, RECORDS, REGISTRY, SEARCHES, Backup, Cut
from keepfit.pipelines.restore import is_record

ENDS = (".tar", ".tar.gz", ".tgz", ".tar.zst")


def backup(home: Home, store: RecordStore) -> Backup:
    """The backup of a project."""
    words, secrets = without_secrets(home.folder)
    left_out = [f"the secrets of keepfit.toml, which stands in the backup with *** for: {', '.join(secrets)}"]
    if is_server(home.settings.tracking):
        left_out.append("what the MLflow server of the setting tracking keeps: its runs, versions and artifacts")
    if file_of(home.tuning_url) is None:
        left_out.append("the trials of searches, which lie in a database of their own [trials]")
    made_by = {
        "keepfit": __version__, "mlflow": version("mlflow-skinny"), "dbos": version("dbos"),
        "tracking": kind_of(home.settings.tracking),
    }  # fmt: skip
    return Backup(
        store, home.state, cuts(home, store), words, made_by, home.clock, left_out if secrets else left_out[1:],
        tuple(home.settings.models),
    )  # fmt: skip


def is_server(tracking: str | None) -> bool:
    """Whether MLflow is a server of its own."""
    return tracking is not None and tracking.startswith(("http://", "https://"))


def kind_of(tracking: str | None) -> str:
    """Where the registry keeps what it knows: local (plain files), server, or database."""
    return "local" if tracking == "local" else "server" if is_server(tracking) else "database"


def tracking_url(home: Home) -> str | None:
    """The database of the registry; None where it has none of its own."""
    tracking = home.settings.tracking
    if tracking == "local" or is_server(tracking):
        return None
    return home.mlflow_url


def cuts(home: Home, store: RecordStore) -> list[Cut]:
    """The databases in the order in which they are to be cut."""
    found: list[Cut | None] = [of_jobs(home), of_records(home, store), of_registry(home)]
    found.append(None if (trials := file_of(home.tuning_url)) is None else of_file(SEARCHES, trials))
    return [cut for cut in found if cut is not None]


def of_file(name: str, path: Path) -> Cut | None:
    """An SQLite file; None where it is not there (yet)."""
    return Cut(name, partial(copy_sqlite, path), "sqlite", path.absolute()) if path.is_file() else None


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for another one."""
    parsed = make_url(url)
    return Path(str(parsed.database)).absolute() if parsed.get_backend_name() == "sqlite" else None


def of_jobs(home: Home) -> Cut | None:
    """DBOS's."""
    if (path := file_of(home.jobs_url)) is not None:
        return of_file(JOBS, path)
    make, engine, schema = jobs_database()

    def copy(target: Path, progress: Progress) -> None:
        make(home.jobs_url)
        make(f"sqlite:///{target}")
        copy_all(engine(home.jobs_url), schema, target, lambda name: True, progress)

    return Cut(JOBS, copy, "postgresql")


def of_records(home: Home, store: RecordStore) -> Cut | None:
    """keepfit's own."""
    if store.database.path is not None:
        return of_file(RECORDS, store.database.path)

    def copy(target: Path, progress: Progress) -> None:
        open_database(f"sqlite:///{target}").engine.dispose()
        copy_all(store.database.engine, None, target, is_record, progress, dispose=False)

    return Cut(RECORDS, copy, "postgresql")


def of_registry(home: Home) -> Cut | None:
    """MLflow's."""
    url = tracking_url(home)
    if url is None:
        return None
    if (path := file_of(url)) is not None:
        return of_file(REGISTRY, path)
    make, engine = registry_database()

    def copy(target: Path, progress: Progress) -> None:
        make(url, str(home.state / "mlartifacts"))
        make(f"sqlite:///{target}", str(home.state / "mlartifacts"))
        copy_all(engine(url), None, target, named(LATE["registry_table"]), progress)

    return Cut(REGISTRY, copy, make_url(url).get_backend_name())


def copy_all(
    source: Engine, schema: str | None, target: Path, wanted: Callable[[str], bool], progress: Progress,
    dispose: bool = True,
) -> None:  # fmt: skip
    """One moment of a database into the tables that the SQLite file has already."""
    there = plain_engine(target)
    try:
        with one_moment(source) as reading, there.begin() as conn:
            here = tables(conn, wanted)
            empty(conn, here)
            copy_rows(reading, tables(reading, wanted, schema), conn, here, progress)
        with there.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("PRAGMA journal_mode=DELETE")  # the copy is one file
    finally:
        there.dispose()
        if dispose:
            source.dispose()


def jobs_database() -> tuple[Any, Any, str]:
    """(make its tables, its engine, their schema on PostgreSQL)."""
    return named(LATE["jobs_tables"]), named(LATE["jobs_engine"]), named(LATE["jobs_schema"])


def registry_database() -> tuple[Any, Any]:
    """(make its tables, its engine)."""
    return named(LATE["registry_tables"]), named(LATE["registry_engine"])


def target_of(given: Path, home: Home) -> Path:
    """Where a backup goes: a dated file in a folder that exists, else the name as given.

    Raises InvalidInput for a place within what is backed up, NotFound for a folder that is not there.
    """
    target = given
    if given.is_dir():
        target = given / f"keepfit-{home.clock.now():%Y%m%dT%H%M%SZ}.tar.zst"
    elif given.suffix and not given.name.endswith(ENDS):
        raise InvalidInput(f"{given.name} has no ending of a backup; write {', '.join(ENDS)}, or the name of a folder")
    if home.state.absolute() in (Path(os.path.abspath(target))).parents:
        raise InvalidInput(f"{target} lies in {home.state}, which is backed up; choose another place")
    if not target.parent.is_dir():
        raise NotFound(f"there is no folder {target.parent}; make it first")
    return target
