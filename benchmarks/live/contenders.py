"""The contenders: how each is started, asked and understood, with the settings that its own documents advise."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.live.environments import PACKAGES, clean, environment, versions
from benchmarks.live.load import Line, post
from benchmarks.live.models import MAX_TOKENS, MODEL

HERE = Path(__file__).parent
SERVERS = HERE / "servers"
START_S = 180.0
THREADS = 32


@dataclass
class Contender:
    """A server that answers for one text a call."""

    name: str
    command: Callable[[int], Sequence[str]]
    settings: str
    """For people who read the result."""
    path: str = "/predict"
    body: Callable[[str], Any] = field(default=lambda text: {"text": text})
    env: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Where it is started."""
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    start_s: float = float("nan")
    """From the start of the process to the first answer."""

    def start(self) -> None:
        """Start it and wait for its first answer. Raises SystemExit when there is none."""
        self.port, began = free_port(), time.monotonic()
        log = (HERE.parents[1] / "build" / "benchmarks" / f"{self.name}.log").open("wb")
        self.process = subprocess.Popen(
            list(self.command(self.port)), env=self.env or None, start_new_session=True, stdout=log, stderr=log,
            cwd=self.folder,
        )  # fmt: skip
        request = self.request("a first text")
        while not self._answers(request):
            if time.monotonic() - began > START_S or self.process.poll() is not None:
                raise SystemExit(f"{self.name} does not answer; see build/benchmarks/{self.name}.log")
            time.sleep(0.01)
        self.start_s = time.monotonic() - began

    def request(self, text: str) -> bytes:
        """As it goes over the line."""
        return post(self.path, json.dumps(self.body(text)).encode(), self.port)

    def memory_mb(self) -> float:
        """Of all its processes: what they share counts once."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        total = 0
        for one in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
        return round(total / 2**20, 1)

    def stop(self) -> None:
        """End it with all that it started."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(10)
        self.process = None

    def _answers(self, request: bytes) -> bool:
        try:
            line = Line(self.port)
        except OSError:
            return False
        try:
            line.socket.settimeout(60)
            line.socket.sendall(request)
            while (answer := line.answer()) is None:
                pass
            return answer[0] == 200
        except OSError:
            return False
        finally:
            line.socket.close()


def label_of(body: bytes) -> str:
    """The label with the highest score, wherever it stands in the answer."""
    found: list[tuple[float, str]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict) and isinstance(value.get("label"), str) and "score" in value:
            found.append((value["score"], value["label"]))
        elif isinstance(value, dict | list):
            for inner in value.values() if isinstance(value, dict) else value:
                look(inner)

    look(json.loads(body))
    return max(found)[1]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keepfit(project: Path, name: str = "keepfit") -> Contender:
    """`keepfit serve`."""
    command = [sys.executable, "-m", "keepfit.app.cli", "serve", "--project", str(project.resolve()), "--port"]
    return Contender(name, lambda port: [*command, str(port)], "keepfit serve, as shipped; int8; no access log")


def constant(what: str) -> Contender:
    """A route that answers a constant: `plain` Flask, or in keepfit's stack for a project."""
    name = "plain Flask, a constant" if what == "plain" else "keepfit's stack, a constant"
    command = [sys.executable, "-m", "benchmarks.live.constant"]
    return Contender(name, lambda port: [*command, str(port), what], "Granian, 32 blocking threads, as keepfit's")


Maker = Callable[[Path, Path], Contender]


def peer(name: str, command: Callable[[Path, Path, int], Sequence[str]], settings: str, **more: Any) -> Maker:
    """A peer for a model folder, from its own environment."""

    def make(model: Path, cache: Path) -> Contender:
        python = environment(name, cache)
        packages = {**versions(python, PACKAGES["flask"]), **versions(python, PACKAGES[name])}
        said = ", ".join(f"{package} {number}" for package, number in packages.items())
        threads = str(len(os.sched_getaffinity(0)))
        env = {
            **clean(), "MODEL": str(model.resolve()), "MAX_TOKENS": str(MAX_TOKENS), "TORCH_THREADS": threads,
            "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1",
            "BENTOML_DO_NOT_TRACK": "True", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{python.parent}:{os.environ['PATH']}",
        }  # fmt: skip
        if name == "mlflow":
            save_for_mlflow(python, model, env)
        return Contender(
            name, lambda port: command(python, model.resolve(), port), f"{settings}; {said}", env=env, **more
        )

    return make


def save_for_mlflow(python: Path, model: Path, env: dict[str, str]) -> None:
    """In MLflow's form, once."""
    target = model.resolve() / "mlflow"
    if not target.exists():
        subprocess.run([str(python), str(SERVERS / "mlflow_model.py"), str(target)], check=True, env=env)


PEERS: dict[str, Maker] = {
    "flask": peer(
        "flask",
        lambda python, model, port: [
            str(python), "-m", "gunicorn", "--chdir", str(SERVERS), "flask_pipeline:app", "--bind", f"127.0.0.1:{port}",
            "--workers", "1", "--threads", str(THREADS), "--timeout", "120", "--backlog", "2048",
        ],
        "Hugging Face pipeline, Flask, gunicorn, 1 worker, 32 threads; torch fp32 with all cores",
    ),
    "onnx": peer(
        "onnx",
        lambda python, model, port: [
            str(python), "-m", "uvicorn", "--app-dir", str(SERVERS), "onnx_fastapi:app", "--port", str(port),
            "--log-level", "error", "--no-access-log",
        ],
        "ONNX Runtime, int8 (dynamic), FastAPI on uvicorn (uvloop, httptools), 1 worker, all cores",
    ),
    "litserve": peer(
        "litserve",
        lambda python, model, port: [str(python), str(SERVERS / "litserve_pipeline.py"), str(port)],
        "Hugging Face pipeline, LitServe, batches of 16 at most, 5 ms wait, 1 worker; torch fp32 with all cores",
    ),
    "bentoml": peer(
        "bentoml",
        lambda python, model, port: [
            str(python), "-m", "bentoml", "serve", "bentoml_pipeline:Sentiment", "--working-dir", str(SERVERS),
            "--port", str(port),
        ],
        "Hugging Face pipeline, BentoML, adaptive batches of 16 at most, 1 worker; torch fp32 with all cores",
        body=lambda text: {"text": [text]},
    ),
    "infinity": peer(
        "infinity",
        lambda python, model, port: [
            str(python.with_name("infinity_emb")), "v2", "--model-id", str(model),
            "--served-model-name", MODEL, "--device", "cpu", "--engine", "torch", "--batch-size", "16", "--port",
            str(port), "--log-level", "error",
        ],
        "infinity, torch engine, batches of 16 at most",
        path="/classify",
        body=lambda text: {"model": MODEL, "input": [text]},
    ),
    "mlflow": peer(
        "mlflow",
        lambda python, model, port: [
            str(python), "-m", "mlflow", "models", "serve", "-m", str(model / "mlflow"),
            "--env-manager", "local", "--port", str(port), "--workers", "1",
        ],
        "Hugging Face pipeline, mlflow models serve (FastAPI on uvicorn), 1 worker; torch fp32",
        path="/invocations",
        body=lambda text: {"inputs": [text]},
    ),
}  # fmt: skip
