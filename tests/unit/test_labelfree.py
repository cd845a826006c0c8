"""Accuracy without labels: near the truth on shifts of the inputs, refuted where the truth itself has turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from keepfit.monitoring.labelfree.corrected import LEAST, corrected, past_power, refutation
from keepfit.monitoring.labelfree.estimator import Estimator
from keepfit.monitoring.labelfree.injected import Shifts
from keepfit.monitoring.labelfree.methods import METHODS, Methods
from keepfit.monitoring.labelfree.sample import Sample

WIDTH = 6


def sample_of(rng: np.random.Generator, n: int, hard: float = 0.0, prior: float = 0.5) -> Sample:
    """Two classes; the model is too sure of itself. `hard`: more inputs that are near the border."""
    truth = (rng.random(20 * n) < prior).astype(np.int64)
    latent = rng.normal(size=(20 * n, WIDTH))
    latent[:, 0] += (2 * truth - 1) * 1.2
    chosen = rng.choice(20 * n, n, p=(near := np.exp(-hard * np.abs(latent[:, 0]))) / near.sum())
    truth, latent = truth[chosen], latent[chosen]
    sure = 1 / (1 + np.exp(-4.0 * latent[:, 0]))
    measures = {"length": rng.poisson(20, n).astype(np.float64), "unknown": np.zeros(n)}
    return Sample(np.stack([1 - sure, sure], axis=1), latent, truth, measures)


@pytest.fixture(scope="module")
def reference() -> Sample:
    return sample_of(np.random.default_rng(0), 800)


@pytest.fixture(scope="module")
def estimator(reference: Sample) -> Estimator:
    return Estimator(reference)


def accuracy(sample: Sample) -> float:
    return float(sample.right.mean())


def unknown(sample: Sample) -> Sample:
    return replace(sample, truth=np.full(len(sample), -1, np.int64))


@pytest.mark.parametrize(("hard", "prior"), [(0.0, 0.5), (0.0, 0.85), (1.0, 0.5), (0.5, 0.3)])
def test_the_estimate_is_near_and_its_interval_holds_the_truth(estimator: Estimator, hard: float, prior: float) -> None:
    window = sample_of(np.random.default_rng(1), 1500, hard, prior)
    found = estimator.estimate(unknown(window))
    assert abs(found.value - accuracy(window)) < 0.04
    assert found.low <= accuracy(window) <= found.high
    assert not found.cannot
    assert set(found.methods) == set(METHODS)


def test_the_estimate_does_not_look_at_the_truth(estimator: Estimator) -> None:
    window = sample_of(np.random.default_rng(2), 300)
    assert estimator.estimate(window) == estimator.estimate(unknown(window))


def test_the_same_reference_gives_the_same_estimates(reference: Sample, estimator: Estimator) -> None:
    window = sample_of(np.random.default_rng(3), 300, 0.4)
    assert Estimator(reference).estimate(window) == estimator.estimate(window)


def test_a_window_far_from_the_reference_cannot_be_estimated(estimator: Estimator) -> None:
    window = sample_of(np.random.default_rng(4), 300)
    found = estimator.estimate(replace(window, embeddings=window.embeddings + 6.0))
    assert "farther from the reference" in found.cannot
    assert found.outside > 0.9


def test_a_reference_that_teaches_nothing_is_refused_in_words() -> None:
    rng = np.random.default_rng(5)
    small = Estimator(sample_of(rng, 60))
    assert "200 are needed" in small.estimate(sample_of(rng, 50)).cannot
    perfect = sample_of(rng, 400)
    never_wrong = Estimator(replace(perfect, truth=perfect.said))
    assert "0 of 400 rows of the reference are wrong" in never_wrong.estimate(perfect).cannot


@pytest.mark.parametrize("n", [1, 2, 31])
def test_tiny_windows_and_odd_numbers_are_finite(estimator: Estimator, n: int) -> None:
    window = sample_of(np.random.default_rng(6), n)
    odd = replace(window, measures={"length": np.full(n, np.nan), "unknown": np.full(n, 1e30)})
    for one in (window, odd):
        found = estimator.estimate(one)
        assert np.isfinite([found.value, found.low, found.high, *found.methods.values()]).all()
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_many_classes_and_some_that_never_occur_are_no_trouble() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 14, 700)
    logits = rng.normal(size=(700, 15)) + 2.0 * np.eye(15)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = Estimator(Sample(scores, logits, truth)).estimate(Sample(scores[:300], logits[:300], truth[:300]))
    assert abs(found.value - float((scores[:300].argmax(axis=1) == truth[:300]).mean())) < 0.06


def test_a_reference_with_one_true_class_is_no_trouble() -> None:
    one = sample_of(np.random.default_rng(3), 400)
    one = replace(one, truth=np.ones(400, np.int64))
    assert 15 < int((1 - one.right).sum()) < 385, "some right and some wrong"
    found = Estimator(one).estimate(unknown(one))
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert all(np.isfinite(value) for value in found.methods.values())


def test_injected_windows_know_their_truth_and_repeat(reference: Sample) -> None:
    def windows() -> list[NDArray[np.int64]]:
        made = Shifts(reference, 200, 0).windows(np.random.default_rng(0), 2)
        return [one.sample.truth for _, one in made]

    assert all((a == b).all() for a, b in zip(windows(), windows(), strict=True))
    for family, one in Shifts(reference, 200, 0).windows(np.random.default_rng(1), 2):
        assert (one.sample.truth == reference.truth[one.places]).all(), family
        assert one.sample.scores.sum(axis=1) == pytest.approx(1.0)
        assert one.moved == (family in ("noise", "move", "mix"))


def test_other_class_shares_are_recognised_and_other_inputs_are_not(reference: Sample) -> None:
    methods = Methods(reference, 0)
    other = sample_of(np.random.default_rng(8), 2000, prior=0.9)
    assert methods.explained(other, methods.rowwise(other)) > 0.8
    moved = sample_of(np.random.default_rng(9), 2000)
    moved = replace(moved, embeddings=moved.embeddings + 0.8)
    assert methods.explained(moved, methods.rowwise(moved)) < 0.4


# labels


def labelled(rng: np.random.Generator, n: int, flip: bool = False) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whether answers were right, and the estimated chances that they were."""
    chance = rng.beta(6, 1, n)
    return (rng.random(n) < (1 - chance if flip else chance)).astype(np.float64), chance


