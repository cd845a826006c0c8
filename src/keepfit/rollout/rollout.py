"""Rollout: the only writer of traffic. Deploy what passed, promote by hand, go back to what really served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keepfit.clock import Clock
from keepfit.data.records import Cause, Deployment, Traffic
from keepfit.data.retention import REMOVED
from keepfit.data.store import RecordStore
from keepfit.errors import NotFound, Refused

WAITING = "awaiting_approval"
"""Under this name the store keeps the version that waits for a person."""


def deploy(store: RecordStore, model: str, version: int, cause: Cause, clock: Clock) -> Deployment:
    """Give a version all the traffic at once (the strategy `immediate`). Idempotent by the cause's token.

    A version that waits for approval waits no longer: it was judged against what served until now.
    """
    done = store.deploy(model, Traffic({version: 1.0}), cause, clock.now())
    store.put(model, WAITING, None)
    return done


def approve(store: RecordStore, model: str, version: int | None, actor: str, clock: Clock) -> Deployment:
    """Serve the version that passed its gate and waits for a person; two approvals at once deploy once.

    Raises Refused when none waits, or another than `version`.
    """
    waiting = store.get(model, WAITING)
    if waiting is None:
        raise Refused(f"no version of {model!r} waits for approval; `keepfit status` says what became of the last one")
    number = int(waiting["version"])
    if version not in (None, number):
        raise Refused(f"version {number} waits for approval, not version {version}")
    decision = waiting.get("decision")
    cause = Cause(
        actor, f"version {number} was approved by {actor}", decision_id=decision, token=f"approve-{number}-{decision}"
    )
    done = deploy(store, model, number, cause, clock)
    adopt(store, model, waiting.get("adopt", {}))
    return done


def adopt(store: RecordStore, model: str, values: Mapping[str, Any]) -> None:
    """Make what a version was made from the model's own: the data and columns that a person brought with it."""
    for name, value in values.items():
        store.put(model, name, value)


def rollback(store: RecordStore, model: str, to: int | None, actor: str, clock: Clock) -> Deployment:
    """Go back to the last version that really served before the present one, or to a named one that did.

    A second rollback goes further back, not forth again. Needs neither registry nor worker.
    Raises Refused when there is nothing to go back to, NotFound when version `to` never served.
    """
    history = store.deployments(model, limit=10_000)
    if not history:
        raise Refused(f"nothing was ever deployed for {model!r}; train a model first")
    removed = store.get(model, REMOVED) or {}
    if to is not None and str(to) in removed:
        raise Refused(f"the files of version {to} were removed to make room; choose another one, or train it again")
    served = [version for version in served_before(history) if str(version) not in removed]
    if to is None and not served:
        raise Refused(f"version {single(history[0].traffic)} is the only one that ever served; there is no way back")
    if to is not None and to not in versions_served(history):
        known = ", ".join(map(str, sorted(versions_served(history)))) or "none"
        raise NotFound(f"version {to} never served {model!r}; versions that did: {known}")
    target = served[0] if to is None else to
    left = single(history[0].traffic)
    if target == left:
        raise Refused(f"version {target} is live already")
    reason = f"rolled back from version {left} to version {target}"
    done = store.deploy(model, Traffic({target: 1.0}), Cause(actor, reason, "rollback"), clock.now())
    store.put(model, WAITING, None)
    return done


def served_before(history: Sequence[Deployment]) -> list[int]:
    """The versions that one could go back to, nearest first, from a history that is newest first.

    The way back is a stack: each deployment pushes a version, a rollback pops down to its target, so that a second
    rollback goes further back. A deployment counts only when a server reported that it served it.
    """
    stack: list[int] = []
    for row in reversed(history):
        version = single(row.traffic)
        if row is not history[0] and not row.applied:
            continue
        if row.kind == "rollback" and version in stack:
            del stack[len(stack) - 1 - stack[::-1].index(version) :]
        if not stack or stack[-1] != version:
            stack.append(version)
    return stack[-2::-1]


def versions_served(history: Sequence[Deployment]) -> set[int]:
    """Every version that a server reported to have served."""
    return {version for row in history if row.applied for version in row.traffic.shares}


def single(traffic: Traffic) -> int:
    """The version with the largest share."""
    return max(traffic.shares, key=lambda version: traffic.shares[version])
