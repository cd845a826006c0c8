"""Harm is seen by the labels that measure, in whatever order and however often the watch looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.stories.conftest import MODEL, World

from keepfit.data.classes import ClassChange
from keepfit.data.labellers import Labeller
from keepfit.data.records import Label, Source, Window
from keepfit.decision import Outcome
from keepfit.errors import SettingsError
from keepfit.pipelines.harming import VALUE, Harming
from keepfit.serving.predictor import Request
from keepfit.triggers.alarm import Harm
from keepfit.triggers.policies import trigger_from

RULE = Harm(one_in=10_000, tolerance=0.02, slices=("source",))


@pytest.fixture
def watched(world: World) -> World:
    trigger = trigger_from([{"kind": "harm", "one_in": 10_000, "tolerance": 0.02, "slices": ["source"]}])
    world.watch = replace(world.watch, trigger=trigger, harming=Harming(MODEL, world.store, RULE))
    world.train(("fine", "pos"), ("poor", "neg"))
    return world


def test_nothing_fires_while_the_answers_are_right(watched: World) -> None:
    watched.live(150, "fine", "pos")
    decision = watched.watch.tick()
    assert decision.outcome is Outcome.WAIT
    assert "no proof of harm" in " ".join(decision.because)


def test_labels_under_a_new_name_are_no_harm_and_the_next_training_learns_it(watched: World) -> None:
    watched.live(40, "fine", "pos")
    change = ClassChange(watched.clock.now(), "ann", "rename", ("pos",), "happy")
    watched.store.change_classes(MODEL, change, ("neg", "pos"))
    watched.live(60, "fine", "happy")
    watched.live(20, "fine", "pos")
    assert watched.watch.tick().outcome is Outcome.WAIT
    assert watched.store.get(MODEL, VALUE)["watched"][""]["lost"] == 0.0
    since = watched.clock.now() - timedelta(days=1)
    pairs = watched.store.labelled(MODEL, Window(since, watched.clock.now()))
    assert {(said.label, label.value) for said, label in pairs} == {("happy", "happy")}
    assert watched.run_job({"reason": "routine"})["deployed"]
    assert watched.live(1, "fine", "happy") == ["happy"]


def test_harm_calls_for_a_retraining_once_and_says_since_when(watched: World) -> None:
    watched.live(60, "fine", "pos")
    watched.watch.tick()
    before = watched.clock.now()
    watched.live(60, "fine", "neg")  # the word has turned
    decision = watched.watch.tick()
    assert decision.outcome is Outcome.FIRE
    assert decision.evidence["reason"] == "harm"
    assert f"since {before.isoformat()[:13]}" in decision.because[0]
    assert "at most is usual" in decision.because[0]
    job = watched.waiting_job()
    assert job is not None
    assert abs(datetime.fromisoformat(job.request["since"]) - before) < timedelta(minutes=1)


def test_labels_are_taken_in_once_however_often_the_watch_looks(watched: World) -> None:
    watched.live(40, "fine", "pos")
    watched.watch.tick()
    once = watched.store.get(MODEL, VALUE)
    watched.watch.tick()
    watched.watch.tick()
    assert watched.store.get(MODEL, VALUE) == once


def test_looking_often_and_once_give_the_same(watched: World) -> None:
    for word in ("pos", "neg", "pos"):
        watched.live(20, "fine", word)
        watched.watch.tick()
    often = watched.store.get(MODEL, VALUE)["watched"][""]["detector"]["seen"]
    watched.store.put(MODEL, VALUE, None)
    watched.watch.tick()
    assert watched.store.get(MODEL, VALUE)["watched"][""]["detector"]["seen"] == often == 60


def test_after_an_attempt_only_new_labels_are_evidence(watched: World) -> None:
    watched.live(80, "fine", "neg")
    assert watched.watch.tick().outcome is Outcome.FIRE
    job = watched.waiting_job()
    assert job is not None
    watched.store.update_job(job.id, state=job.state.FAILED)
    watched.clock.advance(timedelta(hours=2))
    again = watched.watch.tick()
    assert again.outcome is Outcome.WAIT
    watched.live(80, "fine", "neg")
    assert watched.watch.tick().outcome is Outcome.FIRE


def test_volunteered_labels_are_no_evidence(watched: World) -> None:
    watched.live(80, "fine", "neg", Source.VOLUNTEERED)
    assert watched.watch.tick().outcome is Outcome.WAIT


def test_what_somebody_said_who_is_set_apart_is_taken_out_again(watched: World) -> None:
    watched.live(40, "fine", "pos")
    watched.live(80, "fine", "neg")
    watched.store.set_labeller(Labeller(MODEL, "tester", True, watched.clock.now(), "ann"))
    assert watched.watch.tick().outcome is Outcome.WAIT
    assert watched.store.get(MODEL, VALUE)["watched"][""]["detector"]["seen"] == 0


def test_a_storm_of_duplicates_is_one_label_a_day(watched: World) -> None:
    watched.predictor.refresh()
    for _ in range(80):
        (answer,) = watched.predictor.predict([Request("fine, the same again")])
        watched.writer.flush()
        said = answer.prediction
        now = watched.clock.now()
        label = Label(said.example_id, "neg", now, Source.ASKED, "tester", 1.0, said.id)
        watched.store.add_labels(MODEL, [label])
        watched.clock.advance(timedelta(seconds=10))
    assert watched.watch.tick().outcome is Outcome.WAIT
    assert watched.store.get(MODEL, VALUE)["watched"][""]["detector"]["seen"] == 1


def from_sources(watched: World, numbers: range, truth: Callable[[int, str], str]) -> None:
    """One answer of every two is for the app, the others are for the web."""
    watched.predictor.refresh()
    for number in numbers:
        source = "app" if number % 2 == 0 else "web"
        (answer,) = watched.predictor.predict([Request(f"fine {number} from {source}", context={"source": source})])
        watched.writer.flush()
        said = answer.prediction
        label = Label(said.example_id, truth(number, source), watched.clock.now(), Source.ASKED, "t", 1.0, said.id)
        watched.store.add_labels(MODEL, [label])
        watched.clock.advance(timedelta(seconds=10))


def test_a_slice_that_is_harmed_alone_is_named(watched: World) -> None:
    from_sources(watched, range(650), lambda number, source: "pos")
    assert watched.watch.tick().outcome is Outcome.WAIT
    from_sources(watched, range(650, 720), lambda number, source: "neg" if source == "app" else "pos")
    names = {m.name: m for m in watched.watch.situation().measurements if m.name.startswith("harm")}
    assert names["harm:source=app"].breached
    assert not names["harm:source=web"].breached
    assert names["harm:source=app"].value > names["harm:source=web"].value


def test_a_slice_that_was_always_harder_is_no_harm(watched: World) -> None:
    hard = lambda number, source: "neg" if source == "app" and number % 8 == 0 else "pos"  # noqa: E731
    from_sources(watched, range(1_000), hard)  # a quarter of the app's answers is wrong, and always was
    names = {m.name: m for m in watched.watch.situation().measurements if m.name.startswith("harm:")}
    assert not names["harm:source=app"].breached


def test_looking_often_and_once_give_the_same_evidence(watched: World) -> None:
    for number in range(6):
        from_sources(watched, range(number * 30, number * 30 + 30), lambda n, source: "neg" if n % 60 == 0 else "pos")
        watched.watch.tick()
    often = watched.store.get(MODEL, VALUE)
    watched.store.put(MODEL, VALUE, None)
    watched.watch.tick()
    once = watched.store.get(MODEL, VALUE)
    assert once["taken"] == often["taken"] == 180
    for name in ("", "source=app"):
        before, after = (state["watched"][name]["detector"]["capital"] for state in (often, once))
        assert before == pytest.approx(after)


def test_an_alarm_is_described_as_it_was_when_it_came(watched: World) -> None:
    watched.live(60, "fine", "pos")
    watched.live(60, "fine", "neg")
    watched.live(200, "fine", "pos")  # the harm was over before anybody looked
    alarm = watched.watch.situation().measured("harm")
    assert alarm is not None
    assert alarm.breached
    kept = watched.store.get(MODEL, VALUE)["watched"][""]["alarm"]
    assert kept["risk"] > 0.8


def test_where_silence_confirms_the_first_objections_are_no_harm(watched: World) -> None:
    plan = replace(watched.watch.plan, labels=Source.COMPLETE, settle_after=timedelta(days=1))
    harming = Harming(MODEL, watched.store, RULE, complete=True)
    watched.watch = replace(watched.watch, plan=plan, harming=harming)
    watched.predictor.refresh()
    for number in range(400):
        (answer,) = watched.predictor.predict([Request(f"fine number {number}")])
        watched.writer.flush()
        said, now = answer.prediction, watched.clock.now()
        if number % 20 == 0:  # one in twenty is wrong, and somebody objects at once
            watched.store.add_labels(MODEL, [Label(said.example_id, "neg", now, Source.COMPLETE, "c", None, said.id)])
        watched.clock.advance(timedelta(seconds=10))
    soon = watched.watch.situation().measured("harm")
    assert soon is not None
    assert soon.n == 0
    watched.clock.advance(timedelta(days=2))
    watched.watch.tick()
    later = watched.watch.situation().measured("harm")
    assert later is not None
    assert later.n == 400
    assert not later.breached


def test_the_beginning_is_found_however_deep_the_trigger_lies(watched: World) -> None:
    rule = {"kind": "harm", "one_in": 10_000, "tolerance": 0.02, "slices": ["source"]}
    deep = trigger_from([{"kind": "all_of", "triggers": [{"kind": "any_of", "triggers": [rule]}]}])
    watched.watch = replace(watched.watch, trigger=deep)
    watched.live(60, "fine", "pos")
    before = watched.clock.now()
    watched.live(60, "fine", "neg")
    assert watched.watch.tick().outcome is Outcome.FIRE
    job = watched.waiting_job()
    assert job is not None
    assert abs(datetime.fromisoformat(job.request["since"]) - before) < timedelta(minutes=1)


def test_two_harm_triggers_that_differ_are_refused() -> None:
    with pytest.raises(SettingsError, match="different settings"):
        trigger_from([{"kind": "harm"}, {"kind": "all_of", "triggers": [{"kind": "harm", "tolerance": 0.05}]}])


def test_what_the_model_expected_is_read_from_the_answers_that_may_be_asked_for(watched: World) -> None:
    """A storm of one text cannot be asked for again and again, so it must not count in the mean either."""
    watched.predictor.refresh()
    start = watched.clock.now()
    for text in [*(f"fine number {i}" for i in range(10)), *["the storm"] * 30]:
        watched.predictor.predict([Request(text)])
        watched.clock.advance(timedelta(seconds=1))
    watched.writer.flush()
    _, n = watched.store.expected_wrong(MODEL, 1, Window(start, watched.clock.now()), start)
    assert n == 11
