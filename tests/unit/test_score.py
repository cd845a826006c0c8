"""A file in, a file out: every row once, in order, whatever interrupts."""

from __future__ import annotations

import csv
import errno
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keepfit.data.files import Columns
from keepfit.data.tables import Record, read_records
from keepfit.errors import BackendError, InvalidInput, Refused
from keepfit.pipelines.parts import opened
from keepfit.pipelines.score import ScoreReport, score_file
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.toy import ToyFirst, ToyModel

KINDS = ["out.csv", "out.tsv", "out.jsonl", "out.parquet", "out.csv.gz", "out.tsv.gz", "out.jsonl.gz", "out.parquet.gz"]
NASTY = ['a "quoted", field', "two\nlines", "one\rreturn", "tab\there", "漢字 😀", " spaces ", "null\x00byte", "=1+1"]


class LengthModel:
    """Says "long" of contents over ten characters; remembers what the engine was given."""

    labels = ("long", "short")

    def __init__(self, abstain_below: float | None = None) -> None:
        self.abstain_below = abstain_below
        self.batches: list[list[str]] = []

    def read(self, raw: Any) -> str:
        text = " / ".join(f"{name}={value}" for name, value in raw.items()) if isinstance(raw, dict) else raw
        if len(text) > 1000:
            raise InvalidInput("the text is too long; shorten it")
        return str(text)

    def prepare(self, contents: Sequence[str]) -> Prepared:
        return Prepared(list(contents), [len(c) for c in contents], [{"length": float(len(c))} for c in contents])

    def infer(self, prepared: Prepared) -> Output:
        self.batches.append(list(prepared.items))
        long = np.array([1 / (1 + np.exp((10.5 - len(item)) / 5)) for item in prepared.items], np.float32)
        return Output(np.stack([long, 1 - long], axis=1), np.zeros((len(long), 2), np.float32))

    @property
    def asked(self) -> list[str]:
        return [item for batch in self.batches for item in batch]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    write_csv(path, ["id", "text"], [[str(n), f"{'x' * (n * 7 % 23 + 1)} {n}"] for n in range(25)])
    return path


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def rows_of(path: Path) -> list[dict[str, str]]:
    return [record.values for record in records_of(path)]


def records_of(path: Path) -> list[Record]:
    records = list(read_records(path))
    assert [record.error for record in records] == [None] * len(records)
    return records


def score(source: Path, target: Path, model: Any = None, **options: Any) -> ScoreReport:
    columns = options.pop("columns", Columns(text=("text",)))
    return score_file(model or LengthModel(), source, target, columns, options.pop("version", 3), **options)


