"""On what to train: heads, the tournament, conflicts, changes and the class mix, each held to what it claims."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.evaluation.change import change_point
from keepfit.evaluation.conflicts import conflicting, hypergeometric
from keepfit.evaluation.head import Frame, fit_head, probabilities
from keepfit.evaluation.mix import Once, compared, reweighting, shares_now
from keepfit.evaluation.tournament import look_back, tournament
from keepfit.evaluation.windows import (
    ALL,
    FEWEST_OF_CLASS,
    RECENCY,
    REPLAY,
    SINCE,
    Heads,
    Past,
    likeness,
    windows,
)
from keepfit.tasks.prior import reweighted

LEVEL = 0.05


def within(count: int, runs: int, level: float) -> bool:
    """So many false ones are no more than chance allows at the level (three standard deviations)."""
    return count <= runs * level + 3 * (runs * level * (1 - level)) ** 0.5


def blobs(rng: np.random.Generator, n: int, groups: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Points around centres, and the centre of each."""
    group = rng.integers(0, groups, n)
    centres = np.random.default_rng(1).normal(size=(groups, 16)) * 3
    return (centres[group] + rng.normal(size=(n, 16))).astype(np.float32), group


def test_a_head_learns_what_can_be_learnt_in_the_frame() -> None:
    rng = np.random.default_rng(0)
    x, group = blobs(rng, 600)
    truth = (group % 3).astype(np.int64)
    frame = Frame.of(x[:400])
    head = fit_head(frame.see(x[:400]), truth[:400], np.ones(400), 3)
    said = probabilities(frame.see(x[400:]), head)
    assert (said.argmax(axis=1) == truth[400:]).mean() > 0.95
    assert np.allclose(said.sum(axis=1), 1, atol=1e-5)


def test_rows_without_weight_teach_a_head_nothing() -> None:
    rng = np.random.default_rng(0)
    x, group = blobs(rng, 300)
    truth = (group % 2).astype(np.int64)
    frame = Frame.of(x)
    weights = np.where(np.arange(300) < 200, 1.0, 0.0)
    lied = np.where(np.arange(300) < 200, truth, 1 - truth)
    a, b = (fit_head(frame.see(x), labels, weights, 2) for labels in (truth, lied))
    assert np.array_equal(a, b)


def test_without_a_difference_the_first_one_is_rarely_replaced() -> None:
    rng, runs = np.random.default_rng(3), 400
    replaced = 0
    for _ in range(runs):
        losses = np.clip(rng.random(150) * 0.4 + rng.normal(0, 0.1, (8, 150)), 0, 1)
        replaced += tournament(losses, np.ones(150), LEVEL).winner != 0
    assert within(replaced, runs, LEVEL)


def test_a_tie_keeps_the_first_one() -> None:
    losses = np.tile(np.random.default_rng(0).random(100), (4, 1))
    assert tournament(losses, np.ones(100)).winner == 0


def test_a_better_candidate_wins_the_tournament() -> None:
    rng = np.random.default_rng(0)
    losses = rng.random((5, 200)) * 0.5
    losses[3] *= 0.4
    found = tournament(losses, np.ones(200))
    assert (found.best, found.winner) == (3, 3)
    assert found.standings[3].low > 0


def test_old_labels_that_disagree_are_not_looked_at() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.5, 0.1, 800), rng.normal(-0.3, 0.1, 100)])
    look = look_back(values, np.ones(900))
    assert look.rows <= 100
    assert look.mean < -0.2
    steady = look_back(rng.normal(0.1, 0.1, 900), np.ones(900))
    assert steady.rows == 900, "where nothing changes, all labels are used"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=40, max_size=120), st.integers(2, 6), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_create_a_winner(values, candidates, random) -> None:
    """However losses fall, whoever replaces the first one has a smaller loss on the labels that were looked at."""
    rng = np.random.default_rng(random.randint(0, 10**6))
    losses = np.clip(np.tile(values, (candidates, 1)) + rng.normal(0, 0.05, (candidates, len(values))), 0, 1)
    found = tournament(losses, np.ones(len(values)))
    if found.winner:
        rows = found.standings[found.winner].rows
        assert losses[found.winner, -rows:].mean() < losses[0, -rows:].mean()


