"""Whose labels count: what labellers said is judged before it can measure, trigger or train anything.

Setting somebody apart is a stored decision with its evidence; a person clears, or sets apart, with a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from keepfit.clock import Clock
from keepfit.data.labellers import BY_HAND, Labeller, token_of
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound, Refused
from keepfit.monitoring.trust import Hours, Standing, is_apart, speaks_for, standings

LAST = 10_000
"""Labels that are looked at, the newest; only when new ones have come."""
HOUR = timedelta(hours=1)
KEPT, MOST = 168, 1000
"""Active hours that are remembered of each labeller, and labellers whose hours are remembered."""
ARRIVALS, CLEARED = "label_arrivals", "labellers_cleared"


@dataclass(frozen=True)
class LabelTrust:
    """The labellers of one model."""

    model: str
    store: RecordStore
    clock: Clock

    def judge(self) -> list[str]:
        """Set apart whom the newest labels speak against; returns their names. Without new labels nothing is read."""
        now, before = self.clock.now(), self.store.get(self.model, ARRIVALS) or {}
        newest, counts = self.store.arrived(self.model, int(before.get("seq", 0)))
        if not counts:
            return []
        by_hand = self.store.get(self.model, BY_HAND) or {}
        after = counted(before, newest, counts, by_hand, now)
        apart, found = set(self.apart()), []
        about = {name for actor in counts for name in (actor, token_of(actor))}
        for standing in self.standings(after, about):  # by name, so that a token comes before who speaks through it
            decision = standing.decision()
            if decision is not None and not is_apart(standing.actor, apart):
                self.keep(standing.actor, True, "keepfit", decision, newest)
                apart.add(standing.actor)
                found.append(standing.actor)
        self.store.put(self.model, ARRIVALS, after)  # last: killed before it, the same labels are judged again
        return found

    def standings(
        self, arrivals: Mapping[str, Any] | None = None, about: Collection[str] | None = None
    ) -> list[Standing]:
        """What is known of every labeller (or of some), those who were set apart too."""
        kept = (self.store.get(self.model, ARRIVALS) or {}) if arrivals is None else arrivals
        said = self.store.said(self.model, LAST)
        cleared = self.store.get(self.model, CLEARED) or {}
        return standings(said, self.apart(), cleared, hours_of(kept, self.clock.now()), about)

    def apart(self) -> frozenset[str]:
        """Who is set apart."""
        return frozenset(one.actor for one in self.store.labellers(self.model) if one.apart)

    def set_apart(self, actor: str, by: str) -> Decision:
        """On a person's word. Raises NotFound for somebody who never gave a label."""
        self.check_known(actor)
        decision = Decision(Outcome.HOLD, (f"{by} set {actor} apart",), {"actor": actor, "by": by})
        self.keep(actor, True, by, decision)
        return decision

    def clear(self, actor: str, by: str) -> Decision:
        """The labels count again, and nothing said so far is held against the labeller.

        Raises NotFound, and Refused while the token is set apart through which the labeller speaks.
        """
        self.check_known(actor)
        if (token := actor.partition(":")[0]) != actor and token in self.apart():
            raise Refused(f"{actor!r} speaks through {token!r}, which is set apart; clear {token!r} first")
        newest, _ = self.store.arrived(self.model, 0)
        kept = self.store.get(self.model, CLEARED) or {}
        self.store.put(self.model, CLEARED, {**kept, actor: newest})
        arrivals = self.store.get(self.model, ARRIVALS) or {}
        self.store.put(self.model, ARRIVALS, excused(arrivals, actor, self.clock.now()))
        decision = Decision(Outcome.PASS, (f"{by} cleared {actor}",), {"actor": actor, "by": by})
        self.keep(actor, False, by, decision)
        return decision

    def check_known(self, actor: str) -> None:
        """Raises NotFound for somebody about whom nothing is known."""
        known = {one.actor for one in self.store.labellers(self.model)} | {one.actor for one in self.standings()}
        if actor not in known:
            raise NotFound(f"no labeller {actor!r} is known; `keepfit labels trust` lists them")

    def keep(self, actor: str, apart: bool, by: str, decision: Decision, newest: int | None = None) -> None:
        """First the decision, then what follows from it; `newest` makes a repeated judgement one."""
        name = sha256(actor.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        id_ = None if newest is None else f"labeller-{self.model}-{name}-{newest}"
        now = self.clock.now()
        self.store.add_decision(self.model, f"labeller {actor}", decision, now, id=id_)
        self.store.set_labeller(Labeller(self.model, actor, apart, now, by, decision.because))


def counted(
    before: Mapping[str, Any], newest: int, counts: Mapping[str, int], by_hand: Mapping[str, int], now: datetime
) -> dict[str, Any]:
    """What has arrived, by labeller and hour, with the new labels.

    Labels carry times of their senders' choosing, so what counts is when they were first seen here. After a pause of
    the watch of more than an hour they are spread over it. What was handed in by the command line is no flood.
    """
    kept = hours_in(before)
    pause = now - datetime.fromisoformat(before["at"]) if "at" in before else HOUR
    share, hour = min(1.0, HOUR / pause) if pause > HOUR else 1.0, hour_of(now)
    handed = before.get("by_hand", {})
    fresh: Counter[str] = Counter()
    for actor, count in counts.items():
        n = max(0, count - max(0, by_hand.get(actor, 0) - handed.get(actor, 0)))
        for name in {actor, token_of(actor)}:
            fresh[name] += n
    for name, n in fresh.items():
        pairs = kept.setdefault(name, {})
        pairs[hour] = pairs.get(hour, 0) + round(n * share)
    hours = {name: sorted((at, n) for at, n in pairs.items() if n)[-KEPT:] for name, pairs in kept.items()}
    # tokens first, for they cannot be invented; then who spoke last
    order = sorted((name for name in hours if hours[name]), key=lambda name: (":" not in name, hours[name][-1][0]))
    return {
        "seq": newest, "at": now.isoformat(), "hours": {name: hours[name] for name in order[-MOST:]},
        "by_hand": dict(by_hand),
    }  # fmt: skip


def excused(kept: Mapping[str, Any], actor: str, now: datetime) -> dict[str, Any]:
    """The present hour of somebody whom a person cleared counts as an earlier one, so that it is what is usual."""
    hours, hour, before = hours_in(kept), hour_of(now), hour_of(now - HOUR)
    for name, pairs in hours.items():
        if speaks_for(actor, name) and hour in pairs:
            pairs[before] = max(pairs.get(before, 0), pairs.pop(hour))
    return {**kept, "hours": {name: sorted(pairs.items()) for name, pairs in hours.items()}}


def hours_in(kept: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Labeller, or token, to hour to labels."""
    return {name: dict(pairs) for name, pairs in kept.get("hours", {}).items()}


def hours_of(kept: Mapping[str, Any], now: datetime) -> dict[str, Hours]:
    """The same for the judgement: the present hour, and the earlier ones."""
    hour = hour_of(now)
    return {
        name: Hours(pairs.get(hour, 0), tuple(n for at, n in pairs.items() if at < hour))
        for name, pairs in hours_in(kept).items()
    }


def hour_of(now: datetime) -> str:
    """The hour of a moment, in an order that sorts."""
    return f"{now:%Y-%m-%dT%H}"
