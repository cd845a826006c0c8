"""The fastest arithmetic that keeps the accuracy of fp32 is taken, and the reason is kept."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.tasks.text.acceptance import Answers, accept

Labels = NDArray[np.int64]


def scores(said: Labels, sure: float = 0.95) -> NDArray[np.float32]:
    return np.where(np.eye(2)[said] > 0, sure, 1 - sure).astype(np.float32)


def answering(truth: Labels, wrong: dict[str, int], texts: int = 0, flips: int = 0, sure: float = 0.95) -> Answers:
    """Each arithmetic is wrong on its first so many labelled texts; int8 gives `flips` of the other texts another
    label, of which fp32 was so `sure`."""

    def answers(precision: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        missed = np.arange(len(truth)) < wrong.get(precision, 2)
        other = np.arange(texts) < flips
        unlabelled = np.where(
            other[:, None], scores(np.zeros(texts, np.int64), sure), scores(np.zeros(texts, np.int64))
        )
        if precision == "int8":
            unlabelled = np.where(other[:, None], unlabelled[:, ::-1], unlabelled)
        return scores(np.where(missed, 1 - truth, truth)), unlabelled

    return answers


TRUTH = np.zeros(3000, np.int64)
ALL = ("int8", "bf16", "fp32")


def test_int8_is_taken_when_the_paired_interval_proves_it() -> None:
    found = accept(answering(TRUTH, {}), TRUTH, "auto", ALL)
    assert found.chosen == "int8"
    assert "paired interval" in found.comparisons[0].because


def test_bf16_is_taken_when_int8_loses() -> None:
    found = accept(answering(TRUTH, {"int8": 60}), TRUTH, "auto", ALL)
    assert found.chosen == "bf16"
    assert [c.kept for c in found.comparisons] == [False, True]
    assert "allowed" in found.comparisons[0].because


def test_fp32_is_taken_when_both_lose() -> None:
    found = accept(answering(TRUTH, {"int8": 60, "bf16": 60}), TRUTH, "auto", ALL)
    assert found.chosen == "fp32"
    assert len(found.comparisons) == 2


@pytest.mark.parametrize(
    ("texts", "flips", "sure", "chosen"),
    [(900, 10, 0.55, "int8"), (900, 10, 0.9, "bf16"), (900, 100, 0.55, "bf16"), (100, 0, 0.9, "fp32")],
    ids=["undecided texts change sides", "sure ones do", "too many do", "too few texts to tell"],
)
def test_on_a_small_set_agreement_over_unlabelled_text_decides(
    texts: int, flips: int, sure: float, chosen: str
) -> None:
    few = TRUTH[:100]
    found = accept(answering(few, {}, texts, flips, sure), few, "auto", ALL)
    assert found.chosen == chosen
    assert found.comparisons[0].texts == 100 + texts


def test_labels_that_show_a_loss_outweigh_agreement() -> None:
    few = TRUTH[:100]
    assert accept(answering(few, {"int8": 12, "bf16": 2}, 5000), few, "auto", ALL).chosen == "bf16"


def test_what_was_asked_for_is_taken_and_still_measured() -> None:
    found = accept(answering(TRUTH, {"int8": 60}), TRUTH, "int8", ALL)
    assert found.chosen == "int8"
    assert not found.comparisons[0].kept


def test_fp32_needs_no_comparison() -> None:
    assert accept(answering(TRUTH, {}), TRUTH, "fp32", ALL).comparisons == ()
