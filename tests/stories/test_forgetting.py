"""One example, or all of one key, is forgotten everywhere, and a search of the bytes says so."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from keepfit.data.forgetting import Person
from keepfit.data.records import Job, JobState, Label, QueueItem, Source, new_id
from keepfit.data.search import Searched
from keepfit.data.snapshot import Split, open_snapshot, read_rewritten
from keepfit.data.sole import FORGETTING
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, Refused
from keepfit.evaluation.evaluator import read_reference
from keepfit.pipelines.compressing import Compressing
from keepfit.pipelines.forget import Forget, Forgotten
from keepfit.pipelines.overdue import Places
from keepfit.serving.forgetting import Forgetting
from keepfit.serving.predictor import Request
from keepfit.tasks.taught import remember, was_taught
from keepfit.tasks.text.hidden import HiddenStates
from keepfit.training.recipe import Recipe

MODEL = "toy"
GOOD_AND_BAD = (("good", "pos"), ("bad", "neg"))
SECRET = 'good grief, says "Zoë" of 4 Elm Road'
KEY = "customer-17"


def forgetting(world) -> Forget:
    at = world.folder
    folders = ("snapshots", "work", "videos", "batches", "mailbox", "backtests")
    places = Places(*(at / name for name in folders))
    return Forget((MODEL,), world.store, world.registry, at, places, world.clock, ("MLflow keeps its own",))


def forget(world, id_: str | None = None, key: str | None = None) -> Forgotten:
    (world.folder / "data.csv").unlink(missing_ok=True)  # the story's own file lies below the searched folder
    return forgetting(world).run(Person(id_, key), "ann")


def said(world, text: str, id_: str, key: str | None = None, truth: str = "pos") -> str:
    """A text was answered and labelled; the answer's id."""
    (answer,) = world.predictor.predict([Request(text, id=id_, key=key)])
    world.writer.flush()
    prediction = answer.prediction
    label = Label(prediction.example_id, truth, world.clock.now(), Source.ASKED, "tester", 1.0, prediction.id)
    world.store.add_labels(MODEL, [label])
    return prediction.id


def learnt(world) -> str:
    """Two texts of one customer were labelled, and a version was trained on them; the id of the first answer."""
    world.train(*GOOD_AND_BAD)
    world.live(20, "good", "pos")
    first = said(world, SECRET, "order-4711", KEY)
    said(world, "good heavens, another long complaint of theirs", "order-4712", KEY)
    said(world, "good morning from somebody else altogether", "order-4713", "customer-170")
    world.run_job({"reason": "routine"})
    return first


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("by", ["own id", "answer"])
def test_one_example_is_gone_from_rows_and_snapshots_and_its_neighbours_stay(world, by: str) -> None:
    first = learnt(world)
    before = world.registry.version(MODEL, 2)
    old = open_snapshot(world.folder / "snapshots", before.lineage.snapshot_id)
    done = forget(world, "order-4711" if by == "own id" else first)
    assert (done.rows.examples, done.rows.predictions, done.rows.labels) == (1, 1, 1)
    assert done.snapshot_rows == 1
    assert isinstance(done.searched, Searched)
    assert done.searched.found == 0, done.searched.hits
    assert done.searched.files > 5
    new = open_snapshot(world.folder / "snapshots", before.lineage.snapshot_id)
    assert done.rewritten == {old.id: new.id}
    ids = {row.id for row in new.stored()}
    assert "order-4711" not in ids
    assert ids >= {"order-4712", "order-4713"}
    assert new.lineage["rewritten_from"] == [old.id]
    assert not old.path.exists()
    assert world.registry.version(MODEL, 2).lineage == before.lineage, "the record tells what it was made from"
    assert read_rewritten(world.folder / "snapshots")[old.id]["rows"] == 1
    assert world.store.find_prediction(MODEL, example_id="order-4712") is not None
    assert done.trained == ("version 2 of 'toy'",)


