"""How Alembic meets the database: on the connection that keepfit hands over, in its transaction."""

from __future__ import annotations

from alembic import context

from keepfit.data.schema import METADATA


def run() -> None:
    """Runs what is asked for, inside the caller's transaction."""
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"], target_metadata=METADATA, version_table=attributes["version_table"]
    )
    context.run_migrations()


if __name__ == "env_py":  # the name under which Alembic loads this file; others (doctest) only read it
    run()
