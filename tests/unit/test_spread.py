"""The spread over folds, its standard error, and the gate's floor on the mean less that error."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from keepfit.errors import SettingsError
from keepfit.evaluation.gate import Trial
from keepfit.evaluation.spread import Spread
from keepfit.evaluation.spread_floors import SpreadFloors


def spread(accuracies: list[float], learnt: int = 80, held: int = 20) -> Spread:
    values = [{"accuracy": a, "log_loss": 1 - a} for a in accuracies]
    return Spread("grouped", values, [(learnt, held)] * len(values))


def find(limits: dict[str, float], of: Spread | None):
    trial = object.__new__(Trial)
    object.__setattr__(trial, "spread", of)
    return SpreadFloors(limits).find(trial)


def test_the_error_counts_that_folds_learn_from_the_same_rows() -> None:
    one = spread([0.8, 0.9, 0.85, 0.95])
    assert one.mean("accuracy") == pytest.approx(0.875)
    assert one.deviation("accuracy") == pytest.approx(np.std([0.8, 0.9, 0.85, 0.95], ddof=1))
    assert one.error("accuracy") == pytest.approx(one.deviation("accuracy") * math.sqrt(1 / 4 + 0.25))


def test_its_error_is_nearer_to_the_truth_than_the_usual_one() -> None:
    """A nearest-mean classifier on fresh data each time: how far fold means really scatter around what it is worth."""
    rng = np.random.default_rng(5)
    n, k, rounds = 40, 5, 400
    means, corrected, usual = [], [], []
    for _ in range(rounds):
        labels = np.arange(n) % 2
        x = rng.normal(0, 1, (n, 2)) + 0.8 * labels[:, None]
        parts = np.array_split(rng.permutation(n), k)
        right = []
        for part in parts:
            rest = np.setdiff1d(np.arange(n), part)
            centres = np.stack([x[rest][labels[rest] == c].mean(axis=0) for c in (0, 1)])
            said = np.linalg.norm(x[part][:, None] - centres, axis=2).argmin(axis=1)
            right.append(float(np.mean(said == labels[part])))
        one = spread(right, n - n // k, n // k)
        means.append(one.mean("accuracy"))
        corrected.append(one.error("accuracy") ** 2)
        usual.append(one.deviation("accuracy") ** 2 / k)
    truth = float(np.var(means))
    assert math.sqrt(np.mean(usual)) < math.sqrt(truth) * 1.1
    assert math.sqrt(np.mean(corrected)) > math.sqrt(truth)


def test_a_floor_must_be_kept_by_the_mean_less_its_error() -> None:
    one = spread([0.8, 0.9, 0.85, 0.95])
    low = one.mean("accuracy") - one.error("accuracy")
    assert find({"accuracy": low - 0.001}, one).holds
    refused = find({"accuracy": low + 0.001}, one)
    assert not refused.holds
    assert f"accuracy 0.875 ± {one.error('accuracy'):.3f}" in refused.says
    assert "[floors]" in refused.says


def test_where_low_is_good_the_mean_and_its_error_must_keep_the_limit() -> None:
    one = spread([0.8, 0.9, 0.85, 0.95])
    high = one.mean("log_loss") + one.error("log_loss")
    assert find({"log_loss": high + 0.001}, one).holds
    assert not find({"log_loss": high - 0.001}, one).holds


def test_without_a_cross_validation_the_rule_says_nothing() -> None:
    assert find({"accuracy": 0.99}, None) is None
    with pytest.raises(SettingsError, match="there is no floor"):
        SpreadFloors({"beauty": 1.0})


def test_it_survives_json() -> None:
    one = spread([0.8, 0.9])
    again = Spread.from_json(json.loads(json.dumps(one.to_json())))
    assert again == one
    assert again.to_json()["metrics"]["accuracy"]["mean"] == pytest.approx(0.85)
    assert "- 2 folds (grouped)" in again.as_text()
