"""Feeding the harm detectors: each label that measures once, in the order in which they came in, whatever stops us."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from keepfit.data.arrivals import Arrival
from keepfit.data.records import Window
from keepfit.data.store import RecordStore
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.baseline import Baseline, Bursts, Sums, learn
from keepfit.monitoring.harm import HarmDetector, Observations, Proxy, Shared
from keepfit.monitoring.measurement import HARM, Measurement
from keepfit.monitoring.season import season, width
from keepfit.triggers.alarm import MOST_SLICES, Harm

Doubles = NDArray[np.float64]

VALUE = "harm"
CHUNK = 10_000
REMEMBERED = 5_000
"""Contents whose day is remembered, so that a storm of duplicates is one label a day and not proof upon proof."""
HOUR = timedelta(hours=1)
HOURS, MOST_BRIEFS = 400, 2_000
SLICE_SPREAD = 0.03
"""How far the usual risk of a slice is expected to be from that of the whole, before anything was seen of it."""


@dataclass
class Watched:
    """A detector with what people want to know of it."""

    detector: HarmDetector
    place: int = 0
    """0: of all answers; k: of the slice that appeared as number k."""
    lost: float = 0.0
    allowed: float = 0.0
    """Sums of losses and of bounds over all labels."""
    lows: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    """By number of the label with which a rise began: when it was answered, and the sums before it."""
    usual: tuple[float, float] = (0.0, 0.0)
    """Of a slice: labels that taught what is usual, and the sum of their losses beyond the whole's risk."""
    alarm: dict[str, Any] | None = None
    """Since the last restart."""

    def take(self, seen: Observations, times: Sequence[datetime], needed: float) -> None:
        """Labels, with the moments of their answers."""
        first, lost, allowed = self.detector.seen, self.lost, self.allowed
        alarm = self.detector.watch(seen, needed)
        before_lost = lost + np.concatenate([[0.0], np.cumsum(seen.losses)])
        before_allowed = allowed + np.concatenate([[0.0], np.cumsum(seen.bounds)])
        self.lost, self.allowed = float(before_lost[-1]), float(before_allowed[-1])
        for number in map(int, self.detector.since):
            at = number - first
            if 0 <= at < len(times):
                low = (times[at].isoformat(), float(before_lost[at]), float(before_allowed[at]))
                self.lows[str(number)] = low
        kept = {str(int(number)) for number in self.detector.since}
        self.lows = {number: low for number, low in self.lows.items() if number in kept}
        if alarm is not None and self.alarm is None:
            self.alarm = {"answered": times[alarm - first].isoformat(), **self.rise()}

    def rise(self) -> dict[str, Any]:
        """Where the harm that is most evident may have begun, and what was seen since."""
        began = self.detector.began
        at, lost, allowed = self.lows.get(str(began), ("", 0.0, 0.0))
        n = self.detector.seen - began
        risk, usual = (self.lost - lost) / max(n, 1), (self.allowed - allowed) / max(n, 1)
        return {"began": at, "labels": n, "risk": risk, "usual": usual}

    def excess(self) -> tuple[float, float]:
        """Of a slice: how much its risk is usually beyond the whole's, and the standard deviation of that."""
        n, total = self.usual
        precision = n / 0.25 + 1 / SLICE_SPREAD**2
        return total / 0.25 / precision, precision**-0.5

    def restart(self) -> None:
        """New evidence only."""
        self.detector.restart()
        self.alarm = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {"place": self.place, "lost": self.lost, "allowed": self.allowed, "usual": list(self.usual)}
        lows = {number: list(low) for number, low in self.lows.items()}
        return {"detector": self.detector.to_json(), "lows": lows, "alarm": self.alarm, **plain}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Watched:
        """The inverse of `to_json`."""
        lows = {number: (at, lost, allowed) for number, (at, lost, allowed) in plain["lows"].items()}
        n, total = plain["usual"]
        return cls(
            HarmDetector.from_json(plain["detector"]), plain["place"], plain["lost"], plain["allowed"], lows,
            (n, total), plain["alarm"],
        )  # fmt: skip


