"""The metrics are right, cope with classes that the model does not know, and have intervals that hold."""

from __future__ import annotations

import json
import math
from time import process_time

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from keepfit import metrics as m
from keepfit.intervals import Interval, wilson
from keepfit.metrics import METRICS, Metric


def draw(n: int, k: int, seed: int = 1, sharpness: float = 2.0) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Answers that are calibrated by construction: the truth is drawn from the scores."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * sharpness
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    truth = (scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(0, k - 1)
    return truth.astype(np.int64), scores.astype(np.float32)


@pytest.mark.parametrize("k", [2, 3, 150])
def test_metrics_agree_with_sklearn(k: int) -> None:
    truth, scores = draw(700, k)
    said = m.predicted(scores)
    assert m.accuracy(truth, scores) == pytest.approx((said == truth).mean())
    assert m.macro_f1(truth, scores) == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))
    exact = scores.astype(np.float64)
    expected = sklearn_log_loss(truth, exact / exact.sum(axis=1, keepdims=True), labels=list(range(k)))
    assert m.log_loss(truth, scores) == pytest.approx(expected, rel=1e-5)
    assert m.brier(truth, scores) == pytest.approx(((np.eye(k)[truth] - scores) ** 2).sum(axis=1).mean(), rel=1e-5)


def test_a_class_that_the_model_does_not_know_is_always_wrong() -> None:
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)
    truth = np.array([0, 1, -1])
    assert m.accuracy(truth, scores) == pytest.approx(2 / 3)
    assert m.macro_f1(truth, scores) == pytest.approx(f1_score(truth, m.predicted(scores), average="macro"))
    assert m.log_loss(truth, scores) > m.log_loss(truth[:2], scores[:2])
    assert m.brier(truth[2:], scores[2:]) == pytest.approx(1 + 0.36 + 0.16)
    assert m.confusion(truth, m.predicted(scores), 2).tolist() == [[1, 0], [0, 1]]
    assert m.per_class(truth, scores)["precision"].tolist() == [0.5, 1.0]
    assert m.per_class(truth, scores)["recall"].tolist() == [1.0, 1.0]


def test_calibrated_answers_have_a_small_calibration_error_and_boastful_ones_a_large_one() -> None:
    truth, scores = draw(5000, 3)
    assert m.calibration_error(truth, scores) < 0.03
    boastful = scores**4
    assert m.calibration_error(truth, boastful / boastful.sum(axis=1, keepdims=True)) > 0.1


def test_answers_of_equal_confidence_share_one_bin() -> None:
    right = np.arange(1000) % 10 != 0
    scores = np.tile(np.array([[0.9, 0.1]], np.float32), (1000, 1))
    assert m.calibration_error((~right).astype(np.int64), scores) == pytest.approx(0.0, abs=1e-6)
    (point,) = m.reliability((~right).astype(np.int64), scores)
    assert (point.accuracy.value, point.accuracy.n) == (0.9, 1000)


def test_reliability_points_cover_every_row_and_rise() -> None:
    points = m.reliability(*draw(3000, 2))
    assert sum(p.accuracy.n for p in points) == 3000
    assert [p.confidence for p in points] == sorted(p.confidence for p in points)


def test_costs_follow_the_matrix() -> None:
    matrix = np.array([[0.0, 10.0], [1.0, 0.0]])
    scores = np.array([[0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]], np.float32)
    assert m.expected_cost(np.array([0, 0, 1, -1]), scores, matrix) == pytest.approx((10 + 0 + 1 + 10) / 4)
    assert m.cost_metric(matrix).higher_is_better is False


@pytest.mark.parametrize("name", sorted(METRICS))
@pytest.mark.parametrize(("n", "k"), [(400, 2), (900, 20)])
def test_every_interval_contains_its_value_and_is_the_same_again(name: str, n: int, k: int) -> None:
    truth, scores = draw(n, k)
    found = METRICS[name].interval(truth, scores, np.random.default_rng(3))
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(METRICS[name].fn(truth, scores))
    assert found.n == n
    assert found == METRICS[name].interval(truth, scores, np.random.default_rng(3))


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "log_loss", "brier"])
def test_intervals_contain_what_is_true_of_the_population_about_as_often_as_they_say(name: str) -> None:
    truth, scores = draw(40_000, 3, seed=9)
    real = METRICS[name].fn(truth, scores)
    parts = zip(np.split(truth, 160), np.split(scores, 160), strict=True)
    rng = np.random.default_rng(0)
    intervals = [METRICS[name].interval(t, s, rng) for t, s in parts]
    assert 0.88 <= np.mean([i.low <= real <= i.high for i in intervals]) <= 0.99


@pytest.mark.parametrize("name", ["macro_f1", "log_loss", "brier"])
def test_the_quick_way_to_an_interval_agrees_with_the_general_bootstrap(name: str) -> None:
    truth, scores = draw(600, 4)
    quick = METRICS[name].interval(truth, scores, np.random.default_rng(0), rounds=1000)
    general = m.bootstrap(METRICS[name].fn, truth, scores, rng=np.random.default_rng(1), rounds=1000)
    assert quick.value == pytest.approx(general.value)
    assert quick.high - quick.low == pytest.approx(general.high - general.low, rel=0.15)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_rows_give_no_number_and_no_error(name: str) -> None:
    found = METRICS[name].interval(np.zeros(0, np.int64), np.zeros((0, 3), np.float32), np.random.default_rng(0))
    assert math.isnan(found.value)
    assert found.n == 0


def test_an_interval_survives_json_even_without_a_value() -> None:
    for interval in (wilson(3, 7), wilson(0, 0)):
        again = Interval.from_json(json.loads(json.dumps(interval.to_json(), allow_nan=False)))
        assert str(again) == str(interval)


def test_resamples_on_which_a_users_metric_is_not_a_number_are_left_out() -> None:
    def fragile(truth: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
        return float("nan") if (truth == 1).sum() < 2 else float((truth == 1).mean())

    truth = np.array([0] * 20 + [1] * 2)
    found = Metric(fragile).interval(truth, np.zeros((22, 2), np.float32), np.random.default_rng(0))
    assert 0 < found.low <= found.value <= found.high


@pytest.mark.parametrize("k", [2, 150])
def test_all_intervals_of_25000_rows_take_a_moment(k: int) -> None:
    truth, scores = draw(25_000, k)
    rng, start = np.random.default_rng(0), process_time()
    for metric in METRICS.values():
        metric.interval(truth, scores, rng)
    assert process_time() - start < 5  # about 0.5 s on a free core
