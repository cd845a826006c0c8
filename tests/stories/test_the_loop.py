"""The loop, told in sentences: train, serve, watch, retrain, prove, deploy, roll back."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from keepfit.data.records import Event, Job, JobState, Label, Source, new_id
from keepfit.data.snapshot import Split, open_snapshot, write_snapshot
from keepfit.data.splits import ASSUMED, SnapshotRow
from keepfit.decision import Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound, Refused
from keepfit.pipelines.quarantine import quarantine
from keepfit.pipelines.watch import WatchPlan
from keepfit.registry.registry import Alias
from keepfit.rollout.rollout import rollback
from keepfit.serving.predictor import Request
from keepfit.tasks.toy import ToyTask

MODEL = "toy"
GOOD_AND_BAD = (("good", "pos"), ("bad", "neg"))


def drifted(world) -> None:
    """'awful' appears and means neg, but the champion says pos (the larger class)."""
    world.train(("good", "pos"), ("fine", "pos"), ("bad", "neg"))
    assert set(world.live(120, "awful", "neg")) == {"pos"}


def test_nothing_is_served_before_the_first_model(world) -> None:
    world.predictor.refresh()
    with pytest.raises(BackendError):
        world.predictor.predict([Request("good day")])


def test_a_first_model_takes_all_traffic(world) -> None:
    result = world.train(*GOOD_AND_BAD)
    assert result["deployed"]
    assert world.shares == {1: 1.0}
    assert world.registry.alias(MODEL, Alias.CHAMPION) == 1


def test_a_first_model_below_its_floors_is_registered_but_never_served(world) -> None:
    result = world.train(("good", "pos"), ("good", "neg"), ("bad", "neg"), ("bad", "pos"), n=30)
    assert not result["deployed"]
    assert world.shares == {}
    assert world.registry.version(MODEL, 1).verdict.outcome is Outcome.FAIL


def test_one_prediction_is_recorded_with_its_version(world) -> None:
    world.train(*GOOD_AND_BAD)
    (answer,) = world.predictor.predict([Request("bad day", id="mine", key="user 1")])
    world.writer.flush()
    example, prediction = world.store.prediction(MODEL, answer.prediction.id)
    assert (prediction.label, prediction.model_version) == ("neg", 1)
    assert (example.id, example.key) == ("mine", "user 1")


def test_a_bad_request_is_refused(world) -> None:
    world.train(*GOOD_AND_BAD)
    with pytest.raises(InvalidInput):
        world.predictor.predict([Request("   ")])


def test_a_label_needs_an_example(world) -> None:
    with pytest.raises(NotFound):
        world.store.add_labels(MODEL, [Label("nobody", "pos", world.clock.now(), Source.ASKED)])


def test_a_quiet_check_is_stored_with_its_reasons(world) -> None:
    world.train(*GOOD_AND_BAD)
    world.live(40, "good", "pos")
    decision = world.watch.tick()
    assert decision.outcome is Outcome.WAIT
    assert decision.because
    assert world.store.decisions(MODEL, subject="trigger")[0].decision.because == decision.because


def test_harm_retrains_and_the_better_model_takes_over(world) -> None:
    drifted(world)
    decision = world.watch.tick()
    assert decision.outcome is Outcome.FIRE
    job = world.waiting_job()
    assert job is not None
    result = world.work(job)
    assert result["verdict"] == "pass", result["because"]
    assert world.shares == {2: 1.0}
    assert world.registry.alias(MODEL, Alias.CHAMPION) == 2
    assert set(world.live(20, "awful", "neg")) == {"neg"}


def test_harm_calls_at_once_after_the_first_training_and_rests_only_after_a_retraining(world) -> None:
    world.train(("good", "pos"), ("fine", "pos"), ("bad", "neg"))
    world.live(60, "awful", "neg")
    decision = world.watch.tick()
    assert decision.outcome is Outcome.FIRE, decision.because
    assert decision.because[-1].endswith("answered no call, so there is no rest after it")
    world.work(world.waiting_job())
    world.live(60, "calm", "neg")
    assert "resting until" in world.watch.tick().because[0]


def test_volunteered_labels_train_but_never_raise_an_alarm(world) -> None:
    world.train(("good", "pos"), ("fine", "pos"), ("bad", "neg"))
    world.live(120, "awful", "neg", Source.VOLUNTEERED)
    assert world.watch.tick().outcome is Outcome.WAIT


def test_a_second_request_joins_the_first(world) -> None:
    drifted(world)
    world.watch.tick()
    first = world.waiting_job()
    world.store.add_event(Event(new_id(), MODEL, world.clock.now(), "retrain", "ann"))
    decision = world.watch.tick()
    assert decision.evidence["joined"]
    assert world.waiting_job() == first
    assert world.store.waiting_events(MODEL) == []


def test_a_refused_model_is_not_retrained_in_a_loop(world) -> None:
    drifted(world)
    world.watch.tick()
    job = world.waiting_job()
    # the truth turns back before the candidate is judged: it is worse now
    world.store.update_job(job.id, state=JobState.FAILED, result={"error": "for the story"})
    outcomes = []
    for _ in range(5):
        world.clock.advance(timedelta(minutes=1))
        outcomes.append(world.watch.tick().outcome)
    assert outcomes == [Outcome.WAIT] * 5


def test_new_data_is_learnt_from_without_what_the_champion_finds_abnormal(world) -> None:
    def screen(base, model, number, start, report):
        return quarantine(base, model, number, (Split.TRAIN, Split.VALIDATION))

    world.retraining = replace(world.retraining, screen=screen)
    assert world.train(("calm", "0"), ("odd", "1"))["deployed"]
    calm = [("calm", number) for number in range(90)]
    rows = [
        SnapshotRow(f"{word} {i}", f"{word} day {i}", "0", f"{i}", part_of(i), source=ASSUMED)
        for word, i in [*calm, ("odd", 90), ("odd", 91)]
    ]
    labelled = [SnapshotRow(f"fell {i}", f"fell {i}", "1", f"fell {i}", part_of(i)) for i in range(30)]
    brought = write_snapshot(world.folder / "snapshots", [*rows, *labelled], ("text",), {"kind": "test"})
    state = world.run_job({"reason": "routine", "snapshot": brought.id})
    learnt = open_snapshot(world.folder / "snapshots", state["snapshot"])
    assert {row.content for row in brought.stored()} - {row.content for row in learnt.stored()} == {
        "odd day 90", "odd day 91",
    }  # fmt: skip
    (stored,) = world.store.decisions(MODEL, "quarantine")
    assert "finds 2 of" in stored.decision.because[0]
    assert state["deployed"]
    assert world.store.get(MODEL, "snapshot") == learnt.id, "later retrainings do not learn from them either"


def part_of(number: int) -> Split:
    parts = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.TEST, Split.VALIDATION)
    return parts[number % 5] if number < 90 else Split.TRAIN


class Shy(ToyTask):
    """Its models know nothing of texts that begin with "park"."""

    def load(self, folder, precision=None):
        model = super().load(folder, precision)
        model.knows = lambda content: not content.startswith("park")
        return model


@pytest.mark.parametrize("known", [True, False])
def test_the_champion_is_compared_only_on_what_it_knows(world, known: bool) -> None:
    world.train(*GOOD_AND_BAD)
    world.retraining = replace(world.retraining, task=Shy())
    rows = [*GOOD_AND_BAD, ("park", "pos")] if known else [("park", "pos"), ("parked", "neg")]
    assert world.train(*rows)["deployed"]
    (stored,) = world.store.decisions(MODEL, "gate v2")
    (said,) = (one for one in stored.decision.because if "has not learnt to judge" in one)
    assert not any("no champion yet" in one for one in stored.decision.because)
    left, every = map(int, re.findall(r"(\d+) of (\d+) rows", said)[0])
    assert 0 < left < every if known else left == every


def test_what_the_champion_cannot_judge_is_learnt_from_and_said(world) -> None:
    def screen(base, model, number, start, report):
        raise InvalidInput("the pictures have another size")

    world.retraining = replace(world.retraining, screen=screen)
    world.train(*GOOD_AND_BAD)
    assert world.store.decisions(MODEL, "quarantine") == [], "nothing answered yet"
    world.train(*GOOD_AND_BAD, n=70)
    (stored,) = world.store.decisions(MODEL, "quarantine")
    assert "cannot judge what is new (the pictures have another size)" in stored.decision.because[0]


def test_every_judgement_is_on_record(world) -> None:
    drifted(world)
    world.watch.tick()
    world.work(world.waiting_job())
    assert world.subjects() == ["gate v1", "trigger", "gate v2"]
    assert all(d.decision.because for d in world.store.decisions(MODEL))


def test_people_hear_of_it_once(world) -> None:
    drifted(world)
    world.announcer.announce()
    world.watch.tick()
    world.work(world.waiting_job())
    before = len(world.mail.sent)
    world.announcer.announce()
    told = [title for title, _ in world.mail.sent]
    assert len(told) > before
    world.announcer.announce()
    assert [title for title, _ in world.mail.sent] == told


def test_rollback_goes_to_the_last_version_that_really_served_and_a_second_one_further_back(world) -> None:
    drifted(world)
    world.watch.tick()
    world.work(world.waiting_job())
    world.run_job({"reason": "routine"})
    world.run_job({"reason": "routine"})
    assert world.shares == {4: 1.0}
    seen = []
    for _ in range(3):
        rollback(world.store, MODEL, None, "ann", world.clock)
        assert world.predictor.refresh()
        seen.append(world.shares)
    assert seen == [{3: 1.0}, {2: 1.0}, {1: 1.0}]
    with pytest.raises(Refused):
        rollback(world.store, MODEL, None, "ann", world.clock)


def test_rollback_passes_over_a_version_that_no_server_ever_served(world) -> None:
    world.train(*GOOD_AND_BAD)
    world.run_job({"reason": "routine"})
    world.retraining.run(world.store.join_or_add_job(_job(world)).id)  # version 3 is deployed, nobody refreshes
    world.run_job({"reason": "routine"})
    assert world.shares == {4: 1.0}
    assert rollback(world.store, MODEL, None, "ann", world.clock).traffic.shares == {2: 1.0}


def _job(world):
    return Job(new_id(), MODEL, "retrain", world.clock.now(), request={"reason": "routine"})


def test_silence_confirms_where_every_outcome_becomes_known(world) -> None:
    world.train(*GOOD_AND_BAD)
    watch = replace(world.watch, plan=WatchPlan(labels=Source.COMPLETE, settle_after=timedelta(hours=1)))
    world.predictor.predict([Request(f"good {i}") for i in range(40)])
    world.writer.flush()
    world.clock.advance(timedelta(hours=2))
    watch.tick()
    assert world.store.get(MODEL, "accuracy")["n"] == 40


def test_labels_are_asked_for_at_random_with_their_chance(world) -> None:
    world.train(*GOOD_AND_BAD)
    world.predictor.predict([Request(f"good {i}") for i in range(200)])
    world.writer.flush()
    world.clock.advance(timedelta(minutes=1))
    world.watch.tick()
    queue = world.store.queue(MODEL, 500)
    assert 60 < len(queue) < 140
    assert {item.propensity for item in queue} == {0.5}
    world.watch.tick()
    assert len(world.store.queue(MODEL, 500)) == len(queue)


class TestApproval:
    @pytest.fixture
    def approval(self) -> bool:
        return True

    def test_a_passed_version_waits_for_a_person(self, world) -> None:
        drifted(world)
        world.watch.tick()
        result = world.work(world.waiting_job())
        assert result["verdict"] == "pass"
        assert world.shares == {1: 1.0}
        world.retraining.roller.approve(2, "ann")
        assert world.shares == {2: 1.0}
        with pytest.raises(Refused, match="waits for approval"):
            world.retraining.roller.approve(2, "ann")


def test_a_retraining_learns_nothing_from_somebody_who_flooded_after_the_last_check(world) -> None:
    world.train(("good", "pos"), ("bad", "neg"))
    for _ in range(4):
        world.live(20, "good", "pos")
        world.watch.tick()
        world.clock.advance(timedelta(hours=1))
    answers = [world.predictor.predict([Request(f"lie {number}")])[0].prediction for number in range(400)]
    world.writer.flush()
    now = world.clock.now()
    world.store.add_labels(MODEL, [Label(a.example_id, "neg", now, Source.ASKED, "evil", 1.0, a.id) for a in answers])
    state = world.run_job({"reason": "asked"})
    snapshot = open_snapshot(world.folder / "snapshots", str(state["snapshot"]))
    contents = [str(content) for split in Split for content in snapshot.rows(split).contents]
    assert not [content for content in contents if content.startswith("lie")]
    assert [content for content in contents if content.startswith("good day")]