def test_no_change_is_rarely_taken_for_one() -> None:
    rng, runs = np.random.default_rng(5), 300
    found = sum(change_point((rng.random(120) < 0.2).astype(float), LEVEL) is not None for _ in range(runs))
    assert within(found, runs, LEVEL)


def test_a_rise_is_found_where_it_is_and_a_fall_is_none() -> None:
    rng = np.random.default_rng(0)
    rise = np.concatenate([rng.random(120) < 0.1, rng.random(80) < 0.5]).astype(float)
    assert abs((change_point(rise) or 0) - 120) <= 15
    assert change_point(rise[::-1]) is None
    assert change_point(np.ones(20)) is None, "too few to tell"


def test_a_change_is_looked_for_in_little_memory() -> None:
    losses = (np.random.default_rng(0).random(4_000) < 0.2).astype(float)
    tracemalloc.start()
    change_point(losses)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20 * losses.nbytes, "a few copies of the losses, and not one for each random order"


def test_an_exact_test_agrees_with_counting() -> None:
    rng = np.random.default_rng(0)
    marked = np.arange(30) < 12
    drawn = np.array([marked[rng.permutation(30)[:10]].sum() for _ in range(20_000)])
    assert hypergeometric(2, 10, 12, 30) == pytest.approx((drawn <= 2).mean(), abs=0.01)
    assert hypergeometric(10, 10, 12, 30) == pytest.approx(1.0)


def test_nothing_old_is_denied_when_nothing_has_changed() -> None:
    rng, runs, false = np.random.default_rng(7), 200, 0
    for _ in range(runs):
        x, group = blobs(rng, 700)
        truth = np.where(rng.random(700) < 0.15, 1 - group % 2, group % 2).astype(np.int64)
        new = np.arange(700) >= 550
        false += bool(conflicting(x, truth, new, ~new, LEVEL)[1])
    assert within(false, runs, LEVEL)


def test_old_rows_are_denied_where_newer_labels_say_otherwise_and_only_there() -> None:
    rng = np.random.default_rng(0)
    x, group = blobs(rng, 1000)
    truth = (group % 2).astype(np.int64)
    new = np.arange(1000) >= 800
    truth[new & (group == 0)] = 1
    denied, found = conflicting(x, truth, new, ~new, LEVEL)
    conflict = ~new & (group == 0)
    assert denied[conflict].mean() > 0.9
    assert not denied[~conflict].any()
    assert found[0].chance <= LEVEL


def past(n: int = 800, changed: int = 600) -> Past:
    times = np.arange(n, dtype=float)
    return Past(times, (np.arange(n) % 2).astype(np.int64), np.where(times >= changed, 2.0, 1.0))


def test_the_windows_are_what_their_names_say() -> None:
    found = windows(past(), 650.0)
    assert set(found) == {ALL, "half", "quarter", "eighth", SINCE, RECENCY, REPLAY}
    assert (found[SINCE] > 0).sum() == 150
    assert (found["half"] > 0).sum() == 400
    assert (found["eighth"] > 0).sum() == 100
    assert np.all(np.diff(found[RECENCY][600:]) >= 0)
    assert found[REPLAY][650:].sum() == pytest.approx(found[REPLAY][:650].sum())


def test_rows_without_a_time_have_no_newest_half() -> None:
    undated = Past(np.zeros(100), (np.arange(100) % 2).astype(np.int64), np.ones(100))
    assert list(windows(undated, None)) == [ALL]


