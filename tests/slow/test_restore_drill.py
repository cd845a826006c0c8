"""The restore drill: a backup under load, and a project that goes on from it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg
import pytest

from keepfit.app.project import Project
from keepfit.app.wiring import LATE, named
from keepfit.data.records import Job, JobState

pytestmark = pytest.mark.slow

DEADLINE = 90.0
SETTINGS = """\
{head}
[models.default]
task = "toy"

[models.default.watch]
every = "1s"
label_rate = 0.0

[models.default.gate.invariances]
case = 0.1
"""
MODEL = "default"


@pytest.fixture(params=["sqlite", "postgresql"])
def heads(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The settings of the project and of the one that it is restored to."""
    if request.param == "sqlite":
        return 'tracking = "local"\n', 'tracking = "local"\n'
    url: str = request.getfixturevalue("postgresql")
    names = ("lived", "jobs", "again", "jobs_again")
    with psycopg.connect(url, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}")
    place = {name: url.replace("/postgres?", f"/{name}?") for name in names}

    def head(store: str, jobs: str) -> str:
        return f'tracking = "local"\nstore = "{place[store]}"\n[worker]\njobs_database = "{place[jobs]}"\n'

    return head("lived", "jobs"), head("again", "jobs_again")


def keepfit(*words: object) -> list[str]:
    return [sys.executable, "-m", "keepfit.app.cli", *map(str, words)]


