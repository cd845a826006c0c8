"""The schema's version: whether a database has this release's tables, and how it gets them.

The table of the version has a name of its own, because MLflow keeps its own Alembic table in a shared database.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, column, inspect, select, table

from keepfit.errors import BackendError

HEAD = "0003"
"""The newest migration; a test compares it with the scripts, so that opening need not read them."""
VERSION_TABLE = "keepfit_version"

_ALEMBIC = Lock()  # Alembic keeps the migration under way in a global


def is_current(conn: Connection) -> bool:
    """Whether nothing is to be done. Raises BackendError when a newer keepfit made the database."""
    version = version_of(conn)
    if version is not None and version > HEAD:
        raise BackendError(
            f"This database has schema {version}, but this keepfit knows only {HEAD}: "
            "a newer keepfit made it; install that one, or restore an older backup."
        )
    return version == HEAD


def version_of(conn: Connection) -> str | None:
    """The migration that the database stands at; None before the first."""
    if not inspect(conn).has_table(VERSION_TABLE):
        return None
    return conn.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar()


def migrate(conn: Connection, to: str = HEAD) -> None:
    """Runs the missing migrations inside the connection's transaction: all of them or none."""
    config = alembic_config()
    config.attributes.update(connection=conn, version_table=VERSION_TABLE)
    with _ALEMBIC:
        command.upgrade(config, to)


def alembic_config() -> Config:
    """Alembic's view of the migrations that lie in this package; needs no alembic.ini."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    return config
