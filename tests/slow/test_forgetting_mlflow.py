"""Pruning and forgetting in a project on MLflow, with a real server that answers meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import pytest
import requests

from keepfit.app.project import Project
from keepfit.app.retaining import forget, prune
from keepfit.data.forgetting import Person
from keepfit.decision import Decision, Outcome
from keepfit.errors import NotFound

pytestmark = pytest.mark.slow

SETTINGS = """\
[retention]
versions_most = 1

[models.default]
task = "toy"

[models.default.gate.invariances]
case = 0.1
"""
SECRET = 'good grief, "Zoë" lives at 4 Elm Road'
QUIET = [b"Elm Road", b"ELM ROAD", b"customer-17"]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A trained project."""
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    data = tmp_path / "data.csv"
    rows = [f"{word} thing number {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    data.write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    made = Project(tmp_path)
    made.train(data)
    yield made
    made.close()


@pytest.fixture
def server(project: Project) -> Iterator[str]:
    """The URL of a server process of the project."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "keepfit.app.cli", "serve", "--project", str(project.folder), "--port", str(port)]
    with (project.folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ.copy())
        try:
            end, pause, url = monotonic() + 60, Event(), f"http://127.0.0.1:{port}"
            while monotonic() < end and process.poll() is None:
                try:
                    if requests.get(f"{url}/health/ready", timeout=5).ok:
                        break
                except requests.ConnectionError:
                    pause.wait(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def kept(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / ".keepfit").rglob("*") if path.is_file())


def ask(url: str) -> str:
    """The id of the answer to the secret."""
    example = {"text": SECRET, "id": "order-4711", "key": "customer-17"}
    answer = requests.post(f"{url}/predict", json={"examples": [example]}, timeout=30)
    found: str = answer.json()["predictions"][0]["id"]
    return found


def cached(url: str) -> float:
    """Texts in the server's cache that were used, by its own count."""
    lines = requests.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("keepfit_cache") and "hit" in line)


def test_a_key_is_forgotten_in_what_mlflow_and_a_running_server_keep(project: Project, server: str) -> None:
    ask(server)
    before = cached(server)
    last = ask(server)
    assert cached(server) == before + 1
    requests.post(
        f"{server}/labels", json={"labels": [{"prediction_id": last, "label": "pos"}]}, timeout=30
    ).raise_for_status()
    assert project.retrain(True)["version"] == 2
    slip = {"before": SECRET, "after": SECRET.upper(), "said": "neg", "expected": "pos"}
    long = Decision(Outcome.PASS, (f"such as {SECRET.upper()}",), {"slips": [slip], "more": ["x" * 50] * 200})
    project.registry.record_verdict("default", 2, long)
    project.registry.record_verdict("default", 1, Decision(Outcome.PASS, (f"such as {SECRET}",)))
    assert all(word in kept(project.folder) for word in QUIET)
    done = forget(project.home, project.store, project.registry).run(Person(key="customer-17"), "ann")
    assert done.searched is not None
    assert (done.searched.found, done.searched.unread) == (0, ())
    assert (done.rows.examples, done.rows.labels, done.snapshot_rows) == (1, 1, 1)
    assert not any(word in kept(project.folder) for word in QUIET)
    Event().wait(1)  # what is promised: within a second
    hits = cached(server)
    ask(server)
    assert cached(server) == hits, "the server has to compute the answer anew"
    verdict = Project(project.folder).registry.version("default", 2).verdict
    assert verdict is not None
    assert verdict.because == ("such as [forgotten]",)


def test_what_a_pruned_version_leaves_in_mlflow_is_its_record(project: Project) -> None:
    for _ in range(3):
        assert project.retrain(True)["deployed"]
    artifacts = project.home.state / "mlartifacts"
    before = sum(path.stat().st_size for path in artifacts.rglob("*") if path.is_file())
    done = prune(project.home, project.store, project.registry).run("ann")
    assert {one.thing.name for one in done.gone} == {"1", "2"}, "the third is the way back while the fourth is watched"
    after = sum(path.stat().st_size for path in artifacts.rglob("*") if path.is_file())
    assert before - after > done.freed / 3
    again = Project(project.folder).registry
    assert [version.removed is None for version in again.versions("default")] == [True, True, False, False]
    assert all(version.evaluation.n for version in again.versions("default"))
    with pytest.raises(NotFound, match="were removed"):
        again.fetch("default", 2)