def test_correction_is_right_however_wrong_the_chances_are() -> None:
    rng, inside, errors = np.random.default_rng(10), 0, []
    for _ in range(300):
        chance = rng.beta(6, 1, 4000)
        right = (rng.random(4000) < 0.7 * chance).astype(np.float64)  # all chances are too high
        propensity = np.where(chance > 0.9, 0.02, 0.1)
        asked = rng.random(4000) < propensity
        found = corrected(right[asked], chance[asked], 1 / propensity[asked], float(chance.mean()))
        assert found is not None
        inside += found.low <= right.mean() <= found.high
        errors.append(found.value - right.mean())
    assert inside / 300 > 0.92
    assert abs(np.mean(errors)) < 0.01


def test_correction_is_narrower_than_labels_alone_where_the_chances_say_something() -> None:
    rng, wins = np.random.default_rng(11), []
    for _ in range(40):
        chance = rng.choice([0.05, 0.95], 5000)
        right = (rng.random(5000) < chance).astype(np.float64)
        found = corrected(right[:200], chance[:200], np.ones(200), float(chance.mean()))
        assert found is not None
        wins.append(found.high - found.low < 2 * 1.96 * 0.5 / 200**0.5 * 0.8)
    assert np.mean(wins) > 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(LEAST, 80), st.integers(0, 79))
def test_the_power_at_a_label_depends_on_earlier_ones_only(seed: int, n: int, place: int) -> None:
    right, chance = labelled(np.random.default_rng(seed), n)
    changed, place = right.copy(), min(place, n - 1)
    changed[place:] = 1 - changed[place:]
    before, after = past_power(right, chance), past_power(changed, chance)
    assert (before[: place + 1] == after[: place + 1]).all()
    assert ((before >= 0) & (before <= 1)).all()


def test_a_few_labels_correct_nothing_and_equal_ones_are_no_certainty() -> None:
    few = np.ones(LEAST - 1)
    assert corrected(few, few, few, 1.0) is None
    found = corrected(np.ones(30), np.full(30, 0.9), np.ones(30), 0.9)
    assert found is not None
    assert found.high - found.low > 0.02


def test_a_turned_meaning_is_refuted_with_a_hundred_labels_and_a_quiet_one_is_not() -> None:
    rng = np.random.default_rng(12)
    flips, quiet = 0, 0
    for _ in range(200):
        right, chance = labelled(rng, 100)
        turned, _ = labelled(rng, 100, flip=True)
        mixed = np.where(rng.random(100) < 0.4, turned, right)
        flips += refutation(mixed, chance, np.ones(100), 0.04).refuted
        quiet += refutation(right, chance, np.ones(100), 0.04).refuted
    assert flips / 200 > 0.95
    assert quiet / 200 < 0.05
    assert not refutation(np.zeros(99), np.ones(99), np.ones(99), 0.04).refuted, "fewer than a hundred"
