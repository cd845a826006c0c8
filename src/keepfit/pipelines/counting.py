"""Which labels count, and what becomes of the accuracy: open cohorts wait, an audit corrects, the lag is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keepfit.data.records import AUDIT, MEASURING, Label, Prediction, Source, Window
from keepfit.data.store import RecordStore
from keepfit.intervals import Interval
from keepfit.monitoring.cohorts import LAG, Cohorts, cohorts_of, lag
from keepfit.monitoring.measurement import TOO_FEW, Measurement
from keepfit.monitoring.overlooked import Overlooked, overlooked

Pairs = list[tuple[Prediction, Label]]


@dataclass(frozen=True)
class Counting:
    """The labels of one model that measure now."""

    model: str
    store: RecordStore
    window: timedelta
    """Labels that arrived within this time measure."""
    cohorts: float = 0.0
    audited: bool = False
    timezone: str = "UTC"
    settling: timedelta | None = None
    """Where every outcome becomes known: how long silence takes to confirm. Until then there would be nothing but
    objections to an answer, so its labels count from then on; those of an audit are drawn by lot and count at once."""

    def labels(self, version: int, within: Window, began: datetime) -> Counted:
        """What counts of the labels that arrived in the window; how late labels are is stored beside it.

        What is said late of an earlier time of the same version, before it was taken back and came again (`began`), is
        no news.
        """
        now = within.end
        asked = self.store.asked(self.model, Window(now - (2 if self.cohorts else 1) * self.window, now))
        self.store.put(self.model, LAG, lag([one for one in asked if one.at >= now - self.window], now))
        sources = frozenset({Source.COMPLETE}) if self.audited else MEASURING
        settling = self.settling or timedelta(0)
        arrived = Window(within.start - settling, within.end)
        pairs = self.store.labelled(self.model, arrived, version, sources=sources, by="label")
        pairs = [
            (p, label) for p, label in pairs
            if p.time >= began and within.start <= counts_from(p, label, settling) < within.end
        ]  # fmt: skip
        if self.audited:
            return Counted(pairs, audit=overlooked(pairs, self.audits(version, within)))
        if not self.cohorts:
            return Counted(pairs)
        found = cohorts_of(asked, self.cohorts, self.timezone, now - self.window)
        counting = [
            (p, label) for p, label in pairs if label.source is not Source.ASKED or p.example_id not in found.open
        ]
        return Counted(counting, found, len(pairs) - len(counting))

    def audits(self, version: int, within: Window) -> Pairs:
        """The answers of the audit. An asked label that is older than the audit may know what the model said."""
        pairs = self.store.labelled(self.model, within, version, sources=frozenset({Source.ASKED}), by="label")
        parts = self.store.parts_of(self.model, [prediction.example_id for prediction, _ in pairs])
        return [(p, label) for p, label in pairs if AUDIT in parts.get(p.example_id, {})]


def counts_from(prediction: Prediction, label: Label, settling: timedelta) -> datetime:
    """When a label begins to count: when it came, and not before silence would have confirmed the answer."""
    silence = prediction.time + settling + timedelta(microseconds=1)
    return max(label.time, silence) if settling and label.source is Source.COMPLETE else label.time


@dataclass(frozen=True)
class Counted:
    """Labels that count, and what is known of those that do not."""

    pairs: Pairs
    cohorts: Cohorts | None = None
    waiting: int = 0
    """Labels that are in, but whose cohort is not."""
    audit: Overlooked | None = None

    def corrected(self, measured: Sequence[Measurement]) -> list[Measurement]:
        """The measurements, with the accuracy as it is known after all; what it was before stands beside it."""
        found: list[Measurement] = []
        for one in measured:
            if self.audit is not None and one.name == "accuracy":
                found += with_audit(one, self.audit)
            elif self.cohorts is not None and one.name.startswith("accuracy"):
                found.append(with_cohorts(one, self.cohorts, self.waiting))
            else:
                found.append(one)
        return found


def with_audit(plain: Measurement, audit: Overlooked) -> list[Measurement]:
    """The corrected accuracy, the one that the labels say, and how many errors are overlooked."""
    rate, few = audit.rate, plain.note.startswith(TOO_FEW)
    words = f"corrected by {audit.audited} audited answers: {rate.value:.0%} of {rate.n} errors were overlooked"
    note = f"{plain.note}; {words}" if plain.note else words
    share = replace(
        plain, name="overlooked", value=rate.value, low=rate.low, high=rate.high, n=rate.n, breached=False, limit=None,
        note=f"{TOO_FEW} audited errors" if few or not rate.n else "share of the audited errors that silence confirmed",
        effective=None,
    )  # fmt: skip
    return [
        replace(at(plain, audit.accuracy), note=note, effective=audit.effective),
        replace(at(plain, audit.plain), name="accuracy:unaudited", breached=False, limit=None),
        share,
    ]


def with_cohorts(one: Measurement, cohorts: Cohorts, waiting: int) -> Measurement:
    """The interval with what is missing at its worst."""
    bounded = at(one, cohorts.bounded(Interval(one.value, one.low, one.high, one.n)))
    words = f"{cohorts.missing:.0%} of the questions unanswered, {waiting} labels wait for the rest of their day"
    return replace(bounded, note=f"{one.note}; {words}" if one.note else words)


def at(one: Measurement, interval: Interval) -> Measurement:
    """The same with another value and interval."""
    return replace(one, value=interval.value, low=interval.low, high=interval.high)
