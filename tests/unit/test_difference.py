"""What differs between two snapshots, two recipes, two sets of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from keepfit.app.difference import overlap
from keepfit.data.difference import data_difference
from keepfit.data.snapshot import Rows, Snapshot, write_snapshot
from keepfit.data.splits import SnapshotRow, Split
from keepfit.evaluation.evaluator import Reference
from keepfit.evaluation.flips import flips, said_before
from keepfit.intervals import Interval


def snapshot(folder: Path, *rows: tuple[str, str, Split]) -> Snapshot:
    made = [SnapshotRow(f"{n}", text, label, text, split) for n, (text, label, split) in enumerate(rows)]
    return write_snapshot(folder, made, ("text",), {})


def test_rows_are_compared_by_content_part_and_label(tmp_path: Path) -> None:
    train, test = Split.TRAIN, Split.TEST
    old = snapshot(tmp_path, ("a", "x", train), ("a", "x", train), ("b", "x", train), ("c", "y", test))
    new = snapshot(tmp_path, ("A ", "x", train), ("b", "y", train), ("c", "y", test), ("d", "y", test))
    assert data_difference(old, new).to_json() == {
        "kept": 2,
        "relabelled": 1,
        "added": {"test": {"y": 1}, "train": {"y": 1}},
        "removed": {"train": {"x": 2}},
    }


def test_the_same_rows_differ_in_nothing(tmp_path: Path) -> None:
    one = snapshot(tmp_path, ("a", "x", Split.TRAIN), ("b", "y", Split.TEST))
    assert data_difference(one, one).to_json() == {"kept": 2, "relabelled": 0, "added": {}, "removed": {}}


def rows(truth: Sequence[str]) -> Rows:
    n = len(truth)
    texts = tuple(f"text {i}" for i in range(n))
    times = (datetime(2025, 1, 1, tzinfo=UTC),) * n
    return Rows(texts, tuple(truth), texts, texts, times, np.zeros(n, bool), np.ones(n, np.float32))


def test_answers_that_turn_are_counted_each_way_with_a_few_examples() -> None:
    truth = ["x"] * 10 + ["y"] * 10
    before = ["x"] * 20
    after = ["y"] * 3 + ["x"] * 7 + ["y"] * 8 + ["z"] * 2
    found = flips(rows(truth), before, after)
    assert (found.n, found.gained, found.lost, found.right_before) == (20, 8, 3, 10)
    assert [len(found.examples[kind]) for kind in ("gained", "lost")] == [5, 3]
    assert found.examples["lost"][0].to_json() == {"content": "text 0", "truth": "x", "before": "x", "after": "y"}
    values = found.to_json()
    assert (values["accuracy_before"], values["accuracy_after"]) == (0.5, 0.75)
    assert values["difference"]["value"] == pytest.approx(0.25)


def test_wrong_in_another_way_is_no_flip_and_no_rows_are_no_division() -> None:
    assert flips(rows(["x"]), ["y"], ["z"]).to_json()["gained"] == 0
    assert flips(rows([]), [], []).to_json()["accuracy_before"] is None


def test_kept_answers_count_only_where_they_belong_to_these_rows() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    kept = Reference(scores, np.zeros((2, 1), np.float32), np.array([0, -1]))
    assert said_before(rows(["x", "new class"]), kept, ("x", "y")) == {"text 0": "x", "text 1": "y"}
    assert said_before(rows(["x"]), kept, ("x", "y")) is None
    assert said_before(rows(["y", "new class"]), kept, ("x", "y")) is None


def test_intervals_overlap_touch_or_lie_apart() -> None:
    one = Interval(0.9, 0.8, 0.95, 50)
    assert overlap(one, replace(one, low=0.95, high=0.99))
    assert overlap(one, replace(one, low=0.96, high=0.99)) is False
    assert overlap(one, replace(one, low=math.nan)) is None
