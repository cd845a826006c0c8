"""100 hot swaps under the load of 16 clients: how many answers failed, and do version and content always agree?

    python -m benchmarks.swap

The server is the product's own process (`keepfit serve`) on a project with the toy task: eight versions, each of which
answers a word with another class, so that an answer tells which version made it. Half of the swaps are deployments
written into the record store, as the worker does it (the server notices them, loads the version where it is not warm,
and swaps); half are `POST /rollback {"to": V}`. Everything is on loopback.
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from benchmarks.results import save, table
from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore

MODEL = "reviews"
VERSIONS = 8
WORDS = [f"word{n}" for n in range(VERSIONS)]
LABELS = [f"class{n}" for n in range(VERSIONS)]
DEADLINE_S = 120.0


def truth(word: int, version: int) -> str:
    """What version `version` says of a word; no two versions agree on any word."""
    return LABELS[(word + version) % VERSIONS]


@dataclass
class Load:
    """What the clients saw."""

    answers: int = 0
    failed: int = 0
    mismatched: int = 0
    latencies: list[float] = field(default_factory=list)
    seen: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def client(port: int, number: int, stop: threading.Event, load: Load) -> None:
    """Ask for two words at a time, half of them never seen before, until told to stop."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    asked = 0
    while not stop.is_set():
        asked += 1
        words = [(number + asked) % VERSIONS, (number + 3 * asked) % VERSIONS]
        texts = [f"{WORDS[words[0]]} is old", f"{WORDS[words[1]]} from {number} at {asked}"]
        started = time.perf_counter()
        try:
            connection.request("POST", "/predict", json.dumps({"text": texts}), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = json.loads(answer.read())
            if answer.status != 200:
                raise ValueError(f"{answer.status}: {body}")
        except (OSError, HTTPException, ValueError) as error:
            load.failed += 1
            load.problems.append(str(error))
            connection.close()
            continue
        load.latencies.append(time.perf_counter() - started)
        load.answers += 1
        for word, prediction in zip(words, body["predictions"], strict=True):
            load.seen.add(prediction["model_version"])
            if prediction["label"] != truth(word, prediction["model_version"]):
                load.mismatched += 1
    connection.close()


def make_project(folder: Path) -> RecordStore:
    """Versions 1 to 8 of the toy task, the first deployed."""
    (folder / "keepfit.toml").write_text(f'[models.{MODEL}]\ntask = "toy"\n', "utf-8")
    for version in range(1, VERSIONS + 1):
        place = folder / ".keepfit" / "models" / MODEL / str(version)
        place.mkdir(parents=True)
        table = {word: truth(n, version) for n, word in enumerate(WORDS)}
        facts = {"format": 1, "task": "toy", "labels": LABELS, "table": table, "shares": [1 / VERSIONS] * VERSIONS}
        (place / "model.json").write_text(json.dumps(facts), "utf-8")
    store = RecordStore.open(f"sqlite:///{(folder / '.keepfit' / 'keepfit.db').absolute()}")
    store.deploy(MODEL, Traffic({1: 1.0}), Cause("benchmark", "the first"), datetime.now(UTC))
    return store


def start_server(folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The product's server process, ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "keepfit.app.cli", "serve", "--project", str(folder), "--port", str(port)]
    process = subprocess.Popen(command)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit("the server did not start")
        try:
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise SystemExit("the server did not become ready")


def swap(number: int, store: RecordStore, port: int, live: int) -> tuple[int, str, float]:
    """One swap to another version: (the version, the way, seconds until it is served)."""
    started = time.perf_counter()
    if number % 2 == 0:
        version = number // 2 % VERSIONS + 1
        version = version % VERSIONS + 1 if version == live else version
        traffic = Traffic({version: 1.0})
        wanted = store.deploy(MODEL, traffic, Cause("benchmark", f"swap {number}"), datetime.now(UTC))
        end = time.monotonic() + DEADLINE_S
        while not (store.deployment(MODEL) or wanted).applied:
            if time.monotonic() > end:
                raise SystemExit(f"swap {number} was not applied")
            time.sleep(0.01)
        return version, "deploy", time.perf_counter() - started
    served = [next(iter(row.traffic.shares)) for row in store.deployments(MODEL, limit=10)]
    version = next(v for v in served if v != live)
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/rollback", json.dumps({"to": version}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"swap {number} to {version} failed: {body.decode()}")
    connection.close()
    return version, "rollback", time.perf_counter() - started


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted values, the one at this share; milliseconds from seconds."""
    ordered = sorted(values)
    return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 2) if ordered else 0.0


def measure(swaps: int, clients: int) -> dict[str, Any]:
    """Run it once."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = make_project(folder)
        process, port = start_server(folder)
        stop, load = threading.Event(), Load()
        threads = [threading.Thread(target=client, args=(port, n, stop, load)) for n in range(clients)]
        took: dict[str, list[float]] = {"deploy": [], "rollback": []}
        try:
            for thread in threads:
                thread.start()
            started, live = time.perf_counter(), 1
            for number in range(swaps):
                live, way, seconds = swap(number, store, port, live)
                took[way].append(seconds)
            seconds = time.perf_counter() - started
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        stored = store.count_predictions(MODEL)
        store.close()
    return {
        "swaps": swaps, "clients": clients, "versions": VERSIONS, "seconds": round(seconds, 1), "task": "toy",
        "answers": load.answers, "failed": load.failed, "mismatched": load.mismatched,
        "versions_seen": len(load.seen), "predictions": 2 * load.answers, "recorded": stored, "exit_code": code,
        "answers_per_second": round(load.answers / seconds, 1),
        "answer_ms": {"p50": percentile(load.latencies, 0.5), "p99": percentile(load.latencies, 0.99)},
        "swap_ms": {
            way: {"n": len(values), "p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
            for way, values in took.items()
        },
        "problems": load.problems[:5],
    }  # fmt: skip


def main() -> None:
    """Measure, print, write; exit 1 when an answer failed or did not agree with its version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    result = measure(arguments.swaps, arguments.clients)
    table("hot swaps under load", [{"what": name.replace("_", " "), "value": value} for name, value in result.items()])
    save("swap", result)
    sys.exit(bool(result["failed"] or result["mismatched"]))


if __name__ == "__main__":
    main()
