"""Metering: what a piece of work used of the machine, stored as a cost when it ends, also when it fails."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.costs import RETRAIN, Cost
from keepfit.data.records import new_id
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError
from keepfit.traces import OFF, Tracer

log = logging.getLogger(__name__)
POWERCAP = Path("/sys/class/powercap")
MOST_WATTS = 300.0
"""Of one processor package: with more, its counter could have gone round once more without our seeing it."""

Told = dict[str, Any]
"""What the work adds to its cost: `version`, `rows`, whatever else should be kept."""


def cpu_seconds() -> float:
    """Of this process and its ended children, all threads together."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def holds_gpu() -> bool:
    """Whether this process has opened a CUDA device; what was never loaded has none."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


@dataclass(frozen=True)
class Energy:
    """The counters of the processor packages (RAPL), where they may be read."""

    root: Path = POWERCAP

    def read(self) -> Mapping[str, tuple[float, float]]:
        """Microjoules and where the counter goes round, by package; nothing where the machine does not tell."""
        found = {}
        for package in sorted(self.root.glob("intel-rapl:?")) if self.root.is_dir() else ():
            try:
                used, most = ((package / name).read_text("ascii") for name in ("energy_uj", "max_energy_range_uj"))
                found[package.name] = (float(used), float(most))
            except (OSError, ValueError):  # since 2020 only root may read it, by default
                continue
        return found


def joules(
    before: Mapping[str, tuple[float, float]], after: Mapping[str, tuple[float, float]], seconds: float
) -> float | None:
    """What all packages used in between; None where one does not tell, or may have gone round unseen.

    >>> joules({"p": (9e6, 10e9)}, {"p": (12e6, 10e9)}, 1.0), joules({"p": (9e9, 10e9)}, {"p": (1e9, 10e9)}, 1.0)
    (3.0, 2000.0)
    >>> joules({"p": (0, 10e9)}, {"p": (5e9, 10e9)}, 3600.0) is None
    True
    """
    if not before or before.keys() != after.keys():
        return None
    total = 0.0
    for name, (was, most) in before.items():
        if most / 1e6 < seconds * MOST_WATTS:
            return None
        total += (after[name][0] - was) % most / 1e6
    return total


@dataclass(frozen=True)
class Meter:
    """Where the figures come from; a test gives its own."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = cpu_seconds
    gpu: Callable[[], bool] = holds_gpu
    energy: Callable[[], Mapping[str, tuple[float, float]]] = field(default_factory=lambda: Energy().read)


@dataclass(frozen=True)
class Spending:
    """Stores what pieces of work cost; a store that is away costs a warning, never the work."""

    model: str
    store: RecordStore
    clock: Clock
    meter: Meter = field(default_factory=Meter)
    tracer: Tracer = OFF

    @contextmanager
    def on(self, kind: str, details: Mapping[str, Any]) -> Iterator[Told]:
        """Measure the block. What it puts into the mapping that it gets is kept, `version` in its own column."""
        told: Told = {}
        wall, cpu, energy = self.meter.wall(), self.meter.cpu(), self.meter.energy()
        try:
            yield told
        finally:
            seconds, used = self.meter.wall() - wall, self.meter.cpu() - cpu
            gpu = seconds if self.meter.gpu() else 0.0
            version = told.pop("version", None)
            cost = Cost(
                new_id(), self.model, self.clock.now(), kind, seconds, used, gpu,
                joules(energy, self.meter.energy(), seconds), version, {**details, **told},
            )  # fmt: skip
            try:
                self.store.put_cost(cost)
            except BackendError as error:
                log.warning("what %s of %s has cost could not be stored: %s", kind, self.model, error)

    @contextmanager
    def step(self, name: str, state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """One step of a retraining: what it adds to the state goes into the mapping."""
        added: dict[str, Any] = {}
        job = str(state["job"])
        span = self.tracer.span(f"retrain {name}", model=self.model, job=job)
        with span, self.on(RETRAIN, {"job": job, "step": name}) as told:
            try:
                yield added
            finally:
                told["version"] = added.get("version", state.get("version"))
                if "labels" in added:
                    told["labels"] = added["labels"]
