"""One beat of the watch, step by step: silence, label budget, windows, and what is asked of the triggers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, pairwise
from typing import Any

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import UNWRITTEN, Cause, Event, Example, Job, JobState, Label, Prediction, Source, Traffic
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.allowance import AT_ONCE
from keepfit.monitoring.asking import Parts
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.monitor import Monitor
from keepfit.pipelines.asking import day_of
from keepfit.pipelines.harming import VALUE, Harming
from keepfit.pipelines.looks import Beat
from keepfit.pipelines.taking import Days
from keepfit.pipelines.trust import LabelTrust
from keepfit.pipelines.watch import Watch, WatchPlan
from keepfit.pipelines.worth import Valued, Worth
from keepfit.triggers.alarm import Harm
from keepfit.triggers.combinators import NewEvidence
from keepfit.triggers.policies import trigger_from

MODEL = "reviews"
LABELS = ("bad", "good")
HOUR = timedelta(hours=1)


def reference_of(number: int) -> Reference:
    """A version that is right on 95 of 100 rows."""
    rng = np.random.default_rng(0)
    truth = np.arange(200, dtype=np.int64) % 2
    said = np.where(np.arange(200) % 20 == 0, 1 - truth, truth)
    scores = np.where(said[:, None] == np.arange(2), 0.9, 0.1).astype(np.float32)
    measures = {"length": np.full(200, 4.0, np.float32), "unknown": np.zeros(200, np.float32)}
    return Reference(scores, rng.normal(size=(200, 4)).astype(np.float32), truth, measures)


@dataclass
class Post:
    """A watch, and the world that it looks at."""

    store: RecordStore
    clock: ManualClock
    watch: Watch
    logged: list[Mapping[str, float]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)

    def planned(self, **plan: Any) -> Watch:
        return replace(self.watch, plan=replace(self.watch.plan, **plan))

    def answer(self, n: int, at: datetime | None = None, version: int = 1) -> list[Prediction]:
        """n texts were answered with "good"; by fixed ids, so that draws are always the same."""
        rng, pairs = np.random.default_rng(n), []
        for number in (next(self.numbers) for _ in range(n)):
            moment = at or self.clock.now()
            example = Example(f"good text {number}", moment, id=f"e{number}")
            scores, embedding = np.array([0.1, 0.9], np.float32), rng.normal(size=4).astype(np.float32)
            labels = LABELS
            if version == 2:  # knows one class more, by another encoder
                labels, scores, embedding = (*LABELS, "odd"), np.append(scores, np.float32(0)), np.tile(embedding, 2)
            measures = {"length": 4.0, "unknown": 0.0}
            said = Prediction(
                example.id, version, labels, scores, embedding, moment, id=f"p{number}", measures=measures
            )  # fmt: skip
            pairs.append((example, said))
        self.store.add_predictions(MODEL, pairs)
        return [said for _, said in pairs]

    def tell(self, answers: list[Prediction], value: str, source: Source = Source.ASKED, actor: str = "ann") -> None:
        now = self.clock.now()
        labels = [Label(p.example_id, value, now, source, actor, 1.0, p.id) for p in answers]
        self.store.add_labels(MODEL, labels)

    def asked(self) -> int:
        return len(self.store.queue(MODEL, 100_000))


@pytest.fixture
def post(store_url: str, clock: ManualClock) -> Iterator[Post]:
    with RecordStore.open(store_url) as store:
        store.deploy(MODEL, Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        logged: list[Mapping[str, float]] = []
        watch = Watch(
            MODEL, store, Monitor(), trigger_from([{"kind": "accuracy_floor", "floor": 0.8}, {"kind": "on_event"}]),
            reference_of, WatchPlan(HOUR, 6 * HOUR, label_rate=1.0, label_budget=0), clock,
            lambda at, values: logged.append(values),
        )  # fmt: skip
        yield Post(store, clock, watch, logged)


# asking for labels


def test_no_more_than_the_budget_is_asked_for_however_busy_the_day(post: Post) -> None:
    watch = post.planned(label_budget=200)
    for _ in range(24):
        post.answer(100)
        post.clock.advance(HOUR - timedelta(seconds=1))
        watch.ask_for_labels()
        post.clock.advance(timedelta(seconds=1))
    assert 150 < post.asked() < 250


def test_a_busy_morning_leaves_something_for_the_evening(post: Post) -> None:
    watch = post.planned(label_budget=200)
    post.answer(2000)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    morning = post.asked()
    assert morning < 200 * AT_ONCE * 1.4
    post.clock.advance(18 * HOUR)
    post.answer(2000, post.clock.now() - UNWRITTEN * 2)
    watch.ask_for_labels()
    assert 50 < post.asked() - morning < 150


def test_answers_of_the_small_hours_have_a_chance_after_a_busy_midnight(post: Post) -> None:
    watch, start = post.planned(label_budget=200), post.clock.now()
    for minute in range(361):
        post.clock.advance(timedelta(minutes=1))
        watch.ask_for_labels()
        post.answer(100 if minute == 0 else 5)
    times = [item.asked_at - start for item in post.store.queue(MODEL, 1000)]
    asked = [sum(HOUR * hour < time <= HOUR * (hour + 1) for time in times) for hour in range(6)]
    assert min(asked) > 0
    assert sum(asked) < 200 * (AT_ONCE + 0.75 * 0.25) * 1.3


def test_the_next_day_brings_a_new_budget(post: Post) -> None:
    watch = post.planned(label_budget=200)
    for _ in range(2):
        post.answer(1000)
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
        post.clock.advance(timedelta(days=1))
    assert 60 < post.asked() < 140


def test_each_answer_is_considered_once_and_not_before_it_is_surely_written(post: Post) -> None:
    watch = post.planned(label_budget=100_000)
    post.answer(10)
    watch.ask_for_labels()
    assert post.asked() == 0
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    watch.ask_for_labels()
    assert post.asked() == 10


def test_the_chance_is_stored_with_each_question(post: Post) -> None:
    watch = post.planned(label_rate=0.25, label_budget=100_000)
    post.answer(400)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    assert {item.propensity for item in post.store.queue(MODEL, 1000)} == {0.25}
    assert 60 < post.asked() < 140


@pytest.mark.parametrize(("zone", "day"), [("UTC", "2025-01-01"), ("Asia/Tokyo", "2025-01-02")])
def test_the_day_is_that_of_the_settings(clock: ManualClock, zone: str, day: str) -> None:
    clock.advance(18 * HOUR)
    found, over = day_of(clock.now(), zone)
    assert found == day
    assert over == pytest.approx({"UTC": 0.75, "Asia/Tokyo": 0.125}[zone])


# silence


def test_silence_confirms_only_where_every_outcome_becomes_known(post: Post) -> None:
    post.answer(20)
    post.clock.advance(2 * HOUR)
    post.watch.settle_silence()
    assert post.store.training_data(MODEL) == []
    post.planned(labels=Source.COMPLETE, settle_after=HOUR).settle_silence()
    kept = post.store.training_data(MODEL)
    assert len(kept) == 20
    assert {(k.label.value, k.label.source, k.label.actor) for k in kept} == {("good", Source.COMPLETE, "silence")}


def test_silence_waits_and_never_outvotes_what_was_said(post: Post) -> None:
    watch = post.planned(labels=Source.COMPLETE, settle_after=HOUR)
    answers = post.answer(20)
    post.tell(answers[:5], "bad", Source.COMPLETE)
    post.clock.advance(HOUR / 2)
    watch.settle_silence()
    assert len(post.store.training_data(MODEL)) == 5
    post.clock.advance(HOUR)
    watch.settle_silence()
    watch.settle_silence()
    values = [k.label.value for k in post.store.training_data(MODEL)]
    assert (values.count("bad"), values.count("good")) == (5, 15)


def test_objections_alone_are_no_alarm_and_the_accuracy_is_right_once_silence_has_spoken(post: Post) -> None:
    watch = post.planned(labels=Source.COMPLETE, settle_after=24 * HOUR)
    watch = replace(watch, worth=Worth(MODEL, post.store, Valued(), complete=True))
    answers = post.answer(1000)
    for hour in range(20):
        post.clock.advance(HOUR / 20)
        post.tell(answers[hour : hour + 1], "bad", Source.COMPLETE, f"user {hour}")
    assert watch.tick().outcome is Outcome.WAIT
    early = watch.situation()
    assert early.measured("accuracy") is None or early.measured("accuracy").n == 0
    assert early.losses.labels == 0
    post.clock.advance(24 * HOUR)
    assert watch.tick().outcome is Outcome.WAIT
    late = watch.situation()
    assert (late.measured("accuracy").n, late.measured("accuracy").value) == (1000, pytest.approx(0.98))
    assert late.losses.labels == 1000
    assert sum(one.wrong for one in late.losses.stretches) == 20


# windows


def test_the_history_holds_windows_that_share_no_moment(post: Post) -> None:
    for _ in range(18):
        post.answer(40)
        post.clock.advance(HOUR / 6)
        post.watch.tick()
    kept = [[Measurement.from_json(m) for m in window] for window in post.store.get(MODEL, "windows")]
    spans = [window[0].window for window in kept]
    assert len(spans) >= 2
    assert all(later.start >= earlier.end for later, earlier in pairwise(spans))


def test_windows_of_an_earlier_version_are_not_compared_with(post: Post) -> None:
    post.answer(40)
    post.clock.advance(HOUR)
    post.watch.tick()
    post.store.deploy(MODEL, Traffic({2: 1.0}), Cause("trainer", "the second"), post.clock.now())
    assert post.watch.situation().history == ()


def test_what_was_measured_is_logged_and_kept_for_the_status(post: Post) -> None:
    answers = post.answer(60)
    post.clock.advance(timedelta(minutes=1))
    post.watch.tick()
    assert post.store.get(MODEL, "accuracy") is None
    post.tell(answers, "good")
    post.watch.tick()
    assert post.store.get(MODEL, "accuracy")["n"] == 60
    assert post.logged[-1]["accuracy"] == 1.0
    assert {"confidence", "length", "label_mix", "embedding_drift"} <= post.logged[-1].keys()


# deciding


def test_before_the_first_deployment_the_decision_says_what_to_do(store_url: str, post: Post) -> None:
    decision = replace(post.watch, model="other").tick()
    assert decision.outcome is Outcome.WAIT
    assert "keepfit train DATA" in decision.because[0]
    assert post.store.decisions("other")[0].decision.outcome is Outcome.WAIT


def test_a_check_that_finds_nothing_is_on_record_with_its_numbers(post: Post) -> None:
    post.answer(40)
    assert post.watch.tick().outcome is Outcome.WAIT
    (kept,) = post.store.decisions(MODEL, subject="trigger")
    assert kept.decision.evidence["version"] == 1
    assert kept.decision.evidence["measurements"]


def test_harm_calls_for_one_retraining_that_knows_since_when(post: Post) -> None:
    changed = post.clock.now() + timedelta(minutes=5)
    post.clock.advance(timedelta(minutes=5))
    post.tell(post.answer(100), "bad")
    post.clock.advance(timedelta(minutes=5))
    decision = post.watch.tick()
    assert decision.outcome is Outcome.FIRE
    (job,) = post.store.jobs(MODEL)
    assert (job.state, job.request["reason"], job.request["actor"]) == (JobState.WAITING, "harm", "watch")
    assert datetime.fromisoformat(job.request["since"]) == changed
    assert decision.evidence["job"] == job.id


def test_a_second_call_joins_the_first_and_its_events_are_taken_up(post: Post) -> None:
    for number in range(2):
        post.clock.advance(timedelta(minutes=1))
        post.store.add_event(Event(f"event {number}", MODEL, post.clock.now(), "new_data"))
        post.watch.tick()
    fired = [d for d in post.store.decisions(MODEL, subject="trigger") if d.decision.outcome is Outcome.FIRE]
    assert [d.decision.evidence["joined"] for d in reversed(fired)] == [False, True]
    assert len(post.store.jobs(MODEL)) == 1
    assert post.store.waiting_events(MODEL) == []


def test_a_retraining_that_nobody_needs_waits_while_the_budget_is_spent_and_that_is_on_record(post: Post) -> None:
    post.store.add_event(Event("e1", MODEL, post.clock.now(), "release"))
    careful = replace(post.watch, objection=lambda: "the budget of 2025-01 is spent")
    decision = careful.tick()
    assert decision.outcome is Outcome.WAIT
    assert decision.because[0] == "the budget of 2025-01 is spent"
    stored = post.store.decisions(MODEL, "trigger")[0].decision
    assert stored.evidence["put_off"] is True
    assert post.store.running_or_waiting(MODEL, "retrain") is None
    assert post.watch.tick().outcome is Outcome.FIRE  # the event waited, too


def test_harm_calls_for_a_retraining_whatever_the_budget_says(post: Post) -> None:
    post.tell(post.answer(60), "bad")
    careful = replace(post.watch, objection=lambda: "the budget of 2025-01 is spent")
    assert careful.tick().outcome is Outcome.FIRE


def test_late_labels_of_its_first_time_do_not_alarm_again_when_a_version_comes_back(post: Post) -> None:
    first_time = post.answer(120)
    post.tell(first_time[:60], "bad")
    assert post.watch.tick().outcome is Outcome.FIRE
    post.clock.advance(HOUR)
    post.store.deploy(MODEL, Traffic({2: 1.0}), Cause("trainer", "the second"), post.clock.now())
    post.clock.advance(HOUR)
    post.store.deploy(MODEL, Traffic({1: 1.0}), Cause("ann", "back", kind="rollback"), post.clock.now())
    post.clock.advance(HOUR)
    post.tell(first_time[60:], "bad")
    assert post.watch.tick().outcome is Outcome.WAIT
    post.tell(post.answer(60), "bad")
    decision = post.watch.tick()
    assert decision.outcome is Outcome.FIRE, "what it answers now counts"
    (accuracy,) = [m for m in decision.evidence["measurements"] if m["name"] == "accuracy"]
    assert accuracy["n"] == 60


def test_harm_that_is_over_calls_for_nothing_though_its_labels_are_still_in_the_window(post: Post) -> None:
    post.tell(post.answer(100), "bad")
    assert post.watch.tick().outcome is Outcome.FIRE
    for _ in range(4):
        post.clock.advance(timedelta(minutes=10))
        post.tell(post.answer(50), "good")
        decision = post.watch.tick()
    assert decision.outcome is Outcome.WAIT
    assert "have recovered" in decision.because[0]
    post.tell(post.answer(100), "bad")
    assert post.watch.tick().outcome is Outcome.FIRE, "it is harm again"


def test_an_attempt_that_the_gate_refused_is_known_until_the_next_one(post: Post) -> None:
    post.tell(post.answer(100), "bad")
    post.watch.tick()
    (job,) = post.store.jobs(MODEL)
    assert post.watch.situation().refused_at is None
    post.store.update_job(job.id, state=JobState.DONE, result={"verdict": "fail"}, finished_at=post.clock.now())
    post.clock.advance(HOUR)
    assert post.watch.situation().refused_at == job.at
    held = replace(post.watch, trigger=NewEvidence(post.watch.trigger)).tick()
    assert held.outcome is Outcome.WAIT
    assert "nothing new since the refused attempt" in post.store.decisions(MODEL, "trigger")[0].decision.because[0]
    assert len(post.store.jobs(MODEL)) == 1


# whose labels count


def test_a_flood_of_lies_within_one_beat_triggers_nothing_and_moves_no_number(post: Post) -> None:
    for _ in range(4):
        post.tell(post.answer(20), "good")
        post.clock.advance(HOUR)
        assert post.watch.tick().outcome is Outcome.WAIT
    before = post.store.get(MODEL, "accuracy")
    post.tell(post.answer(600), "bad", actor="evil")
    assert post.watch.tick().outcome is Outcome.WAIT
    assert post.store.get(MODEL, "accuracy") == before
    assert [d.subject for d in post.store.decisions(MODEL, subject="labeller")] == ["labeller evil"]
    LabelTrust(MODEL, post.store, post.clock).clear("evil", "boss")
    assert post.watch.tick().outcome is Outcome.FIRE, "once a person says that they are right, they count"


def test_silence_confirms_nothing_that_somebody_set_apart_has_spoken_of(post: Post) -> None:
    watch = post.planned(labels=Source.COMPLETE, settle_after=HOUR)
    answers = post.answer(20)
    post.tell(answers[:5], "bad", Source.COMPLETE, "bob")
    trust = LabelTrust(MODEL, post.store, post.clock)
    trust.set_apart("bob", "boss")
    post.clock.advance(2 * HOUR)
    watch.settle_silence()
    assert len(post.store.training_data(MODEL)) == 15
    trust.clear("bob", "boss")
    values = [k.label.value for k in post.store.training_data(MODEL)]
    assert (values.count("bad"), values.count("good")) == (5, 15)


# storms, clocks, audits and cohorts


def test_a_storm_of_one_text_is_asked_about_once_a_day_and_eats_no_budget(post: Post) -> None:
    watch = post.planned(label_budget=400)
    for _ in range(3):
        moment, storm = post.clock.now(), []
        for number in (next(post.numbers) for _ in range(300)):
            example = Example("buy this now", moment, id=f"e{number}")
            scores, embedding = np.array([0.1, 0.9], np.float32), np.zeros(4, np.float32)
            storm.append((example, Prediction(example.id, 1, LABELS, scores, embedding, moment, id=f"p{number}")))
        post.store.add_predictions(MODEL, storm)
        post.answer(20)
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
        post.clock.advance(HOUR)
    texts = [item.example.content for item in post.store.queue(MODEL, 1000)]
    assert texts.count("buy this now") <= 1
    assert len(texts) > 40


def test_the_chance_of_a_repeated_text_is_that_of_the_first_answer(post: Post) -> None:
    watch = post.planned(label_rate=0.5, label_budget=100_000)
    drawn = 0
    for day in range(40):
        moment = post.clock.now()
        pairs = []
        for copy in range(5):
            example = Example("the same", moment, id=f"s{day}-{copy}")
            scores, embedding = np.array([0.1, 0.9], np.float32), np.zeros(4, np.float32)
            pairs.append((example, Prediction(example.id, 1, LABELS, scores, embedding, moment, id=f"s{day}-{copy}")))
        post.store.add_predictions(MODEL, pairs)
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
        drawn = post.asked()
        post.clock.advance(timedelta(days=1))
    assert 8 < drawn < 32, "half of the days, not 1 - 0.5^5 of them"


def test_a_clock_that_jumped_back_is_told_and_asking_goes_on(post: Post) -> None:
    watch = post.planned(label_budget=100_000)
    future = post.clock.now() + timedelta(days=3650)
    post.store.set_asked_until(MODEL, future)
    post.answer(10)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    (told,) = post.store.decisions(MODEL, subject="asking")
    assert "jumped back" in told.decision.because[0]
    post.clock.advance(HOUR)
    post.answer(10)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    assert post.asked() == 10
    assert len(post.store.decisions(MODEL, subject="asking")) == 1


def test_a_clock_that_jumps_over_midnight_and_back_brings_no_second_budget(post: Post) -> None:
    watch = post.planned(label_budget=40)
    for days in (0, 1, -1, 1, -1):
        post.clock.advance(timedelta(days=days))
        post.answer(500)
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
    assert post.asked() < 60


def test_unsure_answers_are_asked_for_more_often_with_their_chance(post: Post) -> None:
    watch = post.planned(label_rate=0.2, label_budget=100_000, parts=Parts(0.5, 0.2, 0.3))
    post.answer(400)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    items = post.store.queue(MODEL, 1000)
    assert min(item.propensity for item in items) >= 0.7 * 0.2 - 1e-9
    assert {part for item in items for part in item.parts} == {"uniform", "uncertain"}
    assert all(set(item.parts) and item.reason for item in items)


def test_what_the_champion_is_asked_later_during_a_rollout_is_no_part_of_the_window(post: Post) -> None:
    seen: list[Beat] = []

    class Seeing:
        def measure(self, beat: Beat) -> list[Measurement]:
            seen.append(beat)
            return []

    said = post.answer(50)
    later = [replace(p, id=f"later-{p.id}", shadow=True, scores=np.array([0.9, 0.1], np.float32)) for p in said[:20]]
    post.store.add_later(MODEL, later)
    post.clock.advance(timedelta(seconds=1))
    found = replace(post.watch, looks=(Seeing(),)).situation().measurements
    assert {p.id for p in seen[0].predictions} == {p.id for p in said}
    assert {m.n for m in found if m.name.startswith("ks:")} == {50}


def test_the_watch_goes_on_over_a_promotion_from_two_to_three_classes_and_back(post: Post) -> None:
    watch = replace(
        post.planned(label_rate=0.5, label_budget=100_000, parts=Parts(0.4, 0.2, 0.4)), reference=of_classes
    )
    for version in (2, 1):
        before = post.answer(100, version=3 - version)
        post.clock.advance(timedelta(seconds=1))
        post.store.deploy(MODEL, Traffic({version: 1.0}), Cause("trainer", "the next"), post.clock.now())
        after = post.answer(100, version=version)
        post.clock.advance(UNWRITTEN * 2)
        watch.tick()
        parts = {item.prediction_id: item.parts for item in post.store.queue(MODEL, 1000)}
        asked = [[parts[p.id] for p in some if p.id in parts] for some in (before, after)]
        assert all(part == {"uniform": pytest.approx(0.5)} for part in asked[0])
        assert any("uncertain" in part for part in asked[1])
        assert 25 < len(asked[0]) < 75


def of_classes(number: int) -> Reference:
    """Version 2 knows three classes by embeddings of another size."""
    plain = reference_of(number)
    if number == 1:
        return plain
    scores = np.concatenate([plain.scores, np.zeros((200, 1))], axis=1).astype(np.float32)
    return replace(plain, scores=scores, embeddings=np.repeat(plain.embeddings, 2, axis=1))


def audited(post: Post) -> Watch:
    return post.planned(labels=Source.COMPLETE, settle_after=HOUR, audit_rate=0.2, label_budget=100_000)


def test_an_audit_finds_what_silence_has_confirmed_and_corrects_the_accuracy(post: Post) -> None:
    watch = audited(post)
    post.answer(600)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    items = post.store.queue(MODEL, 1000)
    assert 80 < len(items) < 160
    assert {item.propensity for item in items} == {0.2}
    assert all("good" not in item.reason for item in items), "nobody is told what was answered"
    post.clock.advance(2 * HOUR)
    watch.settle_silence()
    assert len(post.store.queue(MODEL, 1000)) == len(items), "silence answers no audit"
    now = post.clock.now()
    post.store.add_labels(MODEL, [
        Label(item.example.id, "bad" if n % 5 == 0 else "good", now, Source.ASKED, "auditor", item.propensity,
              item.prediction_id)
        for n, item in enumerate(items)
    ])  # fmt: skip
    assert post.store.queue(MODEL, 1000) == []
    found = {m.name: m for m in watch.situation().measurements}
    assert found["accuracy"].value == pytest.approx(0.8, abs=0.01)
    assert found["accuracy"].low < 0.8 < found["accuracy"].high < 0.9
    assert "overlooked" in found["accuracy"].note
    assert found["accuracy:unaudited"].value == 1.0
    assert found["overlooked"].value == 1.0
    assert found["accuracy"].weight <= 600


def test_labels_of_an_open_day_wait_for_the_rest_of_it(post: Post) -> None:
    watch = post.planned(label_budget=100_000, cohorts=0.95)
    answers = post.answer(100)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    post.tell(answers[:50], "good")
    post.clock.advance(timedelta(seconds=1))
    assert not [m for m in watch.situation().measurements if m.name == "accuracy"]
    post.tell(answers[50:96], "bad")
    (accuracy,) = [m for m in watch.situation().measurements if m.name == "accuracy"]
    assert (accuracy.n, accuracy.value) == (96, pytest.approx(50 / 96))
    lag = post.store.get(MODEL, "label_lag")
    assert (lag["asked"], lag["answered"]) == (100, 96)
    assert lag["p90_s"] < 10
    counted = post.planned(cohorts=0.0).situation().measurements
    (plain,) = [m for m in counted if m.name == "accuracy"]
    assert accuracy.low < plain.low < plain.high < accuracy.high


def by_days(post: Post, days: Days | None) -> Watch:
    """Everything is asked about, harm is looked for, and its price is weighed."""
    rule, watch = Harm(one_in=10_000, tolerance=0.02), post.planned(label_budget=100_000)
    return replace(
        watch, harming=Harming(MODEL, post.store, rule, days=days),
        worth=Worth(MODEL, post.store, Valued(), days=days),
    )  # fmt: skip


def test_where_bad_labels_are_quick_neither_harm_nor_losses_are_feigned_when_whole_days_count(post: Post) -> None:
    as_they_come, watch = by_days(post, None), by_days(post, Days(0.95, patience=timedelta(days=30)))
    answers = post.answer(400)
    post.clock.advance(UNWRITTEN * 2)
    watch.ask_for_labels()
    post.tell(answers[:20], "bad")  # one in twenty is wrong, as on the test part, and that is said at once
    post.clock.advance(timedelta(seconds=1))
    early = as_they_come.situation()
    assert early.measured("harm").breached
    assert sum(one.wrong for one in early.losses.stretches) == early.losses.labels == 20
    waiting = watch.situation()
    assert (waiting.measured("harm").n, waiting.losses.labels) == (0, 0)
    assert "answers until none yet" in waiting.measured("harm").note
    post.clock.advance(timedelta(days=20))
    post.tell(answers[20:392], "good")
    whole = watch.situation()
    assert whole.measured("harm").n == whole.losses.labels == 400, "8 questions that nobody answered count as right"
    assert not whole.measured("harm").breached
    assert sum(one.wrong for one in whole.losses.stretches) == 20
    assert post.store.get(MODEL, VALUE)["watched"][""]["lost"] == 20.0


def test_a_day_that_is_open_holds_up_those_behind_it_and_is_given_up_in_the_end(post: Post) -> None:
    watch, days = by_days(post, Days(0.95, patience=timedelta(days=10))), []
    for _ in range(3):
        days.append(post.answer(100))
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
        post.clock.advance(timedelta(days=1))
    post.tell(days[0], "good")
    post.tell(days[1][:50], "good")
    post.tell(days[2], "bad")
    post.clock.advance(timedelta(seconds=1))
    assert watch.situation().measured("harm").n == 100, "the second day is open, so the third waits"
    post.clock.advance(timedelta(days=9))
    harm = watch.situation().measured("harm")
    assert harm.n == 300
    assert harm.breached
    assert watch.situation().measured("harm").n == 300


def test_a_day_is_evidence_after_an_attempt_unless_it_was_before(post: Post) -> None:
    watch = by_days(post, Days(0.95))
    for number in range(2):
        answers = post.answer(100)
        post.clock.advance(UNWRITTEN * 2)
        watch.ask_for_labels()
        post.tell(answers, "bad")
        post.clock.advance(timedelta(days=1))
        assert watch.situation().measured("harm").breached
        if not number:
            post.store.add_job(Job("j", MODEL, "retrain", post.clock.now(), JobState.FAILED, {"reason": "harm"}))
            post.clock.advance(timedelta(seconds=1))
            assert not watch.situation().measured("harm").breached
    kept = post.store.get(MODEL, VALUE)
    post.store.put(MODEL, VALUE, {**kept, "of": "an earlier rule"})
    assert watch.situation().measured("harm").breached
    assert post.store.get(MODEL, VALUE)["watched"] == kept["watched"], "read anew, it is the same"
