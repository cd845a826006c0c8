"""The way back is a stack of what really served; an approval is told apart from a deployment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import Deployment, Traffic
from keepfit.data.store import RecordStore
from keepfit.rollout.rollout import WAITING, Roller, served_before
from keepfit.rollout.strategies import Limits, immediate

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


def test_the_audit_tells_an_approval_from_a_deployment(store_url: str, clock: ManualClock) -> None:
    with RecordStore.open(store_url) as store:
        store.put("m", WAITING, {"version": 2, "decision": None})
        Roller("m", store, immediate(timedelta(0), Limits()), clock).approve(2, "ann")
        entry = store.audit_entries("m")[0]
        assert (entry.actor, entry.action, entry.subject) == ("ann", "approve", "deployment 1")
        rows = store.deployments("m")
        assert [row.kind for row in rows] == ["deploy"], "the history's own words are as they were"