@settings(max_examples=50, deadline=None)
@given(st.integers(30, 300), st.integers(2, 6), st.floats(0, 1), st.integers(0, 10**6))
def test_no_window_forgets_a_class(n: int, classes: int, since: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = Past(np.sort(rng.random(n)), rng.integers(0, classes, n), rng.random(n) + 0.5)
    for weights in windows(rows, since).values():
        assert (weights >= 0).all()
        for label in np.unique(rows.truth):
            mine = rows.truth == label
            assert (weights[mine] > 0).sum() >= min(FEWEST_OF_CLASS, mine.sum())


def test_rows_like_the_newest_traffic_weigh_more() -> None:
    rng = np.random.default_rng(0)
    x, group = blobs(rng, 600)
    weights = likeness(Frame.of(x), x[:400], x[400:][group[400:] == 2])
    assert weights[group[:400] == 2].mean() > 5 * weights[group[:400] != 2].mean()


def test_after_a_flip_the_head_that_forgets_the_old_labels_wins() -> None:
    rng = np.random.default_rng(0)
    x, group = blobs(rng, 800)
    truth = (group % 2).astype(np.int64)
    new = np.arange(800) >= 600
    truth = np.where(new, 1 - truth, truth)
    frame, scored = Frame.of(x), np.flatnonzero(new)
    heads = Heads(frame.see(x), truth, 2, scored, (scored % 5).astype(np.int64))
    candidates = windows(Past(np.arange(800.0), truth, np.ones(800)), 600.0)
    losses, right = heads.losses(candidates)
    found = tournament(losses, np.ones(len(scored)))
    winner = list(candidates)[found.winner]
    assert (candidates[winner][:600] > 0).sum() < 100, f"{winner} keeps what was turned around"
    assert right[found.winner].mean() > 0.9 > right[0].mean()


def drifted_mix(rng: np.random.Generator, n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth with this share of class 1, and calibrated scores of a model that knows half and half."""
    truth = (rng.random(n) < share).astype(np.int64)
    point = rng.normal(np.where(truth == 1, 1.0, -1.0), 1.0)
    high = 1 / (1 + np.exp(-2 * point))
    return np.column_stack([1 - high, high]).astype(np.float32), truth


def test_the_class_mix_is_estimated_from_answers_and_labels() -> None:
    rng = np.random.default_rng(0)
    scores, truth = drifted_mix(rng, 3000, 0.9)
    now = shares_now(np.array([0.5, 0.5]), truth[:100], scores[100:])
    assert now[1] == pytest.approx(0.9, abs=0.06)


def test_a_change_of_the_mix_alone_is_explained_by_it() -> None:
    rng = np.random.default_rng(0)
    once = Once(*drifted_mix(rng, 2000, 0.5))
    scores, truth = drifted_mix(rng, 300, 0.95)
    others, _ = drifted_mix(rng, 1500, 0.95)
    found, ratios = reweighting(once, scores, truth, others, np.arange(300) % 2)
    assert found.proven(LEVEL)
    assert found.explains, str(found)
    assert ratios[1] / ratios[0] > 5


def test_without_a_change_of_the_mix_nothing_is_corrected() -> None:
    rng, runs, taken = np.random.default_rng(2), 100, 0
    once = Once(*drifted_mix(rng, 2000, 0.5))
    for _ in range(runs):
        scores, truth = drifted_mix(rng, 150, 0.5)
        found, _ = reweighting(once, scores, truth, drifted_mix(rng, 500, 0.5)[0], np.arange(150) % 2)
        taken += found.proven(LEVEL)
    assert within(taken, runs, LEVEL)


def test_turned_labels_are_not_explained_by_the_mix() -> None:
    rng = np.random.default_rng(0)
    once = Once(*drifted_mix(rng, 2000, 0.5))
    scores, truth = drifted_mix(rng, 300, 0.5)
    turned = np.where(rng.random(300) < 0.4, 1 - truth, truth)
    found, _ = reweighting(once, scores, turned, scores[:0], np.arange(300) % 2)
    assert not (found.proven(LEVEL) and found.explains)


def test_an_answer_that_wins_back_little_does_not_explain() -> None:
    said, truth = np.zeros(200, np.int64), np.ones(200, np.int64)
    some = np.where(np.arange(200) < 40, 1, 0)
    found = compared(said, some, truth, 0.9)
    assert found.proven(LEVEL)
    assert not found.explains


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=5), st.integers(0, 10**6))
def test_reweighted_answers_are_probabilities_and_can_be_taken_back(ratios, seed) -> None:
    scores = np.random.default_rng(seed).dirichlet(np.ones(len(ratios)), 5).astype(np.float32)
    there = reweighted(scores, np.array(ratios, np.float32))
    assert np.allclose(there.sum(axis=1), 1, atol=1e-5)
    back = reweighted(there, 1 / np.array(ratios, np.float32))
    assert np.allclose(back, scores, atol=1e-4)
