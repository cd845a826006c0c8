"""Feeding the harm detectors: each label that measures once, in the order in which they came in, whatever stops us."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from keepfit.data.arrivals import Arrival
from keepfit.data.records import Window, is_content_hash
from keepfit.data.store import RecordStore
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.baseline import Baseline, Sums, learn
from keepfit.monitoring.cycles import season, width
from keepfit.monitoring.harm import HarmDetector, Observations, Proxy, Shared
from keepfit.monitoring.measurement import HARM, Measurement
from keepfit.pipelines.harm_state import State, Watched
from keepfit.pipelines.taking import INSTANT, Days, Taking, beyond
from keepfit.triggers.alarm import MOST_SLICES, Harm

Doubles = NDArray[np.float64]

VALUE = "harm"
REMEMBERED = 5_000
"""Contents whose day is remembered, so that a storm of duplicates is one label a day and not proof upon proof."""
PIECE = 50
"""Labels after which what is usual is learnt anew: by their number, so that it does not matter how often one looks."""
HOUR = timedelta(hours=1)
HOURS, LEAST_ANSWERS = 400, 50
SLICE_LABELS = 300
"""So many labels of its own must have taught what is usual of a slice before it is watched."""


@dataclass(frozen=True)
class Harming:
    """The harm detectors of one model."""

    model: str
    store: RecordStore
    rule: Harm
    timezone: str = "UTC"
    complete: bool = False
    """Every outcome becomes known, so each label stands for its own answer alone, also one that was asked for."""
    days: Days | None = None
    """Questions of one day count together; None: each label as it arrives."""

    @property
    def taking(self) -> Taking:
        """In which order labels are taken in."""
        return Taking(self.model, self.store, self.complete, self.days)

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
        start = max(began, datetime.fromisoformat(state.settled)) if state.settled else began
        newest, at = self.taking.newest(state.after), self.taking.position(state.after, start, window.end)
        while fresh := self.taking.next(version, began, at):
            old = [one for one in fresh if self.is_old(state, one)]
            if old:
                self.take(state, old, version, began)
                self.restart_evidence(state)
            self.take(state, fresh[len(old) :], version, began)
            state.after = max(state.after, *(one.seq for one in fresh))
            state.settled, at = (fresh[-1].answered + INSTANT).isoformat(), beyond(at, fresh)
        state.after = max(state.after, newest)
        after = state.to_json()
        if after != self.store.get(self.model, VALUE):
            self.store.put(self.model, VALUE, after)
        return [self.measured(state, name, version, window) for name in state.watched]

    def is_old(self, state: State, one: Arrival) -> bool:
        """Whether it was known before the last attempt to retrain; of days: whether its day was taken in by then."""
        at, number, settled = state.restarted
        if self.days is not None and not self.complete:
            return one.answered.isoformat() < settled
        return one.arrived.isoformat() <= at if self.complete else one.seq <= number

    def state(self, version: int, began: datetime, reference: Reference) -> State:
        """As it was left; from the record anew where something has changed that it rests on."""
        apart = sorted(one.actor for one in self.store.labellers(self.model) if one.apart)
        rests_on: tuple[object, ...] = (version, began.isoformat(), self.rule, self.timezone, apart)
        if self.days is not None and not self.complete:
            rests_on = (*rests_on, self.days)
        of = hashlib.sha256(repr(rests_on).encode()).hexdigest()
        kept = self.store.get(self.model, VALUE)
        if kept is not None and kept["of"] == of:
            return State.from_json(kept)
        losses = (reference.scores.argmax(axis=1) != reference.truth).astype(np.float64)
        expected = 1.0 - reference.scores.max(axis=1, initial=0.0)
        columns = self.columns_of(reference)
        none = Sums.none(columns.shape[1])
        state = State(of, began.isoformat(), none.add(losses, columns), none, Proxy.learn(losses, expected), none)
        state.watched[""] = Watched(HarmDetector(proxy=state.proxy))
        if kept is not None and kept["since"] == began.isoformat():
            state.restarted = State.from_json(kept).restarted
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
        state.restarted = (attempted.isoformat(), newest, state.settled)
        self.restart_evidence(state)

    @staticmethod
    def restart_evidence(state: State) -> None:
        """Of all detectors."""
        for one in state.watched.values():
            one.restart()

    def take(self, state: State, fresh: Sequence[Arrival], version: int, began: datetime) -> None:
        """Labels, in order, of one content the first of a day; in pieces, at whose ends is learnt what is usual."""
        rest = [one for one in fresh if self.first_of_day(state, one)]
        while rest:
            size = PIECE - state.taken % PIECE
            self.piece(state, rest[:size], version, began)
            state.taken += len(rest[:size])
            rest = rest[size:]
            if state.taken % PIECE == 0:
                state.life, state.worth = state.taught, state.bursts.worth(state.proxy.explained)
                for one in state.watched.values():
                    one.usual = one.taught

    def piece(self, state: State, fresh: Sequence[Arrival], version: int, began: datetime) -> None:
        """Labels that are judged by what was usual before them, and that teach what is usual after them."""
        baseline = learn(state.reference, state.life)
        columns = season([one.answered for one in fresh], self.rule.cycles, self.timezone)
        losses, chance = np.array([one.wrong for one in fresh], np.float64), chances(fresh)
        surprise, weights = self.surprise(state, fresh, version), chance.min() / chance
        whole = self.of_whole(baseline, columns)
        self.feed(state, "", fresh, Observations.of(losses, whole, chance, surprise, state.worth))
        known, end = np.array([not one.missing for one in fresh], bool), began + timedelta(days=self.rule.learn_days)
        teaching = np.array([one.answered < end for one in fresh], bool) & known
        for name, rows in self.slices(state, fresh).items():
            watched, some = state.watched[name], [fresh[row] for row in rows]
            if watched.usual[0] >= SLICE_LABELS:
                bounds = self.of_slice(watched, baseline, columns[rows])
                seen = Observations.of(losses[rows], bounds, chance[rows], surprise[rows], state.worth)
                self.feed(state, name, some, seen)
            taught = rows[teaching[rows] | ((watched.usual[0] < SLICE_LABELS) & known[rows])]
            beyond = float((weights[taught] * (losses[taught] - baseline.risk(columns[taught]))).sum())
            n, total = watched.taught
            watched.taught = (n + float(weights[taught].sum()), total + beyond)
        state.taught = state.taught.add(losses[teaching], columns[teaching], weights[teaching])
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
        if not is_content_hash(one.group):  # a video, a conversation: what is in it is not alike
            return True
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
        """How much more than the others of its hour the model expected to be wrong, shape (n,).

        Asked labels are drawn from the answers of their hour, whose mean is known without labels once it is over. 0 for
        labels that came earlier, for hours with few answers, and where all outcomes become known.
        """
        if not state.proxy.share:
            return np.zeros(len(fresh))
        return np.array([0.0 if one.chance >= 1 else self.beyond_hour(state, one, version) for one in fresh])

    def beyond_hour(self, state: State, one: Arrival, version: int) -> float:
        """One less the confidence, less its mean over the answers of the hour that might have been asked for."""
        start = one.answered.replace(minute=0, second=0, microsecond=0)
        if one.arrived < start + HOUR:
            return 0.0
        name = start.isoformat()
        if name not in state.hours:
            midnight = one.answered.astimezone(ZoneInfo(self.timezone)).replace(
                hour=0, minute=0, second=0, microsecond=0
            )
            mean, n = self.store.expected_wrong(self.model, version, Window(start, start + HOUR), midnight)
            state.hours[name] = mean if n >= LEAST_ANSWERS else -1.0
            if len(state.hours) > HOURS:
                del state.hours[next(iter(state.hours))]
        return 1.0 - one.confidence - state.hours[name] if state.hours[name] >= 0 else 0.0

    def measured(self, state: State, name: str, version: int, window: Window) -> Measurement:
        """The evidence of one detector as a multiple of what an alarm needs."""
        watched = state.watched[name]
        needed = Shared(self.rule.one_in, bool(self.rule.slices)).needed(watched.place)
        share = float(watched.detector.evidence) / needed
        rise = watched.alarm or watched.rise()
        note = f"since {rise['began'][:16] or 'the beginning'} {rise['risk']:.3f} wrong of {rise['labels']} labels, "
        note += f"where {rise['usual']:.3f} at most is usual"
        if not name and self.days is not None and not self.complete:
            counted = f"{state.settled[:16]} UTC" if state.settled else "none yet"
            note += f"; whole days of labels count [cohorts]: answers until {counted}"
        if not name and state.passed_over:
            note += f"; {state.passed_over} labels of slices beyond the first {MOST_SLICES} are not watched by slice"
        return Measurement(
            HARM if not name else f"{HARM}:{name}", share, share, share, watched.detector.seen, window, version,
            watched.alarm is not None, 1.0, note, since=rise["began"],
        )  # fmt: skip


def chances(fresh: Sequence[Arrival]) -> Doubles:
    """Shape (n,)."""
    return np.array([one.chance for one in fresh], np.float64)
