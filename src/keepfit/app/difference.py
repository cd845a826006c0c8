"""What differs between two versions: data, recipe, numbers, answers that turned, code, and who let each in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keepfit.app.lineage import decision_facts, deployment_facts, gate_of
from keepfit.app.project import Project
from keepfit.app.wiring import answering_half, learning_half
from keepfit.data.difference import data_difference
from keepfit.data.snapshot import Rows, Snapshot, Split, open_snapshot
from keepfit.errors import InvalidInput, KeepfitError, NotFound
from keepfit.evaluation.evaluator import judge, read_reference
from keepfit.evaluation.flips import Flips, flips, said_before
from keepfit.intervals import Interval
from keepfit.registry.registry import ModelVersion
from keepfit.tasks.task import Model

STORED, ANEW = "the answers that were kept when each was judged", "both judged anew"


def difference(project: Project, first: int, second: int) -> dict[str, Any]:
    """From one version to another, as plain values; a part that cannot be told says why in `unavailable`.

    Raises NotFound for an unknown version, InvalidInput for twice the same.
    """
    if first == second:
        raise InvalidInput(f"version {first} does not differ from itself; name two versions")
    old, new = (project.registry.version(project.model, number) for number in (first, second))
    snapshots = [opened(project, version) for version in (old, new)]
    return {
        "versions": [entry(project, version) for version in (old, new)],
        "data": data(old, new, *snapshots),
        "recipe": recipe(old, new),
        "metrics": metrics(old, new),
        "flips": turned(project, old, new, *snapshots),
        "code": {"before": old.lineage.code, "after": new.lineage.code, "same": old.lineage.code == new.lineage.code},
    }


def opened(project: Project, version: ModelVersion) -> Snapshot | KeepfitError:
    """The snapshot of a version, or why there is none: old data may be deleted."""
    try:
        return open_snapshot(project.home.snapshots, version.lineage.snapshot_id)
    except KeepfitError as error:
        return error


def entry(project: Project, version: ModelVersion) -> dict[str, Any]:
    """A version, the decision that let it in or not, and how it was first deployed."""
    gate = gate_of(project.store, project.model, version.number, version.lineage.job_id)
    rows = project.store.deployments(project.model, limit=10_000)
    first = next((row for row in reversed(rows) if version.number in row.traffic.versions), None)
    return {
        "version": version.number, "at": version.at, "reason": version.lineage.reason, "run": version.run_id,
        "job": version.lineage.job_id, "parent": version.lineage.parent, "snapshot": version.lineage.snapshot_id,
        "gate": None if gate is None else decision_facts(gate),
        "first_deployment": None if first is None else deployment_facts(first),
    }  # fmt: skip


def data(
    old: ModelVersion, new: ModelVersion, before: Snapshot | KeepfitError, after: Snapshot | KeepfitError
) -> dict[str, Any]:
    """Rows that came and went, by part and label."""
    names = {"before": old.lineage.snapshot_id, "after": new.lineage.snapshot_id}
    if old.lineage.snapshot_id == new.lineage.snapshot_id:
        return {**names, "same": True}
    for snapshot in (before, after):
        if isinstance(snapshot, KeepfitError):
            return {**names, "same": False, "unavailable": str(snapshot)}
    assert isinstance(before, Snapshot)
    assert isinstance(after, Snapshot)
    return {**names, "same": False, **data_difference(before, after).to_json()}


def recipe(old: ModelVersion, new: ModelVersion) -> dict[str, dict[str, Any]]:
    """The fields that differ; a part of its own (that of video) field by field."""
    was, now = flat(old.lineage.recipe.to_json()), flat(new.lineage.recipe.to_json())
    names = [name for name in {**was, **now} if was.get(name) != now.get(name)]
    return {name: {"before": was.get(name), "after": now.get(name)} for name in names}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one.

    >>> flat({"a": 1, "video": {"b": 2}})
    {'a': 1, 'video.b': 2}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def metrics(old: ModelVersion, new: ModelVersion) -> dict[str, dict[str, Any]]:
    """Side by side, each on its own version's test part, and whether the intervals overlap."""
    was, now = old.evaluation.metrics, new.evaluation.metrics
    return {
        name: {
            "before": was[name].to_json() if name in was else None,
            "after": now[name].to_json() if name in now else None,
            "overlap": overlap(was[name], now[name]) if name in was and name in now else None,
        }
        for name in {**was, **now}
    }


