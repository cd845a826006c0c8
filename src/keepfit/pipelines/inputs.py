"""Input drift in life: every answer is wagered on once; an alarm warns and asks for more labels, retrains nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from keepfit.data.records import Prediction, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.betting import Alarm, Bounds, InputBets
from keepfit.monitoring.gathering import gathered
from keepfit.monitoring.measurement import TOO_FEW, Measurement
from keepfit.monitoring.ranks import FEWEST, Ranks, rows_of
from keepfit.monitoring.seasons import bin_of
from keepfit.pipelines.jumps import BACK, went_back
from keepfit.pipelines.looks import Beat, mark_of

BLOCK = timedelta(minutes=5)
"""Answers of so long are looked at together: within it, who repeats himself counts once."""
UNWRITTEN = timedelta(seconds=1)
MOST_BLOCKS = 288
"""A beat catches up with a day at most."""
MOST_ROWS = 4096
"""Of one block; the newest of more."""
LASTS = timedelta(days=1)
"""So long after an alarm more labels are asked for, and the inputs count as drifting."""
STATE, ALARMED = "input_drift", "input_alarm"
NAME = "input_drift"


@dataclass
class InputWatch:
    """Of one model. What it knows is in the store, so it goes on after a restart where it was."""

    model: str
    store: RecordStore
    timezone: str = "UTC"
    run_length: float = 1e6
    """Answers between two false alarms, on average at least."""
    label_rate: float = 2.0
    """The label rate is multiplied by this after an alarm."""
    most_blocks: int = MOST_BLOCKS
    """Taken in at one beat; the next one goes on from there."""
    ahead: timedelta = BLOCK
    """For so long a time answers are read at once; who looks back on months reads by the day."""
    _ranks: tuple[str, Ranks] | None = None

    def more_labels(self, now: datetime) -> float:
        """By what the label rate is to be multiplied."""
        return self.label_rate if self._alarmed(now) is not None else 1.0

    def measure(self, beat: Beat) -> list[Measurement]:
        """Take in the answers since the last beat; `input_drift` is the evidence as a power of ten."""
        if len(beat.reference.scores) < FEWEST:
            return [self._too_small(beat)]
        ranks = self._ready(beat.reference)
        bounds = Bounds(ranks.low, ranks.high, ranks.deviation, ranks.feature)
        bets, until = self._awake(beat, bounds)
        zone = ZoneInfo(self.timezone)
        if went_back(self.store, self.model, "inputs are compared with the reference again", until, beat.now):
            until = block_of(beat.now)
            bets.seasons.disturbed()  # neither the day that never was nor what is left of this one teaches anything
            bets.seasons.begin(until.astimezone(zone).date().isoformat())
            bets.seasons.disturbed()
            self.store.put(self.model, STATE, self._kept(beat, bets, until))
        begun = until
        for block, said in self._blocks(beat, until):
            bets.seasons.begin(block.start.astimezone(zone).date().isoformat())
            self._take_in(said, ranks, bets, block, beat)
            until = block.end
        if until != begun:
            self.store.put(self.model, STATE, self._kept(beat, bets, until))
        return [self._measured(bets, ranks, beat)]

    def _blocks(self, beat: Beat, until: datetime) -> Iterator[tuple[Window, list[Prediction]]]:
        """The blocks that are over, each with its newest answers."""
        held: list[Prediction] = []
        known = until
        for _ in range(self.most_blocks):
            if until + BLOCK > beat.now - UNWRITTEN:
                return
            block = Window(until if beat.began > beat.now else max(until, beat.began), until + BLOCK)
            if block.end > known:
                known = max(block.end, min(block.start + self.ahead, beat.now))
                most = MOST_ROWS * max(1, self.ahead // BLOCK)
                held = self.store.fair_predictions(self.model, Window(block.start, known), beat.version, most)
            first, end = (bisect_left(held, moment, key=attrgetter("time")) for moment in (block.start, block.end))
            yield block, held[first:end][-MOST_ROWS:]
            until = block.end

    def _ready(self, reference: Reference) -> Ranks:
        if self._ranks is None or self._ranks[0] != mark_of(reference):
            self._ranks = (mark_of(reference), Ranks(reference))
        return self._ranks[1]

    def _awake(self, beat: Beat, bounds: Bounds) -> tuple[InputBets, datetime]:
        kept = self.store.get(self.model, STATE)
        if kept is not None and (kept["version"], kept["began"]) == (beat.version, beat.began.isoformat()):
            try:
                return InputBets.from_json(kept["bets"], bounds, self.run_length), datetime.fromisoformat(kept["until"])
            except ValueError:
                pass  # of an earlier release, or people were taken out of the reference: begin anew
        return InputBets(bounds, self.run_length), block_of(beat.began)

    @staticmethod
    def _kept(beat: Beat, bets: InputBets, until: datetime) -> dict[str, Any]:
        return {
            "version": beat.version, "began": beat.began.isoformat(), "until": until.isoformat(),
            "bets": bets.to_json(),
        }  # fmt: skip

    def _take_in(self, said: list[Prediction], ranks: Ranks, bets: InputBets, block: Window, beat: Beat) -> None:
        if not said:
            return
        values = ranks.values(rows_of(said, ranks.measures))
        contents = [p.embedding.tobytes() + p.scores.tobytes() for p in said]
        seen = gathered(values, contents, [p.key for p in said])
        bins = np.full(len(seen.values), bin_of(block.start, ZoneInfo(self.timezone)))
        for alarm in bets.update(seen.values, seen.counts, bins):
            self._raise(alarm, ranks, bets, said[int(extreme(seen.values, seen.places, alarm))], block, beat)

    def _raise(
        self, alarm: Alarm, ranks: Ranks, bets: InputBets, example: Prediction, block: Window, beat: Beat
    ) -> None:
        """Stored as a decision, once for each day that it stands; the first one is told to people.

        A change that lasts raises alarm upon alarm: it keeps the moment since when it is known.
        """
        before = self._alarmed(block.end)
        moved = [
            {
                "what": ranks.words(column, example.labels), "share": round(share, 3),
                "more": alarm.more[column], "mean": round(float(bets.recent[column]), 4),
                "reference": round(float(ranks.mean[column]), 4),
            }
            for column, share in list(alarm.evidence.items())[:5]
        ]  # fmt: skip
        words = ", ".join(f"{one['what']} {one['mean']:.2f} (reference {one['reference']:.2f})" for one in moved)
        at, standing = block.end.isoformat(), before is not None and before["version"] == beat.version
        standing = standing and before is not None and datetime.fromisoformat(before["since"]) >= beat.began
        kept: dict[str, Any] = {
            "at": at,
            "since": block.start.isoformat(),
            "told": at,
            "words": words,
            "version": beat.version,
        }
        if before is not None and standing:
            kept |= {"since": before["since"], "told": before.get("told", before["at"])}
            if block.end < datetime.fromisoformat(kept["told"]) + LASTS:
                self.store.put(self.model, ALARMED, kept)
                return
        because = (
            f"the inputs are no longer like the reference: {words or 'many features a little'}",
            f"an example is the answer {example.id} ({example.label}, {example.confidence:.2f})",
            f"for a day {self.label_rate:g} times the label rate is asked for, within the budget; it retrains nothing",
        )
        evidence = {
            "moved": moved, "example": example.id, "version": beat.version, "run_length": self.run_length,
            "block": [block.start.isoformat(), block.end.isoformat()], "again": before is not None,
        }  # fmt: skip
        self.store.add_decision(self.model, "inputs", Decision(Outcome.FIRE, because, evidence), beat.now)
        self.store.put(self.model, ALARMED, kept | {"told": at})

    def _alarmed(self, now: datetime) -> Mapping[str, Any] | None:
        """The last alarm of this model, while it lasts."""
        kept: Mapping[str, Any] | None = self.store.get(self.model, ALARMED)
        if kept is None or not now < datetime.fromisoformat(kept["at"]) + LASTS:
            return None
        return kept if datetime.fromisoformat(kept["at"]) <= now + BACK else None  # it lies in a future that never was

    def _measured(self, bets: InputBets, ranks: Ranks, beat: Beat) -> Measurement:
        alarmed = self._alarmed(beat.now)
        alarmed = alarmed if alarmed is not None and alarmed["version"] == beat.version else None
        value, limit = float(np.log10(max(bets.evidence, 1.0))), float(np.log10(self.run_length))
        if alarmed is not None:
            start = datetime.fromisoformat(alarmed["since"])
            return Measurement(
                NAME, limit, limit, limit, int(bets.seen), Window(start, beat.window.end), beat.version, breached=True,
                limit=limit, note=f"moved: {alarmed['words']}",
            )  # fmt: skip
        note = f"one false alarm in {self.run_length:g} answers at most; {bets.seasons.hours} of 48 hours known"
        if bets.block is None:
            note = f"{TOO_FEW}: it is being measured how alike neighbouring answers are"
        return Measurement(NAME, value, value, value, int(bets.seen), beat.window, beat.version, limit=limit, note=note)

    def _too_small(self, beat: Beat) -> Measurement:
        rows = len(beat.reference.scores)
        note = f"{TOO_FEW}: the reference has {rows} rows, {FEWEST} are needed to compare with"
        return Measurement(NAME, 0.0, 0.0, 0.0, len(beat.predictions), beat.window, beat.version, note=note)


def block_of(moment: datetime) -> datetime:
    """The start of its block."""
    start = moment.timestamp() // BLOCK.total_seconds() * BLOCK.total_seconds()
    return datetime.fromtimestamp(start, moment.tzinfo)


def extreme(values: np.ndarray, places: np.ndarray, alarm: Alarm) -> int:
    """The answer of the block that shows most of what moved."""
    if not alarm.evidence:
        return int(places[alarm.place])
    column = next(iter(alarm.evidence))
    side = values[:, column] if alarm.more[column] else -values[:, column]
    return int(places[int(np.argmax(side))])
