"""What the champion finds abnormal is kept from a training, unless a person has labelled it or life has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import ASSUMED, SnapshotRow
from keepfit.decision import Outcome
from keepfit.pipelines.quarantine import quarantine
from keepfit.tasks.toy import ToyModel

EVERY = (Split.TRAIN, Split.VALIDATION)
CHAMPION = ToyModel(["0", "1"], {"calm": "0", "odd": "1"}, [0.5, 0.5])
"""Finds abnormal what begins with "odd"."""


def rows(split: Split, words: Sequence[str], source: str = ASSUMED) -> list[SnapshotRow]:
    return [
        SnapshotRow(
            f"{split}{source}{i}", f"{word} {split} {source} {i}", "0", f"{split}{source}{i}", split, source=source
        )
        for i, word in enumerate(words)
    ]


def snapshot(folder: Path, *made: list[SnapshotRow]) -> Snapshot:
    return write_snapshot(folder, [row for some in made for row in some], ("video",), {"kind": "import", "fps": 10.0})


@pytest.fixture
def mixed(tmp_path: Path) -> Snapshot:
    """Odd windows in every part, one of them labelled by a person."""
    return snapshot(
        tmp_path,
        rows(Split.TRAIN, ["calm"] * 30 + ["odd"] * 2),
        rows(Split.VALIDATION, ["calm"] * 10 + ["odd"]),
        rows(Split.TEST, ["calm", "odd"]),
        rows(Split.TRAIN, ["odd"], source="imported"),
    )


def test_odd_windows_that_nobody_labelled_are_left_out_of_what_is_learnt(mixed: Snapshot) -> None:
    kept, decision = quarantine(mixed, CHAMPION, 4, EVERY)
    gone = {row.content for row in mixed.stored()} - {row.content for row in kept.stored()}
    assert gone == {"odd train assumed 30", "odd train assumed 31", "odd validation assumed 10"}
    assert (decision.outcome, decision.evidence["kept"]) == (Outcome.HOLD, kept.id)
    assert "version 4 finds 3 of 43 unlabelled windows abnormal" in decision.because[0]
    assert "labels.csv" in decision.because[1]
    assert kept.lineage["parents"] == [mixed.id]
    assert kept.lineage["fps"] == 10.0
    assert kept.lineage["quarantined"] == sorted(gone)


def test_only_the_parts_that_are_asked_for_are_looked_through(mixed: Snapshot) -> None:
    kept, decision = quarantine(mixed, CHAMPION, 4, (Split.VALIDATION,))
    assert len(kept.rows(Split.TRAIN)) == len(mixed.rows(Split.TRAIN))
    assert len(kept.rows(Split.VALIDATION)) == 10
    assert decision.evidence["judged"] == 11


def test_where_nothing_is_odd_the_data_stays_as_it_is(tmp_path: Path) -> None:
    calm = snapshot(tmp_path, rows(Split.TRAIN, ["calm"] * 5))
    kept, decision = quarantine(calm, CHAMPION, 4, EVERY)
    assert kept is calm
    assert decision.outcome is Outcome.PASS


def test_where_life_has_changed_the_champions_word_does_not_count(tmp_path: Path) -> None:
    changed = snapshot(tmp_path, rows(Split.TRAIN, ["calm"] * 7 + ["odd"] * 2))
    kept, decision = quarantine(changed, CHAMPION, 4, EVERY)
    assert kept is changed
    assert "life has changed" in decision.because[1]


def test_each_camera_is_judged_by_itself(tmp_path: Path) -> None:
    door = [replace(row, key="door") for row in rows(Split.TRAIN, ["calm"] * 60 + ["odd"])]
    gate = [replace(row, key="gate") for row in rows(Split.VALIDATION, ["odd"] * 8)]
    both = snapshot(tmp_path, door, gate)
    kept, decision = quarantine(both, CHAMPION, 4, EVERY)
    assert {row.content for row in both.stored()} - {row.content for row in kept.stored()} == {"odd train assumed 60"}
    assert "more than a fifth of gate" in decision.because[1]


def test_how_far_it_is_can_be_shown(mixed: Snapshot) -> None:
    seen: list[float] = []
    quarantine(mixed, CHAMPION, 4, EVERY, seen.append)
    assert seen == pytest.approx([32 / 43, 1.0])
