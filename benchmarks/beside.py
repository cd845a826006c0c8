"""Does a retraining disturb the answers, or the answers a retraining, and how soon is a label a live model?

    python -m benchmarks.beside [--part answers|label] [--seconds 40] [--impatient]

answers: MiniLM in int8 on `keepfit up`, generated reviews of 32 tokens at most, none of them twice. First the capacity
is measured (32 clients, each as fast as it gets answers). Then 8 and 32 clients send at 20 and 40 % of it together, at
random moments that do not depend on the answers (an open loop, and a latency counts from the moment when a request was
due), for otherwise a slow server would be asked less. p99 with nothing else going on, and while the worker retrains
the same model, with the niceness and threads as shipped; and the retraining's seconds without and with that traffic.
label: the toy task, MLflow and the other settings as shipped but for `labels = "complete"` (else labels that measure
would have to be drawn first) and a gate that lets the toy change its answer with the case of a letter; the first
training is dated back by two hours, since the shipped rest after an attempt is one. From the answer that acknowledges
200 labels of a changed world to the first answer of the version that was retrained by itself, less the seconds of that
retraining.
Waits until the machine is quiet. Writes benchmarks/results/beside.json; exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from sqlalchemy import update

from benchmarks.results import FOLDER, save, table
from benchmarks.swap import percentile
from keepfit.app.demo.stream import ReviewStream
from keepfit.app.demo.worlds import generated, write_csv
from keepfit.app.project import Project
from keepfit.data.database import open_database
from keepfit.data.records import Job, JobState
from keepfit.data.schema import JOBS

ROWS, SHARES, CLIENTS, DEADLINE_S = 1_500, (0.2, 0.4), (8, 32), 900.0
P99_RATIO, TRAINING_RATIO, LABEL_S = 1.5, 3.0, 15.0
"""The targets: answers beside a retraining, the retraining beside the answers, a label beside its training."""
TEXT = """[models.default]
recipe = { max_tokens = 32, epochs = 1, learning_rate = 3e-4 }
gate = { floors = { accuracy = 0.0 } }
"""
TOY = '[models.default]\ntask = "toy"\nlabels = "complete"\n[models.default.gate.invariances]\ncase = 0.1\n'
LABELS, REPEATS = 200, 3


@dataclass
class Up:
    """`keepfit up` on a trained project."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    project: Project = field(init=False)

    def __post_init__(self) -> None:
        self.project = Project(self.folder, environ={})

    def call(self, method: str, path: str, body: Any = None, line: HTTPConnection | None = None) -> dict[str, Any]:
        """One request, on a line that is open already or on its own. Raises ValueError for what is no success."""
        connection = line or HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found: dict[str, Any] = json.loads(answer.read() or b"{}")
        if line is None:
            connection.close()
        if answer.status >= 300:
            raise ValueError(f"{answer.status}: {found.get('detail')}")
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it. Raises SystemExit when it does not happen."""
        end = time.monotonic() + DEADLINE_S
        while True:
            with contextlib.suppress(OSError, HTTPException, ValueError):
                if condition():
                    return
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"it did not happen: {what}")
            time.sleep(0.05)

    def newest(self) -> Job | None:
        """The last retraining."""
        return next(iter(self.project.store.jobs("default", "retrain", limit=1)), None)


@contextlib.contextmanager
def up(settings: str, data: Callable[[Path], None], prepare: Callable[[Path], None]) -> Iterator[Up]:
    """Train a first version, then run the product."""
    with tempfile.TemporaryDirectory(prefix="keepfit-beside-") as place:
        folder = Path(place)
        (folder / "keepfit.toml").write_text(settings, "utf-8")
        data(folder / "data.csv")
        base = [sys.executable, "-m", "keepfit.app.cli"]
        subprocess.run(
            [*base, "train", str(folder / "data.csv"), "--project", place], check=True, capture_output=True
        )  # fmt: skip
        if not Project(folder, environ={}).history():
            raise SystemExit("the first version did not pass its gate")
        prepare(folder)
        port = free_port()
        made = Up(folder, port, subprocess.Popen([*base, "up", "--project", place, "--port", str(port)]))
        try:
            made.until(lambda: made.call("GET", "/status")["models"][0]["last_check"] is not None, "it is up")
            made.until(lambda: made.call("GET", "/health/ready")["ready"], "it is ready")
            yield made
        finally:
            made.process.terminate()
            made.process.wait(60)
            made.project.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# answers and a retraining, one beside the other


def texts(seed: int) -> Iterator[str]:
    """Short reviews, each another one."""
    for number, review in enumerate(ReviewStream(seed).before(10**9)):
        yield f"{number} {review.text}"


def capacity(running: Up, seconds: float, clients: int = 32) -> float:
    """Answers a second, each client as fast as it gets them."""
    stop, done = time.monotonic() + seconds, [0] * clients

    def ask(number: int) -> None:
        line, said = HTTPConnection("127.0.0.1", running.port, timeout=60), texts(10_000 + number)
        while time.monotonic() < stop:
            running.call("POST", "/predict", {"text": next(said)}, line)
            done[number] += 1
        line.close()

    together([threading.Thread(target=ask, args=(number,)) for number in range(clients)])
    return sum(done) / seconds


def together(threads: Sequence[threading.Thread]) -> None:
    """Start all and wait for all."""
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass
class Traffic:
    """Clients who send at moments of their own, together `rate` texts a second."""

    running: Up
    clients: int
    rate: float
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    took: list[tuple[float, float]] = field(default_factory=list)
    """(when it was due, seconds from then to the answer)"""
    failed: int = 0

    def ask(self, number: int) -> None:
        dice, said = random.Random(self.seed + number), texts(self.seed + number)
        line = HTTPConnection("127.0.0.1", self.running.port, timeout=60)
        due = time.monotonic()
        while not self.stop.is_set():
            due += dice.expovariate(self.rate / self.clients)
            if self.stop.wait(max(0.0, due - time.monotonic())):
                break
            try:
                self.running.call("POST", "/predict", {"text": next(said)}, line)
                self.took.append((due, time.monotonic() - due))
            except (OSError, HTTPException, ValueError):
                self.failed += 1
                line.close()
        line.close()

    def between(self, start: float, end: float) -> dict[str, Any]:
        """Latencies of what was due in this time."""
        mine = [seconds for due, seconds in self.took if start <= due < end]
        return {
            "n": len(mine), "failed": self.failed,
            "p50_ms": percentile(mine, 0.5), "p95_ms": percentile(mine, 0.95), "p99_ms": percentile(mine, 0.99),
        }  # fmt: skip


@contextlib.contextmanager
def traffic(running: Up, clients: int, rate: float, seed: int) -> Iterator[Traffic]:
    """At work until the block ends."""
    made = Traffic(running, clients, rate, seed)
    threads = [threading.Thread(target=made.ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(3)  # until everybody is connected and everything is warm
        yield made
    finally:
        made.stop.set()
        for thread in threads:
            thread.join()


def retrain(running: Up) -> tuple[float, float, float, float]:
    """Ask for a retraining and wait for its end: (start, end, seconds, seconds of them in the fit)."""
    start = time.monotonic()
    id_ = running.call("POST", "/retrain", {})["id"]
    store = running.project.store
    running.until(lambda: store.job(id_).state in (JobState.DONE, JobState.FAILED), "the retraining ends")
    end, job = time.monotonic(), store.job(id_)
    if job.state is JobState.FAILED:
        raise SystemExit(f"the retraining failed: {job.result}")
    return start, end, end - start, float(job.result["fit_seconds"])


def answers(seconds: float) -> dict[str, Any]:
    """Everything about the real model."""
    with up(TEXT, lambda file: write_csv(file, generated(7, ROWS).train), lambda folder: None) as running:
        capacity(running, 5)
        most = capacity(running, 15)
        retrain(running)  # the first one loads what the later ones find loaded
        alone = [retrain(running)]
        rows = [beside(running, clients, share * most, seconds) for share in SHARES for clients in CLIENTS]
        alone.append(retrain(running))
    idle_s = sum(one[2] for one in alone) / len(alone)
    for row, share in zip(rows, (share for share in SHARES for _ in CLIENTS), strict=True):
        row["retraining_ratio"] = round(float(row["retraining_s"]) / idle_s, 2)
        row["share"] = share
        row["reached"] = row["p99_ratio"] <= P99_RATIO and row["retraining_ratio"] <= TRAINING_RATIO
    return {
        "model": "MiniLM, one pass over 1,500 generated reviews, 32 tokens", "capacity_per_s": round(most, 1),
        "loop": "open, at random moments, a share of the capacity",
        "retraining_alone_s": [round(one[2], 1) for one in alone], "clients": rows,
        "reached": all(row["reached"] for row in rows),
    }  # fmt: skip


def beside(running: Up, clients: int, rate: float, seconds: float) -> dict[str, Any]:
    """The same traffic with nothing else going on, and while the worker retrains."""
    with traffic(running, clients, rate, 1000 * clients + round(rate)) as load:
        began = time.monotonic()
        time.sleep(seconds)
        idle = load.between(began, time.monotonic())
    with traffic(running, clients, rate, 2000 * clients + round(rate)) as load:
        start, end, took, fit = retrain(running)
        busy = load.between(start, end)
    return {
        "clients": clients, "rate_per_s": round(rate, 1), "idle": idle, "beside": busy, "retraining_s": round(took, 1),
        "fit_s": fit, "p99_ratio": round(busy["p99_ms"] / idle["p99_ms"], 2),
    }  # fmt: skip


# from a label to a live model


def two_words(file: Path) -> None:
    """A world of two words."""
    rows = [f"{word} thing number {i},{label}" for i in range(150) for word, label in (("good", "pos"), ("bad", "neg"))]
    file.write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")


def long_ago(folder: Path) -> None:
    """Date the first training back by two hours."""
    project = Project(folder, environ={})
    job = project.store.jobs("default", "retrain")[0]
    database = open_database(project.home.store_url)
    with database.write() as connection:
        connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(at=job.at - timedelta(hours=2)))
    database.engine.dispose()
    project.close()


def label(seed: int) -> dict[str, float]:
    """One label's way."""
    with up(TOY, two_words, long_ago) as running:
        said = [running.call("POST", "/predict", {"text": f"awful thing {n}"}) for n in range(LABELS)]
        time.sleep(random.Random(seed).uniform(0, 60))  # at any moment between two checks
        ids = [one["predictions"][0]["id"] for one in said]
        truth = ["pos" if one["predictions"][0]["label"] == "neg" else "neg" for one in said]
        labels = [{"prediction_id": id_, "label": value} for id_, value in zip(ids, truth, strict=True)]
        running.call("POST", "/labels", {"labels": labels})
        accepted, at = time.monotonic(), running.project.home.clock.now()
        running.until(lambda: running.call("POST", "/predict", {"text": "awful"})["model_version"] == 2, "it is live")
        total = time.monotonic() - accepted
        running.until(lambda: (job := running.newest()) is not None and job.finished_at is not None, "it has ended")
        job = running.newest()
        assert job is not None
        assert job.finished_at is not None
        training = (job.finished_at - job.at).total_seconds()
    return {
        "total_s": round(total, 2), "until_the_trigger_s": round(seconds_between(at, job.at), 2),
        "training_s": round(training, 2), "fit_s": float(job.result["fit_seconds"]),
        "beside_training_s": round(total - training, 2),
    }  # fmt: skip