def test_a_key_is_forgotten_with_all_that_belongs_to_it_and_longer_names_stay(world) -> None:
    learnt(world)
    done = forget(world, key=KEY)
    assert done.rows.examples == 2
    assert done.searched.found == 0, done.searched.hits
    content = bytes_of(world.folder)
    for gone in (SECRET, "another long complaint", json.dumps(SECRET)[1:-1]):
        assert gone.encode() not in content
    assert b"customer-170" in content
    kept = world.store.find_prediction(MODEL, example_id="order-4713")
    assert kept is not None
    state = world.run_job({"reason": "routine"})
    rows = open_snapshot(world.folder / "snapshots", state["snapshot"]).stored()
    assert KEY not in {row.key for row in rows}


def test_what_the_next_retraining_starts_from_follows(world) -> None:
    world.train(*GOOD_AND_BAD)
    base = open_snapshot(world.folder / "snapshots", world.store.get(MODEL, "snapshot"))
    row = next(row for row in base.stored() if row.split is Split.TEST)
    tested = len(base.rows(Split.TEST))
    reference = read_reference(world.registry.fetch(MODEL, 1))
    done = forget(world, row.id)
    assert done.snapshot_rows == 1
    assert world.store.get(MODEL, "snapshot") == done.rewritten[base.id]
    assert len(open_snapshot(base.path.parent, base.id).rows(Split.TEST)) == tested - 1
    assert done.records == ("version 1 of 'toy': drift reference",)
    left = read_reference(world.registry.fetch(MODEL, 1))
    assert (len(reference.truth), len(left.truth), len(left.embeddings)) == (tested, tested - 1, tested - 1)
    assert world.run_job({"reason": "routine"})["deployed"]


def test_others_texts_that_say_the_very_same_go_too_unless_they_are_too_short(world) -> None:
    world.train(*GOOD_AND_BAD)
    for number, text in enumerate([SECRET, "good", SECRET, "good"]):
        said(world, text, f"request-{number}", KEY if number < 2 else None)
    done = forget(world, key=KEY)
    assert done.rows.examples == 3
    assert world.store.find_prediction(MODEL, example_id="request-3") is not None
    assert done.searched.found == 0, done.searched.hits
    assert any("too short" in sentence for sentence in done.remains)


def test_quotations_in_decisions_verdicts_and_jobs_are_taken_out(world) -> None:
    learnt(world)
    slip = {"before": SECRET, "after": SECRET.upper(), "expected": "pos", "said": "neg"}
    evidence = {"checks": {"case": {"slips": [slip, {**slip, "before": "bad luck", "after": "BAD LUCK"}]}}}
    verdict = Decision(Outcome.FAIL, (f"labels change, such as {SECRET.upper()!r}: 'neg' instead of 'pos'",), evidence)
    world.store.add_decision(MODEL, "gate v2", verdict, world.clock.now(), id="quoting")
    world.registry.record_verdict(MODEL, 2, verdict)
    job = world.store.jobs(MODEL)[0]
    world.store.update_job(job.id, result={**job.result, "because": list(verdict.because)})
    with closing(sqlite3.connect(world.folder / "jobs.db")) as jobs:
        jobs.execute("CREATE TABLE steps (output TEXT)")
        jobs.execute("INSERT INTO steps VALUES (?)", (json.dumps({"because": verdict.because}),))
        jobs.commit()
    done = forget(world, "order-4711")
    assert done.searched.found == 0, done.searched.hits
    assert SECRET.upper().encode() not in bytes_of(world.folder)
    stored = world.store.decision("quoting").decision
    assert stored.because == ("labels change, such as '[forgotten]': 'neg' instead of 'pos'",)
    slips = stored.evidence["checks"]["case"]["slips"]
    assert [one["before"] for one in slips] == ["[forgotten]", "bad luck"]
    assert world.registry.version(MODEL, 2).verdict == stored
    assert "version 2 of 'toy': verdict" in done.records


