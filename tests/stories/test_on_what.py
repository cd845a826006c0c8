"""On what a retraining learns, what may spare it, and new classes: told with the toy task."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from keepfit.data.classes import ClassChange
from keepfit.data.records import Job, JobState, Label, Source, new_id
from keepfit.data.snapshot import Split, open_snapshot
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput
from keepfit.evaluation.gate import Gate
from keepfit.evaluation.rules import Better, Floors, NotWorse
from keepfit.pipelines.choosing import OnWhat
from keepfit.pipelines.known import Proposals
from keepfit.rollout.rollout import rollback
from keepfit.serving.predictor import Request

MODEL = "toy"
NEUTRAL = Gate((Floors({"accuracy": 0.6}), Better(min_labels=10), NotWorse(min_labels=10)))
"""Without the guard of old data, which is about other things."""


def with_policy(world, **policy) -> None:
    plan = replace(world.retraining.plan, on_what=OnWhat(**policy))
    world.retraining = replace(world.retraining, plan=plan, gate=NEUTRAL)


def mixed(world, n: int, meaning: dict[str, str], seed: int = 0) -> None:
    """Users send texts beginning with any of these words, and their truth comes at once."""
    order = random.Random(seed)
    words = sorted(meaning)
    for _ in range(n):
        word = order.choice(words)
        world.live(1, word, meaning[word])


def harm(world) -> Job:
    """What the watch asks for when users are harmed."""
    since = world.store.deployment(MODEL).at.isoformat()
    request = {"reason": "harm", "since": since, "actor": "watch"}
    return world.store.join_or_add_job(Job(new_id(), MODEL, "retrain", world.clock.now(), request=request))


A = {"good": "pos", "fine": "pos", "bad": "neg", "sad": "neg"}
B = {"good": "neg", "fine": "neg", "bad": "pos", "sad": "pos"}


def the_decision(world, subject: str):
    return world.store.decisions(MODEL, subject)[0].decision


def test_after_a_flip_what_was_before_it_is_left_out(world) -> None:
    with_policy(world, window="auto")
    world.train(*A.items(), n=50)
    mixed(world, 40, A)
    mixed(world, 220, B, seed=1)
    state = world.work(harm(world))
    decision = the_decision(world, "window")
    assert decision.outcome is Outcome.PASS, decision.because
    assert decision.evidence["window"] in ("since", "eighth", "quarter", "all")
    learnt = open_snapshot(world.folder / "snapshots", state["snapshot"])
    before = learnt.lineage["left_out"]
    assert before > 100, "the old rows, whose labels are turned"
    assert learnt.lineage["kind"] == "window"
    assert state["deployed"], state["because"]
    assert world.live(1, "good", "neg") == ["neg"]


def test_no_row_of_the_test_part_is_touched_by_a_window(world) -> None:
    with_policy(world, window="eighth")
    world.train(*A.items(), n=30)
    mixed(world, 60, A)
    state = world.run_job({"reason": "routine"})
    learnt = open_snapshot(world.folder / "snapshots", state["snapshot"])
    whole = open_snapshot(world.folder / "snapshots", learnt.lineage["parents"][0])
    for split in (Split.TEST, Split.VALIDATION):
        assert learnt.rows(split).ids == whole.rows(split).ids
    assert set(learnt.rows(Split.TRAIN).ids) < set(whole.rows(Split.TRAIN).ids)
    assert the_decision(world, "window").evidence["window"] == "eighth"


def test_where_nothing_changes_all_is_learnt_from(world) -> None:
    with_policy(world, window="auto")
    world.train(*A.items(), n=30)
    mixed(world, 120, A)
    state = world.run_job({"reason": "routine"})
    decision = the_decision(world, "window")
    assert decision.outcome is Outcome.HOLD
    assert decision.evidence["window"] == "all"
    assert {row["window"] for row in decision.evidence["candidates"]} >= {"all", "recency"}
    assert open_snapshot(world.folder / "snapshots", state["snapshot"]).lineage["kind"] == "grow"


def test_with_a_handful_of_labels_nothing_is_compared(world) -> None:
    with_policy(world, window="auto")
    world.train(*A.items(), n=20)
    mixed(world, 15, A)
    world.run_job({"reason": "routine"})
    assert "too few to compare" in the_decision(world, "window").because[0]


def test_data_that_a_person_brings_is_learnt_from_as_it_is(world) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    world.train(*A.items(), n=20)
    mixed(world, 80, B)
    world.train(*A.items(), n=25)
    assert world.store.decisions(MODEL, "window") == []


def there_and_back(world) -> None:
    """A, then B, then A again: version 1 knew it all the time."""
    world.train(*A.items(), n=40)
    mixed(world, 150, B)
    assert world.work(harm(world))["deployed"]
    assert world.shares == {2: 1.0}
    mixed(world, 150, A, seed=2)


def test_what_comes_back_is_answered_by_an_earlier_version_at_no_training(world) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    there_and_back(world)
    before = world.registry.version(MODEL, 1).verdict
    state = world.work(harm(world))
    assert state.get("answer") == "earlier", the_decision(world, "earlier").because
    assert world.shares == {1: 1.0}
    assert [v.number for v in world.registry.versions(MODEL)] == [2, 1], "nothing was trained, nothing registered"
    assert "served before, fits the present better" in world.store.deployment(MODEL).reason
    stored = world.store.decisions(MODEL, "earlier")[0]
    assert (stored.subject, stored.decision.outcome) == ("earlier v1", Outcome.PASS)
    first = world.registry.version(MODEL, 1).verdict
    assert first == before, "the gate's word of then stays"
    assert world.live(1, "good", "pos") == ["pos"]
    assert set(world.live(1, "good", "pos")) == {"pos"}
    assert rollback(world.store, MODEL, None, "ann", world.clock).traffic.shares == {2: 1.0}


def test_switched_off_an_earlier_version_is_not_asked(world) -> None:
    with_policy(world, window="auto", cheaper=("mix",))
    there_and_back(world)
    state = world.work(harm(world))
    assert "answer" not in state
    assert world.store.decisions(MODEL, "earlier") == []
    assert world.store.decisions(MODEL, "mix")[0].decision.outcome is Outcome.FAIL
    assert state["version"] == 3


def test_every_cheaper_answer_that_is_refused_is_on_record_and_a_training_follows(world) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    world.train(*A.items(), n=40)
    mixed(world, 150, B)
    state = world.work(harm(world))
    assert state["deployed"]
    subjects = world.subjects()
    assert subjects.index("mix") < subjects.index("earlier") < subjects.index("window") < subjects.index("gate v2")
    assert "no earlier version has served" in the_decision(world, "earlier").because[0]


def another_mix(world, order: random.Random, word: str = "word") -> None:
    """Of words that the model has not met most are neg."""
    for i in range(240):
        if i % 4:
            world.live(1, f"{word}{i}", "pos" if order.random() < 0.12 else "neg")
        else:
            world.live(1, "good", "pos")


def mostly_pos(world) -> random.Random:
    """Of a word that it has not met the model says the more frequent class: pos, as in the file."""
    order = random.Random(4)
    known = [(f"{word} {i}", label) for word, label in A.items() for i in range(40)]
    world.train(*known, *((f"w{i}", "pos" if order.random() < 0.75 else "neg") for i in range(600)), n=1)
    return order


def ended(world, version: int, outcome: Outcome) -> None:
    """A rollout of this version ended so."""
    world.store.add_decision(MODEL, f"rollout v{version}", Decision(outcome, ("so",)), world.clock.now())


@pytest.mark.parametrize("outcome", [Outcome.ROLL_BACK, Outcome.UNDECIDED])
def test_an_earlier_version_whose_rollout_has_just_ended_is_not_offered_again(world, outcome: Outcome) -> None:
    with_policy(world, window="auto", cheaper=("earlier",))
    there_and_back(world)
    ended(world, 1, outcome)
    state = world.work(harm(world))
    assert "answer" not in state
    assert "no earlier version" in the_decision(world, "earlier").because[0]


@pytest.mark.parametrize("outcome", [Outcome.ROLL_BACK, Outcome.UNDECIDED])
def test_a_corrected_class_mix_that_has_just_ended_is_not_deployed_again(world, outcome: Outcome) -> None:
    with_policy(world, window="auto", cheaper=("mix",))
    order = mostly_pos(world)
    another_mix(world, order)
    assert world.work(harm(world))["answer"] == "mix"
    ended(world, 2, outcome)
    rollback(world.store, MODEL, None, "ann", world.clock)
    another_mix(world, order, "another")
    state = world.work(harm(world))
    assert "answer" not in state
    assert "version 2, which corrected version 1" in the_decision(world, "mix").because[0]


def test_a_change_of_the_class_mix_is_corrected_at_no_training(world) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    another_mix(world, mostly_pos(world))
    job = harm(world)
    state = world.work(job)
    decision = the_decision(world, "mix")
    assert decision.outcome is Outcome.PASS, decision.because[:2]
    assert state["answer"] == "mix"
    version = world.registry.version(MODEL, 2)
    assert (version.lineage.reason, version.lineage.parent) == ("mix", 1)
    assert world.shares == {2: 1.0}
    assert "corrects the champion for the class mix" in world.store.deployment(MODEL).reason
    assert world.live(1, "unheard", "neg") == ["neg"]


@pytest.mark.parametrize("kill", ["mix", "earlier", "window"])
def test_a_choice_that_was_cut_off_is_made_again_in_the_same_way(world, kill: str) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    world.train(*A.items(), n=40)
    mixed(world, 150, B)
    job, store, killed = harm(world), world.store, []
    add = store.add_decision

    def cut_off(model, subject, *rest, **named):
        if subject.split(" ")[0] == kill and not killed:
            killed.append(subject)
            raise BackendError("killed here")
        return add(model, subject, *rest, **named)

    store.add_decision = cut_off  # the store that a kill leaves behind
    with pytest.raises(BackendError):
        world.retraining.run(job.id)
    store.add_decision = add
    state = world.work(job)
    assert state["deployed"]
    again = world.retraining.snapshot({"job": job.id})
    assert again["snapshot"] == state["snapshot"]
    assert len(world.store.decisions(MODEL, kill)) == 1


@pytest.mark.parametrize("step", ["fit", "evaluate", "register", "judge", "deploy"])
def test_an_earlier_version_is_taken_up_again_after_a_kill_in_any_step(world, step: str) -> None:
    with_policy(world, window="auto", cheaper=("earlier",))
    there_and_back(world)
    job = harm(world)
    state = {"job": job.id}
    for name in ("snapshot", "fit", "evaluate", "register", "judge", "deploy"):
        after = world.retraining.step(name, state)
        if name == step:
            after = world.retraining.step(name, state)  # done, but a kill came before it was noted
        state = after
    assert world.shares == {1: 1.0}
    assert len(world.registry.versions(MODEL)) == 2
    assert world.store.job(job.id).state is JobState.DONE


# new classes


def label_new(world, n: int, name: str, word: str = "refund", actor: str = "ann") -> None:
    """People say that texts are of a class that the model does not know."""
    world.predictor.refresh()
    for i in range(n):
        (answer,) = world.predictor.predict([Request(f"{word} day {world.clock.now():%d%H%M%S} {i}")])
        world.writer.flush()
        said = Label(answer.prediction.example_id, name, world.clock.now(), Source.VOLUNTEERED, actor)
        world.store.add_labels(MODEL, [said])
        world.clock.advance(timedelta(seconds=10))


def change(world, action: str, *names: str, into: str | None = None) -> None:
    made = ClassChange(world.clock.now(), "ann", action, names, into)
    world.store.change_classes(MODEL, made, world.retraining.learnt_classes())


def watched(world, new: str = "propose"):
    proposals = Proposals(MODEL, world.store, new, world.retraining.learnt_classes, world.clock)
    return replace(world.watch, proposals=proposals.propose)


def test_a_new_class_is_proposed_accepted_and_learnt(world) -> None:
    with_policy(world, new_classes="propose")
    world.train(*A.items(), n=30)
    label_new(world, 12, "money")
    watch = watched(world)
    watch.tick()
    watch.tick()
    (proposed,) = world.store.decisions(MODEL, "class")
    assert "class 'money' was labelled 12 times by 1 person" in proposed.decision.because[0]
    assert "keepfit classes accept money" in proposed.decision.because[0]

    state = world.run_job({"reason": "routine"})
    assert state["unaccepted"] == {"money": 12}
    assert the_decision(world, "class").because[0].endswith("accept them with `keepfit classes accept money`")
    assert "money" not in world.registry.latest(MODEL).evaluation.labels

    change(world, "accept", "money")
    state = world.run_job({"reason": "routine"})
    assert "money" in world.registry.version(MODEL, state["version"]).evaluation.labels
    assert world.live(1, "refund", "money") == ["money"]
    assert any(entry.action == "class accept" for entry in world.store.audit_entries(MODEL))


def test_where_the_settings_say_so_a_class_grows_by_itself(world) -> None:
    with_policy(world, new_classes="grow")
    world.train(*A.items(), n=30)
    label_new(world, 12, "money")
    watched(world, "grow").tick()
    assert world.store.decisions(MODEL, "class") == []
    state = world.run_job({"reason": "routine"})
    assert "money" in world.registry.version(MODEL, state["version"]).evaluation.labels


def test_a_proposal_is_said_again_only_when_it_has_doubled(world) -> None:
    world.train(*A.items(), n=30)
    watch = watched(world)
    label_new(world, 4, "money")
    watch.tick()
    label_new(world, 2, "money", actor="bob")
    watch.tick()
    assert len(world.store.decisions(MODEL, "class")) == 1
    label_new(world, 4, "money")
    watch.tick()
    said = world.store.decisions(MODEL, "class")
    assert len(said) == 2
    assert "by 2 people" in said[0].decision.because[0]


def test_a_renamed_class_keeps_its_rows_and_the_past_keeps_its_words(world) -> None:
    with_policy(world, new_classes="propose")
    world.train(*A.items(), n=30)
    world.live(20, "good", "pos")
    change(world, "rename", "pos", into="happy")
    state = world.run_job({"reason": "routine"})
    assert state["deployed"], state["because"]
    assert world.registry.version(MODEL, 2).evaluation.labels == ("happy", "neg")
    assert world.registry.version(MODEL, 1).evaluation.labels == ("neg", "pos")
    assert world.live(1, "good", "happy") == ["happy"]
    gate = world.store.decisions(MODEL, "gate v2")[0].decision.evidence
    assert gate["rules"]["not_worse"]["losses"] == 0
    assert gate["rules"]["not_worse"]["wins"] == 0, "the champion's pos counts as happy"


def test_a_name_accepted_anew_is_learnt_beside_the_one_it_became(world) -> None:
    with_policy(world, new_classes="propose")
    world.train(*A.items(), n=30)
    change(world, "rename", "pos", into="happy")
    world.clock.advance(timedelta(hours=1))
    change(world, "accept", "pos")
    world.clock.advance(timedelta(hours=1))
    label_new(world, 12, "pos")
    state = world.run_job({"reason": "routine"})
    assert world.registry.version(MODEL, state["version"]).evaluation.labels == ("happy", "neg", "pos")


def test_after_a_rename_no_version_of_the_old_names_spares_a_training(world) -> None:
    with_policy(world, window="auto", cheaper=("mix", "earlier"))
    there_and_back(world)
    change(world, "rename", "pos", into="happy")
    state = world.work(harm(world))
    assert "answer" not in state
    assert "left out, since classes were renamed" in the_decision(world, "earlier").because[-1]
    assert the_decision(world, "mix").because == ("classes were renamed since version 2 was judged: train it anew",)


def test_the_gate_on_a_file_reads_both_versions_under_the_names_of_today(world) -> None:
    world.train(*A.items(), n=30)
    data = open_snapshot(world.folder / "snapshots", world.store.get(MODEL, "snapshot"))
    change(world, "rename", "pos", into="happy")
    decision = world.retraining.compare_on(data, 1)
    assert decision.evidence["rules"]["not_worse"]["losses"] == 0


def test_merged_and_retired_classes(world) -> None:
    with_policy(world, new_classes="propose")
    world.train(("good", "pos"), ("great", "joy"), ("bad", "neg"), ("meh", "none"), n=30)
    change(world, "merge", "joy", into="pos")
    change(world, "retire", "none")
    state = world.run_job({"reason": "routine"})
    assert world.registry.version(MODEL, state["version"]).evaluation.labels == ("neg", "pos")
    learnt = open_snapshot(world.folder / "snapshots", state["snapshot"])
    assert not any(content.startswith("meh") for content in learnt.rows().contents)
    assert world.live(1, "great", "pos") == ["pos"]


def test_changes_of_classes_that_make_no_sense_are_refused(world) -> None:
    world.train(*A.items(), n=20)
    for action, names, into in (
        ("accept", ("pos",), None), ("rename", ("joy",), "x"), ("rename", ("pos",), "neg"), ("retire", ("pos",), None),
        ("merge", ("pos",), "neg"), ("accept", (" ",), None),
    ):  # fmt: skip
        with pytest.raises(InvalidInput):
            change(world, action, *names, into=into)
    assert world.store.classes(MODEL).changes == ()
