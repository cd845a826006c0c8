"""Canaries: how soon a worse one is taken back, how often an equal one is, and whether users notice the traffic move.

    python -m benchmarks.rollout [--part simulate|serve] [--runs 1000]

simulate: a challenger with 5 % of the traffic, and labels asked at random of 5 % of all answers. The product's own
judgement looks after every label. Where the two disagree, the champion is right in 60 of 100 cases (10 % disagreement,
2 points worse), in 2 of 3 (6 %, 2 points), or in half (equal). Beside it slow answers, abstentions, complaints and
failures are counted, all alike for both. serve: 20 canaries through a real server under the load of 16 clients, every
second one taken back half-way; each answer must be of a version that the history shows as live, and agree with it.
Writes benchmarks/results/rollout.json; exits 1 when an answer failed or was wrong.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import FOLDER, save, table
from benchmarks.swap import MODEL, VERSIONS, Load, client, make_project, percentile, start_server
from keepfit.clock import SystemClock
from keepfit.data.records import Cause, Deployment, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.intervals import wilson
from keepfit.monitoring.comparison import Comparison, Counts, Paired, Sides, Tallied
from keepfit.pipelines.rolling import Rolling
from keepfit.registry.local import LocalRegistry
from keepfit.rollout.rollout import Roller, rollback, under_way
from keepfit.rollout.strategies import Limits, Staged, Step, harm_of
from keepfit.tasks.loading import load_answering

LIMITS = Limits()
SHARE, ASKED = 0.05, 0.05
EVENTS = {"slow": 0.05, "abstained": 0.03, "complaints": 0.01}
"""How often both versions do what nobody likes."""
FAILS = 0.002
SLACK = timedelta(seconds=1)
"""A request that is under way when the traffic moves is answered by whom it began with."""


@dataclass(frozen=True)
class Case:
    """How a challenger compares: on `differ` of the answers the two disagree, and then it is right in `right`."""

    name: str
    differ: float
    right: float
    labels: int
    """The run ends without a decision after so many."""


CASES = (
    Case("2 points worse, 10 % disagree", 0.10, 0.40, 20_000),
    Case("2 points worse, 6 % disagree", 0.06, 1 / 3, 20_000),
    Case("5 points worse, 15 % disagree", 0.15, 1 / 3, 20_000),
    Case("equal, 10 % disagree", 0.10, 0.50, 10_000),
)


def run(case: Case, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """Disagreement labels, labels and requests touched when it was taken back; None when it never was."""
    differs = rng.random(case.labels) < case.differ
    wins = differs & (rng.random(case.labels) < case.right)
    between = rng.geometric(ASKED, case.labels)  # answers up to the next label
    touched = rng.binomial(between, SHARE).cumsum()
    answered = between.cumsum()
    events = {name: rng.binomial(between, rate) for name, rate in EVENTS.items()}
    mine = {name: rng.binomial(counts, SHARE).cumsum() for name, counts in events.items()}
    events = {name: counts.cumsum() for name, counts in events.items()}
    failures = rng.binomial(np.diff(touched, prepend=0), FAILS).cumsum()
    won, lost = wins.cumsum(), (differs & ~wins).cumsum()
    sides = Sides(2, 1)
    for at in np.flatnonzero(differs | (np.arange(case.labels) % 20 == 19)):
        counts: Counts = {"answered": {"2": int(touched[at]), "1": int(answered[at] - touched[at])}}
        counts |= {name: {"2": int(mine[name][at]), "1": int(events[name][at] - mine[name][at])} for name in EVENTS}
        quality = Paired(int(at) + 1, int(won[at]), int(lost[at]))
        seen = Comparison(quality, signs=sides.signs(Tallied({"0": counts}), [SHARE], int(failures[at]), 0.01))
        if harm_of(seen, LIMITS) is not None:
            return int(won[at] + lost[at]), int(at) + 1, int(touched[at])
    return None


def simulate(runs: int) -> list[dict[str, Any]]:
    """Every case, with the same seeds at each call."""
    rows = []
    for number, case in enumerate(CASES):
        rng = np.random.default_rng([2027, number])
        ends = [run(case, rng) for _ in range(runs)]
        back = [end for end in ends if end is not None]
        taken = wilson(len(back), runs)
        row = {"case": case.name, "runs": runs, "taken back": taken.to_json()}
        for place, name in enumerate(("disagreement labels", "labels", "requests touched")):
            values = [end[place] for end in back]
            row[name] = {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))} if back else None
        rows.append(row)
    return rows


def serve(canaries: int, clients: int) -> dict[str, Any]:
    """The traffic moves under load."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        store = make_project(folder)
        process, port = start_server(folder)
        stop, load = threading.Event(), Load()
        threads = [threading.Thread(target=client, args=(port, n, stop, load)) for n in range(clients)]
        try:
            for thread in threads:
                thread.start()
            started = time.perf_counter()
            ended = [canary(number, store, folder) for number in range(canaries)]
            seconds = time.perf_counter() - started
        finally:
            stop.set()
            for thread in threads:
                thread.join()
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        history = store.deployments(MODEL, limit=1000)
        everything = store.briefs(MODEL, Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)))
        strange = sum(not was_live(history, one.version, one.time) for one in everything)
        store.close()
    return {
        "canaries": canaries, "settled": ended.count("settled"), "taken back": ended.count("taken back"),
        "clients": clients, "seconds": round(seconds, 1), "deployments": len(history), "answers": load.answers,
        "failed": load.failed, "mismatched": load.mismatched, "recorded": len(everything),
        "not live when it answered": strange,
        "answer_ms": {"p50": percentile(load.latencies, 0.5), "p99": percentile(load.latencies, 0.99)},
        "problems": load.problems[:5],
    }  # fmt: skip


