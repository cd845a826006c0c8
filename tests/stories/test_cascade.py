"""A first stage answers what it is sure of, the world changes under it, and it is switched off by what was drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from keepfit.data.records import CONTROL, FIRST, FIRST_AGREED, Prediction
from keepfit.decision import Outcome
from keepfit.pipelines.cascading import Cascading
from keepfit.serving.cascade import Cascade, CascadePlan
from keepfit.serving.predictor import Predictor, Request
from keepfit.tasks.loading import first_trade, load_answering
from keepfit.tasks.trade import Terms

MODEL = "toy"
PLAN = CascadePlan(Terms("accuracy", loss=0.05, confidence=0.9), control=0.5, least_share=0.05)
WORDS = (("good", "pos"), ("bad", "neg"), ("nasty", "neg"))
"""What begins with g is pos to the first stage; a word that it has not learnt is neg to the full model."""


@pytest.fixture
def cascaded(world) -> Iterator:
    """The same world, with a first stage that may answer."""
    cascade = Cascade(world.store, MODEL, PLAN, random.Random(4).random)
    before = world.predictor
    world.predictor = Predictor(
        MODEL, world.store, lambda number: load_answering(world.registry.fetch(MODEL, number)), world.writer,
        world.clock, "here", cascade=cascade,
    )  # fmt: skip
    watching = Cascading(
        MODEL, world.store, PLAN, lambda number: first_trade(world.registry.fetch(MODEL, number)), world.clock
    )
    world.watch = replace(world.watch, cascading=watching)
    yield world
    world.predictor.close()
    before.close()


def send(world, n: int, *words: str) -> list[Prediction]:
    """Users send n texts, ten seconds apart, and the watch beats."""
    said = []
    for i in range(n):
        world.predictor.cascade.refresh()
        text = f"{words[i % len(words)]} day {world.clock.now():%d%H%M%S} {i}"
        (answer,) = world.predictor.predict([Request(text)])
        said.append(answer.prediction)
        world.clock.advance(timedelta(seconds=10))
    world.writer.flush()
    world.watch.tick()
    return said


def first_share(said: list[Prediction]) -> float:
    return sum(one.stage == FIRST for one in said) / len(said)


def judgements(world) -> list[str]:
    return [one.decision.outcome.value for one in reversed(world.store.decisions(MODEL, "cascade"))]


def test_it_answers_and_what_is_watched_stands_for_all_the_traffic(cascaded) -> None:
    cascaded.train(*WORDS, n=300)
    cascaded.predictor.refresh()
    said = send(cascaded, 200, "good", "bad")
    assert first_share(said) == pytest.approx(0.5, abs=0.12), "the others were drawn"
    assert {one.label for one in said[::2]} == {"pos"}
    assert {one.measures[FIRST_AGREED] for one in said if one.stage == "model"} == {1.0}
    assert judgements(cascaded) == ["pass"]
    (check,) = cascaded.store.decisions(MODEL, "trigger", 1)
    measured = {one["name"]: one for one in check.decision.evidence["measurements"]}
    assert measured["share:pos"]["n"] == sum(one.measures.get(CONTROL, 0.0) > 0 for one in said)
    assert measured["share:pos"]["value"] == pytest.approx(0.5, abs=0.1)


def test_the_accuracy_in_life_is_that_of_what_users_heard(cascaded) -> None:
    cascaded.train(*WORDS, n=300)
    cascaded.predictor.refresh()
    for _ in range(2):
        cascaded.live(15, "good", "pos")
        cascaded.live(15, "grim", "neg")
    cascaded.watch.tick()
    accuracy = cascaded.store.get(MODEL, "accuracy")
    assert accuracy["n"] == 60, "labels of the first stage's answers count"
    assert accuracy["value"] == pytest.approx(0.75, abs=0.15), (
        "of grim it said pos, and the full model neg, which is right"
    )


def test_when_the_world_changes_it_is_switched_off_and_when_it_holds_again_it_is_switched_on(cascaded) -> None:
    cascaded.train(*WORDS, n=300)
    cascaded.predictor.refresh()
    send(cascaded, 100, "good", "bad")
    wrong = send(cascaded, 60, "grim", "gloomy")
    assert first_share(wrong) > 0
    assert judgements(cascaded) == ["pass", "fail"]
    told = cascaded.store.decisions(MODEL, "cascade")[0].decision
    assert "switched off" in told.because[0]
    assert told.evidence["drawn"] > 0
    assert told.evidence["switched"], "so people hear of it"
    mended = send(cascaded, 10, "grim", "gloomy")
    assert first_share(mended) == 0
    assert {one.label for one in mended} == {"neg"}, "the full model answers everything"
    assert not cascaded.predictor.cascade.status(1)["on"]
    send(cascaded, 600, "good", "bad")
    assert judgements(cascaded)[-1] == Outcome.PASS.value
    assert first_share(send(cascaded, 50, "good", "bad")) > 0


def test_without_its_settings_nothing_of_it_happens(world) -> None:
    world.train(*WORDS, n=300)
    world.predictor.refresh()
    assert first_share(send(world, 40, "good", "bad")) == 0
    assert judgements(world) == []
