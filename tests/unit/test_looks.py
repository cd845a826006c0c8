"""Looks of the watch: input drift asks for labels and warns, accuracy is estimated and refuted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.alerts.alerts import Alerts
from keepfit.alerts.mailbox import MemoryChannel
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Example, Label, Prediction, Source, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.detectors import MeanShift
from keepfit.monitoring.labelfree.estimator import Estimator
from keepfit.monitoring.labelfree.sample import Sample, of_reference
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.monitor import Monitor
from keepfit.monitoring.two_sample import Psi
from keepfit.pipelines.announce import Announcer
from keepfit.pipelines.estimating import AccuracyWatch
from keepfit.pipelines.inputs import LASTS, InputWatch
from keepfit.pipelines.looks import Beat, ChosenDetectors, looked, mark_of
from keepfit.pipelines.watch import Watch, WatchPlan
from keepfit.triggers.inputs import InputDrift
from keepfit.triggers.policies import trigger_from
from keepfit.triggers.trigger import Situation

MODEL, LABELS, WIDTH = "reviews", ("bad", "good"), 5
Doubles = NDArray[np.float64]
MINUTE = timedelta(minutes=1)


def world(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Doubles, NDArray[np.int64], Doubles]:
    """Scores (n, 2) that are as right as they are sure, truth (n,), embeddings (n, d)."""
    latent = rng.normal(size=(n, WIDTH))
    latent[:, 1] += shift
    chance = 1 / (1 + np.exp(-2.5 * latent[:, 0]))
    truth = (rng.random(n) < chance).astype(np.int64)
    return np.stack([1 - chance, chance], axis=1), truth, latent


def reference_of(n: int = 900, seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    scores, truth, latent = world(rng, n)
    measures = {"length": rng.poisson(20, n).astype(np.float32)}
    return Reference(scores.astype(np.float32), latent.astype(np.float32), truth, measures)


@dataclass
class Post:
    """A watch with its looks, and the world that it looks at."""

    store: RecordStore
    clock: ManualClock
    watch: Watch
    inputs: InputWatch
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    numbers: Iterator[int] = field(default_factory=count)

    def live(self, minutes: int, each: int = 20, shift: float = 0.0, flip: bool = False, asked: float = 0.0) -> None:
        """So many minutes of traffic, with a beat at the end of each ten."""
        for minute in range(minutes):
            scores, truth, latent = world(self.rng, each, shift)
            truth = 1 - truth if flip else truth
            pairs, told = [], []
            for i in range(each):
                number, now = next(self.numbers), self.clock.now()
                example = Example(f"text {number}", now, id=f"e{number}")
                said = Prediction(
                    example.id, 1, LABELS, scores[i].astype(np.float32), latent[i].astype(np.float32), now,
                    id=f"p{number}", measures={"length": float(self.rng.poisson(20))},
                )  # fmt: skip
                pairs.append((example, said))
                if self.rng.random() < asked:
                    told.append(Label(example.id, LABELS[truth[i]], now, Source.ASKED, "ann", asked, said.id))
            self.store.add_predictions(MODEL, pairs)
            self.store.add_labels(MODEL, told)
            self.clock.advance(MINUTE)
            if minute % 10 == 9:
                self.watch.tick()

    def seen(self) -> dict[str, Measurement]:
        """What the last check measured."""
        (last,) = self.store.decisions(MODEL, subject="trigger", limit=1)
        found = [Measurement.from_json(plain) for plain in last.decision.evidence["measurements"]]
        return {m.name: m for m in found}


@pytest.fixture
def post(store_url: str, clock: ManualClock) -> Iterator[Post]:
    with RecordStore.open(store_url) as store:
        store.deploy(MODEL, Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        inputs = InputWatch(MODEL, store, run_length=1e4, label_rate=3.0)
        watch = Watch(
            MODEL, store, Monitor(), trigger_from([{"kind": "accuracy_floor", "floor": 0.6}]),
            lambda number: reference_of(), WatchPlan(timedelta(hours=1), timedelta(hours=6), 0.1, 0), clock,
            looks=(inputs, ChosenDetectors({"psi": (Psi(), 0.5), "mean_shift": (MeanShift(), 0.3)})),
            more_labels=inputs.more_labels,
        )  # fmt: skip
        yield Post(store, clock, watch, inputs)


# input drift


def test_a_change_of_the_inputs_asks_for_more_labels_and_warns_but_retrains_nothing(post: Post) -> None:
    post.live(60)
    assert not post.seen()["input_drift"].breached
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.1)
    post.live(60, shift=3.0)
    drift = post.seen()["input_drift"]
    assert drift.breached
    assert "level of pc" in drift.note
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.3)
    alarms = post.store.decisions(MODEL, subject="inputs")
    assert alarms[-1].decision.outcome is Outcome.FIRE
    assert not alarms[-1].decision.evidence["again"]
    assert post.store.prediction(MODEL, alarms[-1].decision.evidence["example"])[1].model_version == 1
    assert post.store.jobs(MODEL) == []
    mail = MemoryChannel()
    Announcer(MODEL, post.store, Alerts([mail]), post.clock).announce()
    assert [title for title, _ in mail.sent if "inputs" in title] == [f"{MODEL}: the inputs have changed"]


def test_a_change_that_lasts_is_one_decision_a_day_and_keeps_its_beginning(post: Post) -> None:
    post.live(60)
    post.live(60, shift=3.0)
    (first,) = post.store.decisions(MODEL, subject="inputs")
    since = post.seen()["input_drift"].window.start
    post.live(180, shift=3.0)
    assert [one.id for one in post.store.decisions(MODEL, subject="inputs")] == [first.id]
    assert post.store.get(MODEL, "input_alarm")["at"] > first.decision.evidence["block"][1], "it was raised again"
    assert post.seen()["input_drift"].window.start == since
    refused = Situation(post.clock.now(), MODEL, 1, trained_at=first.at, measurements=(post.seen()["input_drift"],))
    assert InputDrift().decide(refused).outcome is Outcome.WAIT


def test_more_labels_are_asked_for_during_a_day_only(post: Post) -> None:
    post.live(30)
    post.live(60, shift=3.0)
    post.clock.advance(LASTS + MINUTE)
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.1)


def test_a_restart_of_the_worker_takes_in_no_answer_twice(post: Post) -> None:
    post.live(40)
    before = post.store.get(MODEL, "input_drift")
    again = InputWatch(MODEL, post.store, run_length=1e4)
    post.watch.tick()
    now = post.clock.now()
    beat = Beat(now, 1, post.store.deployments(MODEL)[0].at, reference_of(), Window(now, now + MINUTE), [], [])
    again.measure(beat)
    assert post.store.get(MODEL, "input_drift") == before


def test_after_a_clock_ran_ahead_and_was_put_right_the_inputs_are_looked_at_from_then_on(post: Post) -> None:
    post.live(40)
    post.clock.advance(timedelta(hours=5))
    post.live(10)
    before = post.store.get(MODEL, "input_drift")
    post.clock.advance(-timedelta(hours=5))
    post.watch.tick()
    after = post.store.get(MODEL, "input_drift")
    assert after["bets"]["numbers"] == before["bets"]["numbers"], "nothing is taken in twice"
    (told,) = post.store.decisions(MODEL, subject="clock")
    assert "jumped back" in told.decision.because[0]
    post.live(60, shift=3.0)
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.3)
    assert len(post.store.decisions(MODEL, subject="clock")) == 1


def test_an_alarm_of_a_future_that_never_was_asks_for_no_more_labels(post: Post) -> None:
    post.live(30)
    post.clock.advance(timedelta(hours=20))
    post.live(60, shift=3.0)
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.3)
    post.clock.advance(-timedelta(hours=20))
    assert post.watch.wanted_rate(post.clock.now()) == pytest.approx(0.1)


def test_another_version_begins_anew(post: Post) -> None:
    post.live(40)
    post.store.deploy(MODEL, Traffic({2: 1.0}), Cause("trainer", "the second"), post.clock.now())
    post.clock.advance(10 * MINUTE)
    post.watch.tick()
    kept: Mapping[str, Any] = post.store.get(MODEL, "input_drift")
    assert kept["version"] == 2


def test_a_reference_that_is_too_small_says_so(post: Post) -> None:
    beat = Beat(
        post.clock.now(),
        1,
        post.clock.now(),
        reference_of(40),
        Window(post.clock.now(), post.clock.now() + MINUTE),
        [],
        [],
    )
    (found,) = post.inputs.measure(beat)
    assert not found.judged
    assert "40 rows" in found.note


def test_the_trigger_fires_on_an_alarm_once_and_only_for_who_names_it(post: Post) -> None:
    post.live(30)
    post.live(60, shift=3.0)
    drift, now = post.seen()["input_drift"], post.clock.now()
    asked = InputDrift()
    assert asked.decide(Situation(now, MODEL, 1, measurements=(drift,))).outcome is Outcome.FIRE
    assert asked.decide(Situation(now, MODEL, 1, trained_at=now, measurements=(drift,))).outcome is Outcome.WAIT
    assert asked.decide(Situation(now, MODEL, 1)).outcome is Outcome.WAIT
    assert "input_drift" not in str(post.store.decisions(MODEL, subject="trigger", limit=1)[0].decision.because)


# accuracy without labels


@pytest.fixture(scope="module")
def fitted() -> tuple[str, Estimator]:
    return mark_of(reference_of()), Estimator(of_reference(reference_of()))


@pytest.fixture
def estimating(post: Post, fitted: tuple[str, Estimator]) -> Post:
    post.watch = replace(post.watch, looks=(AccuracyWatch(MODEL, post.store, _fitted=fitted),))
    return post


def test_the_watch_fits_once_for_each_version(post: Post, fitted: tuple[str, Estimator]) -> None:
    look = AccuracyWatch(MODEL, post.store)
    first = look._ready(reference_of())
    assert look._ready(reference_of()) is first
    window = sample_of_window(post.rng)
    assert first.estimate(window) == fitted[1].estimate(window)


def sample_of_window(rng: np.random.Generator) -> Sample:
    return of_reference(reference_of(200, int(rng.integers(1, 9))))


def test_accuracy_is_estimated_without_a_label_and_no_trigger_reads_it(estimating: Post) -> None:
    estimating.live(30)
    estimated = estimating.seen()["accuracy:estimated"]
    reference = reference_of()
    actual = float((reference.scores.argmax(axis=1) == reference.truth).mean())
    assert estimated.known
    assert estimated.low < actual < estimated.high
    assert abs(estimated.value - actual) < 0.05
    assert "accuracy" not in estimating.seen()
    assert "accuracy is unknown" in estimating.store.decisions(MODEL, subject="trigger", limit=1)[0].decision.because[0]


def test_labels_correct_the_estimate(estimating: Post) -> None:
    estimating.live(40, asked=0.2)
    corrected = estimating.seen()["accuracy:corrected"]
    plain = estimating.seen()["accuracy"]
    assert corrected.n >= 100
    assert corrected.high - corrected.low < 1.1 * (plain.high - plain.low)
    assert corrected.low < 0.8 < corrected.high


def test_a_turned_meaning_refutes_the_estimate_and_that_is_on_record_once(estimating: Post) -> None:
    estimating.live(20, asked=0.3)
    assert estimating.seen()["accuracy:estimated"].known
    assert estimating.store.decisions(MODEL, subject="estimate") == []
    estimating.live(60, flip=True, asked=0.3)
    estimated = estimating.seen()["accuracy:estimated"]
    assert not estimated.known
    assert (estimated.value, estimated.low, estimated.high) == (0.0, 0.0, 1.0)
    assert "worse than the answers look" in estimated.note
    (kept,) = estimating.store.decisions(MODEL, subject="estimate")
    assert kept.decision.outcome is Outcome.FAIL


Pair = tuple[Prediction, Label]


def answered(post: Post, n: int, worse: float = 0.0, ago: timedelta = timedelta(0), sure: float = 0.0) -> list[Pair]:
    """Answers and their labels; by a share of `worse` fewer are right than they look, exactly.

    sure: all of one input, that far from the border.
    """
    scores, truth, latent = world(post.rng, n)
    if sure:
        latent[:, 0] = sure
        chance = 1 / (1 + np.exp(-2.5 * latent[:, 0]))
        scores, truth = np.stack([1 - chance, chance], axis=1), np.ones(n, np.int64)
    right = scores.argmax(axis=1) == truth
    surplus = int(right.sum() - scores.max(axis=1).sum() + worse * n)
    turned = np.flatnonzero(right if surplus > 0 else ~right)[: abs(surplus)]
    truth[turned] = 1 - truth[turned]
    pairs, time = [], post.clock.now() - ago
    for i in post.rng.permutation(n):
        number = next(post.numbers)
        said = Prediction(
            f"e{number}", 1, LABELS, scores[i].astype(np.float32), latent[i].astype(np.float32), time, id=f"p{number}",
            measures={"length": float(post.rng.poisson(20))},
        )  # fmt: skip
        pairs.append((said, Label(said.example_id, LABELS[truth[i]], time, Source.ASKED, "ann", 0.5, said.id)))
    return pairs


def look_at(
    post: Post, fitted: tuple[str, Estimator], said: list[Prediction], told: list[Pair]
) -> dict[str, Measurement]:
    """What one beat measures."""
    now = post.clock.now()
    beat = Beat(now, 1, now - timedelta(days=30), reference_of(), Window(now - MINUTE, now + MINUTE), said, told)
    return {one.name: one for one in AccuracyWatch(MODEL, post.store, _fitted=fitted).measure(beat)}


def test_labels_of_last_week_do_not_refute_what_is_right_today(post: Post, fitted: tuple[str, Estimator]) -> None:
    today = [prediction for prediction, _ in answered(post, 600)]
    old = answered(post, 400, worse=0.5, ago=timedelta(days=7))
    seen = look_at(post, fitted, today, old)
    assert seen["accuracy:estimated"].known, seen["accuracy:estimated"].note
    assert "accuracy:corrected" not in seen
    assert post.store.decisions(MODEL, subject="estimate") == []


def test_what_labels_refuted_comes_back_when_enough_labels_agree_well(
    post: Post, fitted: tuple[str, Estimator]
) -> None:
    said = answered(post, 600)
    steps = [(0.3, 400), (0.05, 400), (0.0, 99), (0.0, 0), (0.3, 400), (0.05, 400), (0.0, 400), (0.05, 400)]
    known = []
    for worse, labels in steps:
        told = answered(post, 400, worse=worse)[:labels]
        known.append(look_at(post, fitted, [one for one, _ in said], told)["accuracy:estimated"].known)
    assert known == [False, False, False, False, False, False, True, True]
    outcomes = [one.decision.outcome for one in post.store.decisions(MODEL, subject="estimate")]
    assert sorted(outcomes) == sorted([Outcome.PASS, Outcome.FAIL]), "each on record once"


def test_one_text_that_comes_again_and_again_and_shadows_do_not_move_the_corrected_accuracy(
    post: Post, fitted: tuple[str, Estimator]
) -> None:
    told = answered(post, 500)
    apart, storm, shadow = [one for one, _ in told], answered(post, 600, sure=3.0), answered(post, 600, sure=3.0)
    again = [one for one, _ in storm]
    hidden = [replace(one, shadow=True) for one, _ in shadow]
    for said, text in [*((one, one.id) for one in apart), *((one, "the same") for one in again)]:
        post.store.add_predictions(MODEL, [(Example(text, said.time, id=said.example_id), said)])
    plain = look_at(post, fitted, apart, told)["accuracy:corrected"]
    stormy = look_at(post, fitted, [*apart, *again, *hidden], told)["accuracy:corrected"]
    assert abs(stormy.value - plain.value) < 0.01


def test_a_window_outside_the_reference_cannot_be_estimated(estimating: Post) -> None:
    estimating.live(20, shift=8.0)
    assert "farther from the reference" in estimating.seen()["accuracy:estimated"].note
    assert not estimating.seen()["accuracy:estimated"].known


# detectors of the settings, and robustness


def test_detectors_of_the_settings_are_measured_with_their_limits(post: Post) -> None:
    post.live(20)
    assert not post.seen()["detector:psi"].breached
    post.live(60, shift=3.0)
    assert post.seen()["detector:psi"].breached
    assert post.seen()["detector:mean_shift"].limit == 0.3


def test_a_look_that_fails_hides_nothing_else(post: Post) -> None:
    class Broken:
        def measure(self, beat: Beat) -> list[Measurement]:
            raise ZeroDivisionError

    now = post.clock.now()
    beat = Beat(now, 1, now, reference_of(40), Window(now, now + MINUTE), [], [])
    assert [m.name for m in looked([Broken(), post.inputs], beat)] == ["input_drift"]
