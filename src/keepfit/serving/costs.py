"""ServingCosts: what answering uses, added up by hour and version, and stored aside once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from keepfit.clock import Clock
from keepfit.data.costs import SERVE, Cost
from keepfit.data.records import new_id
from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.serving.batching import BatchCounts, Batcher
from keepfit.serving.predictor import Predictor
from keepfit.serving.tally import Tally

log = logging.getLogger(__name__)
EVERY = timedelta(minutes=1)
"""So much of what was spent a killed server forgets at most."""
NONE = BatchCounts(0, 0, 0.0, {})

Owner = tuple[str, int | None]
"""A model and its version; None: what no version's engine used (HTTP, tokenising, recording)."""


@dataclass(frozen=True)
class Spent:
    """In one hour by one owner."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    contents: int = 0
    answers: int = 0
    cached: int = 0
    shadow: int = 0

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        names = self.__dataclass_fields__
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in names})


class ServingCosts:
    """Adds up; one thread calls `refresh` now and then, and `close` at the end.

    Each version has the processor time that passed during its engine's calls; what else the process used is shared
    among the models by their answers, so that the sum is what the process has used.
    """

    def __init__(
        self,
        store: RecordStore,
        predictors: Mapping[str, Predictor],
        tally: Tally,
        clock: Clock,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._store, self._predictors, self._tally, self._clock, self._cpu = store, predictors, tally, clock, cpu
        self._process = new_id()
        self._hours: dict[tuple[datetime, Owner], Spent] = {}
        """What is not stored, or may still grow."""
        self._engines: dict[Owner, tuple[Batcher, BatchCounts]] = {}
        self._answered: dict[Owner, Spent] = {}
        self._used = cpu()
        self._due = clock.now() + EVERY

    def refresh(self) -> None:
        """Once a minute."""
        if self._clock.now() >= self._due:
            self._due = self._clock.now() + EVERY
            self.write()

    def close(self) -> None:
        """Write the rest."""
        self.write()

    def write(self) -> None:
        """Add up what came since the last time, and store it; while the store is away it waits here."""
        now = self._clock.now()
        hour = now.replace(minute=0, second=0, microsecond=0)
        for owner, spent in self._since().items():
            place = (hour, owner)
            self._hours[place] = self._hours.get(place, Spent()).plus(spent)
        for place, spent in list(self._hours.items()):
            try:
                self._store.put_cost(self._row(place, spent))
            except KeepfitError as error:
                log.warning("what answering has cost waits to be stored: %s", error)
                return
            if place[0] < hour:
                del self._hours[place]

    def _since(self) -> dict[Owner, Spent]:
        """By owner, since the last call; only what is not nothing."""
        found: dict[Owner, Spent] = {}
        for name, predictor in self._predictors.items():
            for version, batcher in predictor.batchers().items():
                found[name, version] = self._engine(name, version, batcher)
        for owner, spent in self._answers().items():
            found[owner] = found.get(owner, Spent()).plus(spent)
        now = self._cpu()
        used, self._used = now - self._used, now
        rest = max(used - sum(spent.cpu_seconds for spent in found.values()), 0.0)
        shares = self._shares(found)
        for name, share in shares.items():
            found[name, None] = Spent(cpu_seconds=rest * share)
        return {owner: spent for owner, spent in found.items() if spent != Spent()}

    def _engine(self, name: str, version: int, batcher: Batcher) -> Spent:
        """What an engine did; a version that was loaded anew begins at nothing."""
        counts = batcher.counts()
        known, before = self._engines.get((name, version), (batcher, NONE))
        before = before if known is batcher else NONE
        self._engines[name, version] = (batcher, counts)
        seconds = counts.seconds - before.seconds
        return Spent(
            seconds=seconds, cpu_seconds=counts.cpu_seconds - before.cpu_seconds,
            gpu_seconds=seconds if batcher.device.startswith("cuda") else 0.0,
            contents=counts.contents - before.contents,
        )  # fmt: skip

    def _answers(self) -> dict[Owner, Spent]:
        """How many answers each version gave since the last call."""
        totals: dict[Owner, Spent] = {}
        for kind, n in self._tally.counts().items():
            more = Spent(
                answers=0 if kind.shadow else n,
                cached=n if kind.stage == "cache" and not kind.shadow else 0,
                shadow=n if kind.shadow else 0,
            )
            owner: Owner = (kind.model, kind.version)
            totals[owner] = totals.get(owner, Spent()).plus(more)
        before, self._answered = self._answered, totals
        found: dict[Owner, Spent] = {}
        for owner, spent in totals.items():
            was = before.get(owner, Spent())
            found[owner] = Spent(
                answers=spent.answers - was.answers, cached=spent.cached - was.cached, shadow=spent.shadow - was.shadow
            )
        return found

    def _shares(self, found: Mapping[Owner, Spent]) -> dict[str, float]:
        """Of the process's other work, by answers; equal ones while nobody asks."""
        counts = dict.fromkeys(self._predictors, 0)
        for (name, _), spent in found.items():
            counts[name] = counts.get(name, 0) + spent.answers + spent.shadow
        total = sum(counts.values())
        return {name: n / total if total else 1 / len(counts) for name, n in counts.items()}

    def _row(self, place: tuple[datetime, Owner], spent: Spent) -> Cost:
        hour, (name, version) = place
        details = {
            "contents": spent.contents, "answers": spent.answers, "cached": spent.cached, "shadow": spent.shadow,
        }  # fmt: skip
        id_ = f"serve-{self._process}-{name}-{version or 'rest'}-{hour:%Y%m%d%H}"
        return Cost(
            id_, name, hour, SERVE, spent.seconds, spent.cpu_seconds, spent.gpu_seconds, None, version, details
        )  # fmt: skip
