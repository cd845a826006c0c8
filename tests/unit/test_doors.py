"""What comes in from outside and goes out to disk: the odd inputs that would be lost or would stop a worker."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from keepfit.app.secrets import plain_secrets, without_secrets
from keepfit.app.wiring import LATE, named
from keepfit.errors import InvalidInput
from keepfit.pipelines.backup import state_files
from keepfit.pipelines.folder_following import parsed, read_lines
from keepfit.pipelines.intake import Said, alike, usual_forms
from keepfit.pipelines.restore import pour
from keepfit.pipelines.table_following import QuerySource, Roles


def test_a_backup_holds_models_whatever_they_are_called_and_wherever_they_lie(tmp_path: Path) -> None:
    state, disk = tmp_path / ".keepfit", tmp_path / "bigger disk"
    for folder in (state / "models" / "travel-journal" / "1", disk / "1"):
        folder.mkdir(parents=True)
        (folder / "model.json").write_text("{}", "utf-8")
    (state / "models" / "linked").symlink_to(disk)
    (disk / "round").symlink_to(state)
    (state / "keepfit.db-wal").write_text("", "utf-8")
    found = {path.relative_to(state).as_posix() for path in state_files(state)}
    assert found == {"models/travel-journal/1/model.json", "models/linked/1/model.json"}


def test_secrets_of_models_are_known_and_one_that_cannot_be_taken_out_keeps_the_file_out(tmp_path: Path) -> None:
    file = tmp_path / "keepfit.toml"
    file.write_text(
        '[models.a.follow]\nurl = "postgresql://ann:geheim@db/x"\n'
        '[models.a.hand_over]\nurl = "https://x.example/hook?token=t"\nsecret = "s3cret"\n',
        "utf-8",
    )
    words, names = without_secrets(tmp_path)
    assert words is not None
    assert not [one for one in ("geheim", "token=t", "s3cret") if one in words]
    assert names == ["models.a.follow.url", "models.a.hand_over.secret", "models.a.hand_over.url"]
    file.write_text('[alerts.email]\npassword = "a\\"b"\n', "utf-8")
    assert without_secrets(tmp_path) == (None, ["alerts.email.password"])
    assert plain_secrets({"models": {"a": {"hand_over": {"secret": "env:S"}}}}) == {}


@pytest.mark.parametrize("value", [3, 2])
def test_a_query_that_gives_again_what_was_read_is_said_and_not_read_for_ever(value: int) -> None:
    def again(cursor: Any) -> Iterator[dict[str, Any]]:
        yield {"seq": value}

    with pytest.raises(InvalidInput, match="does not grow"):
        QuerySource(again, "seq", 0).read("query", {"cursor": 3})


def test_a_cursor_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(InvalidInput, match="is a bytes"):
        QuerySource(lambda _: iter([{"seq": b"1"}]), "seq", 0).read("query", {})


def test_line_ends_that_json_allows_within_a_text_end_no_row() -> None:
    _, rows = parsed(Path("a.jsonl"), '{"text": "one\u2028two\u0085three"}\n'.encode(), None)
    assert [row["text"] for row in rows] == ["one\u2028two\u0085three"]


def test_a_long_cell_is_read_and_a_row_that_does_not_fit_its_header_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"id,text\n1,{'x' * 200_000}\n2,a comma, not quoted\n3,fine\n", "utf-8")
    rows = [row for _, row in read_lines(file, file.stat().st_size, {})[0]]
    assert [len(row.get("text", "")) for row in rows] == [200_000, 0, 4]


def test_an_empty_text_column_keeps_its_place() -> None:
    roles = Roles(text=("title", "body"), fixed_version="a")
    row = {"id": "1", "title": "", "body": "words", "p_x": "0.5", "p_y": "0.5"}
    assert roles.said(row, "1").text == ("", "words")
    assert roles.said({**row, "body": ""}, "1").text is None


def test_answers_of_one_version_that_differ_in_their_classes_name_none() -> None:
    said = [Said(str(n), "v", "t", None, dict.fromkeys(names, 0.5)) for n, names in enumerate(("ab", "ab", "abc"))]
    with pytest.raises(InvalidInput, match=r"predictions\.2: .* send all of a version alike"):
        alike(said, "predictions")
    alike(said[:2], "predictions")


def test_a_restore_leaves_tables_alone_that_the_backup_has_not(tmp_path: Path) -> None:
    source, target = tmp_path / "backup.db", create_engine(f"sqlite:///{tmp_path / 'shared.db'}")
    with closing(sqlite3.connect(source)) as conn, conn:
        conn.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY)")
        conn.execute("INSERT INTO runs VALUES (1), (2)")
    with target.begin() as there:
        for table in ("runs", "invoices"):
            there.execute(text(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)"))
            there.execute(text(f"INSERT INTO {table} VALUES (7)"))
    assert pour(source, target, None, lambda name: True, lambda done, of: None) == 2
    with target.connect() as there:
        found = {
            table: list(there.execute(text(f"SELECT id FROM {table}")).scalars()) for table in ("runs", "invoices")
        }
    target.dispose()
    assert found == {"runs": [1, 2], "invoices": [7]}


@pytest.mark.filterwarnings("ignore")  # of MLflow's own tables
def test_runs_of_a_shared_mlflow_are_seen_before_anything_is_put_in_their_place(tmp_path: Path) -> None:
    runs_in, is_mlflows = named(LATE["registry_runs"]), named(LATE["registry_table"])
    url = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert runs_in(url) == 0
    engine = create_engine(url)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE registered_models (name TEXT)"))
    assert runs_in(url) == 0
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO registered_models (name) VALUES ('theirs')"))
    engine.dispose()
    assert runs_in(url) == 1
    assert not is_mlflows("invoices")
    assert is_mlflows("runs")


def test_one_odd_row_does_not_say_what_the_classes_of_a_followed_version_are() -> None:
    odd = Said("0", "v", "t", None, {"a": 0.5, "c": 0.5})
    rows = [odd, *(Said(str(n), "v", "t", None, {"a": 0.5, "b": 0.5}) for n in (1, 2))]
    assert usual_forms(rows, ()) == {"v": (frozenset("ab"), 0)}
    assert usual_forms(rows, {"v"}) == {}