def test_files_that_hold_it_are_deleted_whole_also_packed_ones(world) -> None:
    learnt(world)
    batches, mailbox = world.folder / "batches", world.folder / "mailbox"
    for name in ("a", "b", "c"):
        (batches / name).mkdir(parents=True)
    (batches / "a" / "input.csv.gz").write_bytes(
        gzip.compress(('text\n"' + SECRET.replace('"', '""') + '"\n').encode())
    )
    (batches / "b" / "input.jsonl").write_text(json.dumps({"text": SECRET}), "utf-8")
    (batches / "c" / "input.csv").write_text("text\nsomebody else's text\n", "utf-8")
    world.announcer.announce()
    mailbox.mkdir(exist_ok=True)
    (mailbox / "1.eml").write_text(f"Subject: x\n\n{SECRET}\n", "utf-8")
    (mailbox / "2.eml").write_text("Subject: x\n\nnothing\n", "utf-8")
    done = forget(world, "order-4711")
    assert set(done.files) == {"batches/a", "batches/b", "mailbox/1.eml"}
    assert done.searched.found == 0
    assert [path.name for path in batches.iterdir()] == ["c"]


def test_one_forgetting_at_a_time_and_afterwards_jobs_may_begin_again(world) -> None:
    learnt(world)
    other = world.store.sole(FORGETTING)
    other.acquire()
    with pytest.raises(Refused, match="another forgetting runs"):
        forget(world, "order-4711")
    other.release()
    assert forget(world, "order-4711").rows.examples == 1
    assert world.store.nobody_forgets()


def test_a_dry_run_says_what_would_go_and_changes_nothing(world) -> None:
    learnt(world)
    (world.folder / "data.csv").unlink()
    before = sorted((path, path.stat().st_size) for path in (world.folder / "snapshots").iterdir())
    done = forgetting(world).run(Person(key=KEY), "ann", dry_run=True)
    assert (done.rows.examples, done.rows.predictions, done.rows.labels, done.snapshot_rows) == (2, 2, 2, 2)
    assert done.searched is None
    assert sorted((path, path.stat().st_size) for path in (world.folder / "snapshots").iterdir()) == before
    assert world.store.find_prediction(MODEL, example_id="order-4711") is not None
    assert world.store.decisions(MODEL, "forget") == []


def test_forgetting_again_finds_nothing_and_says_so(world) -> None:
    learnt(world)
    assert not forget(world, key=KEY).nothing
    again = forget(world, key=KEY)
    assert again.nothing
    assert again.searched.found == 0


def test_the_decision_says_what_went_and_not_who(world) -> None:
    learnt(world)
    forget(world, key=KEY)
    (stored,) = world.store.decisions(MODEL, "forget")
    words = json.dumps([stored.decision.because, dict(stored.decision.evidence)])
    assert "2 examples" in words
    assert "0 found" in words
    assert "version 2 of 'toy' was trained on it" in words
    assert KEY not in words
    assert stored.decision.evidence["actor"] == "ann"


def test_what_remains_is_said(world) -> None:
    learnt(world)
    outside = world.folder.parent / f"{world.folder.name}-inbox.csv"
    world.store.put(MODEL, "data_files", [str(outside)])
    outside.write_text('text,label\n"' + SECRET.replace('"', '""') + '",pos\n', "utf-8")
    done = forget(world, "order-4711")
    words = "\n".join(done.remains)
    assert str(outside) in words
    assert "backups" in words
    assert "MLflow keeps its own" in words
    outside.unlink()


def test_nobody_is_forgotten_while_a_retraining_may_use_the_data(world) -> None:
    learnt(world)
    job = world.store.join_or_add_job(Job(new_id(), MODEL, "retrain", world.clock.now()))
    with pytest.raises(Refused, match=r"wait for it .* then try again"):
        forget(world, "order-4711")
    world.store.update_job(job.id, state=JobState.DONE)
    assert forget(world, "order-4711").rows.examples == 1


