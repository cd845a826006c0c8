"""What a piece of work used is stored when it ends, also when it fails; what is not known is not said."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import Window
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput
from keepfit.pipelines.metering import Energy, Meter, Spending, cpu_seconds, holds_gpu
from keepfit.traces import MemoryTracer


@dataclass
class Machine:
    """Figures that move when told to."""

    wall: float = 100.0
    cpu: float = 10.0
    gpu: bool = False
    packages: dict[str, tuple[float, float]] = field(default_factory=dict)

    def work(self, wall: float, cpu: float, micro: float = 0.0) -> None:
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu
        self.packages = {name: ((used + micro) % most, most) for name, (used, most) in self.packages.items()}

    def energy(self) -> Mapping[str, tuple[float, float]]:
        return self.packages

    @property
    def meter(self) -> Meter:
        return Meter(lambda: self.wall, lambda: self.cpu, lambda: self.gpu, self.energy)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def spending(store_url: str, clock: ManualClock, machine: Machine) -> Iterator[Spending]:
    with RecordStore.open(store_url) as store:
        yield Spending("m", store, clock, machine.meter)


def ever(spending: Spending) -> Window:
    now = spending.clock.now()
    return Window(now - timedelta(days=1), now + timedelta(days=1))


def test_the_cost_of_a_block_is_what_passed_meanwhile(spending: Spending, machine: Machine) -> None:
    machine.packages = {"intel-rapl:0": (9e6, 1e10)}
    with spending.on("batch", {"file": "a.csv"}) as told:
        machine.work(4.0, 7.0, micro=2.5e6)
        told |= {"rows": 3, "version": 2}
    (cost,) = spending.store.costs("m", ever(spending))
    assert (cost.seconds, cost.cpu_seconds, cost.gpu_seconds, cost.joules) == (4.0, 7.0, 0.0, 2.5)
    assert (cost.version, cost.kind, cost.details) == (2, "batch", {"file": "a.csv", "rows": 3})


def test_what_fails_has_cost_too(spending: Spending, machine: Machine) -> None:
    def tune() -> None:
        with spending.on("tune", {}):
            machine.work(1.0, 2.0)
            raise InvalidInput("the data is bad")

    with pytest.raises(InvalidInput):
        tune()
    assert [cost.cpu_seconds for cost in spending.store.costs("m", ever(spending))] == [2.0]


def test_a_gpu_that_is_held_costs_as_long_as_it_is_held(spending: Spending, machine: Machine) -> None:
    machine.gpu = True
    with spending.on("tune", {}):
        machine.work(5.0, 1.0)
    assert spending.store.costs("m", ever(spending))[0].gpu_seconds == 5.0


def test_a_step_is_kept_with_its_job_version_and_labels_and_is_a_span(spending: Spending) -> None:
    tracer = MemoryTracer()
    traced = replace(spending, tracer=tracer)
    with traced.step("snapshot", {"job": "j"}) as added:
        added["labels"] = 12
    with traced.step("register", {"job": "j"}) as added:
        added["version"] = 4
    with traced.step("judge", {"job": "j", "version": 4}):
        pass
    costs = spending.store.costs("m", ever(spending))
    assert [(c.details["step"], c.version) for c in costs] == [("snapshot", None), ("register", 4), ("judge", 4)]
    assert costs[0].details == {"job": "j", "step": "snapshot", "labels": 12}
    assert [span.name for span in tracer.spans] == ["retrain snapshot", "retrain register", "retrain judge"]


def test_a_store_that_is_away_stops_no_work(
    spending: Spending, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "keepfit")  # some libraries change the root's
    with spending.on("batch", {}) as told:
        (tmp_path / "keepfit.db").unlink()
        told["rows"] = 1
    assert "could not be stored" in caplog.text


def test_a_machine_that_does_not_tell_its_energy_is_not_guessed_at(tmp_path: Path) -> None:
    assert Energy(tmp_path / "nowhere").read() == {}
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("123\n", "ascii")
    assert Energy(tmp_path).read() == {}
    (package / "max_energy_range_uj").write_text("1000\n", "ascii")
    assert Energy(tmp_path).read() == {"intel-rapl:0": (123.0, 1000.0)}


def test_the_real_figures_grow() -> None:
    before = cpu_seconds()
    sum(range(200_000))
    assert cpu_seconds() >= before
    assert holds_gpu() in (True, False)
