"""Observed: what the metrics say of the store, read aside every few seconds, so that a scrape asks no database."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from keepfit.app.spending import WORKER
from keepfit.clock import Clock
from keepfit.data.store import RecordStore
from keepfit.data.tallies import Tallies
from keepfit.errors import KeepfitError
from keepfit.pipelines.costs import Ledger

log = logging.getLogger(__name__)
EVERY_S = 15.0
"""So old the figures from the store are at most, while it answers."""
MONEY_EVERY = timedelta(minutes=1)
MEASURED = frozenset({"accuracy", "macro_f1", "label_mix", "confidence", "length", "unknown", "embedding_drift"})
"""Measurements that become metrics; those of single classes and features would be without number."""


@dataclass(frozen=True)
class Money:
    """The present month."""

    at: datetime
    spent: float | None = None
    budget: float | None = None
    currency: str = ""


@dataclass(frozen=True)
class ModelSeen:
    """One model."""

    accuracy: Mapping[str, Any] | None = None
    measurements: tuple[Mapping[str, Any], ...] = ()
    """Of the last check."""
    checked: datetime | None = None
    deployment: int = 0
    """The newest that is wanted; 0: none."""
    deployed: datetime | None = None


@dataclass(frozen=True)
class Seen:
    """One reading."""

    at: datetime
    seconds: float
    """That it took."""
    tallies: Tallies
    models: Mapping[str, ModelSeen] = field(default_factory=dict)
    worker: datetime | None = None
    """Its last sign of life."""
    process: Mapping[str, Any] | None = None
    """The worker's own figures."""
    money: Money | None = None


class Observed:
    """Holds the last reading; `refresh` reads, from one thread. While the store is away the last one stays."""

    def __init__(self, store: RecordStore, ledger: Ledger, clock: Clock) -> None:
        self._store, self._ledger, self._clock = store, ledger, clock
        self.seen: Seen | None = None
        self.misses = 0
        """Readings that failed."""

    def refresh(self) -> None:
        """Read everything anew."""
        try:
            self.seen = self._read()
        except KeepfitError as error:
            self.misses += 1
            log.warning("the figures for the metrics could not be read: %s", error)

    def _read(self) -> Seen:
        started, now, before = time.perf_counter(), self._clock.now(), self.seen
        sign = self._store.get("", "worker")
        return Seen(
            at=now,
            tallies=self._store.tallies(before.tallies if before else None),
            models={name: self._model(name) for name in self._ledger.models},
            worker=datetime.fromisoformat(sign["at"]) if sign else None,
            process=self._store.get("", WORKER),
            money=self._money(now, before),
            seconds=time.perf_counter() - started,
        )

    def _model(self, name: str) -> ModelSeen:
        check = next(iter(self._store.decisions(name, "trigger", 1)), None)
        measured = () if check is None else check.decision.evidence.get("measurements", ())
        live = self._store.deployment(name)
        return ModelSeen(
            accuracy=self._store.get(name, "accuracy"),
            measurements=tuple(m for m in measured if m["name"] in MEASURED),
            checked=None if check is None else check.at,
            deployment=0 if live is None else live.id,
            deployed=None if live is None else live.at,
        )

    def _money(self, now: datetime, before: Seen | None) -> Money:
        """Reckoned once a minute."""
        if before is not None and before.money is not None and now - before.money.at < MONEY_EVERY:
            return before.money
        prices = self._ledger.prices
        if not prices.known:
            return Money(now)
        spent = self._ledger.total(self._ledger.month_of(now)).money(prices)
        return Money(now, spent, prices.monthly_budget, prices.currency)
