"""What every drift detector keeps: nothing changed is low, far away is high, finite on anything."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from keepfit.app.life_settings import DETECTORS as SETTABLE
from keepfit.app.wiring import DETECTORS as NAMED
from keepfit.app.wiring import named
from keepfit.errors import InvalidInput
from keepfit.monitoring.detectors import Components, DriftDetector, KsMax, MeanShift
from keepfit.monitoring.two_sample import ClassifierTwoSample, Mmd, Psi

DETECTORS: list[Callable[[], DriftDetector]] = [MeanShift, KsMax, Mmd, ClassifierTwoSample, Psi]


@pytest.fixture(params=DETECTORS, ids=lambda made: made.__name__)
def detector(request: pytest.FixtureRequest) -> DriftDetector:
    made: DriftDetector = request.param()
    return made


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(500, 4))


def test_every_detector_has_its_name_in_the_settings() -> None:
    assert {name: named(entry) for name, entry in NAMED.items()} == {made().name: made for made in DETECTORS}
    assert set(NAMED) == SETTABLE


def test_identical_data_score_zero(detector: DriftDetector, reference: np.ndarray) -> None:
    assert detector.fit(reference).score(reference) == pytest.approx(0.0, abs=1e-9)


def test_far_blobs_score_higher_than_alike_ones(detector: DriftDetector, reference: np.ndarray) -> None:
    alike = np.random.default_rng(1).normal(size=(500, 4))
    assert detector.fit(reference).score(alike + 5) > 0.95 > detector.score(alike)


def test_the_score_does_not_depend_on_the_order(detector: DriftDetector, reference: np.ndarray) -> None:
    current = reference[:100] + 0.2
    assert detector.fit(reference).score(current) == pytest.approx(detector.score(current[::-1]))


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_tiny_windows_and_references_are_finite(detector: DriftDetector, reference: np.ndarray, rows: int) -> None:
    assert np.isfinite(detector.fit(reference).score(reference[:rows]))
    assert np.isfinite(detector.fit(reference[:rows]).score(reference))


@pytest.mark.parametrize("value", [0.0, 1e-30, 3.0, 65504.0])
def test_a_constant_reference_is_finite(detector: DriftDetector, value: float) -> None:
    constant = np.full((50, 4), value)
    assert detector.fit(constant).score(constant) == pytest.approx(0.0, abs=1e-9)
    assert np.isfinite(detector.score(constant + 1))


def test_what_is_not_a_number_does_no_harm(detector: DriftDetector, reference: np.ndarray) -> None:
    odd = reference.copy()
    odd[0] = np.nan
    odd[1] = np.inf
    assert np.isfinite(detector.fit(odd).score(odd))


def test_another_number_of_columns_is_refused(detector: DriftDetector, reference: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="its own reference"):
        detector.fit(reference).score(reference[:, :2])


def test_components_are_white_on_their_own_reference(reference: np.ndarray) -> None:
    projected = Components(reference * [1, 10, 100, 0], most=16).project(reference * [1, 10, 100, 0])
    assert projected.shape == (500, 3), "the constant direction is dropped"
    assert projected.mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-6)
    assert projected.std(axis=0) == pytest.approx(np.ones(3), rel=0.01)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_components_of_tiny_references_are_finite(rows: int) -> None:
    components = Components(np.ones((rows, 5)))
    assert np.isfinite(components.project(np.ones((3, 5)))).all()
