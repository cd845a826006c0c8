"""A history that is imported: what is refused and said of it, and that the same rows are the same rows for ever."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, event

from keepfit.app.commands.import_history import printed
from keepfit.app.project import Project
from keepfit.app.worker import WorkerLock
from keepfit.data.past_columns import PastColumns
from keepfit.data.records import Example, Source, Window
from keepfit.errors import BackendError, InvalidInput, Refused, SettingsError

TOML = 'tracking = "local"\ntimezone = "Europe/Berlin"\n[models.default]\ntask = "toy"\n'
START = datetime(2026, 1, 1, tzinfo=UTC)
EVER = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Without a version."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "keepfit.toml").write_text(TOML, "utf-8")
    made = Project(folder, environ={})
    yield made
    made.close()


def row(number: int, **changes: Any) -> dict[str, Any]:
    """One good row of a history; `changes` make it another one."""
    good = number % 2 == 0
    made = {
        "id": f"r{number}", "text": f"{'good' if good else 'bad'} words {number}",
        "prediction": "pos" if good else "neg", "p_neg": 0.1 if good else 0.9, "p_pos": 0.9 if good else 0.1,
        "label": "pos" if good else "neg", "time": (START + timedelta(hours=number)).isoformat(), "version": "a",
    }  # fmt: skip
    return {name: value for name, value in (made | changes).items() if value is not None}


def table(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "past.csv") -> Path:
    """A CSV of these rows."""
    file = folder / name
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def rows(n: int = 20, **changes: Any) -> list[dict[str, Any]]:
    return [row(number, **changes) for number in range(n)]


def imported(project: Project, file: Path, **asked: Any) -> dict[str, Any]:
    return project.import_history(file=file, **{"looks": 0, **asked})


def stored(project: Project) -> int:
    return project.store.count_predictions(project.model)


# what is taken as what


def test_columns_are_known_by_name_and_by_what_they_hold(project: Project, tmp_path: Path) -> None:
    plan = imported(project, table(tmp_path, rows()), dry_run=True)["plan"]
    columns = plan["columns"]
    assert (columns["text"], columns["prediction"], columns["label"]) == (("text",), "prediction", "label")
    assert (columns["id"], columns["time"], columns["version"]) == ("id", "time", "version")
    assert (columns["probabilities"], columns["classes"]) == (("p_neg", "p_pos"), ("neg", "pos"))
    assert (plan["rows"], plan["labelled"], plan["label_source"]) == (20, 20, "complete")
    assert plan["first"] == START.isoformat()


def test_a_dry_run_stores_nothing_and_leaves_nothing(project: Project, tmp_path: Path) -> None:
    assert imported(project, table(tmp_path, rows()), dry_run=True)["dry_run"]
    assert stored(project) == 0
    assert project.store.foreign_versions(project.model) == []
    assert not list(project.home.work.glob("history-*"))


def test_a_column_can_be_named_and_a_guess_be_forbidden(project: Project, tmp_path: Path) -> None:
    made = [{**row(n), "reviewed": "neg"} for n in range(20)]
    columns = PastColumns(label="reviewed", id="none", probabilities=("none",))
    plan = imported(project, table(tmp_path, made), columns=columns, dry_run=True)["plan"]
    assert plan["columns"]["label"] == "reviewed"
    assert plan["columns"]["id"] is None
    assert plan["columns"]["probabilities"] == ()
    assert any("no ids" in words for words in plan["missing"])
    assert any("no probabilities" in words for words in plan["missing"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (PastColumns(label="lable"), "did you mean 'label'"),
        (PastColumns(probabilities=("p_pos",)), "at least two"),
        (PastColumns(prediction="none", probabilities=("none",)), "no column of answers"),
        (PastColumns(time="none"), "no column with the time"),
    ],
)
def test_a_column_that_cannot_be_is_refused_with_the_columns(
    project: Project, tmp_path: Path, columns: PastColumns, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        imported(project, table(tmp_path, rows()), columns=columns)


def test_probabilities_may_be_objects_in_json_lines_and_in_parquet(project: Project, tmp_path: Path) -> None:
    made = [
        {"text": f"good {n}", "time": (START + timedelta(hours=n)).timestamp(), "probabilities": {"a": 0.7, "b": 0.3}}
        for n in range(10)
    ]  # fmt: skip
    lines = tmp_path / "past.jsonl"
    lines.write_text("\n".join(map(json.dumps, made)), "utf-8")
    assert imported(project, lines)["answers"] == 10
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "past.parquet")
    assert imported(project, tmp_path / "past.parquet")["answers"] == 0  # the same rows in another dress
    (said,) = project.store.predictions(project.model, EVER, limit=1)
    assert said.labels == ("a", "b")
    assert said.scores.tolist() == pytest.approx([0.7, 0.3])
    assert len(said.embedding) == 0


def test_an_answer_without_probabilities_is_sure(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows(p_neg=None, p_pos=None)))
    (said,) = project.store.predictions(project.model, EVER, limit=1)
    assert said.confidence == 1


# the same again


def test_the_same_file_twice_and_a_longer_one_add_only_what_is_new(project: Project, tmp_path: Path) -> None:
    first = imported(project, table(tmp_path, rows(20)))
    again = imported(project, table(tmp_path, rows(20)))
    longer = imported(project, table(tmp_path, rows(30)))
    assert [(one["answers"], one["labels"]) for one in (first, again, longer)] == [(20, 20), (0, 0), (10, 10)]
    assert stored(project) == 30


def test_without_ids_the_text_and_the_time_are_the_id(project: Project, tmp_path: Path) -> None:
    for n in (20, 25):
        imported(project, table(tmp_path, rows(n, id=None)))
    assert stored(project) == 25


def test_a_label_that_came_later_is_added_to_its_answer(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows(label="")))
    done = imported(project, table(tmp_path, rows()), label_source="complete")
    assert (done["answers"], done["labels"]) == (0, 20)
    assert len(project.store.labelled(project.model, EVER)) == 20


def test_two_versions_may_answer_the_same_example(project: Project, tmp_path: Path) -> None:
    done = imported(project, table(tmp_path, [*rows(), *rows(version="b")]))
    assert (done["answers"], done["labels"]) == (40, 20)
    assert len(done["versions"]) == 2


# what is refused, with its number and its first rows


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"time": "2026-01-05T12:00:00"}, r"1 rows: times name no zone, first row 8.*--timezone"),
        ({"time": "yesterday"}, r"1 rows: a time that cannot be read, first row 8 \(yesterday\)"),
        ({"time": ""}, "no time"),
        ({"time": "2999-01-01T00:00:00Z"}, "a time in the future"),
        ({"p_pos": 0.5}, r"probabilities do not add up to 1, first row 8 \(0.9, 0.5: 1.4\).*--normalise"),
        ({"p_pos": "nan"}, "outside of 0 to 1"),
        ({"p_pos": "-0.1", "p_neg": "1.1"}, "outside of 0 to 1"),
        ({"p_pos": "much"}, "are no numbers"),
        ({"prediction": "pos"}, "the answer is not the most probable class, first row 8 .pos, while neg is"),
        ({"prediction": "", "p_pos": "", "p_neg": ""}, "no answer"),
        ({"text": "  "}, "an empty text"),
        ({"text": "x" * 1_000_001}, "more than 1,000,000 characters"),
        ({"version": ""}, "no version"),
        ({"id": "i" * 1001}, "more than 1000 characters"),
        ({"id": "r1"}, r"an id that comes again with another text or answer, first row 2 .*row 8"),
        ({"label": "positive"}, r"1 labels are of 1 classes that were never answered .*is 'pos' meant"),
    ],
)  # fmt: skip
def test_one_wrong_row_is_named_and_nothing_is_imported(
    project: Project, tmp_path: Path, changes: Mapping[str, Any], words: str
) -> None:
    made = rows()
    made[7] = {**made[7], **changes}
    with pytest.raises(InvalidInput, match=rf"nothing was imported.*{words}"):
        imported(project, table(tmp_path, made), columns=PastColumns(id="id"))
    assert stored(project) == 0
    assert project.store.foreign_versions(project.model) == []


def test_all_that_is_wrong_is_said_at_once(project: Project, tmp_path: Path) -> None:
    made = rows()
    made[3] = row(3, text="")
    made[4] = row(4, time="never")
    made[5] = row(5, time="never")
    with pytest.raises(InvalidInput, match=r"2 rows: a time that cannot be read.*1 rows: an empty text"):
        imported(project, table(tmp_path, made))


def test_rows_with_a_fault_are_left_out_and_counted_where_that_is_asked_for(project: Project, tmp_path: Path) -> None:
    made = rows()
    made[3] = row(3, text="")
    done = imported(project, table(tmp_path, made), skip_bad=True)
    assert done["answers"] == 19
    assert done["plan"]["left_out"] == ["1 rows: an empty text, first row 4"]


def test_probabilities_are_divided_by_their_sum_where_that_is_asked_for(project: Project, tmp_path: Path) -> None:
    file = table(tmp_path, rows(p_neg=1, p_pos=3, prediction="pos", label="pos"))
    done = imported(project, file, normalise=True, columns=PastColumns(probabilities=("p_*",)))
    assert "20 rows: probabilities were divided by their sum" in done["plan"]["mended"][0]
    assert project.store.predictions(project.model, EVER, limit=1)[0].scores.tolist() == [0.25, 0.75]


def test_times_of_three_zones_are_one_time_in_utc(project: Project, tmp_path: Path) -> None:
    noon = ["2026-07-01T12:00:00Z", "2026-07-01T14:00:00+02:00", "2026-07-01 08:00:00-04:00", "1782907200"]
    imported(project, table(tmp_path, [row(n, time=text) for n, text in enumerate(noon)]))
    times = {said.time for said in project.store.predictions(project.model, EVER)}
    assert times == {datetime(2026, 7, 1, 12, tzinfo=UTC)}


def test_times_without_a_zone_are_of_the_zone_that_is_named(project: Project, tmp_path: Path) -> None:
    file = table(tmp_path, [row(0, time="2026-07-01 12:00"), row(1, time="2025-10-26 02:30")])
    with pytest.raises(SettingsError, match="no time zone"):
        imported(project, file, timezone="Mars/Base")
    done = imported(project, file, timezone="settings")
    assert done["plan"]["timezone"] == "as each time says, else Europe/Berlin"
    assert "comes twice or never" in done["plan"]["mended"][0]
    times = [said.time for said in project.store.predictions(project.model, EVER)]
    assert times == [datetime(2025, 10, 26, 0, 30, tzinfo=UTC), datetime(2026, 7, 1, 10, tzinfo=UTC)]


def test_a_label_before_its_answer_is_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="20 rows: a label that came before its answer"):
        imported(project, table(tmp_path, [row(n, label_time="2020-01-01T00:00:00Z") for n in range(20)]))


def test_an_id_that_is_stored_with_another_text_is_refused(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows()))
    with pytest.raises(InvalidInput, match=r"1 rows: an id that is stored with another text, first row 6 \(r5: bad"):
        imported(project, table(tmp_path, [*rows(5), row(5, text="quite another")]))
    assert stored(project) == 20


def test_a_version_keeps_its_classes(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows(p_neg=None, p_pos=None)))
    other = row(40, prediction="unsure", label="", p_neg=None, p_pos=None)
    with pytest.raises(InvalidInput, match="imported with the classes neg, pos, and now answers unsure"):
        imported(project, table(tmp_path, [other, row(41, p_neg=None, p_pos=None)]))
    with_name = imported(project, table(tmp_path, [{**other, "version": "b"}]), label_source="complete")
    assert with_name["answers"] == 1


def test_classes_that_were_never_answered_can_be_let_in(project: Project, tmp_path: Path) -> None:
    done = imported(project, table(tmp_path, rows(label="other")), new_classes=True)
    assert done["labels"] == 20


def test_labels_must_fit_the_classes_of_the_champion(project: Project, tmp_path: Path) -> None:
    words = [("yes", "spam"), ("no", "ham")]
    lines = [f"{word} said {n},{label}" for word, label in words for n in range(150)]
    data = tmp_path / "data.csv"
    data.write_text("text,label\n" + "\n".join(lines) + "\n", "utf-8")
    assert project.train(data)["deployed"]
    with pytest.raises(InvalidInput, match=r"the model does not know.*the classes are ham, spam"):
        imported(project, table(tmp_path, rows()))
    done = imported(project, table(tmp_path, rows()), new_classes=True)
    assert done["answers"] == 20
    assert project.champion() == 1  # its own version goes on answering
    assert project.store.deployments(project.model)[0].traffic.shares == {1: 1.0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"id,text,prediction,time\n", "has no row"),
        (b"PK\x03\x04 something", "no text table"),
    ],
)
def test_an_empty_or_foreign_file_is_refused(project: Project, tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "past.csv"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=words):
        imported(project, file)


def test_bytes_that_are_no_utf8_are_replaced_and_counted(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "past.csv"
    file.write_bytes(b"text,prediction,time\ngood caf\xe9,pos,2026-01-01T00:00:00Z\nbad,neg,2026-01-01T01:00:00Z\n")
    done = imported(project, file)
    assert done["plan"]["mended"] == ["1 rows: bytes that are no UTF-8 were replaced by U+FFFD, first row 1"]
    assert done["answers"] == 2


def test_a_row_with_too_many_fields_is_refused(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "past.csv"
    file.write_text("text,prediction,time\ngood,pos,2026-01-01T00:00:00Z\nbad,neg,2026-01-01T01:00:00Z,more\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"1 rows: a row cannot be read, first row 2 .has 4 fields"):
        imported(project, file)


def test_texts_that_are_no_classes_are_refused(project: Project, tmp_path: Path) -> None:
    made = [row(n, label=f"text {n}", p_neg=None, p_pos=None) for n in range(1_100)]
    with pytest.raises(InvalidInput, match="more than 1,000 different"):
        imported(project, table(tmp_path, made))
    assert not list(project.home.work.glob("history-*"))


# killed, and at the same time


class Killed(BaseException):
    """As when the process ends."""


def killing(after: int) -> Callable[[str, int, int | None], None]:
    """Ends the import when so many rows are stored."""

    def tell(what: str, done: int, of: int | None) -> None:
        if what == "importing" and done >= after:
            raise Killed

    return tell


def test_a_killed_import_goes_on_and_writes_every_row_once(project: Project, tmp_path: Path) -> None:
    file = table(tmp_path, rows(45))
    with pytest.raises(Killed):
        imported(project, file, tell=killing(20), chunk=10)
    assert stored(project) == 20
    done = imported(project, file, chunk=10)
    assert (done["answers"], done["labels"], done["resumed"]) == (45, 45, 20)
    assert stored(project) == 45
    assert not list(project.home.work.glob("history-*"))


def test_two_imports_at_once_are_refused(project: Project, tmp_path: Path) -> None:
    lock = project.store.sole("import of a history")
    lock.acquire()
    try:
        with pytest.raises(Refused, match="another import of a history runs"):
            imported(project, table(tmp_path, rows()))
    finally:
        lock.release()


def test_an_import_is_on_record(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows()))
    (judged,) = project.store.decisions(project.model, subject="import")
    assert judged.decision.because[0] == "20 rows of past.csv: 20 answers and 20 labels were new"
    assert project.store.audit_entries(project.model)[0].action == "import history"
    assert project.store.verify_audit().whole


# from a database


def database(folder: Path, made: Sequence[Mapping[str, Any]]) -> str:
    """An SQLite database with the table `answers`."""
    file = folder / "other.db"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE answers (id, text, prediction, p_neg REAL, p_pos REAL, label, time, version)")
        other.executemany(
            "INSERT INTO answers VALUES (:id, :text, :prediction, :p_neg, :p_pos, :label, :time, :version)", made
        )
    other.close()
    return f"sqlite:///{file}"


def test_a_query_of_another_database_is_read(project: Project, tmp_path: Path) -> None:
    url = database(tmp_path, rows())
    (tmp_path / "url").write_text(url + "\n", "utf-8")
    asked = {"query": "SELECT * FROM answers WHERE id <> 'r0';", "looks": 0}
    assert project.import_history(url=f"file:{tmp_path / 'url'}", **asked)["answers"] == 19
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute(
            "INSERT INTO answers SELECT 'new', 'good new', 'pos', 0.1, 0.9, 'pos', time, 'a' FROM answers LIMIT 1"
        )
    other.close()
    assert project.import_history(url=url, **asked)["answers"] == 1


def test_a_query_is_asked_for_a_sample_a_count_the_rows_and_a_count(project: Project, tmp_path: Path) -> None:
    url, asked = database(tmp_path, rows()), []

    def listen(*told: Any) -> None:
        if "FROM answers" in told[2]:
            asked.append(told[2])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        project.import_history(url=url, query="SELECT * FROM answers", looks=0)
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    assert ["COUNT(*)" in words for words in asked] == [False, True, False, True]


def test_rows_that_come_while_it_is_read_are_left_for_the_next_time(project: Project, tmp_path: Path) -> None:
    url = database(tmp_path, rows(5_000))
    told = []

    def grow(what: str, done: int, of: int | None) -> None:
        if what == "reading" and not told:
            told.append(of)
            other = sqlite3.connect(tmp_path / "other.db")
            other.execute("PRAGMA journal_mode=WAL")
            other.execute(
                "INSERT INTO answers SELECT 'late', 'good', 'pos', 0.1, 0.9, 'pos', time, 'a' FROM answers LIMIT 1"
            )
            other.commit()
            other.close()

    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("PRAGMA journal_mode=WAL")
    other.close()
    done = project.import_history(url=url, query="SELECT * FROM answers", looks=0, tell=grow)
    assert told == [5_000]
    assert done["answers"] == 5_000
    assert "went from 5000 to 5001 rows meanwhile" in done["notes"][0]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({}, SettingsError, "either a file, or --from"),
        ({"url": "sqlite:///x.db"}, SettingsError, "needs --query"),
        ({"url": "sqlite:///x.db", "query": "SELECT 1"}, InvalidInput, "there is no database"),
        ({"url": "sqlite:///x.db", "query": "DELETE FROM answers"}, SettingsError, "must be one SELECT"),
        ({"url": "nonsense", "query": "SELECT 1"}, SettingsError, "no database URL"),
        ({"url": "env:NOT_SET_AT_ALL", "query": "SELECT 1"}, SettingsError, "NOT_SET_AT_ALL is not set"),
        ({"url": "unknown://me:secretword@host/x", "query": "SELECT 1"}, SettingsError, "needs its driver"),
        (
            {"url": "postgresql://me:secretword@127.0.0.1:1/x?connect_timeout=1", "query": "SELECT 1"},
            BackendError,
            r"me:\*\*\*@127.0.0.1:1/x.* cannot be read",
        ),
    ],
)
def test_a_source_that_cannot_be_is_refused_without_its_password(
    project: Project, asked: Mapping[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        project.import_history(**asked)
    assert "secretword" not in str(raised.value)


def test_a_wrong_query_is_said(project: Project, tmp_path: Path) -> None:
    url = database(tmp_path, rows())
    with pytest.raises(BackendError, match="no such table: missing"):
        project.import_history(url=url, query="SELECT * FROM missing")


def test_an_example_of_life_may_have_a_history_too(project: Project, tmp_path: Path) -> None:
    at = START - timedelta(days=1)
    imported(project, table(tmp_path, rows()))
    pair = project.store.prediction(project.model, project.store.predictions(project.model, EVER)[0].id)
    assert pair[0] == Example("good words 0", START, "r0")
    assert at < pair[1].time
    labelled = project.store.labelled(project.model, EVER)
    assert {label.source for _, label in labelled} == {Source.COMPLETE}


def test_labels_can_come_later_by_the_id_and_by_the_text(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, [{"comment": one.pop("text"), **one} for one in rows(label=None)]))
    by_id = table(tmp_path, [{"id": "r3", "label": "neg"}], "ids.csv")
    by_text = table(tmp_path, [{"comment": "good words 4", "label": "pos"}], "texts.csv")
    assert project.label(by_id)["new"] == 1
    assert project.label(by_text)["new"] == 1


def test_while_a_worker_runs_the_past_is_not_looked_back_on(project: Project, tmp_path: Path) -> None:
    file = table(tmp_path, rows(600))
    lock = WorkerLock(project.home.state, project.store)
    lock.acquire()
    try:
        assert imported(project, file, looks=3)["looks"] == 0
    finally:
        lock.release()
    assert imported(project, file, looks=3)["looks"] == 3


def test_the_watch_never_goes_back(project: Project, tmp_path: Path) -> None:
    imported(project, table(tmp_path, rows(600)), looks=0)
    project.check()
    assert imported(project, table(tmp_path, rows(700)), looks=3)["looks"] == 0


def test_a_version_without_labels_is_deployed_and_not_looked_back_on(project: Project, tmp_path: Path) -> None:
    done = imported(project, table(tmp_path, rows(300, label="")), looks=3)
    assert done["looks"] == 0
    assert any("no labels" in words for words in done["plan"]["missing"])
    assert "keepfit label" in done["next"]
    assert project.champion() == done["versions"]["a"]
    names = {one["name"] for one in project.check().evidence["measurements"]}
    assert "accuracy" not in names


def test_what_would_have_called_for_a_retraining_without_harm_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    done: dict[str, Any] = {
        "answers": 2, "labels": 2, "resumed": 0, "versions": {"a": 1_000_001}, "notes": [], "accuracy": [],
        "alarm": None, "looks": 9, "objection": None, "next": "keepfit train DATA",
        "first_call": {"at": "2026-01-02T03:04:05+00:00", "because": ["100 of 100 new labels are in"]},
    }  # fmt: skip
    printed(done)
    assert "no alarm of harm; it would first have called for a retraining at 2026-01-02T03:04 UTC: 100 of" in (
        capsys.readouterr().out
    )
    printed({**done, "first_call": None})
    assert "no alarm, and called for no retraining" in capsys.readouterr().out
