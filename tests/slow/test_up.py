"""`keepfit up` as a person runs it: a server and a worker, two real processes, on the toy task."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from keepfit.app.progress import STAGES
from keepfit.app.project import Project

pytestmark = pytest.mark.slow

DEADLINE = 90.0
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.watch]
every = "1s"
label_rate = 0.0  # so that it is the person who asks for the retraining, and not the watch

[models.default.gate.invariances]
case = 0.1  # the toy looks at the first word only, so a typo there may change its answer
"""


def eventually(condition: Callable[[], bool], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"it did not happen in time: {what}"
        pause.wait(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Up:
    """A running `keepfit up`, and a client of it."""

    process: subprocess.Popen[str]
    port: int
    answered: int = 0

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        status, answer = self.call(method, path, body)
        assert status < 300, answer
        return answer

    def predict(self, *texts: str) -> dict[str, Any]:
        answer = self.must("POST", "/predict", {"text": list(texts)})
        self.answered += len(texts)
        return answer

    def newest(self) -> dict[str, Any]:
        found: dict[str, Any] = self.must("GET", "/history")["deployments"][0]
        return found

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.call("GET", "/health/ready")[0] == 200
        except OSError:
            return False


def command(project: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "keepfit.app.cli", *words, "--project", str(project)]


@contextlib.contextmanager
def up(project: Path) -> Iterator[Up]:
    port = free_port()
    process = subprocess.Popen(
        command(project, "up", "--port", str(port)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        running = Up(process, port)
        eventually(running.is_ready, "the server is ready")
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Version 1 knows two words and takes every other one for pos."""
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    rows = [f"{word} thing number {i},{label}" for i in range(60)
            for word, label in (("good", "pos"), ("fine", "pos"), ("bad", "neg"))]  # fmt: skip
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    made = Project(tmp_path)
    made.train(tmp_path / "data.csv")
    made.close()
    return tmp_path


def test_a_model_is_served_labelled_retrained_swapped_taken_back_and_stopped(project: Path) -> None:
    with up(project) as running:
        said = running.predict("good I love this product!")
        assert said["model_version"] == 1
        assert said["predictions"][0]["label"] == "pos"
        assert set(said["predictions"][0]["probabilities"]) == {"neg", "pos"}

        awful = running.predict(*(f"awful day number {i}" for i in range(60)))["predictions"]
        assert {p["label"] for p in awful} == {"pos"}
        labels = [{"prediction_id": p["id"], "label": "neg"} for p in awful]
        assert running.must("POST", "/labels", {"labels": labels})["new"] == 60

        running.must("POST", "/retrain", {})
        eventually(lambda: running.predict("awful again")["model_version"] == 2, "version 2 answers")
        assert running.predict("awful again", "good")["predictions"][0]["label"] == "neg"
        assert running.newest()["traffic"] == {"2": 1.0}
        eventually(lambda: bool(running.newest()["applied"]), "the server reports that it serves version 2")

        started = time.monotonic()
        running.must("POST", "/rollback", {})
        assert running.predict("awful again")["model_version"] == 1
        assert time.monotonic() - started < 1
        assert running.must("GET", "/status")["models"][0]["champion"] == 1

        def judged() -> set[str]:
            return {d["subject"] for d in running.must("GET", "/decisions?limit=200")["decisions"]}

        eventually(lambda: "alert rollback" in judged(), "the rollback is announced")
        assert {"trigger", "gate v2"} <= judged()

        children = psutil.Process(running.process.pid).children(recursive=True)
        assert len(children) >= 2
        running.process.send_signal(signal.SIGTERM)
        words, _ = running.process.communicate(timeout=DEADLINE)
        assert running.process.returncode == 0, words
        assert "Traceback" not in words
        assert f"keepfit server: http://127.0.0.1:{running.port}; answers for default" in words
        assert "default: version 2 is in use" in words
        assert "default: back to version 1" in words
        assert not psutil.wait_procs(children, timeout=DEADLINE)[1]
        found = Project(project)
        assert found.store.count_predictions("default") == running.answered
        assert not found.worker_runs()
        found.close()


def test_a_worker_that_is_killed_is_started_again(project: Path) -> None:
    with up(project) as running:

        def worker() -> psutil.Process | None:
            for child in psutil.Process(running.process.pid).children():
                with contextlib.suppress(psutil.Error):  # it may end while we look
                    if "worker" in child.cmdline():
                        return child
            return None

        eventually(lambda: running.must("GET", "/status")["models"][0]["last_check"] is not None, "the worker checks")
        first = worker()
        assert first is not None
        first.kill()
        eventually(lambda: (now := worker()) is not None and now.pid != first.pid, "another worker runs")
        assert running.predict("good")["model_version"] == 1


def test_a_second_worker_or_up_is_refused_in_one_sentence(project: Path) -> None:
    with up(project) as running:
        eventually(lambda: running.must("GET", "/status")["models"][0]["last_check"] is not None, "the worker checks")
        for command in ("worker", "up"):
            code, words = ran(project, command)
            assert code == 2
            assert "watching" not in words
            assert len(words.strip().splitlines()) == 1, "one sentence, whatever else is in its way"


def test_who_waits_for_the_worker_sees_how_far_it_is(project: Path) -> None:
    with up(project) as running:
        eventually(lambda: running.must("GET", "/status")["models"][0]["last_check"] is not None, "the worker checks")
        code, words = ran(project, "retrain", "--wait")
    assert code == 0, words
    assert any(stage in words for stage in (*STAGES, "waiting for the worker")), words


def ran(project: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(command(project, *words), capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stderr


def test_a_port_in_use_is_said_in_a_sentence(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, words = ran(project, "up", "--port", str(other.getsockname()[1]))
    assert code == 2
    assert words.count("choose another --port") == 1


def test_strangers_are_let_in_with_tokens_only(project: Path) -> None:
    code, words = ran(project, "up", "--host", "0.0.0.0", "--port", str(free_port()))
    assert code == 2
    assert "token" in words
