"""Tables of every kind are read row by row, and their columns are told."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.data.files import Columns, RawRow, column_names, guess_columns, read_rows
from keepfit.data.tables import LONGEST
from keepfit.errors import InvalidInput

ROWS = [("I love it, truly", "positive"), ('she said "no"\nand left', "negative"), ("NA", "negative"), ("Grüße", "NA")]


def write_csv(path: Path, rows: list[tuple[Any, ...]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path.write_bytes(text.getvalue().encode(encoding))
    return path


def write_table(path: Path, rows: list[tuple[str, Any]]) -> Path:
    """The rows under the names text and label, in the kind that the name says."""
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.suffix == ".parquet":
        pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [v for _, v in rows]}), plain)
    elif plain.suffix == ".jsonl":
        lines = [json.dumps({"text": t, "label": v}) for t, v in rows]
        plain.write_text("\n".join(lines) + "\n", "utf-8")
    else:
        write_csv(plain, [("text", "label"), *rows], "\t" if plain.suffix == ".tsv" else ",")
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
    return path


def pairs(rows: list[RawRow]) -> list[tuple[Any, str | None]]:
    return [(row.content, row.label) for row in rows]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_gives_the_same_rows(tmp_path: Path, suffix: str, packed: str) -> None:
    path = write_table(tmp_path / f"data.{suffix}{packed}", ROWS)
    found = list(read_rows(path))
    assert pairs(found) == ROWS
    assert [row.number for row in found] == [1, 2, 3, 4]
    assert found[0].values == {"text": "I love it, truly", "label": "positive"}


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
@pytest.mark.parametrize(("value", "text"), [(1, "1"), (1.0, "1"), (0.5, "0.5"), (True, "true"), (-3, "-3")])
def test_numbers_and_booleans_become_plain_labels(tmp_path: Path, suffix: str, value: Any, text: str) -> None:
    path = write_table(tmp_path / f"data.{suffix}", [("some words", value)])
    assert next(iter(read_rows(path))).label == text


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["data.csv", "data.tsv", "data.txt", "data"])
def test_the_delimiter_is_told_whatever_the_name(tmp_path: Path, name: str, delimiter: str) -> None:
    path = write_csv(tmp_path / name, [("text", "label"), ("a, b and; c", "x"), ("d | e\tf", "y")], delimiter)
    assert pairs(list(read_rows(path))) == [("a, b and; c", "x"), ("d | e\tf", "y")]


def test_quotation_marks_that_quote_nothing_stay_characters(tmp_path: Path) -> None:
    path = tmp_path / "tweets.tsv"
    path.write_text('text\tlabel\n"never closed\tx\nplain\ty\nclosed" here\tx\n', "utf-8")
    assert pairs(list(read_rows(path))) == [('"never closed', "x"), ("plain", "y"), ('closed" here', "x")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_of_encodings_are_understood(tmp_path: Path, encoding: str) -> None:
    path = write_csv(tmp_path / "data.csv", [("text", "label"), *ROWS], encoding=encoding)
    assert column_names(path) == ("text", "label")
    assert pairs(list(read_rows(path))) == ROWS


def test_bytes_that_are_no_utf_8_become_replacement_characters(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("text", "label"), ("Grüße", "x"), ("ok", "y")], encoding="latin-1")
    assert pairs(list(read_rows(path))) == [("Gr��e", "x"), ("ok", "y")]


def test_a_bad_row_comes_with_its_error_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label\ngood,x\nto,many,fields\nfew\n,x\n  ,x\nunlabelled,\nlast,y\n", "utf-8")
    found = list(read_rows(path))
    assert [row.error for row in found] == [
        None,
        "has 3 fields where the header has 2",
        "has 1 fields where the header has 2",
        "has an empty text",
        "has an empty text",
        "has no label",
        None,
    ]
    assert found[1].content is None
    assert found[1].values == {"text": "to", "label": "many"}
    assert pairs(found)[-1] == ("last", "y")


def test_broken_json_lines_are_errors_of_their_row(tmp_path: Path) -> None:
    lines = ['{"text": "a", "label": 1}', "{broken", "[1, 2]", "", '{"text": ["a"], "label": 1}', "[" * 100_000]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*lines, '{"label": null, "text": 5, "more": {"a": 1}}']), "utf-8")
    found = list(read_rows(path, Columns(text=("text",), label="label"), need_label=False))
    assert [row.error is None for row in found] == [True, False, False, False, False, True]
    assert found[-1].content == "5"
    assert found[-1].values["more"] == '{"a": 1}'


def test_null_bytes_and_very_long_texts_are_read(tmp_path: Path) -> None:
    long = "word " * 400_000
    path = write_csv(tmp_path / "data.csv", [("text", "label"), ("a\x00b", "x"), (long, "y")])
    assert [row.content for row in read_rows(path)] == ["a\x00b", long]


def test_a_quote_that_is_never_closed_costs_one_error_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    filler = "x" * 999 + "\n"
    path.write_text('text,label\nfine,x\n"open,x\n' + filler * (LONGEST // 1000 + 1) + "good,x\nbetter,y\n", "utf-8")
    found = list(read_rows(path))
    assert "quotation mark" in str(found[1].error)
    assert pairs(found)[-1] == ("better", "y")


def test_a_line_break_in_a_quoted_field_does_not_split_a_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("text", "label"), (",\r", ""), ("one,\ntwo", "x")])
    assert [(row.values["text"], row.values["label"]) for row in read_rows(path)] == [(",\r", ""), ("one,\ntwo", "x")]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_any_text_survives_a_csv(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    clean = [(a.encode("utf-8", "replace").decode(), b.encode("utf-8", "replace").decode()) for a, b in rows]
    path = write_csv(tmp_path_factory.mktemp("any") / "data.csv", [("text", "label"), *clean])
    found = list(read_rows(path, Columns(text=("text",), label="label")))
    assert [(row.values["text"], row.values["label"]) for row in found] == clean


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("review,sentiment", "A fine film indeed,positive", Columns(("review",), "sentiment")),
        ("text,label", "some words,x", Columns(("text",), "label")),
        ("label,text", "x,some words", Columns(("text",), "label")),
        ("headline,category", "Mayor opens bridge,WORLD", Columns(("headline",), "category")),
        ("Text,Label", "some words,x", Columns(("Text",), "Label")),
        ("title,body,label", "Hi,Some longer words here,x", Columns(("title", "body"), "label")),
        ("subject,message,class", "Hi,Some longer words here,x", Columns(("subject", "message"), "class")),
        ("title,text,label", "Hi,some words,x", Columns(("text",), "label")),
        ("id,split,date,text,label", "7,dev,2020-01-31,some words,x", Columns(("text",), "label", "id")),
        ("v1,v2", "ham,Come home soon please", Columns(("v2",), "v1")),
        ("utterance_raw,queue", "My card was not accepted,billing", Columns(("utterance_raw",), "queue")),
    ],
)
def test_columns_are_told_by_name_or_by_what_they_hold(
    tmp_path: Path, header: str, row: str, expected: Columns
) -> None:
    path = tmp_path / "data.csv"
    path.write_text(f"{header}\n{row}\n{row.replace('7', '8', 1)} more\n".replace(" more", ""), "utf-8")
    found = guess_columns(path)
    assert (found.text, found.label, found.id) == (expected.text, expected.label, expected.id)
    if "split" in header:
        assert (found.split, found.time) == ("split", "date")


def test_named_columns_overrule_and_several_texts_come_as_a_tuple(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "data.csv",
        [
            ("when", "who", "a", "b", "text", "tag", "part"),
            ("2020-01-02T03:04:05+01:00", "eve", "x", "", "t", "L", "TEST"),
        ],
    )
    columns = Columns(text=("b", "a"), label="tag", id="text", key="who", time="when", split="part", context=("a",))
    row = next(iter(read_rows(path, columns)))
    assert (row.content, row.label, row.id, row.key, row.split) == (("", "x"), "L", "t", "eve", "test")
    assert row.time == datetime(2020, 1, 2, 2, 4, 5, tzinfo=UTC)
    assert row.context == {"a": "x"}


def test_a_split_column_that_says_something_else_is_not_taken_for_one(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("text", "label", "split"), ("some words", "x", "screen")])
    assert guess_columns(path).split is None


def test_without_need_of_a_label_a_single_column_is_enough(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("text",), ("some words",)])
    row = next(iter(read_rows(path, need_label=False)))
    assert (row.content, row.label, row.error) == ("some words", None, None)


def spoilt(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (spoilt("e.csv", b""), "is empty"),
        (spoilt("e.csv", b"\n\n"), "is empty"),
        (spoilt("e.csv.gz", gzip.compress(b"")), "is empty"),
        (spoilt("e.csv.gz", gzip.compress(b"text,label\na,b\n" * 9999)[:-300]), "damaged gzip"),
        (spoilt("e.xlsx", b"PK\x03\x04...."), "save it as CSV"),
        (spoilt("e.parquet", b"text,label\n"), "called Parquet"),
        (spoilt("e.parquet", b"PAR1 and then nothing"), "damaged Parquet"),
        (spoilt("e.json", b'[{"text": "a"}]'), "JSON array"),
        (spoilt("e.csv", b"text:label\nsome words:x\n"), "one column only.*delimiter"),
        (spoilt("e.csv", b"some words,x\nother words,y\nmore words,x\n"), "first line.*seems to be data"),
        (spoilt("e.csv", b"text,a,b\nsome words,x,1\nmore words,y,2\nothers,x,1\n"), "label: it could be a or b"),
        (spoilt("e.csv", b"a,label\n1,x\n2,y\n"), "which column.*is the text"),
        (lambda folder: folder / "absent.csv", "cannot be read: No such file"),
        (lambda folder: folder, "cannot be read: Is a directory"),
    ],
)
def test_an_unusable_file_is_refused_with_a_sentence(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        list(read_rows(make(tmp_path)))


def test_an_unknown_column_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("Review", "sentiment"), ("some words", "x")])
    with pytest.raises(
        InvalidInput, match=r"no column 'reviw'; its columns are Review, sentiment; did you mean 'Review'"
    ):
        read_rows(path, Columns(text=("reviw",)))
    with pytest.raises(InvalidInput, match="no column 'when'") as caught:
        guess_columns(path, Columns(text=("Review",), label="sentiment", time="when"))
    assert caught.value.field == "time"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_rows(tmp_path: Path, suffix: str) -> None:
    def peak(n: int) -> int:
        path = write_table(tmp_path / f"{n}.{suffix}", [(f"{i} some words that vary", "x") for i in range(n)])
        tracemalloc.start()
        assert sum(1 for _ in read_rows(path)) == n
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(12_000) < peak(4_000) * 1.5


def test_a_named_column_behind_a_strange_delimiter_is_explained(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "data.csv", [("text", "label"), ("some words", "x")], ":")
    with pytest.raises(InvalidInput, match="no column 'text'; its columns are text:label; its delimiter must be"):
        read_rows(path, Columns(text=("text",), label="label"))
