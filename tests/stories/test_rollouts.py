"""Rollouts, told in sentences: a challenger earns its traffic step by step, and is taken back when it harms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.classes import ClassChange
from keepfit.data.labellers import SILENCE
from keepfit.data.records import Cause, Deployment, Label, Prediction, QueueItem, Source, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.errors import BackendError, InvalidInput, Refused
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.asking import Parts
from keepfit.monitoring.comparison import Comparison, Normal, Paired
from keepfit.pipelines.asking import Asking, AskingPlan
from keepfit.pipelines.rolling import Rolling
from keepfit.pipelines.taking import Days
from keepfit.registry.local import LocalRegistry
from keepfit.rollout.rollout import Roller, deploy, rollback, under_way, waiting_since
from keepfit.rollout.strategies import Ages, Experiment, Limits, Strategy, blue_green, canary, immediate, shadow
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.toy import ToyModel

MODEL = "reviews"
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LIMITS = Limits(min_labels=20, longest=timedelta(days=1))
CANARY = canary((0.1, 0.5), 10 * MINUTE, HOUR, LIMITS)
WORDS = [f"w{n}" for n in range(200)]


def model(wrong: int = 0) -> ToyModel:
    """Says pos to every word but the first `wrong` ones."""
    table = {word: "neg" if place < wrong else "pos" for place, word in enumerate(WORDS)}
    return ToyModel(["neg", "pos"], table, [0.5, 0.5])


class OnlyInLife(ToyModel):
    """Answers while it is warmed up, and then no more."""

    def __init__(self) -> None:
        super().__init__(["neg", "pos"], {}, [0.5, 0.5])
        self.warm = True

    def infer(self, prepared: Prepared) -> Output:
        output = super().infer(prepared)
        if self.warm:
            self.warm = False
            return output
        return self.fail(output)

    def fail(self, output: Output) -> Output:
        raise NotImplementedError


class Crashing(OnlyInLife):
    """Raises what nobody expects."""

    def fail(self, output: Output) -> Output:
        raise RuntimeError("out of cheese")


class Nonsense(OnlyInLife):
    """Answers with what is no number."""

    def fail(self, output: Output) -> Output:
        return Output(np.full_like(output.scores, np.nan), output.embeddings)


class Stuck(OnlyInLife):
    """Answers nothing until it is let go."""

    go = threading.Event()

    def fail(self, output: Output) -> Output:
        self.go.wait(30)
        return output


@dataclass
class World:
    """A champion that answers, and what one can do to a challenger."""

    clock: ManualClock
    store: RecordStore
    predictor: Predictor
    writer: RecordWriter
    rolling: Rolling
    models: dict[int, ToyModel]

    def start(self, version: int = 2, token: str = "job") -> None:
        self.rolling.roller.start(version, Cause("ann", f"version {version} passed its gate", token=token), {})
        self.predictor.refresh()

    def live(self, n: int, labelled: bool = True, context: Mapping[str, str] | None = None) -> list[int]:
        """n requests, of different users, one a second; pos is true of all. Who answered."""
        said = []
        for i in range(n):
            request = Request(WORDS[i % len(WORDS)], key=f"user {i}", context=context or {})
            (answer,) = self.predictor.predict([request])
            said.append(answer.prediction.model_version)
            self.clock.advance(timedelta(seconds=1))
            if labelled:
                self.writer.flush()
                one = answer.prediction
                label = Label(one.example_id, "pos", self.clock.now(), Source.ASKED, "ann", 1.0, one.id)
                self.store.add_labels(MODEL, [label])
        self.predictor.shadow.drain()
        self.writer.flush()
        return said

    def look(self, after: timedelta = timedelta(seconds=2)) -> Outcome | None:
        """What the watch does at each beat."""
        self.clock.advance(after)
        decision = self.rolling.move()
        self.predictor.refresh()
        return None if decision is None else decision.outcome

    @property
    def newest(self) -> Deployment:
        found = self.store.deployment(MODEL)
        assert found is not None
        return found

    @property
    def shares(self) -> dict[int, float]:
        return {version: round(share, 6) for version, share in self.newest.traffic.shares.items()}

    def last(self) -> tuple[str, ...]:
        return self.store.decisions(MODEL, "rollout", 1)[0].decision.because


@pytest.fixture
def strategy() -> Strategy:
    return CANARY


@pytest.fixture
def challenger() -> ToyModel:
    return model()


@pytest.fixture
def champion() -> ToyModel:
    return model()


@pytest.fixture
def world(
    tmp_path: Path,
    store_url: str,
    clock: ManualClock,
    strategy: Strategy,
    challenger: ToyModel,
    champion: ToyModel,
) -> Iterator[World]:
    store = RecordStore.open(store_url)
    writer = RecordWriter(store)
    models = {1: champion, 2: challenger, 3: model()}

    def load(number: int) -> ToyModel:
        if number not in models:
            raise BackendError(f"version {number} cannot be loaded")
        return models[number]

    predictor = Predictor(MODEL, store, load, writer, clock, "here", ServingLimits(cache_bytes=0, timeout_s=2.0))
    roller = Roller(MODEL, store, strategy, clock)
    rolling = Rolling(roller, LocalRegistry(tmp_path), load, protect=("source",))
    made = World(clock, store, predictor, writer, rolling, models)
    deploy(store, MODEL, 1, Cause("ann", "the first"), clock)
    predictor.refresh()
    yield made
    Stuck.go.set()
    predictor.close()
    writer.close()
    store.close()


def test_a_rollout_after_a_rename_is_decided_by_answers_and_not_by_names(world: World) -> None:
    change = ClassChange(world.clock.now(), "ann", "rename", ("pos",), "happy")
    world.store.change_classes(MODEL, change, ("neg", "pos"))
    world.models[2] = ToyModel(["happy", "neg"], dict.fromkeys(WORDS, "happy"), [0.5, 0.5])
    world.start()
    world.live(60)  # people still say pos
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    world.clock.advance(timedelta(seconds=2))
    quality, _ = world.rolling.quality(rollout)
    assert (quality.n, quality.wins, quality.losses) == (60, 0, 0)


def with_strategy(world: World, strategy: Strategy, **more: object) -> None:
    roller = replace(world.rolling.roller, strategy=strategy, **more)  # type: ignore[arg-type]
    world.rolling = replace(world.rolling, roller=roller)


def test_a_healthy_canary_gets_all_the_traffic_step_by_step(world: World) -> None:
    world.start()
    assert world.shares == {1: 0.9, 2: 0.1}
    assert 5 <= world.live(100).count(2) <= 20
    assert world.look() is Outcome.HOLD
    assert "baking" in world.last()[0]
    assert world.look(10 * MINUTE) is Outcome.ADVANCE
    assert world.shares == {1: 0.5, 2: 0.5}
    world.live(200)
    assert world.look(10 * MINUTE) is Outcome.ADVANCE
    assert world.shares == {2: 1.0}
    assert set(world.live(5)) == {2}
    assert world.look(HOUR) is Outcome.ADVANCE
    assert under_way(world.store, MODEL) is None
    assert world.look() is None
    rows = world.store.deployments(MODEL)
    assert [row.kind for row in rows] == ["deploy", "rollout", "rollout", "deploy"]
    assert [row.actor for row in rows] == ["keepfit", "keepfit", "ann", "ann"], "only the first step is ann's doing"


def test_calls_with_several_contents_are_not_timed(world: World) -> None:
    world.predictor.predict([Request("w1")])
    world.predictor.predict([Request("w2"), Request("w3")])
    world.writer.flush()
    everything = Window(world.clock.now() - HOUR, world.clock.now() + HOUR)
    assert ["ms" in brief.measures for brief in world.store.briefs(MODEL, everything)].count(True) == 1


def test_the_answers_that_users_saw_are_counted_when_it_is_taken_back(world: World) -> None:
    world.start()
    said = world.live(30)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    world.clock.advance(timedelta(seconds=2))
    seen = replace(world.rolling.compare(rollout), out="it is damaged")
    said += world.live(30)  # while somebody looked
    world.rolling.roller.act(rollout, world.rolling.roller.judge(rollout, seen))
    assert f"after {said.count(2)} answers" in world.newest.reason


def test_a_key_that_met_the_challenger_goes_on_meeting_it_as_its_share_grows(world: World) -> None:
    world.start()
    first = world.live(100)
    world.look(10 * MINUTE)
    second = world.live(100)
    assert {place for place, who in enumerate(first) if who == 2} < {p for p, who in enumerate(second) if who == 2}


class TestTwoEqualVersionsWhoseErrorsPeopleOverlook:
    """Each is wrong on 80 words on which the other one is right; all users see the champion."""

    @pytest.fixture
    def challenger(self) -> ToyModel:
        return model(wrong=80)

    @pytest.fixture
    def champion(self) -> ToyModel:
        table = {word: "neg" if 80 <= place < 160 else "pos" for place, word in enumerate(WORDS)}
        return ToyModel(["neg", "pos"], table, [0.5, 0.5])

    def objected(self, world: World, answers: Sequence[Prediction]) -> None:
        """Of five errors one is overlooked."""
        wrong = [one for one in answers if one.label == "neg" and not one.shadow]
        spoken = [one for place, one in enumerate(wrong) if place % 5]
        now = world.clock.now()
        world.store.add_labels(
            MODEL, [Label(one.example_id, "pos", now, Source.COMPLETE, "ann", 1.0, one.id) for one in spoken]
        )

    def test_are_neither_taken_back_nor_promoted_by_what_only_one_of_them_was_asked(self, world: World) -> None:
        with_strategy(world, shadow(10 * MINUTE, HOUR, LIMITS))
        world.start()
        began = world.clock.now()
        world.live(200, labelled=False)
        answers = world.store.predictions(MODEL, Window(began, world.clock.now()))
        self.objected(world, answers)
        world.store.put(MODEL, "settled_until", began.isoformat())
        assert world.look(20 * MINUTE) is Outcome.HOLD, "only the champion's errors are known yet"
        world.store.put(MODEL, "settled_until", world.clock.now().isoformat())
        spoken = {p.example_id for p, _ in world.store.labelled(MODEL, Window(began, world.clock.now()))}
        quiet = [one for one in answers if not one.shadow and one.example_id not in spoken]
        world.store.add_labels(
            MODEL,
            [Label(p.example_id, p.label, world.clock.now(), Source.COMPLETE, SILENCE, 1.0, p.id) for p in quiet],
        )
        assert world.look() is Outcome.HOLD
        quality = world.store.decisions(MODEL, "rollout", 1)[0].decision.evidence["quality"]
        assert (quality["wins"], quality["losses"], quality["silent"]) == (64, 96, 96)


class TestAWorseChallenger:
    @pytest.fixture
    def challenger(self) -> ToyModel:
        return model(wrong=60)

    def test_is_taken_back_with_nobody_awake_and_the_harm_is_counted(self, world: World) -> None:
        world.start()
        said = world.live(150)
        assert world.look() is Outcome.ROLL_BACK
        assert world.shares == {1: 1.0}
        row = world.newest
        assert (row.kind, row.actor) == ("rollback", "keepfit")
        assert f"after {said.count(2)} answers" in row.reason
        decision = world.store.decision(row.decision_id or "").decision
        assert decision.evidence["touched"] == said.count(2)
        assert decision.evidence["quality"]["losses"] > 10 * decision.evidence["quality"]["wins"]
        assert set(world.live(20)) == {1}

    def test_is_seen_on_the_slice_that_is_protected(self, world: World) -> None:
        world.models[1] = model(wrong=0)
        world.start()
        world.live(60, context={"source": "app"})
        world.look()
        decision = world.store.decisions(MODEL, "rollout", 1)[0].decision
        assert list(decision.evidence["slices"]) == ["source=app"]

    def test_does_not_get_all_the_traffic_while_a_protected_slice_is_not_proven(self) -> None:
        whole = Paired(1000, 60, 10)
        for slice_, words in ((Paired(200, 4, 14), "e ="), (Paired(8), "8 labels of 20 are in")):
            seen = Comparison(whole, {"source=web": Paired(800, 46, 6), "source=app": slice_})
            for steps in (CANARY, shadow(10 * MINUTE, HOUR, LIMITS)):
                last = len(steps.steps) - 2
                assert steps.judge(last, Ages(HOUR, HOUR), replace(seen, slices={})).outcome is Outcome.ADVANCE
                held = steps.judge(last, Ages(HOUR, HOUR), seen)
                assert held.outcome is Outcome.HOLD
                assert "protected slice source=app" in held.because[0]
                assert words in held.because[0]
                assert steps.judge(last, Ages(DAY, DAY), seen).outcome is Outcome.UNDECIDED
            tried = Experiment(0.5, 7 * DAY, LIMITS)
            assert tried.judge(0, Ages(HOUR, HOUR), replace(seen, slices={})).outcome is Outcome.ADVANCE
            assert tried.judge(0, Ages(HOUR, HOUR), seen).outcome is Outcome.HOLD

    def test_is_taken_back_after_all_the_traffic_was_given_at_once(self, world: World) -> None:
        with_strategy(world, immediate(HOUR, LIMITS))
        world.start()
        assert world.shares == {2: 1.0}
        assert world.newest.kind == "deploy"
        assert set(world.live(80)) == {2}
        assert world.look() is Outcome.ROLL_BACK
        assert world.shares == {1: 1.0}

    def test_loses_an_experiment_with_an_interval(self, world: World) -> None:
        with_strategy(world, Experiment(0.5, timedelta(days=7), LIMITS))
        world.start()
        assert 30 < world.live(120).count(2) < 90
        assert world.look() is Outcome.ROLL_BACK
        gain = world.store.decisions(MODEL, "rollout", 1)[0].decision.evidence["quality"]["difference"]
        assert gain["low"] < gain["value"] < gain["high"] < 0

    def test_is_not_served_from_the_shadow(self, world: World) -> None:
        with_strategy(world, shadow(10 * MINUTE, HOUR, LIMITS))
        world.start()
        assert (world.shares, world.newest.traffic.shadow) == ({1: 1.0}, (2,))
        assert set(world.live(80)) == {1}
        assert world.predictor.shadow.asked == 80
        assert world.look() is Outcome.ROLL_BACK
        assert world.newest.traffic.versions == {1}
        assert world.store.decisions(MODEL, "rollout", 1)[0].decision.evidence["touched"] == 0


def test_a_better_challenger_wins_an_experiment(world: World) -> None:
    world.models[3] = model(wrong=80)
    deploy(world.store, MODEL, 3, Cause("ann", "a worse champion"), world.clock)
    with_strategy(world, Experiment(0.5, timedelta(days=7), LIMITS))
    world.start()
    assert set(world.live(120)) == {2, 3}
    assert world.look() is Outcome.ADVANCE
    assert "the challenger is better" in world.last()[0]
    assert world.shares == {2: 1.0}


def test_a_canary_without_labels_holds_and_ends_as_the_settings_say(world: World) -> None:
    world.start()
    world.live(50, labelled=False)
    assert world.look(11 * MINUTE) is Outcome.HOLD
    assert world.last() == ("0 labels of 20 are in [min_labels]",)
    assert world.look(timedelta(days=1)) is Outcome.UNDECIDED
    assert "the champion stays [undecided]" in world.last()[-1]
    assert world.shares == {1: 1.0}
    assert world.newest.kind == "deploy", "nothing was found against the challenger"


def test_or_it_ends_with_the_challenger(world: World) -> None:
    with_strategy(world, canary((0.1,), 10 * MINUTE, HOUR, replace(LIMITS, undecided="challenger")))
    world.start()
    assert world.look(timedelta(days=1)) is Outcome.ADVANCE
    assert world.shares == {2: 1.0}


def test_blue_and_green_are_both_warm_and_the_way_back_needs_no_loading(world: World) -> None:
    with_strategy(world, blue_green(10 * MINUTE, HOUR, LIMITS))
    world.start()
    assert world.predictor.warm() == (1, 2)
    world.live(30, labelled=False)
    assert world.look(10 * MINUTE) is Outcome.ADVANCE
    assert (world.shares, world.newest.traffic.shadow) == ({2: 1.0}, (1,))
    del world.models[1]  # cannot be loaded any more, and need not be
    rollback(world.store, MODEL, None, "ann", world.clock)
    world.predictor.refresh()
    assert set(world.live(3, labelled=False)) == {1}
    assert "ann ended it" in world.last()[0]


@pytest.mark.parametrize("broken", [Crashing, Nonsense])
def test_nobody_is_harmed_by_a_challenger_that_cannot_answer(world: World, broken: Callable[[], ToyModel]) -> None:
    world.models[2] = broken()
    world.start()
    assert set(world.live(100, labelled=False)) == {1}, "every request was answered, by the champion"
    world.predictor.refresh()
    assert world.look() is Outcome.ROLL_BACK
    assert "cannot serve" in world.last()[0]
    assert {failure.kind for failure in world.store.failures(MODEL, world.clock.now() - HOUR)} == {"answer", "out"}


def test_a_challenger_that_cannot_be_loaded_never_gets_traffic(world: World) -> None:
    del world.models[2]
    world.start()
    assert world.predictor.live.traffic.versions == {1}
    assert set(world.live(10, labelled=False)) == {1}
    assert world.look() is Outcome.HOLD, "the first attempt may have come before its files"
    with pytest.raises(BackendError, match="cannot be loaded"):
        world.predictor.insist()
    assert world.look() is Outcome.ROLL_BACK
    assert "cannot be loaded" in world.last()[0]
    assert world.shares == {1: 1.0}


def test_a_challenger_that_is_stuck_is_answered_for_and_taken_back(world: World) -> None:
    Stuck.go.clear()
    world.models[2] = Stuck()
    world.start()
    assert set(world.live(60, labelled=False)) == {1}
    Stuck.go.set()
    world.predictor.refresh()
    assert world.look() is Outcome.ROLL_BACK
    assert {f.kind for f in world.store.failures(MODEL, world.clock.now() - HOUR)} == {"slow", "out"}


def test_a_person_who_goes_back_ends_the_rollout(world: World) -> None:
    world.start()
    rollback(world.store, MODEL, None, "ann", world.clock)
    assert world.shares == {1: 1.0}
    assert under_way(world.store, MODEL) is None
    assert world.look() is None


def test_two_watchers_take_a_step_once(world: World) -> None:
    world.start()
    world.live(40)
    world.clock.advance(10 * MINUTE)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    decision = world.rolling.roller.judge(rollout, world.rolling.compare(rollout))
    world.rolling.roller.act(rollout, decision)
    with pytest.raises(Refused, match="ended by another deployment"):
        world.rolling.roller.act(rollout, decision)
    assert [row.kind for row in world.store.deployments(MODEL)] == ["rollout", "rollout", "deploy"]


@pytest.mark.parametrize("strategy", [CANARY, immediate(HOUR, LIMITS)], ids=["canary", "immediate"])
def test_starting_the_same_rollout_again_after_a_kill_changes_nothing(world: World) -> None:
    world.start()
    rollout = under_way(world.store, MODEL)
    world.start()
    assert len(world.store.deployments(MODEL)) == 2
    assert under_way(world.store, MODEL) == rollout
    rollback(world.store, MODEL, None, "ann", world.clock)
    world.start()
    assert world.shares == {1: 1.0}, "what a person took back does not come again by a repeated step"


@pytest.mark.parametrize("other", [shadow(MINUTE, HOUR, LIMITS), canary((0.5,), MINUTE, HOUR, LIMITS)])
def test_a_strategy_that_is_set_anew_holds_for_the_next_rollout_only(world: World, other: Strategy) -> None:
    world.start()
    world.live(30, labelled=False)
    with_strategy(world, other)
    assert world.look(10 * MINUTE) is Outcome.HOLD
    assert "labels" in world.last()[0]
    world.live(60)
    assert world.look() is Outcome.ADVANCE
    assert world.shares == {1: 0.5, 2: 0.5}


def test_promoting_the_challenger_takes_its_data_and_promoting_another_gives_it_back(world: World) -> None:
    world.store.put(MODEL, "snapshot", "old")

    def start(token: str) -> None:
        cause = Cause("keepfit", "passed", token=token)
        world.rolling.roller.start(2, cause, {"snapshot": "new"})

    start("a")
    deploy(world.store, MODEL, 2, Cause("ann", "promoted", "promote"), world.clock)
    assert world.store.get(MODEL, "snapshot") == "new"
    world.store.put(MODEL, "snapshot", "old")
    deploy(world.store, MODEL, 1, Cause("ann", "promoted", "promote"), world.clock)
    with_strategy(world, immediate(HOUR, LIMITS))
    start("b")
    assert world.store.get(MODEL, "snapshot") == "new"
    deploy(world.store, MODEL, 1, Cause("ann", "promoted", "promote"), world.clock)
    assert world.store.get(MODEL, "snapshot") == "old"


def test_a_worker_that_cannot_load_a_version_goes_on_judging_without_it(world: World) -> None:
    world.start()
    world.live(30)
    world.rolling = replace(world.rolling, load=lambda number: world.models[number + 100])
    assert world.look(11 * MINUTE) is Outcome.HOLD
    assert world.look(timedelta(days=2)) is Outcome.UNDECIDED


def test_a_label_of_a_content_that_is_none_any_more_spoils_no_other_and_blames_nobody(world: World) -> None:
    world.start()
    world.live(40)

    class Picky(ToyModel):
        def prepare(self, contents: Sequence[str]) -> Prepared:
            if any(content == WORDS[7] for content in contents):
                raise InvalidInput("the video is gone")
            return super().prepare(contents)

    picky = Picky(["neg", "pos"], dict.fromkeys(WORDS, "pos"), [0.5, 0.5])
    world.rolling = replace(world.rolling, load=lambda number: picky)
    assert world.look() is Outcome.HOLD
    evidence = world.store.decisions(MODEL, "rollout", 1)[0].decision.evidence
    assert evidence["quality"]["labels"] == 39
    assert evidence["signs"]["failures"]["challenger"] == 0


@pytest.mark.parametrize(("kind", "tracebacks"), [(BackendError, 0), (ValueError, 1)])
def test_a_version_that_cannot_be_loaded_is_told_in_a_line_each_time_and_traced_at_most_once(
    world: World, caplog: pytest.LogCaptureFixture, kind: type[Exception], tracebacks: int
) -> None:
    def load(number: int) -> ToyModel:
        raise kind(f"version {number} is damaged; `keepfit rollback` goes back")

    late = Predictor(MODEL, world.store, load, world.writer, world.clock, "late")
    for _ in range(3):
        late.refresh()
        late._failed = (late._failed[0], 0.0)  # half a minute later
    told = [line for line in caplog.records if "could not be brought up" in line.getMessage()]
    assert [line.getMessage() for line in told] == [
        f"deployment 1 of {MODEL} could not be brought up: version 1 is damaged; `keepfit rollback` goes back"
    ] * 3
    assert sum(line.exc_info is not None and line.exc_info[0] is not None for line in told) == tracebacks
    late.close()


def test_a_server_that_starts_beside_a_damaged_challenger_answers_with_the_champion(world: World) -> None:
    del world.models[2]
    world.start()
    late = Predictor(MODEL, world.store, world.rolling.load, world.writer, world.clock, "late")
    late.refresh()
    (answer,) = late.predict([Request("w1")])
    assert answer.prediction.model_version == 1
    assert "could not be brought up" in (late.ready() or "")
    assert [worker for worker, _ in world.newest.applied] == []
    late.close()


def test_a_newer_version_takes_the_place_of_one_that_is_rolled_out(world: World) -> None:
    world.start()
    world.start(3, "another job")
    assert world.shares == {1: 0.9, 3: 0.1}
    assert "gives up its place" in world.last()[0]


def test_all_the_traffic_can_wait_for_a_person(world: World) -> None:
    with_strategy(world, canary((0.5,), 10 * MINUTE, HOUR, LIMITS), confirm=True)
    world.start()
    world.live(200)
    assert world.look(10 * MINUTE) is Outcome.ADVANCE
    assert world.shares == {1: 0.5, 2: 0.5}
    assert "waits for a person: keepfit approve 2" in world.last()[-1]
    with pytest.raises(Refused, match="version 2 waits"):
        world.rolling.roller.approve(3, "ann")
    world.rolling.roller.approve(2, "ann")
    assert world.shares == {2: 1.0}
    with pytest.raises(Refused, match="waits for approval"):
        world.rolling.roller.approve(2, "ann")


def test_answers_that_are_objected_to_more_often_are_harm_without_any_asked_label(world: World) -> None:
    world.start()
    for i in range(300):
        (answer,) = world.predictor.predict([Request(WORDS[i % 200], key=f"user {i}")])
        one = answer.prediction
        if one.model_version == 2 or i % 50 == 0:
            world.writer.flush()
            label = Label(one.example_id, "neg", world.clock.now(), Source.VOLUNTEERED, "user", None, one.id)
            world.store.add_labels(MODEL, [label])
        world.clock.advance(timedelta(seconds=1))
    world.writer.flush()
    assert world.look() is Outcome.ROLL_BACK
    assert "objected to" in world.last()[0]


class TestAnOptimist:
    @pytest.fixture
    def challenger(self) -> ToyModel:
        return model(wrong=200)

    def test_another_mix_of_answers_stops_a_canary_but_harms_nobody_yet(self, world: World) -> None:
        with_strategy(world, canary((0.5,), 10 * MINUTE, HOUR, replace(LIMITS, min_labels=1)))
        world.start()
        world.live(200, labelled=False)
        assert world.look(10 * MINUTE) is Outcome.HOLD
        labels = world.live(1)
        assert labels
        assert world.look() is Outcome.HOLD
        assert any("says 'neg' more often" in words for words in world.last())


def test_the_way_back_never_leads_to_a_champion_that_could_not_be_loaded(world: World) -> None:
    with_strategy(world, immediate(HOUR, LIMITS))
    deploy(world.store, MODEL, 9, Cause("ann", "its files are damaged"), world.clock)
    world.predictor.refresh()
    assert set(world.live(5)) == {1}
    world.start()
    assert set(world.live(5)) == {2}
    rollback(world.store, MODEL, None, "ann", world.clock)
    assert world.shares == {1: 1.0}
    world.predictor.refresh()
    assert set(world.live(5)) == {1}


# labels where the two disagree

SHADOW = shadow(MINUTE, HOUR, replace(LIMITS, better_by=0.0))
MIXED = AskingPlan(rate=0.1, budget=100_000, parts=Parts(0.4, 0.2, 0.4))
SURE = AskingPlan(rate=1 / 6, budget=100_000, parts=Parts(0.4, 0.2, 0.4))
"""Where 20 of 200 answers differ, three fifths of a sixth of all questions are these: none is left to a lot."""


def ask(world: World, plan: AskingPlan = MIXED) -> list[QueueItem]:
    """What the watch asks for at a beat."""
    world.clock.advance(timedelta(seconds=2))
    Asking(MODEL, world.store, plan, world.clock, lambda version: NOTHING, world.rolling).ask()
    return world.store.queue(MODEL, 1000)


def tell(world: World, items: Sequence[QueueItem], value: str = "pos") -> None:
    now = world.clock.now()
    world.store.add_labels(MODEL, [
        Label(item.example.id, value, now, Source.ASKED, "ann", item.propensity, item.prediction_id) for item in items
    ])  # fmt: skip
    world.clock.advance(timedelta(seconds=1))


NOTHING = Reference(np.zeros((0, 2), np.float32), np.zeros((0, 1), np.float32), np.zeros(0, np.int64))


@pytest.mark.parametrize(("strategy", "champion"), [(SHADOW, model(wrong=20))])
def test_labels_are_asked_for_where_the_two_disagree_and_these_come_first(world: World) -> None:
    world.start()
    world.live(200, labelled=False)
    items = ask(world, SURE)
    apart = [item for item in items if "disagree" in item.reason]
    assert {item.example.content for item in apart} == set(WORDS[:20]), "they get three fifths of the questions"
    assert all(set(item.parts) <= {"uniform", "disagreement"} for item in items), "what is unsure waits"
    first = world.store.queue(MODEL, len(apart), waiting_since(world.store, MODEL))
    assert {item.id for item in first} == {item.id for item in apart}
    tell(world, items)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    quality = world.rolling.compare(rollout).quality
    assert (quality.met, quality.differ) == (200, 20)
    assert (quality.losses, quality.ties) == (0, 0)
    assert quality.wins == 20
    assert quality.difference().value == pytest.approx(0.1)
    assert ask(world, SURE) == [], "a stretch is drawn once"
    assert world.rolling.compare(rollout).quality.met == 200


@pytest.mark.parametrize("champion", [model(wrong=20)])
def test_a_canary_asks_both_later_so_that_they_can_disagree(world: World) -> None:
    world.start()
    world.live(150, labelled=False)
    items = ask(world, SURE)
    assert any("disagree" in item.reason for item in items)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    assert world.rolling.met(rollout)["met"] == 150


@pytest.mark.parametrize("champion", [model(wrong=20)])
def test_after_a_clock_ran_ahead_and_was_put_right_answers_are_counted_again(world: World) -> None:
    world.start()
    world.live(50, labelled=False)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    world.clock.advance(timedelta(hours=5))
    ask(world)
    world.rolling.compare(rollout)
    world.clock.advance(-timedelta(hours=5))
    ask(world)
    before = world.rolling.count(rollout, Normal(None, None)).total("heard", 1)
    (told,) = world.store.decisions(MODEL, "clock")
    assert "jumped back" in told.decision.because[0]
    met = world.rolling.met(rollout)["met"]
    world.live(100, labelled=False)  # of them 50 new words
    ask(world)
    assert world.rolling.count(rollout, Normal(None, None)).total("heard", 1) > before + 20
    assert world.rolling.met(rollout)["met"] >= met + 45
    assert len(world.store.decisions(MODEL, "clock")) == 1


@pytest.mark.parametrize(("strategy", "champion"), [(SHADOW, model(wrong=20))])
def test_labels_drawn_only_because_the_model_was_unsure_prove_nothing_nor_do_duplicates(world: World) -> None:
    world.start()
    world.live(200, labelled=False)
    window = Window(world.clock.now() - HOUR, world.clock.now() + HOUR)
    heard = [p for p in world.store.predictions(MODEL, window, 1) if not p.shadow]
    kinds = [{"uncertain": 0.5}] * 5 + [{"uniform": 0.1, "uncertain": 0.5}] * 5 + [{"disagreement": 0.5}] * 5

    def item(number: int, parts: Mapping[str, float], at: datetime) -> QueueItem:
        example = world.store.prediction(MODEL, heard[number].id)[0]
        return QueueItem(f"q{number}", MODEL, heard[number].id, example, 0.5, "r", at, heard[number].labels, parts)

    now = world.clock.now()
    before = now - timedelta(days=1)  # by the disagreements with an earlier challenger
    items = [item(n, parts, now) for n, parts in enumerate(kinds)] + [item(15, {"disagreement": 0.5}, before)]
    world.store.ask(items)
    tell(world, items)
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    assert (world.rolling.compare(rollout).quality.n, world.rolling.compare(rollout).quality.wins) == (10, 10)
    world.live(10, labelled=False)  # the first ten words once more
    again = [p for p in world.store.predictions(MODEL, Window(now, now + HOUR), 1) if not p.shadow]
    labels = [Label(p.example_id, "pos", world.clock.now(), Source.ASKED, "ann", 1.0, p.id) for p in again]
    world.store.add_labels(MODEL, labels)
    world.clock.advance(timedelta(seconds=1))
    assert world.rolling.compare(rollout).quality.n == 15, "five that had no fair label before; the others count once"


@pytest.mark.parametrize(("strategy", "champion"), [(SHADOW, model(wrong=120))])
def test_a_challenger_that_must_be_better_is_held_until_it_is_proven(world: World) -> None:
    world.rolling = replace(world.rolling, tolerance=1e6)  # that it answers otherwise is what is wanted
    world.start()
    world.live(60, labelled=False)
    tell(world, ask(world, replace(MIXED, rate=0.1)))
    assert world.look(MINUTE) is Outcome.HOLD
    world.live(200, labelled=False)  # of which 140 texts are new
    tell(world, ask(world, replace(MIXED, rate=1.0)))
    assert world.look(MINUTE) is Outcome.ADVANCE, world.last()
    evidence = world.store.decisions(MODEL, "rollout", 1)[0].decision.evidence["quality"]
    assert evidence["proof"] >= evidence["goal"] == pytest.approx(20)
    assert world.shares == {2: 1.0}


def test_the_second_challenger_of_a_champion_needs_more_evidence(world: World) -> None:
    world.start()
    world.start(3, token="another")
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    assert rollout.place == 2
    assert world.rolling.compare(rollout).place == 2
    rollback(world.store, MODEL, None, "ann", world.clock)
    world.start(2, token="once more")
    again = under_way(world.store, MODEL)
    assert again is not None
    assert again.place == 3


@pytest.mark.parametrize(("strategy", "champion"), [(SHADOW, model(wrong=20))])
def test_where_whole_days_count_a_rollout_waits_for_them_and_takes_what_is_missing_at_its_worst(world: World) -> None:
    world.rolling = replace(world.rolling, days=Days(0.8))
    world.start()
    world.live(200, labelled=False)
    items = ask(world, SURE)
    apart = [item for item in items if "disagree" in item.reason]
    tell(world, apart[:10])
    rollout = under_way(world.store, MODEL)
    assert rollout is not None
    assert world.rolling.compare(rollout).quality.n == 0, "quick labels alone do not judge"
    tell(world, [item for item in items if item not in apart] + apart[10:18])
    assert world.rolling.compare(rollout).quality.n == 0, "the day is not over"
    world.clock.advance(DAY)
    quality = world.rolling.compare(rollout).quality
    assert (quality.wins, quality.losses, quality.unanswered) == (18, 0, 2)
    assert quality.e_better < replace(quality, unanswered=0).e_better
    assert quality.difference().low < replace(quality, unanswered=0).difference().low