@dataclass
class State:
    """What is kept in the store between two checks; its size does not grow with the labels."""

    of: str
    """A hash of the version, its deployment, the rule and who is set apart: what makes it start anew."""
    since: str
    """When the version was deployed."""
    reference: Sums
    life: Sums
    proxy: Proxy
    bursts: Bursts = field(default_factory=Bursts)
    after: int = 0
    """Labels up to this number were taken in."""
    restarted: tuple[str, int] = ("", 0)
    """At which attempt to retrain evidence began anew, and the number of the label before."""
    watched: dict[str, Watched] = field(default_factory=dict)
    """By slice; the whole under ""."""
    days: dict[str, str] = field(default_factory=dict)
    """By content: the day of the last label that counted."""
    hours: dict[str, float] = field(default_factory=dict)
    """By hour: how wrong the model expected to be, on average."""
    passed_over: int = 0
    """Slices beyond the most that are watched."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "of": self.of, "since": self.since, "reference": self.reference.to_json(), "life": self.life.to_json(),
            "proxy": [self.proxy.share, self.proxy.explained], "bursts": asdict(self.bursts), "after": self.after,
            "restarted": list(self.restarted),
            "watched": {name: one.to_json() for name, one in self.watched.items()}, "days": self.days,
            "hours": self.hours, "passed_over": self.passed_over,
        }  # fmt: skip

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> State:
        """The inverse of `to_json`."""
        at, number = plain["restarted"]
        return cls(
            plain["of"], plain["since"], Sums.from_json(plain["reference"]), Sums.from_json(plain["life"]),
            Proxy(*plain["proxy"]), Bursts(**{**plain["bursts"], "part": tuple(plain["bursts"]["part"])}),
            plain["after"], (at, number),
            {name: Watched.from_json(one) for name, one in plain["watched"].items()}, dict(plain["days"]),
            dict(plain["hours"]), plain["passed_over"],
        )  # fmt: skip


@dataclass(frozen=True)
class Harming:
    """The harm detectors of one model."""

    model: str
    store: RecordStore
    rule: Harm
    timezone: str = "UTC"
    complete: bool = False
    """Every outcome becomes known, so each label stands for its own answer alone, also one that was asked for."""

    def measure(
        self, version: int, began: datetime, reference: Reference, attempted: datetime | None, window: Window
    ) -> list[Measurement]:
        """Take in the labels that are new, and say what the evidence is as a multiple of what an alarm needs.

        Evidence of before the last attempt to retrain (`attempted`) does not call for another one. Without a labelled
        reference nothing can be said.
        """
        if not len(reference.truth):
            return []
        state = self.state(version, began, reference)
        if attempted is not None and attempted.isoformat() > state.restarted[0] and attempted > began:
            self.restart(state, attempted)
        while fresh := self.arrived(version, began, state.after):
            old = [one for one in fresh if one.seq <= state.restarted[1]]
            if old:
                self.take(state, old, version, began)
                self.restart_evidence(state)
            self.take(state, fresh[len(old) :], version, began)
            state.after = fresh[-1].seq
        after = state.to_json()
        if after != self.store.get(self.model, VALUE):
            self.store.put(self.model, VALUE, after)
        return [self.measured(state, name, version, window) for name in state.watched]

    def arrived(self, version: int, began: datetime, after: int) -> list[Arrival]:
        """The next labels."""
        found = self.store.arrivals(self.model, version, began, after, CHUNK)
        return [replace(one, chance=1.0) for one in found] if self.complete else found

    def state(self, version: int, began: datetime, reference: Reference) -> State:
        """As it was left; from the record anew where something has changed that it rests on."""
        apart = sorted(one.actor for one in self.store.labellers(self.model) if one.apart)
        of = hashlib.sha256(repr((version, began.isoformat(), self.rule, self.timezone, apart)).encode()).hexdigest()
        kept = self.store.get(self.model, VALUE)
        if kept is not None and kept["of"] == of:
            return State.from_json(kept)
        losses = (reference.scores.argmax(axis=1) != reference.truth).astype(np.float64)
        expected = 1.0 - reference.scores.max(axis=1, initial=0.0)
        columns = self.columns_of(reference)
        none = Sums.none(columns.shape[1])
        state = State(of, began.isoformat(), none.add(losses, columns), none, Proxy.learn(losses, expected))
        state.watched[""] = Watched(HarmDetector(proxy=state.proxy))
        if kept is not None and kept["since"] == began.isoformat():
            state.restarted = (kept["restarted"][0], kept["restarted"][1])
        return state

    def columns_of(self, reference: Reference) -> Doubles:
        """The seasons of the rows that say when they happened, and 0 (the middle) of the others; shape (n, c)."""
        columns = np.zeros((len(reference.truth), width(self.rule.cycles)))
        known = np.flatnonzero(np.isfinite(reference.times))
        moments = [datetime.fromtimestamp(at, UTC) for at in reference.times[known]]
        columns[known] = season(moments, self.rule.cycles, self.timezone)
        return columns

    def restart(self, state: State, attempted: datetime) -> None:
        """Everything that is stored by now is old evidence."""
        newest, _ = self.store.arrived(self.model, state.after)
        state.restarted = (attempted.isoformat(), newest)
        self.restart_evidence(state)

    @staticmethod
    def restart_evidence(state: State) -> None:
        """Of all detectors."""
        for one in state.watched.values():
            one.restart()

    def take(self, state: State, fresh: Sequence[Arrival], version: int, began: datetime) -> None:
        """Labels, in order; of one content only the first of a day."""
        fresh = [one for one in fresh if self.first_of_day(state, one)]
        if not fresh:
            return
        baseline = learn(state.reference, state.life)
        columns = season([one.answered for one in fresh], self.rule.cycles, self.timezone)
        losses = np.array([one.wrong for one in fresh], np.float64)
        surprise = self.surprise(state, fresh, version)
        whole = self.of_whole(baseline, columns)
        worth = state.bursts.worth(state.proxy.explained)
        self.feed(state, "", fresh, Observations.of(losses, whole, chances(fresh), surprise, worth))
        teaching = np.array([one.answered < began + timedelta(days=self.rule.learn_days) for one in fresh], bool)
        for name, rows in self.slices(state, fresh).items():
            bounds = self.of_slice(state.watched[name], baseline, columns[rows])
            some = [fresh[row] for row in rows]
            self.feed(state, name, some, Observations.of(losses[rows], bounds, chances(some), surprise[rows], worth))
            taught = rows[teaching[rows]]
            beyond = float((losses[taught] - baseline.risk(columns[taught])).sum())
            n, total = state.watched[name].usual
            state.watched[name].usual = (n + len(taught), total + beyond)
        state.life = state.life.add(losses[teaching], columns[teaching])
        state.bursts.add(losses[teaching], baseline.risk(columns[teaching]))

    def feed(self, state: State, name: str, fresh: Sequence[Arrival], seen: Observations) -> None:
        """One detector."""
        watched = state.watched[name]
        shared = Shared(self.rule.one_in, bool(self.rule.slices))
        watched.take(seen, [one.answered for one in fresh], shared.needed(watched.place))

    def of_whole(self, baseline: Baseline, columns: Doubles) -> Doubles:
        """The largest risk that is no harm, shape (n,)."""
        return baseline.upper(columns, self.rule.deviations, self.rule.tolerance)

    def of_slice(self, watched: Watched, baseline: Baseline, columns: Doubles) -> Doubles:
        """The same of a slice, whose risk may usually be another than the whole's."""
        excess, deviation = watched.excess()
        both = np.sqrt(baseline.deviation(columns) ** 2 + deviation**2)
        bound = baseline.risk(columns) + excess + self.rule.deviations * both + self.rule.tolerance
        return np.asarray(np.clip(bound, 1e-3, 1 - 1e-3), np.float64)

    def first_of_day(self, state: State, one: Arrival) -> bool:
        """Whether no label of this content's answers of that day has counted; if so, this one does."""
        day, mark = one.answered.astimezone(ZoneInfo(self.timezone)).date().isoformat(), one.group[:16]
        if state.days.get(mark) == day:
            return False
        state.days.pop(mark, None)
        state.days[mark] = day
        if len(state.days) > REMEMBERED:
            del state.days[next(iter(state.days))]
        return True

    def slices(self, state: State, fresh: Sequence[Arrival]) -> dict[str, NDArray[np.int64]]:
        """The rows of each slice; new ones join, as long as there are not too many."""
        found: dict[str, list[int]] = {}
        for row, one in enumerate(fresh):
            for name in self.rule.slices:
                if name in one.context:
                    found.setdefault(f"{name}={one.context[name]}", []).append(row)
        for name in list(found):
            if name not in state.watched and len(state.watched) > MOST_SLICES:
                state.passed_over += len(found.pop(name))
            elif name not in state.watched:
                state.watched[name] = Watched(HarmDetector(proxy=state.proxy), len(state.watched))
        return {name: np.array(rows, np.int64) for name, rows in found.items()}

    def surprise(self, state: State, fresh: Sequence[Arrival], version: int) -> Doubles:
        """How much more than usual at their hour the model expected to be wrong, shape (n,).

        Asked labels are drawn from the answers of their hour, whose mean is known without labels. Where all outcomes
        become known there is no such mean to compare with, and 0.
        """
        if not state.proxy.share:
            return np.zeros(len(fresh))
        return np.array(
            [0.0 if one.chance >= 1 else 1 - one.confidence - self.mean_of_hour(state, one, version) for one in fresh]
        )

    def mean_of_hour(self, state: State, one: Arrival, version: int) -> float:
        """The mean of one less the confidence, over the answers of the hour of this one."""
        start = one.answered.replace(minute=0, second=0, microsecond=0)
        name = start.isoformat()
        if name not in state.hours:
            briefs = self.store.briefs(self.model, Window(start, start + HOUR), version, MOST_BRIEFS)
            heard = [brief.confidence for brief in briefs if not brief.shadow] or [one.confidence]
            state.hours[name] = 1.0 - float(np.mean(heard))
            if len(state.hours) > HOURS:
                del state.hours[next(iter(state.hours))]
        return state.hours[name]

    def measured(self, state: State, name: str, version: int, window: Window) -> Measurement:
        """The evidence of one detector as a multiple of what an alarm needs."""
        watched = state.watched[name]
        needed = Shared(self.rule.one_in, bool(self.rule.slices)).needed(watched.place)
        share = float(watched.detector.evidence) / needed
        rise = watched.alarm or watched.rise()
        note = f"since {rise['began'][:16] or 'the beginning'} {rise['risk']:.3f} wrong of {rise['labels']} labels, "
        note += f"where {rise['usual']:.3f} at most is usual"
        if not name and state.passed_over:
            note += f"; {state.passed_over} labels of slices beyond the first {MOST_SLICES} are not watched by slice"
        return Measurement(
            HARM if not name else f"{HARM}:{name}", share, share, share, watched.detector.seen, window, version,
            watched.alarm is not None, 1.0, note, since=rise["began"],
        )  # fmt: skip


def chances(fresh: Sequence[Arrival]) -> Doubles:
    """Shape (n,)."""
    return np.array([one.chance for one in fresh], np.float64)
