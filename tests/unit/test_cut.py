"""A copy of a database in use shows one moment, and rows go from one kind of database to another and back."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from keepfit.data.cut import check_whole, copy_sqlite, moved
from keepfit.errors import BackendError


def books(path: Path) -> None:
    """Two accounts whose sum never changes, and rows enough that a copy takes several steps."""
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("PRAGMA journal_mode=WAL")
        conn.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, sum INTEGER)")
        conn.execute("INSERT INTO accounts VALUES ('a', 1000), ('z', 1000)")
        conn.execute("CREATE TABLE ballast (words TEXT)")
        conn.executemany("INSERT INTO ballast VALUES (?)", [("x" * 3000,)] * 8000)


def test_a_copy_shows_one_moment_while_others_write(tmp_path: Path) -> None:
    books(tmp_path / "books.db")
    steps, done = [], threading.Event()

    def transfer() -> None:
        """One transfer at each step of the copy, on a connection of its own."""
        with closing(sqlite3.connect(tmp_path / "books.db", timeout=10)) as conn, conn:
            conn.execute("UPDATE accounts SET sum = sum - 1 WHERE name = 'a'")
            conn.execute("UPDATE accounts SET sum = sum + 1 WHERE name = 'z'")

    def progress(at: int, of: int) -> None:
        steps.append((at, of))
        transfer()
        done.set()

    copy_sqlite(tmp_path / "books.db", tmp_path / "copy.db", progress)
    assert done.is_set()
    assert len(steps) > 2, "it goes on, and does not begin anew at each write"
    with closing(sqlite3.connect(tmp_path / "copy.db")) as conn:
        assert dict(conn.execute("SELECT name, sum FROM accounts")) == {"a": 1000, "z": 1000}
        assert conn.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        check_whole(conn, "copy.db")
    with closing(sqlite3.connect(tmp_path / "books.db")) as conn:
        assert dict(conn.execute("SELECT name, sum FROM accounts"))["z"] == 1000 + len(steps)


def test_a_damaged_database_is_not_backed_up_in_silence(tmp_path: Path) -> None:
    books(tmp_path / "books.db")
    with closing(sqlite3.connect(tmp_path / "books.db")) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray((tmp_path / "books.db").read_bytes())
    data[4096 * 50 : 4096 * 60] = b"\xff" * 40960
    (tmp_path / "books.db").write_bytes(data)
    with pytest.raises(BackendError, match="damaged"):
        copy_sqlite(tmp_path / "books.db", tmp_path / "copy.db")


def test_paths_follow_the_folder_and_nothing_that_only_begins_alike(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as conn, conn:
        conn.execute("CREATE TABLE runs (artifact_uri VARCHAR(200), number INTEGER)")
        rows = ["/old/p", "/old/p/a", "file:///old/p/b", "/old/people", "see /old/p/a", None]
        conn.executemany("INSERT INTO runs VALUES (?, 1)", [(row,) for row in rows])
    assert moved(tmp_path / "x.db", "/old/p", "/new") == 3
    with closing(sqlite3.connect(tmp_path / "x.db")) as conn:
        found = [row for (row,) in conn.execute("SELECT artifact_uri FROM runs")]
    assert found == ["/new", "/new/a", "file:///new/b", "/old/people", "see /old/p/a", None]
