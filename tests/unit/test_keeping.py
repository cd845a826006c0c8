"""What is needed can never be deleted, whatever the limits and whatever has happened."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.data.records import Deployment, Traffic
from keepfit.data.retention import Keep
from keepfit.data.snapshot import Split
from keepfit.evaluation.evaluator import Evaluation
from keepfit.pipelines.keeping import Standing, Thing, held_snapshots, held_versions, judge, judge_versions
from keepfit.registry.registry import Lineage, ModelVersion
from keepfit.rollout.rollout import served_before
from keepfit.training.recipe import Recipe

NOW = datetime(2025, 6, 1, tzinfo=UTC)
MODEL = "m"
EMPTY = Evaluation("s", Split.TEST, 0, (), {}, {}, ())


def version(number: int, parent: int | None = None, start: str = "new", age: float = 0) -> ModelVersion:
    lineage = Lineage(f"s{number}", Recipe(start=start), "routine", f"job {number}", parent)  # type: ignore[arg-type]
    return ModelVersion(MODEL, number, lineage, EMPTY, NOW - timedelta(days=age))


def deployment(id_: int, shares: dict[int, float], kind: str = "deploy", shadow: tuple[int, ...] = ()) -> Deployment:
    return Deployment(id_, MODEL, NOW, "ann", "why", Traffic(shares, shadow), kind, None, (("server", NOW),))


@st.composite
def standings(draw: st.DrawFn) -> Standing:
    """Any history of any versions, with whatever waits, is pinned or rolled out."""
    count = draw(st.integers(1, 8))
    numbers = st.integers(1, count)
    versions = []
    for number in range(1, count + 1):
        parent = draw(st.none() | st.integers(1, number - 1)) if number > 1 else None
        start = draw(st.sampled_from(["new", "warm"])) if parent is not None else "new"
        made = version(number, parent, start, draw(st.floats(0, 400)))
        versions.append(replace(made, removed=NOW if draw(st.integers(0, 5)) == 0 else None))
    rows = []
    for id_ in range(1, draw(st.integers(0, 8)) + 1):
        first, second = draw(numbers), draw(numbers)
        shares = {first: 1.0} if first == second else {first: 0.75, second: 0.25}
        row = deployment(id_, shares, draw(st.sampled_from(["deploy", "rollback"])), tuple(draw(st.sets(numbers))))
        rows.append(replace(row, applied=row.applied if draw(st.booleans()) else ()))
    about = st.none() | st.fixed_dictionaries({"version": numbers, "champion": st.none() | numbers})
    values: dict[str, Any] = {"awaiting_approval": draw(about), "rollout": draw(about)}
    jobs = [f"job {n}" for n in draw(st.sets(numbers, max_size=2))]
    roles = {"champion": draw(st.none() | numbers), "challenger": draw(st.none() | numbers)}
    return Standing(rows[::-1], versions, values, draw(st.sets(numbers)), roles, jobs)


@settings(deadline=None, max_examples=300)
@given(standings(), st.integers(0, 4), st.integers(0, 300))
def test_no_version_that_is_needed_ever_goes(standing: Standing, most: int, days: int) -> None:
    judged = judge_versions(standing, Keep(timedelta(days=days), most), NOW)
    going = {int(one.thing.name) for one in judged if one.goes}
    there = {v.number for v in standing.versions if v.removed is None}
    assert going <= there
    needed = set(standing.pinned) | {n for n in standing.roles.values() if n}
    for value in standing.values.values():
        needed |= {n for n in (value or {}).values() if n}
    if standing.deployments:
        needed |= standing.deployments[0].traffic.versions
        needed |= set([v for v in served_before(standing.deployments) if v in there][:1])
    needed |= {v.number for v in standing.versions if v.lineage.job_id in standing.open_jobs}
    assert not going & needed
    for one in standing.versions:
        if one.number in there - going and one.lineage.recipe.start != "new":
            assert one.lineage.parent not in going
    assert all(one.because for one in judged)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=3)), st.sets(st.integers(0, 9)))
def test_no_snapshot_that_something_was_grown_from_ever_goes(parents: dict[int, list[int]], roots: set[int]) -> None:
    held = held_snapshots({str(r): "named" for r in roots}, {str(k): [str(v) for v in vs] for k, vs in parents.items()})
    assert set(held) >= {str(root) for root in roots}
    for child in held:
        assert all(str(parent) in held for parent in parents.get(int(child), ()))
    things = [Thing("snapshot", str(number), NOW - timedelta(days=number)) for number in range(10)]
    going = {one.thing.name for one in judge(things, Keep(most=1), held, NOW) if one.goes}
    assert not going & set(held)


def test_what_is_live_previous_pinned_or_waiting_is_kept_with_its_reason() -> None:
    rows = [deployment(3, {3: 1.0}, shadow=(5,)), deployment(2, {2: 1.0}), deployment(1, {1: 1.0})]
    waits = {"awaiting_approval": {"version": 4}, "rollout": None}
    standing = Standing(rows, [version(n, age=100) for n in range(1, 8)], waits, pinned={6})
    assert held_versions(standing) == {
        3: "it is live", 5: "it answers in the shadow", 2: "rollback would go to it", 4: "it waits for approval",
        6: "it is pinned",
    }  # fmt: skip
    judged = judge_versions(standing, Keep(timedelta(days=30)), NOW)
    assert {one.thing.name: one.goes for one in judged} == {str(n): n in (1, 7) for n in range(1, 8)}
    assert judged[-1].because == "it is older than 30 days"
    assert judged[1].because == "it is older than 30 days, but it is pinned"


def test_a_chain_of_warm_starts_stays_together() -> None:
    chain = [version(1, age=9), version(2, 1, "warm", 8), version(3, 2, "warm", 7), version(4, age=6)]
    judged = judge_versions(Standing((), chain, pinned={3}), Keep(timedelta(days=1)), NOW)
    assert [one.thing.name for one in judged if one.goes] == ["4"]
    assert "version 2 was warm-started from it" in judged[-1].because


def test_without_a_limit_nothing_goes() -> None:
    assert judge([Thing("alert", "a", NOW - timedelta(days=9999))], Keep(), {}, NOW) == []
    assert judge_versions(Standing((), [version(1, age=9999)]), Keep(), NOW) == []