@pytest.mark.parametrize("person", [Person(), Person("a", "b"), Person("")])
def test_it_must_be_said_whom_to_forget(world, person: Person) -> None:
    with pytest.raises(InvalidInput, match="say whom to forget"):
        forgetting(world).run(person, "ann")


def test_a_running_server_forgets_its_answers_and_then_remembers_new_ones(world) -> None:
    learnt(world)
    follower = Forgetting(world.store, world.predictor.cache, world.predictor.shadow)
    world.predictor.predict([Request(SECRET)])
    follower.refresh()
    assert len(world.predictor.cache) > 0, "nobody is to be forgotten yet"
    world.writer.flush()
    forget(world, "order-4711")
    follower.refresh()
    assert (len(world.predictor.cache), world.predictor.cache.bytes) == (0, 0)
    world.predictor.predict([Request("good day")])
    follower.refresh()
    assert len(world.predictor.cache) == 1


def test_a_queued_example_is_no_longer_asked_about(world) -> None:
    world.train(*GOOD_AND_BAD)
    (answer,) = world.predictor.predict([Request(SECRET, id="order-4711")])
    world.writer.flush()
    example, prediction = world.store.prediction(MODEL, answer.prediction.id)
    world.store.ask([QueueItem(new_id(), MODEL, prediction.id, example, 0.5, "drawn", world.clock.now())])
    assert forget(world, "order-4711").rows.queued == 1
    assert world.store.queue(MODEL, 10) == []


def test_a_long_text_that_lies_over_several_pages_is_found_and_wiped(world) -> None:
    world.train(*GOOD_AND_BAD)
    long = "good " + " ".join(f"word{i}" for i in range(3000))
    said(world, long, "order-4711")
    assert b"word1234 word1235" in bytes_of(world.folder)
    assert forget(world, "order-4711").searched.found == 0
    assert b"word1234 word1235" not in bytes_of(world.folder)


def test_of_a_camera_the_stored_videos_go_with_every_window_of_them(world) -> None:
    world.train(*GOOD_AND_BAD)
    videos = world.folder / "videos"
    videos.mkdir()
    for name in ("aaaa1111.mp4", ".aaaa1111.mp4.starts.npy", "bbbb2222.mp4"):
        (videos / name).write_bytes(b"pictures")
    said(world, "aaaa1111.mp4#0-32~lobby-camera", "one-window", "lobby-camera")
    said(world, "aaaa1111.mp4#32-64", "next-window")
    said(world, "bbbb2222.mp4#0-32", "another-video", "gate-camera")
    world.store.put(MODEL, "thresholds", {"version": 1, "cameras": {"lobby-camera": {}, "gate-camera": {}}})
    decision = Decision(Outcome.PASS, ("the threshold of lobby-camera moves",))
    world.store.add_decision(MODEL, "threshold lobby-camera", decision, world.clock.now(), id="threshold-1-0123-9-0")
    done = forget(world, key="lobby-camera")
    assert [path.name for path in videos.iterdir()] == ["bbbb2222.mp4"]
    assert (done.rows.examples, done.searched.found) == (2, 0)
    assert set(done.files) == {"videos/aaaa1111.mp4", "videos/.aaaa1111.mp4.starts.npy"}
    assert set(world.store.get(MODEL, "thresholds")["cameras"]) == {"gate-camera"}
    assert b"lobby-camera" not in bytes_of(world.folder)


def test_versions_that_were_warm_started_from_one_that_learnt_it_are_named_and_those_without_files_are_not(
    world,
) -> None:
    learnt(world)
    world.run_job({"reason": "routine", "recipe": Recipe(start="warm").to_json()})
    world.registry.remove(MODEL, 2, world.clock.now())
    assert forget(world, "order-4711").trained == ("version 3 of 'toy'",)