def canary(number: int, store: RecordStore, folder: Path) -> str:
    """One rollout in three steps, by the product's own story; every second one is taken back in its second step."""
    bake = timedelta(seconds=0.5)
    steps = (Step(0.05, False, bake), Step(0.25, False, bake), Step(1.0, False, bake))
    roller = Roller(MODEL, store, Staged("canary", steps, LIMITS, proof=False), SystemClock())
    models = folder / ".keepfit" / "models" / MODEL
    rolling = Rolling(roller, LocalRegistry(folder / "registry"), lambda version: load_answering(models / str(version)))
    live = store.deployment(MODEL)
    assert live is not None
    champion = next(iter(live.traffic.shares))
    version = champion % VERSIONS + 1
    roller.start(version, Cause("benchmark", f"canary {number}", token=f"canary-{number}"), {})
    end = time.monotonic() + 60
    while (rollout := under_way(store, MODEL)) is not None:
        if time.monotonic() > end:
            raise SystemExit(f"canary {number} did not end")
        if number % 2 and rollout.step == 1:
            time.sleep(0.25)
            rollback(store, MODEL, None, "benchmark", SystemClock())
            break
        rolling.move()
        time.sleep(0.1)
    applied(store, end)
    newest = store.deployment(MODEL)
    return "settled" if newest is not None and newest.traffic == Traffic({version: 1.0}) else "taken back"


def applied(store: RecordStore, end: float) -> None:
    """Wait until the server serves the newest deployment."""
    while not (newest := store.deployment(MODEL)) or not newest.applied:
        if time.monotonic() > end:
            raise SystemExit("a deployment was not applied")
        time.sleep(0.02)


def was_live(history: Sequence[Deployment], version: int, moment: datetime) -> bool:
    """Whether the history, newest first, says that this version answered at this moment."""
    for newer, row in zip([None, *history], history, strict=False):
        over = None if newer is None else max(at for _, at in newer.applied) if newer.applied else newer.at
        if row.at <= moment and (over is None or moment <= over + SLACK) and version in row.traffic.shares:
            return True
    return False


def main() -> None:
    """Measure, print, write; exit 1 when an answer failed, did not agree with its version, or was not live."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["simulate", "serve"])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--canaries", type=int, default=20)
    parser.add_argument("--clients", type=int, default=16)
    asked = parser.parse_args()
    file = FOLDER / "rollout.json"
    result: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    if asked.part in (None, "simulate"):
        result["simulated"] = simulate(asked.runs)
        table("canaries, simulated", result["simulated"])
    if asked.part in (None, "serve"):
        result["served"] = serve(asked.canaries, asked.clients)
        table("canaries under load", [{"what": k, "value": v} for k, v in result["served"].items()])
    save("rollout", {name: result[name] for name in ("simulated", "served") if name in result})
    served = result.get("served", {})
    sys.exit(bool(served.get("failed") or served.get("mismatched") or served.get("not live when it answered")))


if __name__ == "__main__":
    main()
