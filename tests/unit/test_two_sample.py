"""Classical two-sample detectors: as rare under the null as they say, and each sees what it is there for."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.monitoring.detectors import KsMax, MeanShift
from keepfit.monitoring.two_sample import ClassifierTwoSample, Mmd, Psi


def normal(rng: np.random.Generator, n: int, width: int = 4) -> np.ndarray:
    return rng.normal(size=(n, width))


def test_the_permutation_test_holds_its_level_and_its_p_value_is_never_zero() -> None:
    beyond = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        beyond += Mmd(permutations=99).fit(normal(rng, 80)).score(normal(rng, 60)) > 0.95
    assert beyond <= 9  # 60 at 5 %: more than 9 has a chance below 1 in 1,000
    rng = np.random.default_rng(1)
    assert Mmd(permutations=99).fit(normal(rng, 80)).score(normal(rng, 60) + 9) == pytest.approx(0.99)


def test_a_change_of_a_combination_is_seen_by_the_kernel_and_not_by_single_columns() -> None:
    rng = np.random.default_rng(2)
    before, after = normal(rng, 400, 2), normal(rng, 400, 2)
    after[:, 1] = 0.95 * after[:, 0] + 0.31 * after[:, 1]
    assert Mmd().fit(before).score(after) > 0.95
    assert KsMax().fit(before).score(after) < 0.95
    assert MeanShift().fit(before).score(after) < 0.2


def test_the_classifier_tells_how_far_two_samples_are_apart() -> None:
    rng = np.random.default_rng(3)
    reference = normal(rng, 500)
    scores = [ClassifierTwoSample().fit(reference).score(normal(rng, 500) + shift) for shift in (0.0, 0.3, 3.0)]
    assert scores[0] < 0.1 < scores[1] < 0.8 < scores[2]


def test_stability_is_read_as_usual_on_large_samples_and_is_large_by_chance_on_small_ones() -> None:
    rng = np.random.default_rng(4)
    psi = Psi().fit(normal(rng, 5000, 1))
    assert psi.score(normal(rng, 5000, 1)) < 0.1
    assert psi.score(normal(rng, 5000, 1) + 0.6) > 0.25
    assert psi.score(normal(rng, 30, 1)) > 0.1
