"""Harm is seen by the labels that measure, in whatever order and however often the watch looks."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from tests.stories.conftest import MODEL, World

from keepfit.data.classes import ClassChange
from keepfit.data.labellers import Labeller
from keepfit.data.records import Label, Source, Window
from keepfit.decision import Outcome
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


def test_a_slice_that_is_harmed_alone_is_named(watched: World) -> None:
    watched.predictor.refresh()
    for number in range(200):
        source, truth = ("app", "neg") if number % 4 == 0 else ("web", "pos")
        text = f"fine day {number} from {source}"
        (answer,) = watched.predictor.predict([Request(text, context={"source": source})])
        watched.writer.flush()
        said = answer.prediction
        label = Label(said.example_id, truth, watched.clock.now(), Source.ASKED, "tester", 1.0, said.id)
        watched.store.add_labels(MODEL, [label])
        watched.clock.advance(timedelta(seconds=10))
    names = {m.name: m for m in watched.watch.situation().measurements if m.name.startswith("harm")}
    assert names["harm:source=app"].value > names["harm:source=web"].value
    assert names["harm:source=app"].breached
    assert not names["harm:source=web"].breached
