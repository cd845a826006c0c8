"""What must stay, whatever the policies say: pure rules over what is on record."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from keepfit.data.records import Deployment
from keepfit.data.retention import Keep
from keepfit.registry.registry import ModelVersion
from keepfit.rollout.rollout import served_before

UNDER_WAY = ("awaiting_approval", "rollout")
"""Stored values about versions that wait or are being rolled out: objects with "version", and perhaps "champion"."""


@dataclass(frozen=True)
class Thing:
    """Something that a policy may concern: a version's files, a snapshot, a folder, some rows."""

    kind: str
    name: str
    at: datetime
    size: int = 0
    """Bytes; of rows in a database roughly."""
    model: str = ""
    """"" for what the models share."""
    count: int = 1

    def __str__(self) -> str:
        of = f" of {self.model!r}" if self.model else ""
        return f"{self.count} {self.kind}{of}" if self.count != 1 or not self.name else f"{self.kind} {self.name}{of}"


@dataclass(frozen=True)
class Judged:
    """One thing that is over a limit: it goes, or is kept against the policy."""

    thing: Thing
    goes: bool
    because: str

    def __str__(self) -> str:
        return f"{self.thing}: {self.because}"


@dataclass(frozen=True)
class Standing:
    """What is on record about one model's versions."""

    deployments: Sequence[Deployment] = ()
    """Newest first."""
    versions: Sequence[ModelVersion] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    """The stored values of `UNDER_WAY`, by name."""
    pinned: Collection[int] = ()
    roles: Mapping[str, int | None] = field(default_factory=dict)
    """The registry's aliases."""
    open_jobs: Collection[str] = ()

    @property
    def removed(self) -> set[int]:
        """Versions whose files are gone."""
        return {version.number for version in self.versions if version.removed is not None}


def held_versions(standing: Standing) -> dict[int, str]:
    """Versions whose files can never be deleted, with the reason."""
    held: dict[int, str] = {}

    def hold(numbers: Iterable[int | None], because: str) -> None:
        for number in numbers:
            if number is not None:
                held.setdefault(int(number), because)

    if standing.deployments:
        traffic = standing.deployments[0].traffic
        hold(traffic.shares, "it is live")
        hold(traffic.shadow, "it answers in the shadow")
        way_back = [v for v in served_before(standing.deployments) if v not in standing.removed]
        hold(way_back[:1], "rollback would go to it")
    for name in UNDER_WAY:
        about = standing.values.get(name)
        if isinstance(about, Mapping):
            words = "it waits for approval" if name == "awaiting_approval" else "its rollout is under way"
            hold((about.get("version"), about.get("champion")), words)
    hold(standing.pinned, "it is pinned")
    hold((number for number in standing.roles.values()), "it is champion or challenger")
    hold((v.number for v in standing.versions if v.lineage.job_id in standing.open_jobs), "its retraining is under way")
    return held


def judge_versions(standing: Standing, keep: Keep, now: datetime) -> list[Judged]:
    """The versions over a limit. What a version that stays was warm-started from stays with it."""
    there = [version for version in standing.versions if version.removed is None]
    ordered = sorted(there, key=lambda version: version.number, reverse=True)
    whys = keep.over([version.at for version in ordered], now) if keep else [None] * len(ordered)
    over = [(version, why) for version, why in zip(ordered, whys, strict=True) if why is not None]
    held = held_versions(standing)
    going = {version.number for version, _ in over if version.number not in held}
    for version in ordered:  # a parent has a lower number, so one pass reaches every ancestor
        parent = version.lineage.parent
        if version.number not in going and version.lineage.recipe.start != "new" and parent is not None:
            held.setdefault(parent, f"version {version.number} was warm-started from it")
            going.discard(parent)
    return [
        Judged(
            Thing("version", str(version.number), version.at, 0, version.name),
            version.number in going,
            why if version.number in going else f"{why}, but {held[version.number]}",
        )
        for version, why in over
    ]


def judge(things: Sequence[Thing], keep: Keep, held: Mapping[str, str], now: datetime) -> list[Judged]:
    """The things over a limit, newest first; `held` says by name why one stays."""
    ordered = sorted(things, key=lambda thing: (thing.at, thing.name), reverse=True)
    whys = keep.over([thing.at for thing in ordered], now) if keep else [None] * len(ordered)
    return [
        Judged(thing, thing.name not in held, f"{why}, but {held[thing.name]}" if thing.name in held else why)
        for thing, why in zip(ordered, whys, strict=True)
        if why is not None
    ]


def held_snapshots(roots: Mapping[str, str], parents: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The roots (id to reason) and everything that they were grown from."""
    held = dict(roots)
    waiting = list(roots)
    while waiting:
        child = waiting.pop()
        for parent in parents.get(child, ()):
            if parent not in held:
                held[parent] = f"snapshot {child[:12]} was grown from it"
                waiting.append(parent)
    return held
