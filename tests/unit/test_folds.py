"""Folds: nothing that is held out was learnt from, whatever the data."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.data.folds import KINDS, Folds, folds, snapshot_of, without_test
from keepfit.data.snapshot import Rows, Split, write_snapshot
from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow
from keepfit.errors import InvalidInput, SettingsError

START = datetime(2025, 1, 1, tzinfo=UTC)


def rows(groups: list[int], seed: int = 0, timed: bool = True) -> Rows:
    rng = np.random.default_rng(seed)
    n = len(groups)
    return Rows(
        tuple(f"text {i}" for i in range(n)), tuple(map(str, rng.integers(0, 3, n))),
        tuple(f"{i:04d}" for i in range(n)),
        tuple(f"g{group}" for group in groups),
        tuple(START + timedelta(hours=int(h)) if timed else UNKNOWN_TIME for h in rng.integers(0, 500, n)),
        np.zeros(n, bool), np.ones(n, np.float32),
    )  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 60), min_size=150, max_size=250), st.sampled_from(KINDS), st.integers(2, 5))
def test_no_group_is_on_two_sides_and_no_row_in_two_parts(groups: list[int], kind: str, count: int) -> None:
    data = rows(groups)
    try:
        made = folds(data, Folds(count, kind))
    except InvalidInput:  # groups that go on leave too little before, and a few groups too little for each: it is said
        assert kind == "time" or len(set(groups)) < 30
        return
    assert len(made) == count
    for fold in made:
        parts = [{data.groups[i] for i in part} for part in (fold.learn, fold.stop, fold.held)]
        assert not parts[0] & parts[1]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]


def test_each_row_is_held_out_once_with_the_classes_in_their_shares() -> None:
    data = rows(list(range(600)))
    made = folds(data, Folds(5))
    held = np.concatenate([fold.held for fold in made])
    assert sorted(held.tolist()) == list(range(600))
    shares = Counter(data.truth)
    for fold in made:
        counts = Counter(data.truth[i] for i in fold.held)
        assert all(counts[label] == pytest.approx(n / 5, abs=2) for label, n in shares.items())


def test_what_is_learnt_from_is_older_than_what_is_held_out() -> None:
    data = rows(list(range(600)))
    made = folds(data, Folds(4, "time"))
    for fold in made:
        times = [[data.times[i] for i in part] for part in (fold.learn, fold.stop, fold.held)]
        assert max(times[0]) <= min(times[1])
        assert max(times[1]) < min(times[2])
    assert [len(fold.held) for fold in made] == [120] * 4
    assert len(made[0].learn) < len(made[-1].learn)


def test_the_same_seed_parts_the_same_and_another_one_otherwise() -> None:
    data = rows(list(range(300)))
    one, same, other = (folds(data, Folds(3, seed=seed))[0].held.tolist() for seed in (-1, -1, 2))
    assert one == same != other


def test_what_cannot_be_parted_is_said() -> None:
    with pytest.raises(InvalidInput, match="need at least 20 groups of rows, and there are 3"):
        folds(rows([1, 2, 3] * 50), Folds(10))
    with pytest.raises(InvalidInput, match=r"200 of 200 rows have no time"):
        folds(rows(list(range(200)), timed=False), Folds(3, "time"))
    with pytest.raises(SettingsError, match="known are grouped, time"):
        Folds(3, "shuffled")
    with pytest.raises(SettingsError, match="two folds or more"):
        Folds(1)


def test_a_class_that_is_rarer_than_the_folds_warns_nobody_who_cannot_read_it() -> None:
    data = rows(list(range(300)))
    odd = Rows(data.contents, ("rare", *data.truth[1:]), *(getattr(data, n) for n in ("ids", "groups", "times")),
               data.fresh, data.weights)  # fmt: skip
    assert len(folds(odd, Folds(4))) == 4


def test_a_fold_is_a_snapshot_without_the_test_part_of_the_whole(tmp_path: Path) -> None:
    stored = [
        SnapshotRow(f"{i:04d}", f"text {i}", "ab"[i % 2], f"g{i}", Split.TEST if i < 20 else Split.TRAIN, START)
        for i in range(120)
    ]
    whole = write_snapshot(tmp_path / "whole", stored, ("text",), {})
    data = without_test(whole.rows(), whole.rows(Split.TEST))
    assert len(data) == 100
    (first, _) = folds(data, Folds(2))
    made = snapshot_of(tmp_path / "fold", whole, data, first)
    assert len(made.rows(Split.TEST)) == len(first.held)
    assert len(made.rows(Split.TRAIN)) == len(first.learn)
    assert not set(made.rows().ids) & {f"{i:04d}" for i in range(20)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fold_that_would_learn_from_one_class_is_named_with_the_class_that_it_lacks(kind: str) -> None:
    """Otherwise the last of many trainings may be the one that fails."""
    data = rows(list(range(120)))
    times = tuple(START + timedelta(hours=i) for i in range(120))
    truth = ("old",) * 60 + ("new",) * 60 if kind == "time" else ("old",) * 119 + ("new",)
    odd = Rows(data.contents, truth, data.ids, data.groups, times, data.fresh, data.weights)
    with pytest.raises(InvalidInput, match=r"fold \d of 4 would learn from one class only \('old'\).*none is of 'new'"):
        folds(odd, Folds(4, kind))