def seconds_between(start: datetime, end: datetime) -> float:
    """From one moment to another."""
    return (end - start).total_seconds()


def labels() -> dict[str, Any]:
    """Some of them."""
    rows = [label(seed) for seed in range(REPEATS)]
    return {"runs": rows, "reached": all(row["beside_training_s"] <= LABEL_S for row in rows)}


def quiet() -> None:
    """Wait until nobody else works here."""
    while (load := os.getloadavg()[0]) >= 1:
        print(f"load average {load:.1f}: waiting for a quiet machine (--impatient does not)", flush=True)
        time.sleep(15)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table: what stands in its parts is named after them."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        found |= {f"{name} {inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return found


def main() -> None:
    """Measure, print, write; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["answers", "label"])
    parser.add_argument("--seconds", type=float, default=40, help="of the measurement with nothing else going on")
    parser.add_argument("--impatient", action="store_true", help="measure on a busy machine, too")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    file = FOLDER / "beside.json"
    result: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for part, measure in (("answers", lambda: answers(asked.seconds)), ("label", labels)):
        if asked.part in (None, part):
            if not asked.impatient:
                quiet()
            result[part] = {**measure(), "load_before": round(os.getloadavg()[0], 2)}
            told = {name: value for name, value in result[part].items() if name not in ("clients", "runs")}
            table(part, [{"what": name, "value": value} for name, value in told.items()])
            table(part, [flat(row) for row in result[part].get("clients", []) + result[part].get("runs", [])])
    result = {part: result[part] for part in ("answers", "label") if part in result}
    if not asked.dry:
        save("beside", result)
    sys.exit(not all(part["reached"] for part in result.values()))


if __name__ == "__main__":
    main()
