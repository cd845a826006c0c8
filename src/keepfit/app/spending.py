"""Spending, put together from the settings: the ledger of a project, and what its worker keeps an eye on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import psutil

from keepfit.app.model_settings import ModelSettings
from keepfit.app.settings import CostSettings
from keepfit.app.wiring import Home
from keepfit.clock import Clock
from keepfit.data.store import RecordStore
from keepfit.pipelines.costs import Ledger, Prices
from keepfit.pipelines.worth import Valued
from keepfit.registry.registry import model_folder

EVERY = timedelta(minutes=1)
WORKER = "worker_process"
"""The name of the value in the store with the worker's own figures, for the server's metrics."""


def prices(settings: CostSettings) -> Prices:
    """As the settings say."""
    return Prices(**settings.model_dump(exclude={"seconds_per_label"}))


UNPRICED = {"mistakes": 1.0, "seconds": 30.0, "money": 0.0}
"""Of a label, by currency, where no price is set."""
HOUR_IN_MISTAKES = 100.0


def valued(model: ModelSettings, costs: CostSettings) -> Valued:
    """What a mistake and a retraining are worth to a model."""
    said = model.prices
    label = said.label if said.label is not None else UNPRICED[said.currency]
    if said.currency == "money" and said.label is None and costs.per_label is not None:
        label = costs.per_label
    hour = HOUR_IN_MISTAKES if said.currency == "mistakes" and said.hour is None else said.hour
    return Valued(said.currency, said.mistake or 1.0, hour, label, said.labels, said.fixed, prices(costs))


def ledger(home: Home, store: RecordStore) -> Ledger:
    """The costs of every model of a project."""
    settings = home.settings
    return Ledger(
        store, tuple(settings.models), prices(settings.costs), settings.timezone, home.clock, partial(ratio, home)
    )


def ratio(home: Home, name: str, version: int) -> float | None:
    """CPU seconds of fp32 for one of the version's own arithmetic, as measured when it was made; None: not measured."""
    try:
        facts = json.loads((model_folder(home.models, name, version) / "model.json").read_text("utf-8"))
        used, own = facts["acceptance"]["cpu_seconds"], facts["acceptance"]["chosen"]
        return float(used["fp32"]) / float(used[own])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None


@dataclass
class Housekeeping:
    """What the worker does besides its work: warn of the budget, and leave its own figures for the metrics."""

    store: RecordStore
    warn: Callable[[], object]
    clock: Clock
    foretell: Callable[[], object] = lambda: None
    """Keeps a forecast; called once a minute."""
    due: datetime | None = None
    started: float = field(default_factory=time.time)

    def __call__(self) -> None:
        """Once a minute."""
        now = self.clock.now()
        if self.due is not None and now < self.due:
            return
        self.due = now + EVERY
        process = psutil.Process(os.getpid())
        used = process.cpu_times()
        figures = {
            "at": now.isoformat(),
            "cpu_seconds": used.user + used.system + used.children_user + used.children_system,
            "resident_bytes": process.memory_info().rss,
            "started": self.started,
        }
        self.store.put("", WORKER, figures)
        self.foretell()
        self.warn()