def overlap(one: Interval, other: Interval) -> bool | None:
    """Whether two intervals have a value in common; None when an end is not a number.

    >>> overlap(Interval(0.9, 0.8, 0.95, 50), Interval(0.7, 0.6, 0.8, 50))
    True
    """
    if any(math.isnan(end) for end in (one.low, one.high, other.low, other.high)):
        return None
    return one.low <= other.high and other.low <= one.high


def turned(
    project: Project,
    old: ModelVersion,
    new: ModelVersion,
    before: Snapshot | KeepfitError,
    after: Snapshot | KeepfitError,
) -> dict[str, Any]:
    """The flips on the test rows of both; where there are none of these, on those of the newer version alone.

    A row's truth is what the newer version's snapshot says.
    """
    try:
        kept = None
        if isinstance(before, Snapshot) and isinstance(after, Snapshot):
            kept = from_what_was_kept(project, (old, new), (before, after))
        if kept is not None:
            return {"rows": "the test rows of both", "by": STORED, **kept.to_json()}
        newer, others = (after, before) if new.number > old.number else (before, after)
        if not isinstance(newer, Snapshot):
            raise newer
        return judged_anew(project, (old, new), newer, others if isinstance(others, Snapshot) else None)
    except KeepfitError as error:
        return {"unavailable": str(error)}


def from_what_was_kept(
    project: Project, versions: Sequence[ModelVersion], snapshots: Sequence[Snapshot]
) -> Flips | None:
    """By the answers in the versions' folders; None when they cannot be laid side by side."""
    answers: list[dict[Any, str]] = []
    parts: list[Rows] = []
    for version, snapshot in zip(versions, snapshots, strict=True):
        rows = snapshot.rows(Split.TEST)
        reference = read_reference(project.registry.fetch(project.model, version.number))
        said = said_before(rows, reference, version.evaluation.labels)
        if said is None:
            return None
        answers.append(said)
        parts.append(rows)
    newer = parts[1] if versions[1].number > versions[0].number else parts[0]
    places = [i for i, content in enumerate(newer.contents) if content in answers[0] and content in answers[1]]
    if not places:
        return None
    rows = newer.only(places)
    was, now = ([said[content] for content in rows.contents] for said in answers)
    return flips(rows, was, now)


def judged_anew(
    project: Project, versions: Sequence[ModelVersion], newer: Snapshot, older: Snapshot | None
) -> dict[str, Any]:
    """Both models on the newer one's test part, without what the older one has learnt from where that is known."""
    rows = newer.rows(Split.TEST)
    learnt: set[Any] = set()
    if older is not None:
        learnt = {*older.rows(Split.TRAIN).contents, *older.rows(Split.VALIDATION).contents}
    models = [loaded(project, version.number) for version in versions]
    fair = [
        i for i, content in enumerate(rows.contents)
        if content not in learnt and all(model.knows(content) for model in models)
    ]  # fmt: skip
    if not fair:
        raise NotFound("there is no test row that both know and neither has learnt from; use `keepfit gate FILE`")
    rows = rows.only(fair)
    was, now = (judge(model, rows).said_labels for model in models)
    found = flips(rows, was, now)
    caveat = {} if older is not None else {"caveat": "the older version may have learnt from some of these rows"}
    return {"rows": "the test rows of the newer version", "by": ANEW, **caveat, **found.to_json()}


def loaded(project: Project, number: int) -> Model:
    """A version's model; only the learning half can render the events of an unlabelled video."""
    folder = project.registry.fetch(project.model, number)
    if project.traits.detects:
        return learning_half(project.settings.task).load(folder)
    return answering_half(project.home, project.model, project.store)(number)
