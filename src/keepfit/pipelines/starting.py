"""How a retraining begins: anew, or with what the version that answers has learnt; in steps, the cheapest first."""

from __future__ import annotations

from datetime import datetime, timedelta

from keepfit.data.records import StoredDecision
from keepfit.decision import Decision, Outcome
from keepfit.training.recipe import Start

SETTLED = timedelta(days=7)
"""A step so long ago is taken to have been enough: what is wrong now is something else."""
STEPS: tuple[Start, ...] = ("recalibrate", "warm", "new")


def begin(asked: Start, live: int | None, last: StoredDecision | None, newer: bool, now: datetime) -> Decision:
    """The start of a training that asks for `asked`, and what it builds on: `start` and `parent` of the evidence.

    `steps`: the one after that of the `last` decision of this kind, whether or not anything came of it; the cheapest
    after a week. Recalibrating is passed over where no newer video was brought (`newer`): there is nothing to learn the
    present light from.
    """
    if live is None:
        return chosen("new", None, "no version answers yet that it could build on")
    if asked != "steps":
        return chosen(asked, live, f"this was asked for; version {live} is the one to build on")
    order = STEPS if newer else STEPS[1:]
    if last is None or now - last.at >= SETTLED:
        return chosen(order[0], live, "no step was taken within a week, so the cheapest comes first")
    tried: Start = last.decision.evidence["start"]
    place = STEPS.index(tried) + 1
    start = next((step for step in STEPS[place:] if step in order), order[0])
    return chosen(start, live, f"{tried!r} was tried at {last.at:%Y-%m-%d %H:%M} UTC, and was not enough")


def chosen(start: Start, live: int | None, because: str) -> Decision:
    """A decision for a start."""
    return Decision(Outcome.PASS, (f"start {start!r}: {because}",), {"start": start, "parent": live})
