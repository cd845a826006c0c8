"""Batches of like length, planned from a seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from keepfit.tasks.text.batches import EncodedRows, OrderedBatches, PlannedBatches


def rows(n: int, seed: int = 0) -> EncodedRows:
    rng = np.random.default_rng(seed)
    ids = [[i + 1] * int(rng.integers(1, 60)) for i in range(n)]
    return EncodedRows(ids, np.arange(n) % 2, np.ones(n, np.float32), 0)


def seen(batches: PlannedBatches) -> Counter[int]:
    return Counter(int(row) for i in range(len(batches)) for row in batches[i]["input_ids"][:, 0])


def test_every_row_is_seen_once_per_pass() -> None:
    assert set(seen(PlannedBatches([(rows(100), 3.0)], 8, 1)).values()) == {3}


def test_half_a_pass_sees_half_the_batches() -> None:
    assert len(PlannedBatches([(rows(160), 0.5)], 8, 1)) == 10


def test_a_stretch_goes_on_where_the_one_before_stopped() -> None:
    whole = rows(160)
    short = replace(whole, ids=[ids[:5] for ids in whole.ids])
    batches = PlannedBatches([(short, 0.5), (whole, 0.5)], 8, 1)
    assert set(seen(batches).values()) == {1}
    widths = [batches[i]["input_ids"].shape[1] for i in range(len(batches))]
    assert max(widths[:10]) == 8
    assert max(widths[10:]) > 8


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    one, two, other = (PlannedBatches([(rows(100), 2.0)], 8, seed) for seed in (1, 1, 2))
    assert all(bool((one[i]["input_ids"] == two[i]["input_ids"]).all()) for i in range(len(one)))
    assert any(one[i]["labels"].tolist() != other[i]["labels"].tolist() for i in range(len(one)))


def test_padding_is_little_on_the_right_and_masked() -> None:
    batches = PlannedBatches([(rows(2000), 1.0)], 16, 1)
    real = sum(int(batches[i]["attention_mask"].sum()) for i in range(len(batches)))
    room = sum(batches[i]["attention_mask"].numel() for i in range(len(batches)))
    assert real / room > 0.85
    batch = batches[0]
    assert bool(((batch["input_ids"] != 0).long() == batch["attention_mask"]).all())


@pytest.mark.parametrize("n", [1, 7, 16])
def test_an_ordered_look_meets_every_row_and_says_which(n: int) -> None:
    look = OrderedBatches(rows(n), 4)
    first = np.concatenate([look[i]["input_ids"][:, 0].numpy() for i in range(len(look))])
    assert (first - 1).tolist() == look.order.tolist()
    assert sorted(look.order.tolist()) == list(range(n))


# batches of about as many tokens


def budgeted(n: int = 400, tokens: int = 256, passes: float = 1.0) -> PlannedBatches:
    return PlannedBatches([(rows(n), passes)], 8, 1, tokens)


def test_with_a_budget_batches_have_about_as_many_tokens_and_each_row_comes_once_per_pass() -> None:
    batches = budgeted(passes=3.0)
    sizes = [batches[i]["input_ids"].numel() for i in range(len(batches))]
    assert max(sizes) <= 256
    assert np.median(sizes) > 200
    assert set(seen(batches).values()) == {3}
    counts = {len(batches[i]["labels"]) for i in range(len(batches))}
    assert min(counts) < 5
    assert max(counts) <= 4 * 8


def test_a_row_weighs_the_same_in_a_batch_of_few_rows_and_in_one_of_many() -> None:
    """The loss is a mean over the batch: a row's part in a step is its weight over the batch's rows."""
    batches = budgeted()
    parts = [float(w) / len(batches[i]["weights"]) for i in range(len(batches)) for w in batches[i]["weights"]]
    assert parts == pytest.approx([parts[0]] * 400)
    assert sum(parts) == pytest.approx(len(batches), rel=1e-6), "and a step weighs one on average"


def test_a_row_that_is_longer_than_the_budget_comes_alone() -> None:
    long = EncodedRows([[1] * 40, [2] * 41, [3]], np.array([0, 1, 0]), np.ones(3, np.float32), 0)
    batches = PlannedBatches([(long, 1.0)], 8, 1, 32)
    assert sorted(len(batches[i]["labels"]) for i in range(len(batches))) == [1, 1, 1]


def test_part_of_a_pass_is_that_part_of_its_batches() -> None:
    assert len(budgeted(passes=0.5)) == pytest.approx(len(budgeted()) / 2, abs=1)


def test_the_widest_batch_is_the_one_that_needs_the_most_memory() -> None:
    batches = PlannedBatches([(rows(100), 2.0)], 8, 1)
    sizes = [batches[i]["input_ids"].numel() for i in range(len(batches))]
    assert sizes[batches.widest] == max(sizes)