def interrupted(source: Path, target: Path, model: Any, at: int, **options: Any) -> None:
    """Scores until `at` rows are done, then Ctrl-C."""

    def progress(done: int, total: int | None) -> None:
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(source, target, model, progress=progress, **options)
    assert not target.exists()


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_output_holds_the_input_and_the_answers_in_order(source: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    report = score(source, target, chunk=10)
    assert (report.rows, report.errors, report.resumed, report.notes) == (25, 0, 0, ())
    rows = rows_of(target)
    assert list(rows[0]) == ["id", "text", "label", "score", "p_long", "p_short", "model_version", "error"]
    assert [{k: row[k] for k in ("id", "text")} for row in rows] == rows_of(source)
    for row in rows:
        assert row["label"] == ("long" if len(row["text"]) > 10 else "short")
        assert float(row["score"]) == max(float(row["p_long"]), float(row["p_short"]))
        assert float(row["p_long"]) + float(row["p_short"]) == pytest.approx(1, abs=1e-6)
        assert (row["model_version"], row["error"]) == ("3", "")
    assert sorted(os.listdir(tmp_path)) == sorted(["in.csv", name]), "nothing else is left behind"


def test_the_output_is_of_the_kind_that_its_name_says(source: Path, tmp_path: Path) -> None:
    score(source, tmp_path / "out.jsonl.gz")
    with gzip.open(tmp_path / "out.jsonl.gz", "rt") as file:
        first = json.loads(next(file))
    assert (first["model_version"], first["error"]) == (3, None)
    assert isinstance(first["score"], float)
    score(source, tmp_path / "out.parquet")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert schema.field("p_long").type == pa.float32()
    assert schema.field("model_version").type == pa.int64()
    score(source, tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text().startswith("id\ttext\tlabel\t")


@pytest.mark.parametrize("name", KINDS)
def test_any_text_comes_out_as_it_went_in(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.jsonl"
    lone, mended = "lone \ud83d surrogate", "lone \ufffd surrogate"
    texts = [*NASTY, lone]
    source.write_text("".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate(texts)))
    score(source, tmp_path / name)
    kept = [row["text"] for row in rows_of(tmp_path / name)]
    assert kept[:-1] == NASTY
    assert kept[-1] == (lone if "jsonl" in name else mended)


def test_the_engine_gets_rows_of_like_cost_together_and_the_output_keeps_the_order(
    source: Path, tmp_path: Path
) -> None:
    model = LengthModel()
    score(source, tmp_path / "out.csv", model, chunk=10)
    assert [len(batch) for batch in model.batches] == [10, 10, 5]
    assert all(batch == sorted(batch, key=len) for batch in model.batches)
    assert [row["id"] for row in rows_of(tmp_path / "out.csv")] == [str(n) for n in range(25)]


def test_a_bad_row_gets_a_sentence_and_the_others_their_answers(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n1,fine\n2\n3,\n4," + "x" * 2000 + "\n5,fine too\n")
    report = score(source, tmp_path / "out.csv", chunk=2)
    assert (report.rows, report.errors) == (5, 3)
    rows = rows_of(tmp_path / "out.csv")
    assert [row["label"] for row in rows] == ["short", "", "", "", "short"]
    assert [row["score"] == "" for row in rows] == [False, True, True, True, False]
    assert rows[1]["error"] == "row 2 has 1 fields where the header has 2"
    assert rows[2]["error"] == "row 3 has an empty text"
    assert rows[3]["error"] == "the text is too long; shorten it"


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_bad_rows_only_is_still_written(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n1,\n2,\n")
    assert score(source, tmp_path / name).errors == 2
    assert [row["score"] for row in rows_of(tmp_path / name)] == ["", ""]


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.parquet.gz"])
def test_a_table_without_rows_gives_one_without_rows(tmp_path: Path, name: str) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n")
    assert score(source, tmp_path / name).rows == 0
    assert rows_of(tmp_path / name) == []


def test_below_the_threshold_the_label_is_empty_and_the_scores_are_there(source: Path, tmp_path: Path) -> None:
    score(source, tmp_path / "out.csv", LengthModel(abstain_below=0.8))
    rows = rows_of(tmp_path / "out.csv")
    assert {row["label"] for row in rows} == {"", "long", "short"}
    assert all((row["label"] == "") == (float(row["score"]) < 0.8) for row in rows)


def test_several_text_columns_are_read_by_their_names(tmp_path: Path) -> None:
    source, model = tmp_path / "in.csv", LengthModel()
    write_csv(source, ["body", "subject"], [["b1", "s1"]])
    score(source, tmp_path / "out.csv", model, columns=Columns(text=("subject", "body")))
    assert model.asked == ["subject=s1 / body=b1"]


def test_a_column_of_the_input_that_is_called_like_an_answer_is_renamed_and_said(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    write_csv(source, ["text", "label", "input_label", "p_long"], [["fine", "good", "older", "?"]])
    report = score(source, tmp_path / "out.csv")
    [row] = rows_of(tmp_path / "out.csv")
    assert list(row)[:4] == ["text", "input_input_label", "input_label", "input_p_long"]
    assert (row["input_input_label"], row["input_label"], row["label"]) == ("good", "older", "short")
    assert report.notes[0] == "The input's column 'label' is called 'input_input_label'."


def test_a_column_that_only_a_late_json_line_has_is_kept(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    lines = [{"text": "fine"}] * 1500 + [{"text": "fine", "late": "here"}]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    score(source, tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv")
    assert (rows[0]["late"], rows[-1]["late"]) == ("", "here")


# interruptions


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("at", [0, 4, 12, 25])
def test_an_interrupted_job_goes_on_and_asks_and_writes_each_row_once(
    source: Path, tmp_path: Path, name: str, at: int
) -> None:
    score(source, tmp_path / f"whole-{name}", chunk=4)
    model = LengthModel()
    interrupted(source, tmp_path / name, model, at, chunk=4)
    report = score(source, tmp_path / name, model, chunk=4)
    assert report.rows == 25
    assert at <= report.resumed <= at + 4
    assert sorted(model.asked) == sorted(row["text"] for row in rows_of(source))
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()


def test_progress_tells_rows_done_and_in_all_from_where_it_goes_on(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    interrupted(source, tmp_path / "out.csv", LengthModel(), 10, chunk=10)
    score(source, tmp_path / "out.csv", progress=lambda done, total: seen.append((done, total)), chunk=10)
    assert seen == [(10, 25), (20, 25), (25, 25)]


def test_errors_of_before_the_interruption_are_counted(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("id,text\n1,\n2,fine\n3,fine\n")
    interrupted(source, tmp_path / "out.csv", LengthModel(), 1, chunk=1)
    assert score(source, tmp_path / "out.csv", chunk=1).errors == 1


@pytest.mark.parametrize("change", ["version", "input", "chunk", "threshold", "columns", "manifest"])
def test_when_something_changed_it_starts_anew_and_says_so(source: Path, tmp_path: Path, change: str) -> None:
    target = tmp_path / "out.csv"
    interrupted(source, target, LengthModel(), 10, chunk=5)
    options: dict[str, Any] = {"version": 3, "chunk": 5}
    model = LengthModel()
    match change:
        case "version":
            options["version"] = 4
        case "chunk":
            options["chunk"] = 6
        case "threshold":
            model = LengthModel(abstain_below=0.1)
        case "columns":
            options["columns"] = Columns(text=("id",))
        case "manifest":
            (tmp_path / "out.csv.parts" / "manifest.json").write_text("{")
        case "input":
            content = source.read_text()
            source.write_text(content.replace("x 0", "y 0"))
    report = score(source, target, model, **options)
    assert report.resumed == 0
    assert report.notes == ("Started out.csv anew: input, model version or options changed since the unfinished run.",)
    assert len(model.asked) == 25
    assert len(rows_of(target)) == 25


def test_half_written_parts_are_not_taken_for_finished_ones(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    interrupted(source, target, LengthModel(), 10, chunk=5)
    parts = tmp_path / "out.csv.parts"
    (parts / "00000002.5.0.part.unfinished").write_text("half")
    (parts / "00000009.5.0.part").write_text("behind a gap")
    assert score(source, target, chunk=5).resumed == 10
    assert len(rows_of(target)) == 25


def test_an_older_output_stays_until_the_new_one_is_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        score(source, target, progress=stop_at_ten, chunk=5)
    assert target.read_text() == "older"
    score(source, target, chunk=5)
    assert len(rows_of(target)) == 25


def stop_at_ten(done: int, total: int | None) -> None:
    if done == 10:
        raise KeyboardInterrupt


def test_an_input_that_grows_meanwhile_is_noticed(source: Path, tmp_path: Path) -> None:
    def progress(done: int, total: int | None) -> None:
        if done == 10:
            with source.open("a") as file:
                file.write("99,late\n")

    with pytest.raises(Refused, match="changed while it was scored"):
        score(source, tmp_path / "out.csv", progress=progress, chunk=5)
    assert score(source, tmp_path / "out.csv", chunk=5).rows == 26


@contextmanager
def small_files() -> Iterator[None]:
    """No file may become larger than 300 bytes, as on a disk that is nearly full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_when_writing_fails_the_finished_parts_are_kept(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    interrupted(source, target, LengthModel(), 5, chunk=5)
    with (
        small_files(),
        pytest.raises(BackendError, match=r"cannot be written: .* start the same job again") as caught,
    ):
        score(source, target, chunk=5)
    assert caught.value.__cause__ is not None
    assert score(source, target, chunk=5).resumed >= 5
    assert len(rows_of(target)) == 25


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with opened(target, {"a": 1}) as parts:
        parts.add(b"one", 1, 0)
        with pytest.raises(BackendError, match="the disk is full; free some space and start the same job again"):
            parts.publish(fill)
    with opened(target, {"a": 1}) as parts:
        assert parts.rows == 1


def test_two_jobs_do_not_write_the_same_output(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with opened(target, {"a": 1}), pytest.raises(Refused, match="Another process is writing"), opened(target, {"a": 1}):
        pass


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("in.csv", "is the input"),
        ("link.csv", "is the input"),
        ("hard.csv", "is the input"),
        ("out.xlsx", r"must end in \.csv"),
        ("out", r"must end in \.csv"),
        ("folder.csv", "is a folder"),
        ("absent/out.csv", "does not exist; make it first"),
    ],
)
def test_an_output_that_cannot_be_meant_is_refused(source: Path, tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "link.csv").symlink_to(source)
    os.link(source, tmp_path / "hard.csv")
    (tmp_path / "folder.csv").mkdir()
    content = source.read_bytes()
    with pytest.raises(InvalidInput, match=sentence):
        score(source, tmp_path / name)
    assert source.read_bytes() == content


@pytest.mark.parametrize("name", ["absent.csv", "empty.csv"])
def test_an_input_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InvalidInput):
        score(tmp_path / name, tmp_path / "out.csv")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        source = tmp_path / f"{rows}.csv"
        write_csv(source, ["id", "text"], [[str(n), "hello " * (n % 50 + 1)] for n in range(rows)])
        tracemalloc.start()
        model = ToyModel(("a", "b"), {"hello": "a"}, (0.5, 0.5))
        score_file(model, source, tmp_path / f"{rows}.out.csv", Columns(("text",)), 1, chunk=100)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(200)
    assert peak(3000) < 1.3 * peak(600)


KILLED = """
import os, signal, sys
from pathlib import Path
from keepfit.data.files import Columns
from keepfit.data.tables import read_records
from keepfit.pipelines.score import score_file
from keepfit.tasks.toy import ToyFirst, ToyModel

def progress(done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

model = ToyModel(("a", "b"), {"hello": "a"}, (0.5, 0.5))
report = score_file(model, Path(sys.argv[1]), Path(sys.argv[2]), Columns(("text",)), 1, progress, chunk=5)
"""


@pytest.mark.slow
def test_killed_at_any_chunk_it_ends_with_the_same_output(source: Path, tmp_path: Path) -> None:
    def run(target: str, kill_at: int) -> tuple[int, list[int]]:
        command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / target), str(kill_at)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, [int(line) for line in done.stdout.split()]

    score(source, tmp_path / "whole.csv", ToyModel(("a", "b"), {"hello": "a"}, (0.5, 0.5)), version=1, chunk=5)
    assert run("out.csv", 10) == (-signal.SIGKILL, [0, 5, 10])
    assert run("out.csv", 25) == (-signal.SIGKILL, [10, 15, 20, 25])
    assert run("out.csv", -1) == (0, [25])
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_what_the_first_stage_is_sure_of_has_its_answer_and_the_engine_gets_the_rest(tmp_path: Path) -> None:
    first = ToyFirst({"y": [0.02, 0.98], "n": [0.6, 0.4]}, 2)
    model = ToyModel(("no", "yes"), {"yet": "no", "nope": "no"}, [0.5, 0.5], first=first)
    source = tmp_path / "in.csv"
    source.write_text("text\nyet again\n\nnope\nyonder\n", "utf-8")
    score_file(model, source, tmp_path / "with.csv", Columns(("text",)), 1, chunk=2, sure_from=0.9)
    score_file(model, source, tmp_path / "without.csv", Columns(("text",)), 1, chunk=2)
    with (tmp_path / "with.csv").open(encoding="utf-8") as file:
        both = [(row["label"], row["p_yes"][:4]) for row in csv.DictReader(file) if row["label"]]
    with (tmp_path / "without.csv").open(encoding="utf-8") as file:
        full = [row["label"] for row in csv.DictReader(file) if row["label"]]
    assert [label for label, _ in both] == ["yes", "no", "yes"], "the first stage takes yet for yes"
    assert full[:2] == ["no", "no"]
    assert both[0][1].startswith("0.98")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_who_answered_is_in_a_column_where_a_first_stage_may_answer(tmp_path: Path, suffix: str) -> None:
    first = ToyFirst({"y": [0.02, 0.98], "n": [0.6, 0.4]}, 2)
    model = ToyModel(("no", "yes"), {"yet": "no", "nope": "no"}, [0.5, 0.5], first=first)
    source = tmp_path / "in.csv"
    source.write_text("text,stage\nyet again,7\n,8\nnope,9\nyonder,10\n", "utf-8")
    target = tmp_path / f"with.{suffix}"
    score_file(model, source, target, Columns(("text",)), 1, chunk=2, sure_from=0.9)
    told = [(row.values["stage"] or None, row.values["input_stage"]) for row in read_records(target)]
    assert told == [("first", "7"), (None, "8"), ("model", "9"), ("first", "10")]
    score_file(model, source, target, Columns(("text",)), 1, chunk=2)
    assert "input_stage" not in next(read_records(target)).values, "without one there is nothing to say"