def test_a_version_that_corrects_the_class_mix_of_one_that_learnt_it_is_named(world) -> None:
    learnt(world)
    first, second = (world.registry.version(MODEL, number) for number in (1, 2))
    lineage = replace(second.lineage, snapshot_id=first.lineage.snapshot_id, reason="mix", job_id="mix", parent=2)
    folder = world.registry.fetch(MODEL, 2)
    world.registry.register(MODEL, folder, lineage, second.evaluation, world.clock.now())
    assert forget(world, "order-4711").trained == ("version 2 of 'toy'", "version 3 of 'toy'")


def test_what_backtests_have_kept_goes_with_anybody_who_was_known(world) -> None:
    learnt(world)
    kept = world.folder / "backtests" / "0123.npy"
    kept.parent.mkdir()
    kept.write_bytes(b"heads")
    assert forget(world, "nobody").files == ()
    assert kept.exists()
    (world.folder / "data.csv").unlink(missing_ok=True)
    assert "backtests/0123.npy" in forgetting(world).run(Person("order-4711"), "ann", dry_run=True).files
    assert kept.exists()
    assert "backtests/0123.npy" in forget(world, "order-4711").files
    assert not kept.exists()


def test_which_texts_were_labelled_on_a_day_is_forgotten_and_the_harm_that_was_found_stays(world) -> None:
    learnt(world)
    world.store.put(MODEL, "harm", {"seq": 7, "days": {"0123456789abcdef": "2025-01-01"}})
    forget(world, "nobody")
    assert world.store.get(MODEL, "harm")["days"]
    forget(world, "order-4711")
    assert world.store.get(MODEL, "harm") == {"seq": 7, "days": {}}


def test_the_audit_chain_stays_whole_and_knows_that_and_not_whom(world) -> None:
    learnt(world)
    decision = Decision(Outcome.HOLD, (f"the must-hold text {SECRET!r} is answered wrongly",))
    world.store.add_decision(MODEL, "gate v1", decision, world.clock.now())
    forget(world, key=KEY)
    inspection = world.store.verify_audit()
    assert inspection.flaws == ()
    entry = world.store.audit_entries(MODEL)[0]
    assert (entry.actor, entry.action, entry.subject) == ("ann", "forget", "one key")
    assert KEY not in str(world.store.audit_entries())


@pytest.mark.parametrize("folder", ["tune-toy", "tune-toy-shared-one", "compress-toy-2"])
def test_nobody_is_forgotten_while_a_search_or_a_compression_runs(world, folder: str) -> None:
    learnt(world)
    (world.folder / "work" / folder).mkdir(parents=True)
    with FileLock(world.folder / "work" / folder / "lock"), pytest.raises(Refused, match="a search or a compression"):
        forget(world, "order-4711")
    assert forget(world, "order-4711").rows.examples == 1


def test_a_compression_that_was_killed_keeps_nobody_from_being_forgotten(world) -> None:
    learnt(world)
    world.store.add_job(Job("killed", MODEL, "compress", world.clock.now(), JobState.RUNNING, {"compressed": 2}))
    assert forget(world, "order-4711").rows.examples == 1


@pytest.mark.parametrize("step", ["references", "files_that_hold", "blank", "rewrite", "wipe", "search", "remember"])
def test_what_was_stopped_half_way_is_finished_by_the_same_call(world, step: str) -> None:
    learnt(world)
    letter = world.folder / "mailbox" / "1.eml"
    letter.parent.mkdir(exist_ok=True)
    letter.write_text(f"Subject: x\n\n{SECRET}\n", "utf-8")
    (world.folder / "data.csv").unlink()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stopped = type("Stopped", (Forget,), {step: stop})
    whole = forgetting(world)
    with pytest.raises(KeyboardInterrupt):
        stopped(*(getattr(whole, field.name) for field in fields(whole))).run(Person(key=KEY), "ann")
    whole.run(Person(key=KEY), "ann")
    assert b"4 Elm Road" not in bytes_of(world.folder)
    assert not letter.exists()
    snapshot = open_snapshot(world.folder / "snapshots", world.registry.version(MODEL, 2).lineage.snapshot_id)
    assert KEY not in {row.key for row in snapshot.stored()}
    assert len(read_reference(world.registry.fetch(MODEL, 2)).truth) == len(snapshot.rows(Split.TEST))
    assert world.run_job({"reason": "routine"})["version"] == 3


