"""The temperature makes the probabilities mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from keepfit.metrics import log_loss
from keepfit.tasks.text.calibration import HIGHEST, LOWEST, fit_temperature, tempered
from keepfit.tasks.text.model import softmax


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (20_000, 3)).astype(np.float32)
    chances = softmax(logits, true_temperature)
    truth = np.array([rng.choice(3, p=row / row.sum()) for row in chances.astype(np.float64)])
    assert fit_temperature(softmax(logits), truth) == pytest.approx(true_temperature, rel=0.1)


def test_the_log_loss_falls() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 300)
    logits = np.where(rng.random(300)[:, None] < 0.8, np.eye(2)[truth], np.eye(2)[1 - truth]) * 8
    temperature = fit_temperature(softmax(logits.astype(np.float32)), truth)
    assert temperature > 2
    before, after = softmax(logits.astype(np.float32)), softmax(logits.astype(np.float32), temperature)
    assert log_loss(truth, after) < log_loss(truth, before)


def test_it_stays_within_bounds_when_everything_is_right_or_wrong() -> None:
    scores = np.array([[0.9, 0.1]] * 5, np.float32)
    assert fit_temperature(scores, np.zeros(5, np.int64)) == pytest.approx(LOWEST, rel=0.01)
    assert fit_temperature(scores, np.ones(5, np.int64)) == pytest.approx(HIGHEST, rel=0.01)


def test_without_rows_it_is_one() -> None:
    assert fit_temperature(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)) == 1.0


def test_probabilities_are_tempered_as_their_logits_would_be() -> None:
    logits = np.random.default_rng(2).normal(0, 2, (50, 4)).astype(np.float32)
    assert np.allclose(tempered(softmax(logits), 3.0), softmax(logits, 3.0), atol=1e-5)
