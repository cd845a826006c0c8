"""`keepfit serve` as a real process: it starts small, stops cleanly, and fails with a sentence."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore

pytestmark = pytest.mark.slow

DEADLINE = 60.0
NOW = datetime(2025, 1, 1, tzinfo=UTC)
Answer = tuple[int, dict[str, Any]]


class Server:
    """One server process of a project."""

    def __init__(self, project: Path) -> None:
        self.project = project
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [
            sys.executable,
            "-m",
            "keepfit.app.cli",
            "serve",
            "--project",
            str(project),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def predict(self, *texts: str) -> dict[str, Any]:
        status, body = self.call("POST", "/predict", json.dumps({"text": texts}).encode())
        assert status == 200, body
        return body

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.process.stdout.read()  # type: ignore[union-attr]
            try:
                return self.call("GET", "/health/ready")[0] == 200
            except OSError:
                return False

        eventually(ready)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said


def eventually(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.05)


@contextmanager
def running(project: Path) -> Iterator[Server]:
    server = Server(project)
    try:
        server.wait_until_ready()
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def put_version(project: Path, number: int, **table: str) -> None:
    folder = project / ".keepfit" / "models" / "reviews" / str(number)
    folder.mkdir(parents=True)
    facts = {"format": 1, "task": "toy", "labels": ["bad", "good"], "table": table, "shares": [0.6, 0.4]}
    (folder / "model.json").write_text(json.dumps(facts), "utf-8")


def store_of(project: Path) -> RecordStore:
    return RecordStore.open(f"sqlite:///{(project / '.keepfit' / 'keepfit.db').absolute()}")


def deploy(project: Path, number: int) -> None:
    with store_of(project) as store:
        store.deploy("reviews", Traffic({number: 1.0}), Cause("a test", f"version {number}"), datetime.now(UTC))


def filled(folder: Path) -> Path:
    """A project with two versions whose answers differ, the first deployed."""
    (folder / "keepfit.toml").write_text('[models.reviews]\ntask = "toy"\n', "utf-8")
    put_version(folder, 1, love="good")
    put_version(folder, 2, love="bad")
    deploy(folder, 1)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return filled(tmp_path)


def test_it_answers_swaps_goes_back_and_stops_without_losing_a_record(project: Path) -> None:
    with running(project) as server:
        answers = [server.predict("love", f"text {n}") for n in range(20)]
        assert answers[0]["predictions"][0]["label"] == "good"

        deploy(project, 2)
        eventually(lambda: server.predict("love")["model_version"] == 2)
        started = time.monotonic()
        status, back = server.call("POST", "/rollback", b"{}")
        took = time.monotonic() - started
        assert (status, back["traffic"]) == (200, {"1": 1.0})
        assert took < 1, f"going back to a warm version took {took:.2f} s"
        last = server.predict("love", "the very last one")

        code, said = server.stop()
        first, *lines = said.splitlines()
        assert (code, first) == (0, f"keepfit server: http://127.0.0.1:{server.port}; answers for reviews")
        assert all(" INFO app: answered (" in line for line in lines), said
        with store_of(project) as store:
            for answer in [*answers, last]:
                for prediction in answer["predictions"]:
                    store.prediction("reviews", prediction["id"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process for the tests that leave it as it was."""
    with running(filled(tmp_path_factory.mktemp("project"))) as started:
        yield started


def test_many_clients_at_once_are_all_answered_as_if_alone(server: Server) -> None:
    with ThreadPoolExecutor(16) as pool:
        texts = [f"{'love' if n % 2 else 'hate'} {n}" for n in range(200)]
        for text, body in zip(texts, pool.map(server.predict, texts), strict=True):
            assert body["predictions"][0]["label"] == ("good" if text.startswith("love") else "bad")


