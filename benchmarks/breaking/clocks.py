"""Clock jumps, in this process on a manual clock: across a rollout that is under way, and across a label."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Label, Prediction, Source
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.rolling import Rolling
from keepfit.registry.local import LocalRegistry
from keepfit.rollout.rollout import Roller, deploy, rollback, under_way
from keepfit.rollout.strategies import Limits, canary
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.toy import ToyModel

MODEL = "clocks"
BAKE, LONGEST = timedelta(minutes=10), timedelta(days=1)
STRATEGY = canary((0.5,), BAKE, timedelta(hours=1), Limits(min_labels=20, longest=LONGEST))


@dataclass
class World:
    """A champion, a challenger that is as good, and a clock that anybody may move."""

    clock: ManualClock
    store: RecordStore
    predictor: Predictor
    writer: RecordWriter
    rolling: Rolling
    asked: int = 0

    def live(self, n: int) -> list[Prediction]:
        """n users, one a second, each of whom says at once what was right."""
        said = []
        for _ in range(n):
            self.asked += 1
            (answer,) = self.predictor.predict([Request(f"good day {self.asked}", key=f"user {self.asked}")])
            self.writer.flush()
            self.label(answer.prediction, "pos")
            said.append(answer.prediction)
            self.clock.advance(timedelta(seconds=1))
        return said

    def label(self, said: Prediction, value: str) -> None:
        """A label that arrives now."""
        label = Label(said.example_id, value, self.clock.now(), Source.ASKED, "ann", 1.0, said.id)
        self.store.add_labels(MODEL, [label])

    def look(self) -> Decision | None:
        """What the watch does at a beat."""
        decision = self.rolling.move()
        self.predictor.refresh()
        return decision


def jump(dice: random.Random) -> list[str]:
    """One jump, there and back, at a random moment of a rollout; what it broke."""
    with tempfile.TemporaryDirectory() as place:
        clock, store = ManualClock(), RecordStore.open(f"sqlite:///{Path(place) / 'keepfit.db'}")
        writer = RecordWriter(store)
        model = ToyModel(["neg", "pos"], {"good": "pos"}, [0.5, 0.5])
        predictor = Predictor(MODEL, store, lambda number: model, writer, clock, "here")
        roller = Roller(MODEL, store, STRATEGY, clock)
        rolling = Rolling(roller, LocalRegistry(Path(place) / "models"), lambda number: model)
        try:
            return told(World(clock, store, predictor, writer, rolling), dice)
        finally:
            predictor.close()
            writer.close()
            store.close()


def told(world: World, dice: random.Random) -> list[str]:
    """The story."""
    wrong: list[str] = []
    deploy(world.store, MODEL, 1, Cause("benchmark", "the first"), world.clock)
    world.predictor.refresh()
    world.rolling.roller.start(2, Cause("benchmark", "a challenger", token="job"), {})
    world.predictor.refresh()
    said = world.live(dice.randint(1, 15))
    world.look()
    by = timedelta(hours=dice.uniform(0.5, 60)) * dice.choice([-1, 1])
    world.clock.advance(by)
    decision = world.look()
    if decision is None or (decision.outcome is Outcome.ADVANCE):
        wrong.append(f"after a jump of {by} the rollout advanced: {decision}")
    if by < timedelta(0) and decision is not None and decision.outcome is not Outcome.HOLD:
        wrong.append(f"after a jump of {by} a healthy challenger was taken back: {decision}")
    if by > LONGEST and under_way(world.store, MODEL) is not None:
        wrong.append(f"after a jump of {by} the rollout goes on beyond its longest time")
    world.label(said[0], "neg")
    said += world.live(3)
    world.look()
    world.clock.advance(-by)
    wrong += gone_on(world, by)
    kept = {one.example.id for one in world.store.training_data(MODEL)}
    wrong += [f"the label of {one.example_id} is gone" for one in said if one.example_id not in kept]
    return wrong


def gone_on(world: World, by: timedelta) -> list[str]:
    """With the clock right again the rollout ends like any other, and the way back is open."""
    wrong = []
    for _ in range(8):
        world.live(40)
        world.clock.advance(BAKE)
        world.look()
    live = world.store.deployment(MODEL)
    if live is None or len(live.traffic.shares) != 1:
        wrong.append(f"after a jump of {by}, there and back, the rollout did not end: {live}")
    elif live.traffic.shares == {2: 1.0}:
        rollback(world.store, MODEL, None, "benchmark", world.clock)
        world.predictor.refresh()
        if {one.model_version for one in world.live(2)} != {1}:
            wrong.append(f"after a jump of {by} the rollback was not served")
    return wrong
