"""What is held out of a compression, and what counts as a saving."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.tasks.text.compression.card import section
from keepfit.tasks.text.compression.corpus import Corpus, divided
from keepfit.tasks.text.compression.judging import Point, saves

SEEN = {"value": 0.9, "low": 0.8, "high": 0.95, "n": 50}
BEFORE = Point("as it is", 1000, 2000, {"16": 2.0, "64": 4.0}, SEEN, None, True, "since it is")


def snapshot(folder: Path, columns: tuple[str, ...] = ("text",)) -> Snapshot:
    rows = []
    for i in range(100):
        split = Split.TRAIN if i < 70 else Split.VALIDATION if i < 85 else Split.TEST
        content = f"{split.value} text {i}" if len(columns) == 1 else (f"{split.value} {i}", f"body {i}")
        rows.append(SnapshotRow(f"{i:03d}", content, "ab"[i % 2], str(i), split))
    return write_snapshot(folder, rows, columns, {"kind": "test"})


@pytest.mark.parametrize("columns", [("text",), ("subject", "body")])
def test_what_is_judged_on_was_not_looked_at_before(columns: tuple[str, ...], tmp_path: Path) -> None:
    recorded = [f"heard {i}" if len(columns) == 1 else (f"heard {i}", f"body {i}") for i in range(50)]
    corpus = Corpus.of(snapshot(tmp_path, columns), recorded, ("a", "b"))
    assert len(corpus.held_out.texts) == len(corpus.held_out.truth) == 15
    assert len(corpus.seen) + len(corpus.held_back) == 70 + 50
    assert len(corpus.held_back) == 70 // 5 + 50 // 5
    assert not set(corpus.seen) & {*corpus.held_back, *corpus.held_out.texts}
    first = [one if isinstance(one, str) else one[0] for one in corpus.all]
    assert not any(text.startswith(("validation", "test")) for text in first)
    whole = [one for one in corpus.held_out.others if one in recorded]
    assert len(whole) == 10, "recorded texts are judged on as they are, what was learnt from in pieces"
    assert not set(corpus.held_out.others) & set(corpus.seen)


def test_a_class_that_the_version_does_not_know_is_never_right(tmp_path: Path) -> None:
    truth = Corpus.of(snapshot(tmp_path), [], ("b", "c")).held_out.truth
    assert set(truth.tolist()) == {0, -1}


def test_without_any_text_nothing_is_divided() -> None:
    assert divided([], 100) == ([], [])
    assert divided(["a", "b"], 100) == ([], ["a", "b"])


@pytest.mark.parametrize(
    ("sizes", "spent", "saved"),
    [
        ((1000, 2000), {"16": 2.0, "64": 4.0}, False),
        ((980, 2000), {"16": 2.0, "64": 4.0}, True),
        ((1000, 1900), {"16": 2.0, "64": 4.0}, True),
        ((1000, 2000), {"16": 1.5, "64": 3.0}, True),
        ((999, 1999), {"16": 1.96, "64": 3.9}, False),
        ((1000, 2000), {}, False),
    ],
)
def test_a_saving_is_a_hundredth_of_the_bytes_or_a_twentieth_of_the_time(
    sizes: tuple[int, int], spent: dict[str, float], saved: bool
) -> None:
    assert saves(sizes, spent, BEFORE) is saved


def test_the_card_tells_of_every_form_and_of_what_was_not_tried() -> None:
    text = section([BEFORE], {"table": "it is so already"}, 0.003)
    assert "0.3 points" in text
    assert "table, since it is so already" in text
    assert "| as it is | 0.0 | 0.0 | 2.00 | 4.00 | 0.9000 (0.8000 to 0.9500) |" in text
    assert np.isfinite(BEFORE.size)
