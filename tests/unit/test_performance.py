"""Realised accuracy: honest intervals, also where labels had unequal chances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from keepfit.data.records import Label, Prediction, Source
from keepfit.intervals import wilson
from keepfit.metrics import macro_f1
from keepfit.monitoring.performance import realised, weighted_f1, weighted_share

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def pair(
    right: bool, source: Source = Source.COMPLETE, propensity: float | None = None, said: str = "a", value: str = ""
) -> tuple[Prediction, Label]:
    scores = np.array([0.9, 0.1] if said == "a" else [0.1, 0.9], np.float32)
    prediction = Prediction("e", 1, ("a", "b"), scores, np.zeros(2, np.float32), NOW)
    truth = value or (said if right else "ba"[said == "b"])
    return prediction, Label("e", truth, NOW, source, propensity=propensity)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_without_labels_nothing_is_known(rng: np.random.Generator) -> None:
    assert realised([], rng) is None


def test_volunteered_and_imported_labels_never_measure(rng: np.random.Generator) -> None:
    angry = [pair(False, Source.VOLUNTEERED)] * 50 + [pair(False, Source.IMPORTED)] * 50
    assert realised(angry, rng) is None
    found = realised([*angry, *[pair(True)] * 10], rng)
    assert found is not None
    assert found.accuracy.value == 1.0
    assert found.accuracy.n == 10


def test_equal_chances_give_wilsons_interval(rng: np.random.Generator) -> None:
    found = realised([pair(i % 5 > 0, Source.ASKED, 0.05) for i in range(200)], rng)
    assert found is not None
    assert found.accuracy == wilson(160, 200)
    assert found.effective is None


def test_a_class_unknown_to_the_model_is_an_error_of_the_model(rng: np.random.Generator) -> None:
    found = realised([pair(True), pair(False, value="new")], rng)
    assert found is not None
    assert found.accuracy.value == 0.5


def test_unequal_chances_are_weighted_back() -> None:
    """A thousand answers, errors among the unsure ones, which were asked for ten times as often."""
    rng = np.random.default_rng(3)
    unsure = rng.random(20_000) < 0.3
    right = np.where(unsure, rng.random(20_000) < 0.5, rng.random(20_000) < 0.95)
    chance = np.where(unsure, 0.1, 0.01)
    asked = rng.random(20_000) < chance
    labelled = [pair(bool(r), Source.ASKED, float(c)) for r, c in zip(right[asked], chance[asked], strict=True)]
    found = realised(labelled, rng)
    assert found is not None
    assert right[asked].mean() < 0.65, "the plain share is badly off"
    assert found.accuracy.low < right.mean() < found.accuracy.high
    assert found.effective is not None
    assert found.effective < len(labelled)


def test_the_weighted_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered, rounds = 0, 400
    for _ in range(rounds):
        unsure = rng.random(4000) < 0.3
        right = np.where(unsure, rng.random(4000) < 0.6, rng.random(4000) < 0.95)
        chance = np.where(unsure, 0.2, 0.05)
        asked = rng.random(4000) < chance
        interval, _ = weighted_share(right[asked].astype(float), 1 / chance[asked])
        covered += interval.low <= 0.3 * 0.6 + 0.7 * 0.95 <= interval.high
    assert covered / rounds >= 0.93


@pytest.mark.parametrize("propensity", [0.0, 1e-12, 1.0])
def test_odd_chances_stay_finite(propensity: float, rng: np.random.Generator) -> None:
    found = realised([pair(True, Source.ASKED, propensity), pair(False, Source.ASKED, 0.5)], rng)
    assert found is not None
    for i in (found.accuracy, found.macro_f1):
        assert np.isfinite([i.value, i.low, i.high]).all()
        assert 0 <= i.low <= i.value <= i.high <= 1


def test_the_newest_labels_are_also_measured_alone_in_the_order_in_which_they_came(rng: np.random.Generator) -> None:
    pairs = [
        (p, Label(x.example_id, x.value, NOW + timedelta(minutes=i), x.source))
        for i, (p, x) in enumerate([pair(True)] * 200 + [pair(False)] * 50)
    ]
    found = realised(pairs[::-1], rng)
    assert found is not None
    assert {size: s.interval.value for size, s in found.recent.items()} == {64: 14 / 64, 128: 78 / 128}
    assert found.accuracy.value == 0.8


def test_one_label_is_measured(rng: np.random.Generator) -> None:
    found = realised([pair(False)], rng)
    assert found is not None
    assert found.accuracy.value == 0.0
    assert found.accuracy.high > 0.5


def test_weighted_f1_with_equal_weights_is_macro_f1(rng: np.random.Generator) -> None:
    truth, scores = rng.integers(-1, 3, 200), rng.random((200, 3)).astype(np.float32)
    assert weighted_f1(truth, scores.argmax(axis=1), np.full(200, 2.0), 3) == pytest.approx(macro_f1(truth, scores))
