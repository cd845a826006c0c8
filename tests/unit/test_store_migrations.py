"""Databases of every earlier release become this release's; several processes may open one at once."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from keepfit.data.records import Cause, Traffic, Window
from keepfit.data.schema import METADATA
from keepfit.data.store import RecordStore
from keepfit.data.upgrading import HEAD, VERSION_TABLE, alembic_config, migrate
from keepfit.errors import BackendError

# What a database of each release held, written as that release wrote it. A new migration adds its entry here.
ROWS = {
    "0001": (
        """INSERT INTO keepfit_examples VALUES ('m', 'e', 1000000, NULL, NULL, '"old text"', '{}')""",
        """INSERT INTO keepfit_label_sets VALUES ('m', 's', '["bad", "good"]')""",
        """INSERT INTO keepfit_predictions VALUES
           ('m', 'p', 'e', 'g', 1, 1000000, 's', x'0000803E0000403F', x'003800C0', NULL, '{}', '{}', 'model', 0)""",
        """INSERT INTO keepfit_labels VALUES (1, 'm', 'l', 'e', 'good', 2000000, 'asked', 'ann', 0.5, 'p')""",
        """INSERT INTO keepfit_deployments VALUES
           (1, 'm', 1000000, 'ann', 'first', 'deploy', '[[1, 1.0]]', '[]', NULL, NULL)""",
        """INSERT INTO keepfit_decisions VALUES (1, 'm', 'd', 1000000, 'gate v1', 'pass', '["better"]', '{"n": 3}')""",
    ),
}
ROWS["0002"] = tuple(row.replace("'model', 0)", "'model', 0, 'r')") for row in ROWS["0001"])
ROWS["0003"] = ROWS["0002"]


def database_of(release: str, path: Path) -> None:
    """Makes the database that a release would have left."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as conn:
        migrate(conn, release)
        for statement in ROWS[release]:
            conn.exec_driver_sql(statement)
    engine.dispose()


@pytest.mark.parametrize("release", sorted(ROWS))
def test_a_database_of_an_earlier_release_is_upgraded_and_keeps_its_rows(release: str, tmp_path: Path) -> None:
    database_of(release, tmp_path / "old.db")
    with RecordStore.open(f"sqlite:///{tmp_path / 'old.db'}") as store:
        everything = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))
        [(prediction, label)] = store.labelled("m", everything)
        assert (prediction.label, prediction.confidence, label.value) == ("good", 0.75, "good")
        assert prediction.embedding.tolist() == [0.5, -2.0]
        assert prediction.time == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1)
        assert store.training_data("m")[0].example.content == "old text"
        deployment = store.deployment("m")
        assert deployment is not None
        assert deployment.traffic.shares == {1: 1.0}
        assert store.decision("d").decision.evidence == {"n": 3}


@pytest.mark.parametrize("release", sorted(ROWS))
def test_what_is_older_than_the_audit_chain_is_named_and_no_flaw(release: str, tmp_path: Path) -> None:
    database_of(release, tmp_path / "old.db")
    with RecordStore.open(f"sqlite:///{tmp_path / 'old.db'}") as store:
        store.deploy("m", Traffic({2: 1.0}), Cause("ann", "the second"), datetime(2025, 1, 1, tzinfo=UTC))
        found = store.verify_audit()
        assert (found.whole, found.before) == (True, {"deployment": 1, "decision": 1})
        assert [entry.action for entry in store.audit_entries()] == ["deploy", "begin"]


def test_every_migration_has_the_rows_of_its_release_and_the_last_is_the_head() -> None:
    scripts = ScriptDirectory.from_config(alembic_config())
    assert sorted(script.revision for script in scripts.walk_revisions()) == sorted(ROWS)
    assert scripts.get_current_head() == HEAD == max(ROWS)


def test_the_migrations_make_exactly_the_tables_that_the_code_uses(store_url: str) -> None:
    RecordStore.open(store_url).close()
    engine = create_engine(store_url)
    with engine.connect() as conn:
        options = {"version_table": VERSION_TABLE, "compare_type": False}
        assert compare_metadata(MigrationContext.configure(conn, opts=options), METADATA) == []
    engine.dispose()


def test_every_table_has_a_model_column() -> None:
    assert [name for name, table in METADATA.tables.items() if "model" not in table.columns] == []


@pytest.mark.slow
def test_two_processes_may_open_a_new_database_at_once(store_url: str) -> None:
    imports = "import sys; from keepfit.data.store import RecordStore; "
    code = imports + "sys.stdin.read(1); RecordStore.open(sys.argv[1]).ping()"
    command = [sys.executable, "-c", code, store_url]
    openers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for opener in openers:
        assert opener.stdin is not None
        opener.stdin.write(b"!")
        opener.stdin.flush()
    errors = [opener.communicate(timeout=60)[1].decode() for opener in openers]
    assert errors == ["", ""]


def test_many_threads_may_open_new_databases_at_once(tmp_path: Path) -> None:
    def open_one(number: int) -> None:
        with RecordStore.open(f"sqlite:///{tmp_path / f'{number % 2}.db'}") as store:
            store.ping()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(open_one, range(6)))


def test_a_failed_migration_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "half.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE keepfit_tokens (name TEXT)")  # in the way of the last table
    with pytest.raises(BackendError, match="keepfit_tokens already exists"):
        RecordStore.open(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert names == ["keepfit_tokens"]


def test_a_database_of_a_newer_keepfit_is_refused_and_left_alone(store_url: str, tmp_path: Path) -> None:
    RecordStore.open(store_url).close()
    with closing(sqlite3.connect(tmp_path / "keepfit.db")) as connection, connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(BackendError, match="a newer keepfit made it"):
        RecordStore.open(store_url)


def test_opening_an_up_to_date_database_is_fast_and_needs_no_file_in_the_current_folder(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    RecordStore.open(store_url).close()

    def seconds() -> float:
        start = time.perf_counter()
        RecordStore.open(store_url).close()
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.05
    assert os.listdir(elsewhere) == []
