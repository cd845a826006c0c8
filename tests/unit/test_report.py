"""The report finds what is doubtful in a labelled file, and does not cry wolf."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from keepfit.data.files import Columns
from keepfit.data.multilabel import several_labels
from keepfit.data.report import Report, check_file

DATA = os.environ.get("KEEPFIT_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="KEEPFIT_DATA names no folder with the public data sets")


def check(tmp_path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("text", "label")) -> Report:
    path = tmp_path / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return check_file(path)


def many(n: int, *labels: str) -> list[tuple[str, ...]]:
    return [(f"text number {i}", labels[i % len(labels)]) for i in range(n)]


def test_good_data_gives_numbers_and_no_complaint(tmp_path: Path) -> None:
    report = check(tmp_path, many(200, "no", "yes"))
    assert (report.rows, dict(report.classes)) == (200, {"no": 100, "yes": 100})
    assert report.lengths == {"median": 14, "p95": 15, "max": 15}
    assert set(report.counts.values()) == {0}
    assert sum(report.parts.values()) == 200
    assert (report.warnings, report.problems) == ((), ())


def test_the_report_reads_well_and_is_json_too(tmp_path: Path) -> None:
    report = check(tmp_path, many(300, "no", "no", "yes"))
    lines = report.as_text().splitlines()
    assert lines[0] == "data.csv: 300 rows, 2 classes"
    assert "  no         200   66.7%" in lines
    assert "  yes        100   33.3%" in lines
    assert json.loads(json.dumps(report.to_json()))["classes"] == {"no": 200, "yes": 100}


def test_repeats_contradictions_empties_and_faults_are_counted(tmp_path: Path) -> None:
    odd = [
        ("text  NUMBER 1", "b"),  # as "text number 1" but for case and spaces: same label, a repeat
        ("text number 2", "b"),  # had the label a
        ("", "a"),
        ("unlabelled", ""),
        ("cafÃ© au lait", "a"),
        ("broken \ufffd here", "b"),
        ("itâ€™s fine", "b"),
        ("São Paulo, NÃO, £ 5: fine", "b"),
        ("priced Â£ 5", "b"),
        ("ragged", "a", "more"),
    ]
    report = check(tmp_path, [*many(100, "a", "b"), *odd])
    assert report.counts == {
        "empty": 1,
        "unlabelled": 1,
        "unreadable": 1,
        "repeats": 2,
        "contradictory": 1,
        "encoding_faults": 4,
        "leaks": 0,
    }
    assert report.problems == ()
    assert any("row 110 has 3 fields" in warning for warning in report.warnings)
    assert any("1 text with two labels" in warning for warning in report.warnings)


def test_a_text_in_train_and_test_is_a_leak(tmp_path: Path) -> None:
    rows = [(f"t {i}", "a" if i % 2 else "b", ("train", "dev", "test")[i % 3]) for i in range(120)]
    report = check(tmp_path, [*rows, ("t 0", "b", "test"), ("t 2", "b", "test")], ("text", "label", "split"))
    assert report.counts["leaks"] == 1
    assert report.parts == {"train": 39, "validation": 40, "test": 41}


def test_an_unknown_part_is_a_problem_when_the_column_was_named(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("text,label,fold\na b,x,train\nc d,y,third\ne f,x,test\ng h,y,test\n", "utf-8")
    assert "the split column 'fold' says 'third'" in " ".join(check_file(path, Columns(split="fold")).problems)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (many(50, "same"), "all rows have the same label"),
        ([("", "x"), ("", "y")], "no usable row among 2"),
        ([("one text", "x"), ("other text", "y")], "two rows or more"),
        ([(f"text {i}", f"label {i // 2}") for i in range(302)], "at most 150 classes"),
        ([("a", "b", "c")] * 9 + [("text", "label")], "most rows cannot be read"),
    ],
)
def test_data_that_cannot_be_learnt_from_has_a_problem(tmp_path: Path, rows: list[tuple[str, ...]], words: str) -> None:
    assert any(words in problem for problem in check(tmp_path, rows).problems)


def test_rare_classes_and_lopsided_data_are_warned_about(tmp_path: Path) -> None:
    report = check(tmp_path, [*many(100, "a"), *((f"other {i}", "b") for i in range(8)), ("single", "c")])
    assert report.problems == ()
    text = " ".join(report.warnings)
    assert "single row are left out: c" in text
    assert "fewer than 10 rows can hardly be learnt: b" in text
    assert "largest class has 12 times" in text


@pytest.mark.parametrize("n", [20, 21, 30])
@pytest.mark.parametrize("salt", range(10))
def test_no_part_of_twenty_rows_or_more_is_empty(tmp_path: Path, n: int, salt: int) -> None:
    report = check(tmp_path, [(f"{salt} {text}", label) for text, label in many(n, "a", "b")])
    assert min(report.parts.values()) >= 1
    assert sum(report.parts.values()) == n


@pytest.mark.parametrize(
    "cells",
    [
        {"a": 50, "b": 50, "a|b": 10},
        {"a": 50, "b": 50, "b, a": 10},
        {"cats; dogs": 5, "cats": 50, "dogs": 50},
        {"['a', 'b']": 10, "['a']": 50},
        {'["a", "b"]': 10, "[]": 50},
        {"{a,b}": 10, "{a}": 50},
        {"a b": 10, "a c": 10, "b c": 10, "a": 30, "b": 30, "c": 20},
        {"x|y": 9, "x|z": 9, "y|z": 9, "w|x": 9, "w|y": 9, "w|z": 9},
    ],
)
def test_several_labels_in_one_cell_are_recognised(cells: dict[str, int]) -> None:
    assert several_labels(cells) in cells


@pytest.mark.parametrize(
    "cells",
    [
        {"Sci/Tech": 50, "Sports": 50, "World": 50},
        {"Sci/Tech": 50, "Sci": 50, "Tech": 50},
        {"U.S. NEWS": 50, "WORLD NEWS": 50, "NEWS": 20, "STYLE & BEAUTY": 9, "STYLE": 9, "BEAUTY": 9},
        {"very good": 9, "good": 9, "very bad": 9, "bad": 9},
        {"Electronics|Phones": 9, "Electronics|Laptops": 9, "Home|Kitchen": 9, "Home|Garden": 9, "Home|Bath": 9},
        {"Seattle, WA": 9, "Spokane, WA": 9, "Tacoma, WA": 9, "Portland, OR": 9, "Salem, OR": 9},
        {"a": 5000, "b": 5000, "a|b": 1},
        {"[0]": 50, "[1]": 50},
        {"(none)": 50, "some": 50},
        {"1": 50, "0": 50, "-1": 50},
        {},
    ],
)
def test_single_labels_with_signs_in_them_are_left_alone(cells: dict[str, int]) -> None:
    assert several_labels(cells) is None


def test_several_labels_are_refused_with_a_sentence_that_shows_one(tmp_path: Path) -> None:
    report = check(tmp_path, many(90, "trade", "crude", "crude|trade"))
    assert "several labels in one cell (such as 'crude|trade')" in report.problems[0]


@needs_data
@pytest.mark.parametrize("path", sorted(Path(DATA or ".").glob("*/*.csv.gz")) if DATA else [], ids=lambda p: p.name)
def test_the_public_data_sets_are_accepted(path: Path) -> None:
    label = "first_topic" if path.name.startswith("reuters") else None
    report = check_file(path, Columns(label=label))
    assert report.problems == ()
    assert report.rows > 2000
    assert min(report.parts.values()) > 100


@needs_data
def test_the_topics_of_reuters_are_refused() -> None:
    report = check_file(Path(DATA or ".") / "reuters21578" / "reuters_early.csv.gz", Columns(label="topics"))
    assert "several labels in one cell" in report.problems[0]


def test_classes_are_listed_from_the_largest(tmp_path: Path) -> None:
    report = check(tmp_path, many(90, "c", "a", "a", "b", "b", "b"))
    assert list(report.classes) == ["b", "a", "c"]
    assert Counter(report.classes).total() == 90


def test_classes_that_differ_in_case_only_are_warned_about(tmp_path: Path) -> None:
    report = check(tmp_path, many(200, "yes", "no", "Yes"))
    assert any("upper and lower case only count as different: Yes, yes" in warning for warning in report.warnings)
