"""The whole loop in one process: toy task, a store in a temporary folder, a manual clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.alerts.alerts import Alerts
from keepfit.alerts.mailbox import MemoryChannel
from keepfit.clock import ManualClock
from keepfit.data.columns import Columns
from keepfit.data.records import Job, Label, Source, new_id
from keepfit.data.snapshot import import_file
from keepfit.data.store import RecordStore
from keepfit.evaluation.evaluator import read_reference
from keepfit.evaluation.gate import Gate
from keepfit.evaluation.rules import Better, Floors, Guard, NotWorse
from keepfit.monitoring.monitor import Monitor
from keepfit.pipelines.announce import Announcer
from keepfit.pipelines.retrain import Folders, Plan, Retraining
from keepfit.pipelines.rolling import Rolling
from keepfit.pipelines.watch import Watch, WatchPlan
from keepfit.registry.local import LocalRegistry
from keepfit.rollout.rollout import Roller
from keepfit.rollout.strategies import Limits, Strategy, immediate
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.loading import load_answering
from keepfit.tasks.toy import ToyTask
from keepfit.training.recipe import Recipe
from keepfit.triggers.policies import trigger_from

MODEL = "toy"


@dataclass
class World:
    """Everything one model needs, and the verbs of a story."""

    clock: ManualClock
    store: RecordStore
    registry: LocalRegistry
    writer: RecordWriter
    predictor: Predictor
    retraining: Retraining
    watch: Watch
    announcer: Announcer
    mail: MemoryChannel
    folder: Path

    def train(self, *words: tuple[str, str], n: int = 60) -> dict[str, object]:
        """A first model from n texts for each (first word, label)."""
        file = self.folder / "data.csv"
        rows = [f"{word} said {label} number {i},{label}" for word, label in words for i in range(n)]
        file.write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
        snapshot, _ = import_file(self.folder / "snapshots", file, Columns(("text",), "label"))
        self.store.put(MODEL, "snapshot", snapshot.id)
        return self.run_job({"reason": "first", "snapshot": snapshot.id})

    def run_job(self, request: dict[str, object]) -> dict[str, object]:
        """A retraining in this process, from the queue."""
        job = self.store.join_or_add_job(Job(new_id(), MODEL, "retrain", self.clock.now(), request=request))
        return self.work(job)

    def work(self, job: Job) -> dict[str, object]:
        """What the worker does with a job."""
        state = self.retraining.run(job.id)
        self.predictor.refresh()
        return state

    def live(self, n: int, word: str, truth: str, source: Source = Source.ASKED) -> list[str]:
        """Users send n texts, one every ten seconds, and the truth comes at once; the answers."""
        self.predictor.refresh()
        said = []
        for i in range(n):
            (answer,) = self.predictor.predict([Request(f"{word} day {self.clock.now():%d%H%M%S} {i}")])
            said.append(answer.prediction.label)
            self.writer.flush()
            label = Label(
                answer.prediction.example_id, truth, self.clock.now(), source, "tester", 1.0, answer.prediction.id
            )
            self.store.add_labels(MODEL, [label])
            self.clock.advance(timedelta(seconds=10))
        return said

    def waiting_job(self) -> Job | None:
        """The retraining that the watch has asked for."""
        return self.store.running_or_waiting(MODEL, "retrain")

    @property
    def shares(self) -> dict[int, float]:
        """Who gets the traffic."""
        live = self.store.deployment(MODEL)
        return {} if live is None else dict(live.traffic.shares)

    def subjects(self) -> list[str]:
        """What was judged, oldest first."""
        return [d.subject for d in reversed(self.store.decisions(MODEL))]


@pytest.fixture
def approval() -> bool:
    return False


@pytest.fixture
def strategy() -> Strategy:
    return immediate(timedelta(0), Limits())


@pytest.fixture
def world(tmp_path: Path, store_url: str, clock: ManualClock, approval: bool, strategy: Strategy) -> Iterator[World]:
    store = RecordStore.open(store_url)
    registry = LocalRegistry(tmp_path / "models")
    gate = Gate((Floors({"accuracy": 0.6}), Better(min_labels=10), NotWorse(min_labels=10), Guard()))
    roller = Roller(MODEL, store, strategy, clock)
    retraining = Retraining(
        MODEL, ToyTask(), store, registry, gate, Plan(Recipe(), approval=approval),
        Folders(tmp_path / "snapshots", tmp_path / "work"), clock, roller, lambda path: [],
    )  # fmt: skip
    watch = Watch(
        MODEL, store, Monitor(),
        trigger_from([{"kind": "accuracy_floor", "floor": 0.8}], cool_down=timedelta(minutes=15)),
        lambda number: read_reference(registry.fetch(MODEL, number)),
        WatchPlan(timedelta(hours=1), timedelta(hours=6), label_rate=0.5, label_budget=10_000), clock,
        rolling=Rolling(
            roller, registry, lambda number: load_answering(registry.fetch(MODEL, number)), protect=("source",)
        ),
    )  # fmt: skip
    writer = RecordWriter(store)
    predictor = Predictor(
        MODEL,
        store,
        lambda number: load_answering(registry.fetch(MODEL, number)),
        writer,
        clock,
        "here",
        ServingLimits(),
    )
    mail = MemoryChannel()
    made = World(
        clock, store, registry, writer, predictor, retraining, watch,
        Announcer(MODEL, store, Alerts([mail]), clock), mail, tmp_path,
    )  # fmt: skip
    yield made
    predictor.close()
    writer.close()
    store.close()
