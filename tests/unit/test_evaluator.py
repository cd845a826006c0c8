"""A model is judged on rows, the numbers survive JSON, and the reference is kept for the monitors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit import metrics as m
from keepfit.data.snapshot import Rows, Split
from keepfit.errors import BackendError, InvalidInput, SettingsError
from keepfit.evaluation.evaluator import (
    Evaluation,
    Judged,
    cost_matrix,
    evaluate,
    judge,
    latency_ms,
    of_class,
    read_reference,
    write_reference,
)
from keepfit.metrics import METRICS, Metric
from keepfit.tasks.toy import ToyModel

MODEL = ToyModel(["neg", "pos"], {"good": "pos", "bad": "neg"}, [0.5, 0.5])


def rows(contents: Sequence[str], truth: Sequence[str], fresh: Sequence[bool] | None = None) -> Rows:
    n = len(truth)
    return Rows(
        tuple(contents),
        tuple(truth),
        tuple(f"e{i}" for i in range(n)),
        tuple(f"g{i}" for i in range(n)),
        (datetime(2025, 1, 1, tzinfo=UTC),) * n,
        np.array(fresh if fresh is not None else [False] * n, bool),
        np.ones(n, np.float32),
    )


@pytest.fixture
def judged() -> Judged:
    contents = ["good one", "bad one", "good two", "bad two", "odd one"] * 10
    truth = ["pos", "neg", "pos", "pos", "mixed"] * 10
    return judge(MODEL, rows(contents, truth, [i % 5 < 2 for i in range(50)]), chunk=7)


def test_answers_come_in_the_order_of_the_rows_whatever_the_chunks(judged: Judged) -> None:
    assert judged.truth[:5].tolist() == [1, 0, 1, 1, -1]
    assert judged.said_labels[:4] == ["pos", "neg", "pos", "neg"]
    assert judged.right[:5].tolist() == [True, True, True, False, False]
    assert judged.measures["length"].tolist() == [2.0] * 50
    assert judged.measures["unknown"][:5].tolist() == [0, 0, 0, 0, 1]


def test_no_rows_give_an_evaluation_without_numbers() -> None:
    evaluation = evaluate(judge(MODEL, rows([], [])), "s", Split.TEST)
    assert evaluation.n == 0
    assert json.dumps(evaluation.to_json(), allow_nan=False)


def test_an_evaluation_reports_metrics_classes_and_slices(judged: Judged) -> None:
    evaluation = evaluate(
        judged, "s1", Split.TEST, contradicted=frozenset({"e3"}), contexts={"source": ["web", "app"] * 25}
    )
    assert evaluation.metrics.keys() == METRICS.keys()
    assert evaluation.metrics["accuracy"].value == 0.6
    assert evaluation.per_class["pos"]["recall"].value == pytest.approx(2 / 3)
    assert evaluation.confusion == ((10, 0), (10, 20))
    assert evaluation.slices["fresh"]["accuracy"].value == 1.0
    assert evaluation.slices["old"]["accuracy"].value == pytest.approx(1 / 3)
    assert evaluation.slices["contradicted"]["accuracy"].n == 1
    assert evaluation.slices["source=web"]["accuracy"].n == 25
    assert evaluation.unknown == {"mixed": 10}


def test_an_evaluation_survives_json(judged: Judged) -> None:
    evaluation = evaluate(judged, "s1", Split.TEST)
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json(), allow_nan=False))) == evaluation


def test_a_user_may_bring_a_metric_and_costs(judged: Judged) -> None:
    def share_of_pos(truth: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
        return float((truth == 1).mean())

    costs = m.cost_metric(cost_matrix(judged.labels, {"pos": {"neg": 5}}))
    found = evaluate(judged, "s", Split.TEST, {"pos": Metric(share_of_pos), "cost": costs}).metrics
    assert found["pos"].value == 0.6
    assert found["cost"].value == pytest.approx((10 * 5 + 10 * 5) / 50)  # an unknown class costs the worst


def test_a_users_metric_that_fails_is_named(judged: Judged) -> None:
    def broken(truth: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
        raise RuntimeError("out of order")

    with pytest.raises(InvalidInput, match=r"'mine' failed \(RuntimeError: out of order\)"):
        evaluate(judged, "s", Split.TEST, {"mine": Metric(broken)})


def test_costs_of_an_unknown_class_are_refused() -> None:
    with pytest.raises(SettingsError, match="unknown class 'eggs'"):
        cost_matrix(["ham", "spam"], {"ham": {"eggs": 1}})


def test_a_model_that_abstains_is_also_measured_where_it_answered(judged: Judged) -> None:
    shy = Judged(judged.rows, judged.labels, judged.truth, judged.output, judged.measures, abstain_below=0.8)
    evaluation = evaluate(shy, "s", Split.TEST)
    assert evaluation.metrics["coverage"].value == 0.8
    assert evaluation.slices["answered"]["accuracy"].value == 0.75


def test_the_reference_is_read_as_it_was_written(judged: Judged, tmp_path: Path) -> None:
    first = write_reference(tmp_path, judged).read_bytes()
    reference = read_reference(tmp_path)
    np.testing.assert_array_equal(reference.scores, judged.output.scores)
    np.testing.assert_allclose(reference.embeddings, judged.output.embeddings, atol=1e-3)
    np.testing.assert_array_equal(reference.truth, judged.truth)
    assert set(reference.measures) == {"length", "unknown"}
    assert write_reference(tmp_path, judged).read_bytes() == first


def test_what_is_normal_for_a_detector_are_the_rows_of_one_class(judged: Judged, tmp_path: Path) -> None:
    write_reference(tmp_path, judged)
    normal = of_class(read_reference(tmp_path), 0)
    assert set(normal.truth.tolist()) == {0}
    assert len(normal.scores) == len(normal.embeddings) == len(normal.measures["length"]) == (judged.truth == 0).sum()


@pytest.mark.parametrize("content", [None, b"", b"PK not really"])
def test_a_missing_or_damaged_reference_says_what_to_do(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "reference.npz").write_bytes(content)
    with pytest.raises(BackendError, match="fetch or train the version again"):
        read_reference(tmp_path)


def test_latency_is_measured_one_content_at_a_time() -> None:
    ticks = iter(range(1000))
    assert latency_ms(MODEL, ["good", "bad"], lambda: next(ticks) / 1000, rounds=10) == (
        pytest.approx(1),
        pytest.approx(1),
    )
    with pytest.raises(InvalidInput, match="at least one"):
        latency_ms(MODEL, [], lambda: 0.0)
