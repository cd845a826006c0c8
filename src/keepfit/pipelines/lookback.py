"""Looking back: the watch beats once for each step of a past that was imported, and says what it would have told.

The same watch on the same store, with a clock that goes through the past: what it measures, its alarms and its
judgements are stored with the times that they would have had, so plots and pictures show them, and the watch of today
goes on where this one ends. It asks for no labels, retrains nothing and alerts nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from keepfit.clock import ManualClock
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.monitoring.measurement import Measurement
from keepfit.pipelines.inputs import InputWatch
from keepfit.pipelines.looks import Look
from keepfit.pipelines.watch import Watch, seen
from keepfit.triggers.trigger import Reason

SHORTEST = timedelta(hours=1)
MOST_BLOCKS, A_DAY = 10**9, timedelta(days=1)
AFTER = timedelta(seconds=2)
"""What was written at the last moment counts, too."""
PAST = "past"
IN_VAIN = "this was seen in looking back; nothing was retrained"


@dataclass(frozen=True)
class Call:
    """A moment at which a retraining would have been called for."""

    at: datetime
    version: int
    reason: str
    """harm, or routine."""
    because: tuple[str, ...]


@dataclass(frozen=True)
class Told:
    """What a look back came to."""

    looks: int
    calls: tuple[Call, ...] = ()

    @property
    def alarm(self) -> Call | None:
        """The first call that was made because of harm."""
        return next((call for call in self.calls if call.reason == Reason.HARM.value), None)


def steps(first: datetime, last: datetime, looks: int) -> list[datetime]:
    """So many moments, evenly, the last one just after `last`; an hour apart at least.

    >>> len(steps(datetime(2025, 1, 1), datetime(2025, 1, 11), 10))
    10
    """
    if looks < 1:
        return []
    length = max((last - first) / looks, SHORTEST)
    count = max(1, round((last - first) / length))
    return [first + length * (n + 1) for n in range(count - 1)] + [last + AFTER]


def due(store: RecordStore, model: str, moments: Sequence[datetime]) -> list[datetime]:
    """Those that are later than every look so far, of the past or of today: the watch never goes back."""
    checks = store.decisions(model, subject="trigger", limit=100)
    seen_until = max((check.at for check in checks if "version" in check.decision.evidence), default=None)
    return [at for at in moments if seen_until is None or at > seen_until]


def patient(watch: Watch) -> Watch:
    """The same watch, with looks that take in at one beat all that came since the last one, however long ago."""

    def looking_far(one: Look) -> Look:
        return replace(one, most_blocks=MOST_BLOCKS, ahead=A_DAY) if isinstance(one, InputWatch) else one

    return replace(watch, looks=tuple(map(looking_far, watch.looks)))


def beat(watch: Watch, at: datetime) -> Call | None:
    """One look at a moment of the past; its decision is stored under an id made from it. The call, if there was one."""
    store, model = watch.store, watch.model
    then = replace(
        watch, clock=ManualClock(at), log_window=lambda when, values: None, rolling=None, proposals=None, cascading=None
    )
    situation = then.situation()
    later = store.count_labels(model, at)
    situation = replace(situation, events=(), new_labels=max(0, situation.new_labels - later))
    judged = then.trigger.decide(situation)
    fired = judged.outcome is Outcome.FIRE
    because = (*judged.because, IN_VAIN) if fired else judged.because
    decision = Decision(judged.outcome, because, {**judged.evidence, **seen(situation), PAST: True})
    store.add_decision(model, "trigger", decision, at, id=f"past-{model}-{at.isoformat()}")
    reason = str(judged.evidence.get("reason", Reason.ROUTINE.value))
    return Call(at, situation.version, reason, tuple(judged.telling)) if fired else None


def over_time(store: RecordStore, model: str, most: int = 12, checks: int = 5_000) -> list[dict[str, Any]]:
    """The accuracy on labels at the newest `checks` checks, oldest first, evenly thinned.

    Each has at, value, low, high, n and version.
    """
    found = [
        {
            "at": check.at, "value": one.value, "low": one.low, "high": one.high, "n": one.n,
            "version": one.model_version,
        }
        for check in reversed(store.decisions(model, subject="trigger", limit=checks))
        for plain in check.decision.evidence.get("measurements", ())
        if plain["name"] == "accuracy" and (one := Measurement.from_json(plain)).known and one.judged
    ]  # fmt: skip
    if len(found) <= most:
        return found
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]