def said(*words: object) -> dict[str, Any]:
    done = subprocess.run(keepfit(*words, "--json"), capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def eventually(condition: Callable[[], bool], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"it did not happen in time: {what}"
        pause.wait(0.1)


def call(port: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        assert answer.status < 300, found
        return found
    finally:
        connection.close()


@contextlib.contextmanager
def up(project: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        keepfit("up", "--port", port, "--project", project), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

    def ready() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            call(port, "GET", "/health/ready")
        except (OSError, AssertionError):
            return False
        return True

    try:
        eventually(ready, "the server is ready")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)


class Users:
    """They ask and label on and on, and remember what was acknowledged."""

    def __init__(self, port: int, name: str) -> None:
        self.port, self.name, self.labelled, self.over = port, name, list[str](), threading.Event()
        self.thread = threading.Thread(target=self.live)

    def live(self) -> None:
        number = 0
        while not self.over.is_set():
            ids = [f"{self.name}-{number + i}" for i in range(10)]
            number += 10
            call(self.port, "POST", "/predict", {"examples": [{"text": f"good day {id_}", "id": id_} for id_ in ids]})
            call(self.port, "POST", "/labels", {"labels": [{"id": id_, "label": "pos"} for id_ in ids]})
            self.labelled += ids
            self.over.wait(0.02)

    def __enter__(self) -> Users:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def test_what_was_acknowledged_before_a_backup_is_in_it_and_the_project_goes_on(
    tmp_path: Path, heads: tuple[str, str]
) -> None:
    lived, again = tmp_path / "lived", tmp_path / "again"
    for folder, head in ((lived, heads[0]), (again, heads[1])):
        folder.mkdir()
        (folder / "keepfit.toml").write_text(SETTINGS.format(head=head), "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    assert said("train", tmp_path / "data.csv", "--project", lived)["version"] == 1

    with up(lived) as port, Users(port, "ann") as ann, Users(port, "bob") as bob:
        eventually(lambda: len(ann.labelled) > 100 and len(bob.labelled) > 100, "people use it")
        call(port, "POST", "/retrain", {})
        before = [*ann.labelled, *bob.labelled]
        said("backup", tmp_path / "b.tar.zst", "--project", lived)
        went_on = len(ann.labelled) + len(bob.labelled) - len(before)
    assert went_on > 0, "nobody waited for the backup"

    told = said("restore", tmp_path / "b.tar.zst", "--to", again)
    assert told["audit"]["whole"]
    old, new = Project(lived), Project(again)
    try:
        missing = [id_ for id_ in before if not new.store.labels_of(MODEL, id_)]
        assert missing == []
        assert new.store.verify_audit().whole
        had = new.store.deployments(MODEL)
        assert had == old.store.deployments(MODEL)[-len(had) :]
        assert new.store.jobs(states=[JobState.RUNNING]) == []
        versions = len(new.registry.versions(MODEL))
        ended = {job.id for job in new.store.jobs(kind="retrain", states=[JobState.DONE, JobState.FAILED])}
    finally:
        old.close()
        new.close()

    with up(again) as port:
        assert call(port, "POST", "/predict", {"text": "good day"})["predictions"][0]["label"] == "pos"
        waiting = call(port, "GET", "/status")["models"][0]["retraining"]
        job = call(port, "POST", "/retrain", {}) if waiting is None else waiting
        eventually(lambda: call(port, "GET", "/status")["models"][0]["retraining"] is None, "the restored one retrains")
        assert job.get("id", job.get("job")) not in ended, "what was interrupted is not done again"
    new = Project(again)
    try:
        assert len(new.registry.versions(MODEL)) == versions + 1, "one new version, for the one that was asked for now"
        assert new.store.verify_audit().whole
    finally:
        new.close()


def test_versions_in_mlflow_are_found_in_the_folder_that_they_were_restored_to(tmp_path: Path) -> None:
    lived, again = tmp_path / "lived", tmp_path / "again"
    lived.mkdir()
    (lived / "keepfit.toml").write_text(SETTINGS.format(head=""), "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(lived)
    snapshot, _ = project.import_data(tmp_path / "data.csv")
    job = Job("first", MODEL, "retrain", project.home.clock.now(), request={"snapshot": snapshot.id})
    project.store.add_job(job)
    project.retraining(MODEL).run(job.id)
    named(LATE["backup"])(project.home, project.store).run(tmp_path / "b.tar.zst", "ann")
    project.close()
    shutil.rmtree(lived)
    named(LATE["restore"])(tmp_path / "b.tar.zst", again, False, {}, "ann", lambda what, done, of: None).run()
    project = Project(again)
    shutil.rmtree(again / ".keepfit/models")  # so that the artifacts are needed
    assert (project.registry.fetch(MODEL, 1) / "model.json").is_file()
    assert project.champion() == 1
    project.close()


def test_a_project_moves_from_sqlite_to_postgresql_and_back(tmp_path: Path, postgresql: str) -> None:
    with psycopg.connect(postgresql, autocommit=True) as connection:
        for name in ("moved", "jobs_moved"):
            connection.execute(f"CREATE DATABASE {name}")
    place = {name: postgresql.replace("/postgres?", f"/{name}?") for name in ("moved", "jobs_moved")}
    local = 'tracking = "local"\n'
    elsewhere = f'{local}store = "{place["moved"]}"\n[worker]\njobs_database = "{place["jobs_moved"]}"\n'
    for name, head in (("lived", local), ("moved", elsewhere), ("back", local)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keepfit.toml").write_text(SETTINGS.format(head=head), "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(tmp_path / "lived")
    project.train(tmp_path / "data.csv")  # by DBOS, so that the jobs have rows, too
    project.add_token("ann", ["predict"])
    odd = "\x00\udcff"  # what databases refuse, and keepfit stores all the same
    project.store.put(MODEL, odd, {"words": odd})
    deployments, tokens = project.store.deployments(MODEL), project.store.tokens()
    project.close()
    for source, target in (("lived", "moved"), ("moved", "back")):
        project = Project(tmp_path / source)
        named(LATE["backup"])(project.home, project.store).run(tmp_path / f"{source}.tar", "ann")
        project.close()
        named(LATE["restore"])(
            tmp_path / f"{source}.tar", tmp_path / target, False, {}, "ann", lambda what, done, of: None
        ).run()
        project = Project(tmp_path / target)
        assert (project.store.deployments(MODEL), project.store.tokens()) == (deployments, tokens)
        assert project.store.get(MODEL, odd) == {"words": odd}
        assert project.store.verify_audit().whole
        project.add_token(target, ["label"])  # new rows get new numbers
        tokens = project.store.tokens()
        project.close()
    code = subprocess.run(
        keepfit("restore", tmp_path / "lived.tar", "--to", tmp_path / "moved"), check=False
    ).returncode
    assert code == 2, "a database that holds something is not overwritten"
    assert said("restore", tmp_path / "lived.tar", "--to", tmp_path / "moved", "--replace")["audit"]["whole"]