def test_bodies_over_the_limit_get_their_answer(server: Server) -> None:
    body = b'{"text": "' + b"a" * (11 * 2**20) + b'"}'
    status, problem = server.call("POST", "/predict", body)
    assert (status, problem["status"]) == (413, 413)

    connection = HTTPConnection("127.0.0.1", server.port, timeout=DEADLINE)
    headers = {"Content-Type": "application/json", "Transfer-Encoding": "chunked"}
    chunks = (body[start : start + 2**20] for start in range(0, len(body), 2**20))
    connection.request("POST", "/predict", chunks, headers, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    assert server.predict("love")["model_version"] == 1


def test_it_loads_nothing_that_only_learning_needs(server: Server) -> None:
    server.predict("love")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc to look into the serving process")
    mapped = "".join(Path(f"/proc/{child}/maps").read_text() for child in children.read_text().split())
    for heavy in ("/torch/", "/pandas/", "/sklearn/", "/matplotlib/"):
        assert heavy not in mapped, heavy


def test_a_port_in_use_is_told_in_a_sentence(server: Server) -> None:
    command = [sys.executable, "-m", "keepfit.app.cli", "serve", "--project", str(server.project), "--port"]
    second = subprocess.run([*command, str(server.port)], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert second.returncode != 0
    assert "choose another --port" in second.stdout + second.stderr
    assert "Traceback" not in second.stdout + second.stderr


def test_killing_the_parent_frees_the_port(project: Path) -> None:
    with running(project) as server:
        server.process.kill()
        server.process.communicate(timeout=DEADLINE)

        def free() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", server.port)) != 0

        eventually(free)


def test_a_store_that_cannot_be_opened_is_told_in_a_sentence(project: Path) -> None:
    (project / ".keepfit" / "keepfit.db").write_bytes(b"this is no database, and it is long enough to be sure" * 100)
    server = Server(project)
    said, _ = server.process.communicate(timeout=DEADLINE)
    assert server.process.returncode != 0
    assert "Traceback" not in said
    assert "keepfit.db" in said


def test_a_damaged_model_folder_leaves_the_server_up_and_says_so(project: Path) -> None:
    (project / ".keepfit" / "models" / "reviews" / "1" / "model.json").write_text("{", "utf-8")
    server = Server(project)
    try:

        def answers() -> bool:
            try:
                return server.call("GET", "/health/live")[0] == 200
            except OSError:
                return False

        eventually(answers)
        status, problem = server.call("GET", "/health/ready")
        assert status == 503
        assert "model" in problem["detail"]
        status, problem = server.call("POST", "/predict", b'{"text": "love"}')
        assert status == 503
        deploy(project, 2)
        eventually(lambda: server.call("GET", "/health/ready")[0] == 200)
        assert server.predict("love")["model_version"] == 2
    finally:
        assert server.stop(signal.SIGINT)[0] in {0, 130}
        assert os.path.exists(project / ".keepfit" / "keepfit.db")


def test_slow_and_swollen_callers_hold_nobody_up(project: Path) -> None:
    with (project / "keepfit.toml").open("a", encoding="utf-8") as settings:
        settings.write('[server]\nthreads = 8\nheader_timeout = "1s"\n')
    with running(project) as server:

        def send(begin: bytes) -> socket.socket:
            caller = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
            caller.sendall(begin)
            return caller

        host = f"Host: localhost:{server.port}\r\n".encode()
        with send(b"GET /health/live HTTP/1.1\r\n" + host + b"X-Slow: ") as caller:
            assert caller.recv(100) == b"", "headers that do not come are not waited for"
        with send(b"GET /health/live HTTP/1.1\r\n" + host + b"X-Large: " + b"x" * 500_000 + b"\r\n\r\n") as caller:
            assert caller.recv(100).startswith(b"HTTP/1.1 431")
        post = b"POST /predict HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        slow = [send(post) for _ in range(20)]
        assert server.call("GET", "/health/live")[0] == 200
        assert server.call("GET", "/status")[0] == 200
        for caller in slow:
            caller.close()
        eventually(lambda: server.call("POST", "/predict", b'{"text": "love"}')[0] == 200)
