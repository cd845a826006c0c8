"""How a retraining begins: anew, or with what the version that answers has learnt; in steps, the cheapest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from keepfit.decision import Decision, Outcome
from keepfit.registry.registry import ModelVersion
from keepfit.training.recipe import Start

SETTLED = timedelta(days=7)
"""A retraining so long ago is taken to have been enough: what is wrong now is something else."""
NEXT: Mapping[Start, Start] = {"recalibrate": "warm", "warm": "new", "new": "recalibrate"}


def begin(asked: Start, live: int | None, versions: Sequence[ModelVersion], now: datetime) -> Decision:
    """The start of a training that asks for `asked`, under `start` of the evidence. `versions` are newest first.

    `steps`: recalibrate first; where that was tried within a week (whether or not its version passed), a warm start;
    then a new one.
    """
    if live is None:
        return chosen("new", "no version answers yet that it could build on")
    if asked != "steps":
        return chosen(asked, f"the recipe says so; version {live} is the one to build on")
    last = next(iter(versions), None)
    if last is None or now - last.at >= SETTLED:
        return chosen("recalibrate", "no version was made within a week, so the cheapest step comes first")
    tried = last.lineage.recipe.start
    made = f"version {last.number}, made {last.at:%Y-%m-%d %H:%M} UTC with start {tried!r}"
    return chosen(NEXT[tried], f"{made}, was not enough")


def chosen(start: Start, because: str) -> Decision:
    """A decision for a start."""
    return Decision(Outcome.PASS, (f"start {start!r}: {because}",), {"start": start})
