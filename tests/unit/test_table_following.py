"""Following files and tables that grow: each row once, partial lines wait, what changes behind the mark is said."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, text

from keepfit.app.table_following import rows_of
from keepfit.clock import ManualClock
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput
from keepfit.pipelines.folder_following import FolderSource, whole_lines
from keepfit.pipelines.intake import Intake
from keepfit.pipelines.table_following import Follower, QuerySource, Roles, Source

HEADER = "id,text,p_bad,p_good,version,time\n"


@dataclass
class Bench:
    store: RecordStore
    clock: ManualClock
    folder: Path

    def follower(self, source: Source | None = None, roles: Roles | None = None) -> Follower:
        intake = Intake("m", self.store, self.folder, self.clock, ("bad", "good"))
        found = source or FolderSource(self.folder, self.clock.now)
        return Follower("m", self.store, found, roles or Roles(), intake, self.clock, timedelta(0))

    def count(self) -> int:
        return self.store.count_predictions("m")

    def told(self) -> list[str]:
        return [d.decision.because[0] for d in self.store.decisions("m", "follow")]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with RecordStore.open(f"sqlite:///{tmp_path / 'store.db'}") as store:
        yield Bench(store, ManualClock(datetime(2100, 1, 1, tzinfo=UTC)), inbox)


def line(number: int, time: str = "2026-01-01 10:00:00") -> str:
    return f'{number},"a text, number\n{number}",0.25,0.75,their-1,{time}\n'


def test_a_file_that_grows_is_read_once_also_by_a_new_worker(bench: Bench) -> None:
    file = bench.folder / "answers.csv"
    file.write_text(HEADER + line(1) + line(2), "utf-8")
    assert bench.follower().poll() == 2
    assert bench.follower().poll() == 0
    with file.open("a", encoding="utf-8") as more:
        more.write(line(3))
    assert bench.follower().poll() == 1
    assert bench.count() == 3
    example, prediction = bench.store.prediction("m", "3")
    assert example.content == "a text, number\n3"
    assert example.time == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert prediction.label == "good"


def test_a_last_line_that_is_not_whole_waits(bench: Bench) -> None:
    file = bench.folder / "answers.csv"
    whole = HEADER + line(1)
    file.write_text(whole + line(2)[:-20], "utf-8")
    follower = bench.follower()
    assert follower.poll() == 1
    file.write_text(whole + line(2), "utf-8")
    assert follower.poll() == 1
    assert bench.told() == []


def test_a_line_end_in_quotes_ends_no_line() -> None:
    assert whole_lines(b'1,"a\nb"\n2,"c\nd', quoted=True) == b'1,"a\nb"\n'
    assert whole_lines(b'1,"a\nb', quoted=True) == b""


@pytest.mark.parametrize("content", [HEADER + line(1), HEADER + line(9) + line(2) + line(3)])
def test_a_file_that_shrinks_or_changes_behind_the_mark_is_said_once_and_not_read_again(
    bench: Bench, content: str
) -> None:
    file = bench.folder / "answers.csv"
    file.write_text(HEADER + line(1) + line(2), "utf-8")
    follower = bench.follower()
    follower.poll()
    file.write_text(content, "utf-8")
    assert follower.poll() == 0
    assert follower.poll() == 0
    assert len(bench.told()) == 1
    assert "answers.csv" in bench.told()[0]
    assert bench.count() == 2


def test_rows_that_cannot_be_taken_are_told_of_and_hold_up_no_others(bench: Bench) -> None:
    rows = [
        {"id": "1", "text": "fine", "probabilities": {"good": 0.9, "bad": 0.1}},
        {"id": "2", "text": "fine", "probabilities": {"good": 0.9, "bad": 0.9}},
        {"id": "3", "text": "fine", "label": "good", "score": 0.8},
        {"id": "1", "text": "other", "probabilities": {"good": 0.9, "bad": 0.1}},
        {"id": "4", "text": "fine", "label": "good", "score": "much"},
    ]
    lines = [*map(json.dumps, rows), "no json"]
    (bench.folder / "a.jsonl").write_text("".join(f"{one}\n" for one in lines), "utf-8")
    assert bench.follower(roles=Roles(fixed_version="their-1")).poll() == 6
    assert bench.count() == 2
    assert "4 of 6 rows of a.jsonl" in bench.told()[0]
    assert bench.follower(roles=Roles(fixed_version="their-1")).poll() == 0


def test_a_parquet_file_is_read_when_it_is_whole_and_again_when_rows_were_added(bench: Bench) -> None:
    def write(rows: list[int], text: str = "fine") -> None:
        columns = {"id": [str(n) for n in rows], "text": [f"{text} {n}" for n in rows], "p_good": [0.75] * len(rows)}
        columns |= {"p_bad": [0.25] * len(rows), "version": ["their-1"] * len(rows)}
        pq.write_table(pa.table(columns), bench.folder / "a.parquet")

    write([1, 2])
    assert bench.follower().poll() == 2
    assert bench.follower().poll() == 0
    write([1, 2, 3])
    assert bench.follower().poll() == 1
    write([1, 2, 3, 4], "changed")
    assert bench.follower().poll() == 0
    assert "have changed" in bench.told()[0]


def of_parquet(file: Path, rows: int, text: str = "fine") -> None:
    """A file of so many answers; its embeddings make a row as long as one is."""
    table = {"id": [str(n) for n in range(rows)], "text": [f"{text} {n}" for n in range(rows)]}
    pq.write_table(pa.table(table | {"embedding": [[0.5] * 4] * rows}), file, row_group_size=7_000)


def test_a_parquet_file_is_read_in_parts_however_they_are_divided(bench: Bench) -> None:
    file, source, mark = bench.folder / "a.parquet", FolderSource(bench.folder, bench.clock.now), dict[str, Any]()
    of_parquet(file, 7_300)
    found = []
    while (part := source.read(file.name, mark))[0]:
        found += part[0]
        mark = part[1]
    of_parquet(file, 20_000)
    for number in range(4):
        reader = FolderSource(bench.folder, bench.clock.now) if number % 2 else source  # a new worker goes on, too
        rows, mark = reader.read(file.name, mark)
        found += rows
    assert [(id_, row["id"]) for id_, row in found] == [(f"a.parquet:{n + 1}", str(n)) for n in range(20_000)]
    assert source.read(file.name, mark) == ([], mark)


def test_a_parquet_file_that_is_written_anew_while_it_is_read_must_begin_with_what_was_read(bench: Bench) -> None:
    file, source = bench.folder / "a.parquet", FolderSource(bench.folder, bench.clock.now)
    of_parquet(file, 12_000)
    _, mark = source.read(file.name, {})
    of_parquet(file, 13_000)
    rows, mark = source.read(file.name, mark)
    assert rows[0][0] == "a.parquet:5001"
    of_parquet(file, 14_000, "changed")
    with pytest.raises(InvalidInput, match="its first 10000 rows, which were read, have changed"):
        source.read(file.name, mark)


def test_a_parquet_file_that_is_written_anew_as_it_was_is_compared_once(bench: Bench) -> None:
    file = bench.folder / "a.parquet"
    pq.write_table(pa.table({"id": ["1"], "text": ["fine"], "p_good": [0.75], "p_bad": [0.25]}), file)
    roles = Roles(fixed_version="their-1")
    assert bench.follower(roles=roles).poll() == 1
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert bench.follower(roles=roles).poll() == 0
    assert bench.store.get("m", "followed")["a.parquet"]["seen"].endswith("-1700000000000000000")


def test_reading_a_parquet_file_takes_time_in_proportion_to_its_rows(bench: Bench) -> None:
    file, source, mark = bench.folder / "a.parquet", FolderSource(bench.folder, bench.clock.now), dict[str, Any]()
    of_parquet(file, 100_000)
    began = process_time()
    hashlib.sha256(repr(pq.read_table(file).to_pylist()).encode())
    once = process_time() - began
    began = process_time()
    while (part := source.read(file.name, mark))[0]:
        mark = part[1]
    assert mark["row"] == 100_000
    assert process_time() - began < 6 * once  # comparing all for each part of 5,000 takes near twenty times as long


def test_a_quote_that_is_never_closed_is_looked_for_once() -> None:
    content = b'1,"a\n' + b"2,b\n" * 500_000
    began = process_time()
    assert whole_lines(content, quoted=True) == b""
    assert whole_lines(content.replace(b'"', b""), quoted=True) == content.replace(b'"', b"")
    assert whole_lines(b'1,"a"\n2,"b\n3\n', quoted=True) == b'1,"a"\n'
    assert process_time() - began < 5


def test_a_table_is_followed_by_its_cursor(bench: Bench, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'theirs.db'}"
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("create table answers (seq integer primary key, text text, label text, score real)"))
        conn.execute(text("insert into answers values (5, 'fine', 'good', 0.9), (6, 'poor', 'bad', 0.7)"))
    rows = rows_of(url, "select * from answers where seq > :cursor order by seq")
    source = QuerySource(rows, "seq", 0)
    roles = Roles(fixed_version="their-1")
    assert bench.follower(source, roles).poll() == 2
    with engine.begin() as conn:
        conn.execute(text("insert into answers values (7, 'fine', 'good', 0.6)"))
    assert bench.follower(source, roles).poll() == 1
    assert bench.follower(source, roles).poll() == 0
    assert bench.count() == 3
    assert [float(s) for s in bench.store.prediction("m", "6")[1].scores] == pytest.approx([0.7, 0.3])


def test_a_cursor_that_does_not_grow_is_refused() -> None:
    def rows(cursor: Any) -> Iterator[dict[str, int]]:
        yield from ({"seq": 2}, {"seq": 1})

    with pytest.raises(InvalidInput, match="does not grow"):
        QuerySource(rows, "seq", 0).read("query", {})


def test_a_moment_as_cursor_is_kept_as_one() -> None:
    later = datetime(2026, 1, 2, tzinfo=UTC)

    def rows(cursor: Any) -> Iterator[dict[str, Any]]:
        yield from ({"at": at} for at in (later,) if at > cursor)

    source = QuerySource(rows, "at", datetime(2026, 1, 1, tzinfo=UTC))
    found, mark = source.read("query", {})
    assert len(found) == 1
    assert source.read("query", json.loads(json.dumps(mark))) == ([], mark)


def test_a_database_that_is_away_is_no_reason_to_give_up(tmp_path: Path) -> None:
    rows = rows_of(f"sqlite:///{tmp_path / 'no' / 'folder.db'}", "select * from answers where seq > :cursor")
    with pytest.raises(BackendError, match="cannot be read"):
        list(rows(0))
