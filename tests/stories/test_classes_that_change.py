"""A class is split, another retired: what is answered, asked, refused and counted from then on."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.stories.conftest import MODEL, World

from keepfit.app.accuracy_plot import draw, points, recounted
from keepfit.data.classes import ClassChange
from keepfit.data.records import Label, QueueItem, Source, Window
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound
from keepfit.monitoring.measurement import Measurement
from keepfit.serving.predictor import Request

WORDS = (("good", "pos"), ("bad", "neg"), ("meh", "other"))


def change(world: World, action: str, *names: str, parts: tuple[str, ...] = ()) -> datetime:
    """Noted now; since then it holds."""
    now = world.clock.now()
    made = ClassChange(now, "ann", action, names, None, parts)
    world.store.change_classes(MODEL, made, world.retraining.learnt_classes())
    world.predictor.retired.refresh()
    world.clock.advance(timedelta(minutes=1))
    return now


def counted(world: World, as_of: datetime | None = None) -> list[tuple[str, str]]:
    """Answer and truth of everything with a measuring label."""
    window = Window(world.clock.now() - timedelta(days=9), world.clock.now() + timedelta(days=1))
    return [(said.label, label.value) for said, label in world.store.labelled(MODEL, window, as_of=as_of)]


def test_a_retired_class_is_answered_no_more_from_that_moment_on(world: World) -> None:
    world.train(*WORDS, n=30)
    assert world.live(1, "meh", "other") == ["other"]
    change(world, "retire", "other")
    (answer,) = world.predictor.predict([Request("meh again")])
    scores = dict(zip(answer.prediction.labels, answer.prediction.scores.tolist(), strict=True))
    assert scores["other"] == 0
    assert scores["neg"] == pytest.approx(0.5)
    assert sum(scores.values()) == pytest.approx(1)
    world.run_job({"reason": "asked"})
    assert world.registry.latest(MODEL).evaluation.labels == ("neg", "pos")


def test_a_cached_answer_loses_the_retired_class_too(world: World) -> None:
    world.train(*WORDS, n=30)
    world.predictor.refresh()
    world.predictor.predict([Request("meh twice")])
    change(world, "retire", "other")
    assert world.predictor.predict([Request("meh twice")])[0].prediction.label != "other"


def test_after_a_split_the_queue_asks_for_its_examples_again_and_history_stays_comparable(world: World) -> None:
    world.train(*WORDS, n=30)
    assert world.live(3, "meh", "other") == ["other"] * 3
    world.live(2, "good", "pos")
    split = change(world, "split", "other", parts=("praise", "spam"))

    asked = world.store.queue(MODEL, 10)
    assert [item.label_set for item in asked] == [("praise", "spam")] * 3
    assert "its class 'other' was split" in asked[0].reason
    assert counted(world) == [("pos", "pos")] * 2, "old labels of it are of no class of today"
    assert len(counted(world, split - timedelta(seconds=1))) == 5, "by the map of then they count"

    first = asked[0]
    said = Label(first.example.id, "spam", world.clock.now(), Source.ASKED, "bob", 1.0, first.prediction_id)
    world.store.add_labels(MODEL, [said])
    assert len(world.store.queue(MODEL, 10)) == 2
    assert counted(world)[0] == ("other", "other"), "what was answered before the split was as right as it could be"
    assert world.predictor.predict([Request("meh new")])[0].prediction.label == "other"

    state = world.run_job({"reason": "asked"})
    learnt = world.registry.version(MODEL, int(str(state["version"]))).evaluation.labels
    assert "other" not in learnt


def test_the_picture_of_accuracy_can_be_counted_by_one_class_map(world: World, tmp_path: Path) -> None:
    world.train(*WORDS, n=30)
    start = world.clock.now()
    world.live(6, "meh", "other")
    world.live(2, "good", "neg")
    window = Window(start, world.clock.now())
    seen = Measurement("accuracy", 0.5, 0.4, 0.6, 8, window, 1)
    world.store.add_decision(
        MODEL, "trigger", Decision(Outcome.WAIT, ("nothing",), {"measurements": [seen.to_json()]}), world.clock.now()
    )
    split = change(world, "split", "other", parts=("praise", "spam"))

    (told,) = points(world.store.decisions(MODEL, subject="trigger"), "accuracy")
    (before,) = recounted(world.store, MODEL, [told], split - timedelta(seconds=1))
    assert (told.seen.value, before.at, before.seen.value, before.seen.n) == (0.5, told.at, 0.75, 8)
    (after,) = recounted(world.store, MODEL, [told], world.clock.now())
    assert (after.seen.value, after.seen.n) == (0.0, 2), "the labels of the split class are of none of today"
    assert draw(world.store, MODEL, tmp_path / "a.png", world.clock.now()) == 1
    change(world, "retire", "neg")
    with pytest.raises(NotFound, match="leave --as-of out"):
        draw(world.store, MODEL, tmp_path / "a.png", world.clock.now())


def test_while_others_wait_only_half_of_the_queue_is_to_be_labelled_again(world: World) -> None:
    world.train(*WORDS, n=30)
    world.live(4, "meh", "other")
    change(world, "split", "other", parts=("praise", "spam"))
    for number in range(4):
        (answer,) = world.predictor.predict([Request(f"good {number}")])
        world.writer.flush()
        example, prediction = world.store.prediction(MODEL, answer.prediction.id)
        item = QueueItem(
            f"q{number}", MODEL, prediction.id, replace(example), 0.5, "drawn", world.clock.now(), ("pos",)
        )
        world.store.ask([item])
    reasons = [item.reason for item in world.store.queue(MODEL, 4)]
    assert reasons[2:] == ["drawn", "drawn"]
    assert all("was split" in reason for reason in reasons[:2])


def test_an_undo_is_in_the_audit(world: World) -> None:
    world.train(*WORDS, n=30)
    change(world, "retire", "other")
    done = world.store.undo_classes(MODEL, "bob", world.clock.now(), world.retraining.learnt_classes())
    assert done.action == "retire"
    world.predictor.retired.refresh()
    assert world.predictor.predict([Request("meh once more")])[0].prediction.label == "other"
    entry = next(one for one in world.store.audit_entries(MODEL) if one.action == "class undo")
    assert entry.actor == "bob"