def test_what_frozen_layers_gave_for_a_text_goes_with_it(world) -> None:
    learnt(world)
    killed = world.folder / "work" / "tune-toy-folds" / "of a killed cross-validation" / "hidden"
    left = HiddenStates(killed, "stack", 2, 10_000)
    left.put(*left.names([SECRET], [[1, 2]]), np.ones((2, 2), np.float16))
    store = HiddenStates(world.folder / "hidden", "stack", 2, 10_000)
    others = "good morning from somebody else altogether"
    names = store.names([SECRET, "good heavens, another long complaint of theirs", others], [[1, 2]] * 3)
    for name in names:
        store.put(name, np.ones((2, 2), np.float16))
    planned = forgetting(world).run(Person(key=KEY), "ann", dry_run=True)
    assert "hidden (2 files)" in planned.files
    assert all(store.has(name) for name in names)
    done = forget(world, key=KEY)
    assert "hidden (2 files)" in done.files
    assert [store.has(name) for name in names] == [False, False, True]
    assert not left.has(names[0])


@dataclass(frozen=True)
class Distilling:
    """A compressor whose candidate has learnt from what it was shown of the traffic."""

    def __call__(self, version, snapshot, recorded, tell, workdir, against):
        ignored = shutil.ignore_patterns("manifest.json", "reference.npz", "evaluation.json")
        shutil.copytree(version, workdir / "model", ignore=ignored)
        remember(recorded, workdir / "model", "salt", version)
        return Distilled(workdir / "model")


@dataclass(frozen=True)
class Distilled:
    folder: Path
    because: tuple[str, ...] = ("fewer layers: taken",)

    def to_json(self) -> dict[str, object]:
        return {"points": []}


def test_versions_that_were_distilled_on_a_text_of_the_traffic_are_named(world) -> None:
    world.train(*GOOD_AND_BAD)
    compressing = Compressing(world.retraining, Distilling())
    assert compressing.run(1, "ann", lambda *_: None)["version"] == 2, "before the text was seen"
    world.predictor.refresh()
    world.predictor.predict([Request(SECRET, id="order-4711", key=KEY)])
    world.writer.flush()
    assert compressing.run(1, "ann", lambda *_: None)["version"] == 3
    assert compressing.run(3, "ann", lambda *_: None)["version"] == 4, "whose weights are those of version 3"
    looked = forgetting(world).run(Person("order-4711"), "ann", dry_run=True)
    done = forget(world, "order-4711")
    assert done.trained == looked.trained == ("version 3 of 'toy'", "version 4 of 'toy'")
    assert done.searched.found == 0, done.searched.hits


def test_what_a_distilled_version_was_taught_can_be_asked_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "after").mkdir()
    remember([SECRET, ("two", "columns")], tmp_path, "some salt")
    remember(["another"], tmp_path / "after", "other salt", tmp_path)
    assert was_taught(tmp_path, [SECRET.upper()]), "as the same text is told everywhere"
    assert was_taught(tmp_path / "after", [("two", "columns")])
    assert not was_taught(tmp_path, ["another"])
    assert not was_taught(tmp_path / "nothing", [SECRET])
    assert "Elm" not in (tmp_path / "taught.json").read_text("utf-8")
    (tmp_path / "taught.json").write_text("[", "utf-8")
    with pytest.raises(BackendError, match="cannot be read"):
        was_taught(tmp_path, [SECRET])
