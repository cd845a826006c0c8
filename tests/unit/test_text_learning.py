"""What is decided from the data before a text model learns: passes, class weights, looks at the validation part."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.data.snapshot import UNKNOWN_TIME, Rows
from keepfit.errors import SettingsError
from keepfit.tasks.text.learning import (
    HEAVIEST_CLASS,
    class_weights,
    evaluate_every,
    passes_for,
    passes_of,
    rehearsed,
)
from keepfit.training.recipe import Recipe


@pytest.mark.parametrize(
    ("rows", "least", "most"), [(10, 8, 8), (500, 7, 7), (2_000, 3.5, 3.5), (25_000, 1, 1.5), (10**6, 1, 1)]
)
def test_few_rows_are_seen_more_often(rows: int, least: float, most: float) -> None:
    assert least <= passes_for(rows) <= most


def test_balanced_classes_need_no_weights() -> None:
    assert class_weights(["a"] * 30 + ["b"] * 10, ["a", "b"], "auto") is None


def test_rare_classes_count_more_but_not_without_bound() -> None:
    weights = class_weights(["a"] * 999 + ["b"], ["a", "b"], "auto")
    assert weights is not None
    assert weights[1] == HEAVIEST_CLASS
    assert weights[0] < 1


def test_weights_can_be_switched_off_and_on() -> None:
    truth = ["a"] * 99 + ["b"]
    assert class_weights(truth, ["a", "b"], "none") is None
    assert class_weights(["a", "b"], ["a", "b"], "balanced") == [1.0, 1.0]


def test_a_class_without_train_rows_counts_one() -> None:
    assert class_weights(["a", "b"], ["a", "b", "c"], "balanced") == pytest.approx([2 / 3, 2 / 3, 1.0])


@pytest.mark.parametrize(
    ("steps", "rows", "validation", "passes", "looks"), [(8, 60, 10, 4.0, 4), (1480, 23_700, 1_300, 2.0, 7)]
)
def test_looking_costs_little_and_happens_at_least_once_per_pass(
    steps: int, rows: int, validation: int, passes: float, looks: int
) -> None:
    assert -(-steps // evaluate_every(steps, rows, validation, passes)) == pytest.approx(looks, abs=1)


@pytest.mark.parametrize("tokens", [4, 256, 300])
def test_short_passes_that_are_not_short_are_refused(tokens: int) -> None:
    with pytest.raises(SettingsError, match="short_tokens"):
        Recipe(short_tokens=tokens, max_tokens=256)


@pytest.mark.parametrize(
    "wrong",
    [
        {"warm_share": 0.0},
        {"warm_share": 1.1},
        {"tokens_per_batch": 100},
        {"frozen_layers": -1},
        {"frozen_cache_gb": -1.0},
        {"lora_rank": -2},
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Recipe(**wrong)  # type: ignore[arg-type]


def test_a_warm_start_takes_its_share_of_the_passes_the_short_ones_among_them() -> None:
    recipe = Recipe(epochs=2.0, short_passes=1.5, warm_share=0.25)
    assert passes_of(recipe, 100, warm=False) == (2.0, 1.5)
    assert passes_of(recipe, 100, warm=True) == (0.5, 0.375)
    assert passes_of(Recipe(), 2_000, warm=True)[0] == pytest.approx(0.6 * 3.5)


def life(n: int, fresh: int, weight: float = 1.0) -> Rows:
    """n rows, the last of which came from life."""
    names = tuple(f"{i:03d}" for i in range(n))
    weights = np.r_[np.ones(n - fresh), np.full(fresh, weight)].astype(np.float32)
    return Rows(names, names, names, names, (UNKNOWN_TIME,) * n, np.arange(n) >= n - fresh, weights)


@pytest.mark.parametrize(("fresh", "share", "left"), [(10, 0.3, 30), (40, 0.3, 46), (0, 0.25, 25)])
def test_a_short_warm_start_sees_all_that_is_new_and_some_of_the_old(fresh: int, share: float, left: int) -> None:
    found = rehearsed(life(100, fresh), share, 1)
    assert len(found) == left
    assert int(found.fresh.sum()) == fresh
    assert len(set(found.ids)) == left


def test_in_a_short_warm_start_the_old_rows_count_together_as_before() -> None:
    whole = life(100, 10, weight=3.0)
    found = rehearsed(whole, 0.3, 1)
    before, after = (float(r.weights[~r.fresh].sum() / r.weights.sum()) for r in (whole, found))
    assert after == pytest.approx(before)
    assert float(found.weights.mean()) == pytest.approx(1.0)
