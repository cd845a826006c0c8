"""What the monitor says of a window: quiet on the same world, loud on another, finite on anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from keepfit.data.records import Label, Prediction, Source, Window
from keepfit.errors import InvalidInput
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.monitor import Monitor
from keepfit.monitoring.thresholds import Above, Below

DAY = Window(datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
DIMENSIONS = 24


def world(
    n: int, rng: np.random.Generator, shift: float = 0.0, positive: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (n, 2), embeddings (n, d), lengths (n,)."""
    top = rng.beta(8, 2, n) * 0.5 + 0.5
    first = rng.random(n) < positive
    scores = np.where(first[:, None], np.stack([top, 1 - top], 1), np.stack([1 - top, top], 1)).astype(np.float32)
    return scores, rng.normal(shift, 1, (n, DIMENSIONS)).astype(np.float32), rng.poisson(30, n) + 40 * shift


def reference_of(n: int = 1000, seed: int = 0) -> Reference:
    scores, embeddings, length = world(n, np.random.default_rng(seed))
    measures = {"length": length.astype(np.float32), "unknown": np.zeros(n, np.float32)}
    return Reference(scores, embeddings, scores.argmax(axis=1), measures)


def predictions_of(n: int, seed: int, shift: float = 0.0, positive: float = 0.5) -> list[Prediction]:
    scores, embeddings, length = world(n, np.random.default_rng(seed), shift, positive)
    return [
        Prediction(
            f"e{i}", 3, ("bad", "good"), scores[i], embeddings[i], DAY.start + timedelta(seconds=i), id=f"p{i}",
            measures={"length": float(length[i]), "unknown": 0.0},
        )
        for i in range(n)
    ]  # fmt: skip


def labelled(predictions: list[Prediction], errors: int) -> list[tuple[Prediction, Label]]:
    other = {"bad": "good", "good": "bad"}
    return [
        (p, Label(p.example_id, other[p.label] if i < errors else p.label, DAY.end, Source.COMPLETE))
        for i, p in enumerate(predictions)
    ]


def by_name(found: list[Measurement]) -> dict[str, Measurement]:
    return {m.name: m for m in found}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return reference_of()


def test_everything_is_measured_and_a_normal_window_is_quiet(reference: Reference) -> None:
    seen = predictions_of(400, 1)
    found = by_name(Monitor().measure(seen, labelled(seen, 40), reference, DAY, 3))
    assert set(found) == {
        "accuracy", "macro_f1", "accuracy:last64", "accuracy:last128", "accuracy:last256", "label_mix",
        "share:bad", "share:good", "confidence", "length", "unknown",
        "embedding_drift", "ks:confidence", "ks:length", "ks:unknown", *(f"ks:pc{i}" for i in range(1, 9)),
    }  # fmt: skip
    assert not any(m.breached for m in found.values())
    assert found["accuracy"].value == pytest.approx(0.9)
    assert found["accuracy"].low < 0.9 < found["accuracy"].high
    assert all(m.model_version == 3 and m.window == DAY for m in found.values())
    assert "0.01 of windows like the reference" in found["embedding_drift"].note


def test_another_world_breaches_and_says_where(reference: Reference) -> None:
    found = by_name(Monitor().measure(predictions_of(400, 2, shift=0.5, positive=0.9), [], reference, DAY, 3))
    for name in ("embedding_drift", "label_mix", "length", "ks:length", "ks:pc1"):
        assert found[name].breached or name == "ks:pc1", name
        assert found[name].limit is not None
    assert not found["confidence"].breached, "the confidence has not changed"
    assert "accuracy" not in found


def test_the_calibrated_breaches_are_as_rare_as_promised() -> None:
    monitor, rounds = Monitor(false_alarms=0.05), 60
    breached = {"embedding_drift": 0, "label_mix": 0, "length": 0, "ks": 0}
    for seed in range(rounds):
        found = monitor.measure(predictions_of(150, 1000 + seed), [], reference_of(400, seed), DAY, 3)
        for m in found:
            if m.name in breached:
                breached[m.name] += m.breached
        breached["ks"] += any(m.breached for m in found if m.name.startswith("ks:"))
    assert max(breached.values()) <= 9, breached  # 60 windows at 5 %: more than 9 has a chance below 1 in 1,000


