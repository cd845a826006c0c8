"""A project is backed up while it is used, and goes on elsewhere as it was."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine

from keepfit.app.cli import cli, run
from keepfit.app.project import Project
from keepfit.app.secrets import plain_secrets
from keepfit.app.worker import WorkerLock
from keepfit.data.archive import ABOUT, writing
from keepfit.data.records import Example, Job, JobState, Label, Prediction, Source, new_id
from keepfit.data.sole import KEEPING
from keepfit.data.upgrading import HEAD, VERSION_TABLE, migrate
from keepfit.pipelines.restore import INTERRUPTED

SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"
"""
MODEL = "default"


def keepfit(*words: object) -> tuple[int, Any]:
    """A command with --json: its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [*map(str, words), "--json"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        run(lambda: cli(arguments), True)
    code = int(end.value.code or 0)
    return code, json.loads((out if code == 0 else err).getvalue())


def done(*words: object) -> Mapping[str, Any]:
    code, said = keepfit(*words)
    assert code == 0, said
    return said


def refused(*words: object) -> str:
    code, said = keepfit(*words)
    assert code == 2, said
    return str(said["error"])


@pytest.fixture
def lived(tmp_path: Path) -> Path:
    """A project with a version, answers, labels, a token, a running retraining and two files to be scored."""
    folder = tmp_path / "lived"
    folder.mkdir()
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(folder)
    snapshot, _ = project.import_data(folder / "data.csv")
    now, store = project.home.clock.now(), project.store
    first = Job(new_id(), MODEL, "retrain", now, request={"snapshot": snapshot.id, "reason": "first"})
    store.add_job(first)
    project.retraining(MODEL).run(first.id)
    example = Example("good day", now, id="their id")
    scores, embedding = np.array([0.1, 0.9], np.float32), np.zeros(2, np.float32)
    prediction = Prediction(example.id, 1, ("neg", "pos"), scores, embedding, now, "its answer")
    store.add_predictions(MODEL, [(example, prediction)])
    store.add_labels(MODEL, [Label(example.id, "pos", now, Source.ASKED, "ann", 1.0, prediction.id)])
    store.add_job(Job("running", MODEL, "retrain", now, JobState.RUNNING, {"reason": "asked"}))
    source = project.home.batches / "b1" / "input.csv"
    source.parent.mkdir(parents=True)
    source.write_text("text\ngood day\n", "utf-8")
    request = {"source": str(source.absolute()), "target": str(source.with_name("output.csv").absolute())}
    store.add_job(Job("scoring", MODEL, "batch", now, JobState.RUNNING, request))
    store.add_job(Job("waiting", MODEL, "batch", now, JobState.WAITING, request))
    project.add_token("ann", ["predict"])
    project.close()
    return folder


def test_a_restored_project_is_as_the_one_that_was_backed_up(lived: Path, tmp_path: Path) -> None:
    made = done("backup", tmp_path / "b.tar.zst", "--project", lived)
    assert made["missing"] == []
    told = done("restore", tmp_path / "b.tar.zst", "--to", tmp_path / "again")
    assert told["audit"]["whole"]
    old, new = Project(lived), Project(tmp_path / "again")
    assert old.store.deployments(MODEL) == new.store.deployments(MODEL)
    assert old.store.tokens() == new.store.tokens()
    assert new.store.prediction(MODEL, "its answer")[0].content == "good day"
    assert [label.value for label in new.store.labels_of(MODEL, "their id")] == ["pos"]
    assert new.store.verify_audit().whole
    assert [entry.action for entry in new.store.audit_entries(limit=1)] == ["restore"]
    assert [entry.action for entry in old.store.audit_entries(limit=1)] == ["backup"]
    assert new.registry.fetch(MODEL, 1).is_dir()
    assert sorted(p.name for p in old.home.snapshots.iterdir()) == sorted(p.name for p in new.home.snapshots.iterdir())
    old.close()
    new.close()


def test_what_ran_is_not_done_twice_and_what_waited_still_waits(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b.tar", "--project", lived)
    told = done("restore", tmp_path / "b.tar", "--to", tmp_path / "again")
    assert (told["interrupted"], told["scored_anew"], told["waiting"]) == (["running"], ["scoring"], 1)
    project = Project(tmp_path / "again")
    job = project.store.job("running")
    assert (job.state, job.result["error"]) == (JobState.FAILED, INTERRUPTED)
    assert project.store.running_or_waiting(MODEL, "retrain") is None
    scoring = project.store.job("scoring")
    assert scoring.state is JobState.WAITING
    assert Path(scoring.request["source"]).read_text("utf-8") == "text\ngood day\n"
    assert str(tmp_path / "again") in scoring.request["source"]
    project.close()


def test_a_target_that_holds_something_is_refused_and_nothing_of_it_is_lost(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b.tar", "--project", lived)
    assert "1 deployments" in refused("restore", tmp_path / "b.tar", "--to", lived)
    (lived / ".keepfit/note").write_text("mine", "utf-8")
    done("restore", tmp_path / "b.tar", "--to", lived, "--replace")
    (aside,) = lived.glob(".keepfit.before-restore-*")
    assert (aside / "note").read_text("utf-8") == "mine"
    assert (aside / "keepfit.db").is_file()
    assert not list(lived.glob(".restoring-*"))


def test_a_damaged_backup_changes_nothing(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b", "--project", lived)
    (tmp_path / "b/databases/records.db").write_bytes(b"no")
    before = sorted(p for p in lived.rglob("*"))
    assert "records.db changed" in refused("restore", tmp_path / "b", "--to", lived, "--replace")
    assert sorted(p for p in lived.rglob("*")) == before


def test_a_project_whose_worker_runs_is_not_replaced(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b.tar", "--project", lived)
    lock = WorkerLock(lived / ".keepfit")
    lock.acquire()
    try:
        assert "worker" in refused("restore", tmp_path / "b.tar", "--to", lived, "--replace")
    finally:
        lock.release()
    assert not list(lived.glob(".keepfit.before-restore-*"))


def test_a_backup_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    with writing(tmp_path / "b.tar") as (into, _):
        into.add_json(ABOUT, {"format": 1, "schema": "9999", "keepfit": "7.0.0"})
        into.finish({"format": 1})
    said = refused("restore", tmp_path / "b.tar", "--to", tmp_path / "again")
    assert "keepfit 7.0.0 with schema 9999" in said
    assert "install that release" in said
    assert not (tmp_path / "again").exists()


def test_a_backup_of_an_older_release_is_upgraded(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b", "--project", lived)
    records = tmp_path / "records.db"
    engine = create_engine(f"sqlite:///{records}")
    with engine.begin() as conn:
        migrate(conn, "0001")
        conn.exec_driver_sql(
            "INSERT INTO keepfit_deployments VALUES "
            "(1, 'default', 1000000, 'ann', 'first', 'deploy', '[[1, 1.0]]', '[]', NULL, NULL)"
        )
    engine.dispose()
    about = json.loads((tmp_path / "b" / ABOUT).read_text("utf-8")) | {"schema": "0001", "keepfit": "0.0.1"}
    with writing(tmp_path / "old.tar") as (into, _):
        into.add_json(ABOUT, about)
        into.add_file("databases/records.db", records)
        for file in sorted((tmp_path / "b/state").rglob("*")):
            if file.is_file():
                into.add_file(file.relative_to(tmp_path / "b").as_posix(), file)
        into.add_text("settings/keepfit.toml", SETTINGS)
        into.finish(about)
    told = done("restore", tmp_path / "old.tar", "--to", tmp_path / "again")
    assert (told["schema"], told["keepfit"]) == ("0001", "0.0.1")
    with closing(sqlite3.connect(tmp_path / "again/.keepfit/keepfit.db")) as conn:
        assert conn.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() == (HEAD,)
    assert done("status", "--project", tmp_path / "again")["models"][0]["champion"] == 1


def test_secrets_in_plain_words_are_not_in_a_backup(lived: Path, tmp_path: Path) -> None:
    email = '[alerts.email]\nuser = "ann"\npassword = "correct horse"\nto = ["ann@example.org"]\n'
    (lived / "keepfit.toml").write_text(SETTINGS + email, "utf-8")
    made = done("backup", tmp_path / "b", "--project", lived)
    assert any("alerts.email.password" in words for words in made["not_in"])
    found = b"".join(path.read_bytes() for path in (tmp_path / "b").rglob("*") if path.is_file())
    assert b"correct horse" not in found
    assert 'password = "***"' in (tmp_path / "b/settings/keepfit.toml").read_text("utf-8")
    assert plain_secrets({"alerts": {"urls": ["env:X", "json://a:b@c"]}}) == {"alerts.urls[1]": "json://a:b@c"}


def test_nothing_is_pruned_or_forgotten_while_a_backup_reads(lived: Path, tmp_path: Path) -> None:
    project = Project(lived)
    held = project.store.sole(KEEPING)
    held.acquire()
    try:
        for words in (("prune",), ("backup", tmp_path / "b.tar")):
            assert "a backup, a pruning or a forgetting is under way" in refused(*words, "--project", lived)
    finally:
        held.release()
        project.close()
    done("prune", "--project", lived)


def test_a_folder_that_exists_gets_a_dated_file(lived: Path, tmp_path: Path) -> None:
    (tmp_path / "nightly").mkdir()
    made = done("backup", tmp_path / "nightly", "--project", lived)
    (file,) = (tmp_path / "nightly").iterdir()
    assert Path(made["file"]) == file
    assert file.name.endswith("Z.tar.zst")


def test_names_that_make_no_backup_are_refused(lived: Path, tmp_path: Path) -> None:
    assert "no ending of a backup" in refused("backup", tmp_path / "b.zip", "--project", lived)
    assert "choose another place" in refused("backup", lived / ".keepfit/b.tar", "--project", lived)
    assert "there is no folder" in refused("backup", tmp_path / "none/b.tar", "--project", lived)
    done("backup", tmp_path / "b.tar", "--project", lived)
    assert "exists already" in refused("backup", tmp_path / "b.tar", "--project", lived)


def test_versions_do_not_change_their_kind_of_registry_in_silence(lived: Path, tmp_path: Path) -> None:
    done("backup", tmp_path / "b.tar", "--project", lived)
    (tmp_path / "again").mkdir()
    (tmp_path / "again/keepfit.toml").write_text('[models.default]\ntask = "toy"\n', "utf-8")
    assert "set tracking as it was" in refused("restore", tmp_path / "b.tar", "--to", tmp_path / "again")
