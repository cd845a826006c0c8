"""When the database fails, a sentence says so and nothing is half written; a kill loses nothing acknowledged."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine

from keepfit.data.database import said
from keepfit.data.records import Cause, Example, Label, Prediction, Source, Traffic
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, SettingsError

NOW = datetime(2025, 1, 1, tzinfo=UTC)
WRITER = """
import sys
from datetime import UTC, datetime
from itertools import count
from keepfit.data.records import Cause, Label, Source, Traffic
from keepfit.data.store import RecordStore

now = datetime(2025, 1, 1, tzinfo=UTC)
store = RecordStore.open(sys.argv[1])
for number in count():
    store.add_labels("m", [Label(f"e-{number % 50}", f"value {number}", now, Source.ASKED)])
    deployment = store.deploy("m", Traffic({number: 1.0}), Cause("ann", ""), now)
    print(number, deployment.id, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keepfit.db"


@pytest.fixture
def store(store_url: str) -> Iterator[RecordStore]:
    with RecordStore.open(f"{store_url}?timeout=0.05") as store:
        yield store


def pairs(count: int) -> list[tuple[Example, Prediction]]:
    examples = [Example(f"text {number}", NOW, f"e-{number}") for number in range(count)]
    none = np.zeros(0, np.float32)
    return [(e, Prediction(e.id, 1, ("a",), np.ones(1, np.float32), none, NOW, f"p-{e.id}")) for e in examples]


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_it_acknowledged(store_url: str) -> None:
    with RecordStore.open(store_url) as store:
        store.add_predictions("m", pairs(50))
        with subprocess.Popen([sys.executable, "-c", WRITER, store_url], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            acknowledged = [next(writer.stdout) for _ in range(60)]
            os.kill(writer.pid, signal.SIGKILL)
            acknowledged += writer.stdout.readlines()
        numbers = [int(line.split()[0]) for line in acknowledged]
        deployed = {deployment.id: list(deployment.traffic.shares) for deployment in store.deployments(limit=10_000)}
        for line in acknowledged:
            number, id_ = map(int, line.split())
            assert deployed[id_] == [number]
        assert store.count_labels("m", datetime(2024, 1, 1, tzinfo=UTC)) in {len(numbers), len(numbers) + 1}
        store.is_writable()


def test_a_locked_database_says_so_and_the_next_try_works(store: RecordStore, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        for write in (lambda: store.put("m", "a", 1), store.is_writable):
            with pytest.raises(BackendError, match="is locked by another program; try again") as caught:
                write()
            assert caught.value.__cause__ is not None
        store.ping()
        assert store.get("m", "a") is None, "readers go on"
        other.rollback()
    store.put("m", "a", 1)
    assert store.get("m", "a") == 1


def test_a_full_disk_says_so_and_nothing_of_the_call_is_written(path: Path, store: RecordStore) -> None:
    store.add_predictions("m", pairs(1))
    with store._db.engine.connect() as conn:  # SQLite's own limit stands for the full disk
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(BackendError, match="no space left on its disk; free some"):
        store.add_predictions("m", pairs(5000))
    assert store.count_predictions("m") == 1
    store.put("m", "small", 1)


def test_a_deleted_database_is_noticed_before_anything_is_acknowledged(store: RecordStore, path: Path) -> None:
    path.unlink()
    for call in (store.ping, store.is_writable, lambda: store.put("m", "a", 1)):
        with pytest.raises(BackendError, match="is gone"):
            call()
    assert not path.exists(), "no empty one takes its place"


def test_a_replaced_database_is_noticed(store: RecordStore, path: Path, tmp_path: Path) -> None:
    RecordStore.open(f"sqlite:///{tmp_path / 'other.db'}").close()
    os.replace(tmp_path / "other.db", path)
    with pytest.raises(BackendError, match="was replaced while in use; restart keepfit"):
        store.put("m", "a", 1)


@pytest.mark.parametrize("content", [b"this is no database " * 300, b"SQLite format 3\x00" + bytes(4096)])
def test_a_damaged_file_says_so(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BackendError, match="damaged or no keepfit database; restore a backup"):
        RecordStore.open(f"sqlite:///{path}")


def test_a_place_that_cannot_hold_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "keepfit.db", tmp_path / "folder"):
        with pytest.raises(BackendError, match=r"The database .*(folder|file).*\."):
            RecordStore.open(f"sqlite:///{place}")


@pytest.mark.parametrize("name", ["new/folder/keepfit.db", "100% & 漢字 #1.db"])
def test_missing_folders_are_made_and_any_file_name_works(tmp_path: Path, name: str) -> None:
    RecordStore.open(f"sqlite:///{tmp_path / name}").close()
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "write sqlite:///FILE or postgresql://"),
        ("mysql://x/y", "'mysql' is not supported"),
        ("sqlite://", "in memory would be lost"),
        ("sqlite:///:memory:", "in memory would be lost"),
        ("sqlite:///x.db?mode=ro", "unknown option 'mode'"),
        ("sqlite:///x.db?timeout=soon", "no number"),
    ],
)
def test_a_wrong_url_is_refused_with_the_next_step(url: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        RecordStore.open(url)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_database_server_that_is_away_says_so_without_its_password(scheme: str) -> None:
    with pytest.raises(BackendError, match="does not answer") as caught:
        RecordStore.open(f"{scheme}://ann:secret@127.0.0.1:9/keepfit?connect_timeout=2")
    assert "secret" not in str(caught.value)


def test_a_call_that_fails_half_way_leaves_nothing(store: RecordStore) -> None:
    good, (example, prediction) = pairs(2)
    broken = Prediction(example.id, 1, ("a",), prediction.scores, prediction.embedding, NOW, context={"x": object()})  # type: ignore[dict-item]
    with pytest.raises(Exception, match="cannot be stored as JSON"):
        store.add_predictions("m", [good, (example, broken)])
    assert store.count_predictions("m") == 0


def test_errors_of_the_database_keep_their_cause() -> None:
    engine = create_engine("sqlite://")
    with pytest.raises(BackendError, match="lacks its tables") as caught, said("x"), engine.connect() as conn:
        conn.exec_driver_sql("SELECT * FROM absent")
    assert caught.value.__cause__ is not None
    engine.dispose()


def test_a_label_and_a_deployment_wait_for_the_disk(store: RecordStore) -> None:
    with store._db.engine.connect() as conn:
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2, "FULL"
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    store.add_predictions("m", pairs(1))
    assert store.add_labels("m", [Label("e-0", "a", NOW, Source.ASKED)]) == 1
    assert store.deploy("m", Traffic({1: 1.0}), Cause("ann", ""), NOW).id == 1
