"""How a retraining begins: anew, or with what the version that answers has learnt; in steps, the cheapest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from keepfit.data.records import StoredDecision
from keepfit.decision import Decision, Outcome
from keepfit.training.recipe import Start

SETTLED = timedelta(days=7)
"""A step so long ago is taken to have been enough: what is wrong now is something else."""
CHEAPEST_FIRST: tuple[Start, ...] = ("recalibrate", "warm", "new")


def begin(
    asked: Start, live: int | None, steps: Sequence[Start], last: StoredDecision | None, now: datetime
) -> Decision:
    """The start of a training that asks for `asked`, and what it builds on: `start` and `parent` of the evidence.

    Where steps are asked for: of `steps`, which can be taken, the one after that of the `last` decision of this kind,
    whether or not anything came of it; after a week the cheapest.
    """
    if live is None:
        return chosen("new", None, "no version answers yet that it could build on")
    if asked != "steps":
        return chosen(asked, live, f"this was asked for; version {live} is the one to build on")
    order = [step for step in CHEAPEST_FIRST if step in steps]
    if last is None or now - last.at >= SETTLED:
        return chosen(order[0], live, "no step was taken within a week, so the cheapest comes first")
    tried: Start = last.decision.evidence["start"]
    dearer = CHEAPEST_FIRST[CHEAPEST_FIRST.index(tried) + 1 :]
    start = next((step for step in order if step in dearer), order[0])
    return chosen(start, live, f"{tried!r} was tried at {last.at:%Y-%m-%d %H:%M} UTC, and was not enough")


def chosen(start: Start, live: int | None, because: str) -> Decision:
    """A decision for a start."""
    return Decision(Outcome.PASS, (f"start {start!r}: {because}",), {"start": start, "parent": live})
