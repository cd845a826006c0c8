"""An audit corrects for errors that nobody noticed, whatever makes people overlook them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from keepfit.data.labellers import SILENCE
from keepfit.data.records import Label, Prediction, Source
from keepfit.monitoring.overlooked import Overlooked, overlooked

NOW = datetime(2025, 1, 1, tzinfo=UTC)
EMBEDDING = np.zeros(1, np.float32)


def life(rng: np.random.Generator, n: int, rate: float, overlook: float = 0.2) -> Overlooked | None:
    """n answers, 85 % right; agents overlook errors, twice as many where the model said "a", and 1 % of what is right
    they object to. A share `rate` is audited."""
    said = rng.random(n) < 0.5
    wrong = rng.random(n) < 0.15
    missed = wrong & (rng.random(n) < overlook * np.where(said, 4 / 3, 2 / 3))
    blamed = ~wrong & (rng.random(n) < 0.01)
    confirmed = (wrong & missed) | (~wrong & ~blamed)
    usual, audited = [], []
    for i in range(n):
        scores = np.array([0.9, 0.1] if said[i] else [0.1, 0.9], np.float32)
        p = Prediction(f"e{i}", 1, ("a", "b"), scores, EMBEDDING, NOW, id=f"p{i}")
        other = "b" if said[i] else "a"
        actor = SILENCE if confirmed[i] else "agent"
        usual.append((p, Label(p.example_id, p.label if confirmed[i] else other, NOW, Source.COMPLETE, actor)))
        if rng.random() < rate:
            truth = other if wrong[i] else p.label
            audited.append((p, Label(p.example_id, truth, NOW, Source.ASKED, "auditor", rate)))
    return overlooked(usual, audited)


def test_the_corrected_accuracy_is_unbiased_and_covered_though_agents_overlook_a_fifth() -> None:
    rng = np.random.default_rng(3)
    found = [life(rng, 2000, 0.05) for _ in range(60)]
    seen = [one for one in found if one is not None]
    assert len(seen) == 60
    values = np.array([one.accuracy.value for one in seen])
    assert abs(values.mean() - 0.85) < 3 * values.std() / np.sqrt(60)
    assert sum(one.accuracy.low <= 0.85 <= one.accuracy.high for one in seen) >= 54
    # what the labels say themselves is wrong, and sure of it
    assert np.mean([one.plain.value for one in seen]) > 0.865
    assert sum(one.plain.low <= 0.85 <= one.plain.high for one in seen) < 40


def test_the_rate_of_overlooked_errors_is_found() -> None:
    rng = np.random.default_rng(4)
    seen = [one for one in (life(rng, 2000, 0.1) for _ in range(40)) if one is not None]
    rates = np.array([one.rate.value for one in seen])
    assert abs(rates.mean() - 0.2) < 3 * rates.std() / np.sqrt(40)
    assert sum(one.rate.low <= 0.2 <= one.rate.high for one in seen) >= 35


def test_an_audit_that_found_nothing_is_no_proof_that_there_is_nothing() -> None:
    p = [Prediction(f"e{i}", 1, ("a", "b"), np.array([0.9, 0.1], np.float32), EMBEDDING, NOW) for i in range(1000)]
    usual = [(one, Label(one.example_id, "a", NOW, Source.COMPLETE, SILENCE)) for one in p]
    audited = [(one, Label(one.example_id, "a", NOW, Source.ASKED, "auditor", 0.01)) for one in p[:10]]
    found = overlooked(usual, audited)
    assert found is not None
    assert found.accuracy.value == 1.0
    assert found.accuracy.low < 0.75  # ten clean audits leave room for a quarter
    assert (found.rate.low, found.rate.high, found.rate.n) == (0.0, 1.0, 0)
    assert 10 <= found.effective <= 1000


def test_an_audit_counts_once_its_answer_is_settled() -> None:
    one = Prediction("e", 1, ("a", "b"), np.array([0.9, 0.1], np.float32), EMBEDDING, NOW)
    assert overlooked([], [(one, Label("e", "b", NOW, Source.ASKED, "auditor", 0.01))]) is None


@pytest.mark.parametrize("overlook", [0.0, 0.6])
def test_no_less_holds_for_agents_who_see_all_or_little(overlook: float) -> None:
    rng = np.random.default_rng(6)
    seen = [one for one in (life(rng, 1500, 0.08, overlook) for _ in range(30)) if one is not None]
    assert sum(one.accuracy.low <= 0.85 <= one.accuracy.high for one in seen) >= 26
