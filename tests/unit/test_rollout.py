from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keepfit.data.records import Deployment, Traffic
from keepfit.rollout.rollout import served_before

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def history(*rows: tuple[int, str, bool]) -> list[Deployment]:
    """(version, kind, served), oldest first, as the store gives it: newest first."""
    made = [
        Deployment(i + 1, "m", NOW, "ann", "why", Traffic({version: 1.0}), kind, None, (("w", NOW),) if served else ())
        for i, (version, kind, served) in enumerate(rows)
    ]
    return made[::-1]


@pytest.mark.parametrize(
    ("rows", "way_back"),
    [
        ([(1, "deploy", True)], []),
        ([(1, "deploy", True), (2, "deploy", True)], [1]),
        ([(1, "deploy", True), (2, "deploy", True), (3, "deploy", True)], [2, 1]),
        ([(1, "deploy", True), (2, "deploy", False), (3, "deploy", True)], [1]),
        ([(1, "deploy", True), (2, "deploy", True), (3, "deploy", True), (2, "rollback", True)], [1]),
        ([(1, "deploy", True), (2, "deploy", True), (1, "rollback", True), (4, "deploy", True)], [1]),
        ([(1, "deploy", True), (2, "deploy", True), (1, "promote", True), (3, "deploy", True)], [1, 2, 1]),
        ([(1, "deploy", True), (1, "deploy", True), (2, "deploy", True)], [1]),
    ],
)
def test_the_way_back_is_a_stack_of_what_really_served(rows: list[tuple[int, str, bool]], way_back: list[int]) -> None:
    assert served_before(history(*rows)) == way_back
