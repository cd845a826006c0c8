"""When the demo may say that its loop has closed."""

from __future__ import annotations

from typing import Any

import pytest

from keepfit.app.demo.story import FLOOR, closed
from keepfit.app.demo.stream import Review
from keepfit.app.demo.worlds import Worlds

ROWS = (Review("a fine kettle", "positive", "kettle"),)
GOOD: dict[str, Any] = {
    "promoted_version": 2, "failed_requests": 0, "accuracy_worst": 0.26, "accuracy_after": 0.91,
}  # fmt: skip


def worlds(generated: bool) -> Worlds:
    return Worlds(ROWS, ROWS, lambda: iter(ROWS), lambda: iter(ROWS), 96, generated)


@pytest.mark.parametrize(
    ("told", "generated", "ok"),
    [
        ({}, True, True),
        ({"accuracy_after": FLOOR - 0.01}, True, False),
        ({"accuracy_after": FLOOR - 0.01}, False, True),
        ({"accuracy_after": 0.2}, False, False),
        ({"accuracy_after": None}, True, False),
        ({"promoted_version": None}, True, False),
        ({"failed_requests": 1}, True, False),
    ],
)
def test_it_has_closed_when_the_new_version_answers_well_and_nobody_was_left_without(
    told: dict[str, Any], generated: bool, ok: bool
) -> None:
    assert closed({**GOOD, **told}, worlds(generated)) is ok