def test_a_small_window_is_measured_but_never_breaches(reference: Reference) -> None:
    seen = predictions_of(12, 3, shift=5, positive=1.0)
    found = Monitor(minimum=30).measure(seen, labelled(seen, 12), reference, DAY, 3)
    assert not any(m.breached for m in found)
    assert all(m.note == "too few: 12 of 30" and not m.judged for m in found)


def test_labels_of_little_worth_do_not_breach(reference: Reference) -> None:
    seen = predictions_of(60, 4)
    pairs = [
        (p, Label(p.example_id, "none", DAY.end, Source.ASKED, propensity=1e-4 if i == 0 else 1.0))
        for i, p in enumerate(seen)
    ]
    found = by_name(Monitor({"accuracy": Below(0.8)}).measure(seen, pairs, reference, DAY, 3))
    assert found["accuracy"].effective == pytest.approx(1.0, abs=0.1)
    assert found["accuracy"].note.startswith("too few")


def test_own_thresholds_replace_the_calibrated_ones(reference: Reference) -> None:
    seen = predictions_of(400, 5)
    own = {"accuracy": Below(0.8), "label_mix": Above(0.0), "ks:length": Above(0.9), "share:bad": Above(0.4)}
    found = by_name(Monitor(own).measure(seen, labelled(seen, 120), reference, DAY, 3))
    assert found["accuracy"].breached
    assert found["accuracy"].limit == 0.8
    assert found["label_mix"].breached
    assert not found["ks:length"].breached
    assert found["ks:length"].limit == 0.9
    assert found["share:bad"].breached


@pytest.mark.parametrize("n", [0, 1, 2, 29, 31])
@pytest.mark.parametrize("size", [0, 1, 2, 50])
def test_any_size_of_window_and_reference_is_finite(n: int, size: int) -> None:
    seen = predictions_of(n, 6)
    found = Monitor(minimum=1).measure(seen, labelled(seen, n), reference_of(size), DAY, 3)
    assert bool(found) == bool(n)
    for m in found:
        assert np.isfinite([m.value, m.low, m.high, m.limit or 0.0, m.p or 0.0]).all(), m


def test_a_constant_reference_and_odd_numbers_are_finite() -> None:
    flat = Reference(
        np.full((40, 2), 0.5, np.float32), np.zeros((40, DIMENSIONS), np.float32), np.zeros(40, np.int64),
        {"length": np.full(40, np.nan, np.float32), "unknown": np.zeros(40, np.float32)},
    )  # fmt: skip
    seen = predictions_of(50, 7)
    seen[0].embedding[:] = np.nan
    found = Monitor().measure(seen, [], flat, DAY, 3)
    assert "length" not in by_name(found), "without a number to compare with it is left out"
    assert np.isfinite([v for m in found for v in (m.value, m.low, m.high, m.limit or 0.0)]).all()


def test_the_same_window_gives_the_same_numbers(reference: Reference) -> None:
    seen = predictions_of(200, 8)
    assert Monitor().measure(seen, labelled(seen, 9), reference, DAY, 3) == Monitor().measure(
        seen, labelled(seen, 9), reference, DAY, 3
    )


def test_a_reference_of_another_model_is_refused(reference: Reference) -> None:
    other = Reference(reference.scores[:, :1], reference.embeddings, reference.truth, {})
    with pytest.raises(InvalidInput, match="own reference"):
        Monitor().measure(predictions_of(50, 9), [], other, DAY, 3)


def test_measurements_survive_storage(reference: Reference) -> None:
    seen = predictions_of(50, 10)
    for measured in Monitor().measure(seen, labelled(seen, 3), reference, DAY, 3):
        assert Measurement.from_json(measured.to_json()) == measured
