"""Live answers a second and their latency: keepfit against what people use, on the same cores.

    KEEPFIT_DATA=FOLDER python -m benchmarks.live [--peers flask onnx ...] [--part NAME ...] [--first] [--rounds 3]

FOLDER holds semeval_tweets/ and imdb/ (see benchmarks/live/texts.py); without it the texts are generated. All serve a
classifier with the embedded MiniLM backbone, fine-tuned on the same rows, and cut texts at the same 256 tokens. Each
peer gets an environment of its own under --cache, once, and runs with the settings that are printed. Texts are
distinct and keepfit's answer cache is off, but in the part `cached`. With --first there is also a keepfit whose first
stage answers what it is sure of; its model has learnt more rows than the others (its threshold is proven on a tenth of
them). The contenders take turns, round after round, and the median of the rounds counts; the others are up and idle
meanwhile. The load shares the cores (`load_cpu` says how much it took).

Parts: accuracy; speed (closed loop, 32 clients); clients (1, 8 and 128); arrivals (open loop at three quarters of each
one's own rate, and keepfit at the first peer's: latencies count from when a request was due); cached; start (and
memory). Writes benchmarks/results/live.json, in which parts that are not asked for stay; exits 1 when a target is
missed.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.ceiling import Ceiling
from benchmarks.live import contenders, load, models, texts
from benchmarks.live.contenders import PEERS, Contender, label_of
from benchmarks.live.environments import CACHE
from benchmarks.results import FOLDER, save, table
from keepfit.tasks.loading import load_answering

PARTS = ("accuracy", "speed", "clients", "arrivals", "cached", "start")
JUDGED = {"tweets": 600, "reviews": 200}
LOAD = 0.75
"""Of its own rate in the closed loop, what a contender is asked in the open one."""
TARGETS = {
    "tweets against flask": 9.0, "reviews against flask": 4.0, "tweets against the best peer": 1.5,
    "tweets against flask, first stage": 20.0, "reviews against flask, first stage": 14.0,
    "tweets, share of the ceiling": 0.60, "reviews, share of the ceiling": 0.75,
    "p50 at one client against the bare call (at most)": 1.5, "cached, share of the same route's": 0.70,
    "memory against flask (at most)": 0.5, "start to the first answer, s (at most)": 3.0,
}  # fmt: skip

FIRST = "keepfit, first stage"

Row = dict[str, Any]


@dataclass
class Bench:
    """What is up, and how it is measured."""

    up: list[Contender]
    rows: dict[str, list[texts.Row]]
    seconds: float
    rounds: int
    ceiling: Ceiling
    lengths: dict[str, Sequence[int]]
    requests: dict[tuple[str, str], list[bytes]] = field(default_factory=dict)

    def asked(self, contender: Contender, kind: str) -> list[bytes]:
        """The requests of a kind, turned a little further each time: so that no two runs begin alike."""
        key = (contender.name, kind)
        if key not in self.requests:
            self.requests[key] = [contender.request(text) for text, _ in self.rows[kind]]
        found = self.requests[key]
        self.requests[key] = found[997 % len(found) :] + found[: 997 % len(found)]
        return found

    def accuracy(self) -> list[Row]:
        """Of each contender, over the same texts."""
        found = []
        for contender in self.up:
            say(f"accuracy of {contender.name}")
            row: Row = {"who": contender.name}
            for kind, n in JUDGED.items():
                some = self.rows[kind][:n]
                answers = load.once(contender.port, [contender.request(text) for text, _ in some])
                right = sum(label_of(answers[i]) == label for i, (_, label) in enumerate(some))
                row[kind] = round(right / len(some), 4)
            found.append(row)
        return found

    def speed(self, clients: int, rounds: int) -> list[Row]:
        """Closed loop: the median round of each."""
        found = []
        for kind in texts.KINDS:
            runs: dict[str, list[Row]] = {one.name: [] for one in self.up}
            for number in range(rounds):
                say(f"{kind}, {clients} clients, round {number + 1} of {rounds}")
                for one in self.up:
                    run = load.closed(one.port, self.asked(one, kind), clients, self.seconds)
                    runs[one.name].append(run.figures())
            most = self.ceiling.of(self.lengths[kind])
            for name, rows in runs.items():
                middle = {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}
                share = round(middle["per_s"] / most, 3)
                found.append({"texts": kind, "clients": clients, "who": name, **middle, "of_ceiling": share})
        return found

    def arrivals(self, speed: Sequence[Row]) -> list[Row]:
        """Open loop."""
        found = []
        for kind in texts.KINDS:
            rates = {row["who"]: row["per_s"] for row in speed if row["texts"] == kind and row["clients"] == 32}
            asked = [(one, LOAD * rates[one.name]) for one in self.up]
            if "flask" in rates:
                asked.append((self.up[0], LOAD * rates["flask"]))
            for one, rate in asked:
                run = load.at_rate(one.port, self.asked(one, kind), rate, self.seconds)
                found.append({"texts": kind, "who": one.name, "asked_per_s": round(rate, 1), **run.figures()})
        return found

    def alone(self) -> list[Row]:
        """keepfit at one client against the bare engine call, in turns, with texts of about 25 tokens only."""
        kind = "tweets"
        middle = [row for row, n in zip(self.rows[kind], self.lengths[kind], strict=True) if 17 <= n <= 24]
        requests = [self.up[0].request(text) for text, _ in middle]
        found = []
        for _ in range(self.rounds):
            bare = self.ceiling.alone_ms(24)
            served = load.closed(self.up[0].port, requests, 1, self.seconds / 2).figures()["p50_ms"]
            found.append({"bare_ms": round(bare, 3), "p50_ms": served, "ratio": round(served / bare, 3)})
        return found


def cached(seconds: float, rounds: int, rows: list[texts.Row]) -> list[Row]:
    """Answers from the cache, beside the same route that answers a constant, and beside plain Flask."""
    folder = models.project(cache_mb=64)
    up = [contenders.keepfit(folder), contenders.constant(str(folder.resolve())), contenders.constant("plain")]
    some = rows[:200]
    runs: dict[str, list[Row]] = {one.name: [] for one in up}
    try:
        for one in up:
            one.start()
            load.once(one.port, [one.request(text) for text, _ in some])
        for _ in range(rounds):
            for one in up:
                run = load.closed(one.port, [one.request(text) for text, _ in some], 32, seconds)
                runs[one.name].append(run.figures())
    finally:
        for one in up:
            one.stop()
    middle = {name: statistics.median(row["per_s"] for row in found) for name, found in runs.items()}
    mine = middle[up[0].name]
    return [
        {"who": name, "per_s": rate, "keepfit_as_share": round(mine / rate, 3), "p50_ms": runs[name][0]["p50_ms"]}
        for name, rate in middle.items()
    ]


def say(what: str) -> None:
    """Where it stands."""
    print(f"{time.strftime('%H:%M:%S')} {what} ...", flush=True)


def judge(result: dict[str, Any]) -> dict[str, Row]:
    """The targets, with what was reached."""
    found: dict[str, float] = {}
    speed = {(r["texts"], r["who"]): r for r in result.get("speed", [])}
    for kind in texts.KINDS:
        if (mine := speed.get((kind, "keepfit"))) is None:
            continue
        found[f"{kind}, share of the ceiling"] = mine["of_ceiling"]
        others = {who: row["per_s"] for (k, who), row in speed.items() if k == kind and who not in ("keepfit", FIRST)}
        if "flask" in others and (first := speed.get((kind, FIRST))):
            found[f"{kind} against flask, first stage"] = round(first["per_s"] / others["flask"], 2)
        if "flask" in others:
            found[f"{kind} against flask"] = round(mine["per_s"] / others.pop("flask"), 2)
        if others:
            found[f"{kind} against the best peer"] = round(mine["per_s"] / max(others.values()), 2)
    if alone := result.get("alone"):
        middle = statistics.median(row["ratio"] for row in alone)
        found["p50 at one client against the bare call (at most)"] = middle
    if kept := result.get("cached"):
        found["cached, share of the same route's"] = kept[1]["keepfit_as_share"]
    start = {row["who"]: row for row in result.get("start", [])}
    if "keepfit" in start:
        found["start to the first answer, s (at most)"] = start["keepfit"]["start_s"]
        if "flask" in start:
            share = start["keepfit"]["memory_mb"] / start["flask"]["memory_mb"]
            found["memory against flask (at most)"] = round(share, 3)
    return {
        name: {"reach": TARGETS.get(name), "found": value, "reached": reached(name, value)}
        for name, value in found.items()
    }


def reached(name: str, value: float) -> bool | None:
    """None where there is no target."""
    if name not in TARGETS:
        return None
    return value <= TARGETS[name] if name.endswith("(at most)") else value >= TARGETS[name]


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Every part that is asked for."""
    known = texts.read()
    folder, model = models.project(known), models.model_folder()
    peers = models.hugging_face(known)
    up = [contenders.keepfit(folder)]
    if asked.first:
        up.append(contenders.keepfit(models.project(known, first=True), FIRST))
    result: dict[str, Any] = {"texts": known.source}
    for name in asked.peers:
        try:
            up.append(PEERS[name](peers, asked.cache))
        except subprocess.CalledProcessError as error:
            result.setdefault("left_out", {})[name] = f"its environment could not be made: {error}"
    answering = load_answering(model)
    lengths = {kind: answering.prepare([t for t, _ in rows[:2000]]).costs for kind, rows in known.asked.items()}
    rows = {kind: rows[:2000] for kind, rows in known.asked.items()}
    bench = Bench(up, rows, asked.seconds, asked.rounds, Ceiling(model, asked.ceiling_seconds), lengths)
    del answering
    result["settings"] = {one.name: one.settings for one in up}
    result["tokens"] = {kind: round(sum(ns) / len(ns), 1) for kind, ns in lengths.items()}
    say("measuring the ceiling")
    result["ceiling_per_s"] = {kind: round(bench.ceiling.of(ns), 1) for kind, ns in lengths.items()}
    try:
        if set(asked.part) - {"cached"}:
            result |= in_turn(bench, asked)
    finally:
        for one in up:
            one.stop()
    if "cached" in asked.part:
        result["cached"] = cached(asked.seconds, asked.rounds, known.asked["tweets"])
    return result


def in_turn(bench: Bench, asked: argparse.Namespace) -> dict[str, Any]:
    """The parts for which the contenders are up together."""
    found: dict[str, Any] = {}
    for one in list(bench.up):
        say(f"starting {one.name}")
        try:
            one.start()
        except SystemExit as error:
            if one is bench.up[0]:
                raise
            print(error, flush=True)
            found.setdefault("left_out", {})[one.name] = str(error)
            one.stop()
            bench.up.remove(one)
    if "accuracy" in asked.part:
        found["accuracy"] = bench.accuracy()
    if "speed" in asked.part or "arrivals" in asked.part:
        found["speed"] = bench.speed(32, asked.rounds)
        found["alone"] = bench.alone()
    if "clients" in asked.part:
        found["clients"] = [row for clients in (1, 8, 128) for row in bench.speed(clients, 1)]
    if "arrivals" in asked.part:
        found["arrivals"] = bench.arrivals(found["speed"])
    found["start"] = [
        {"who": one.name, "start_s": round(one.start_s, 2), "memory_mb": one.memory_mb()} for one in bench.up
    ]
    return found


def main() -> None:
    """Measure, print, write; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--part", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--first", action="store_true", help="keepfit with a first stage, too")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each run")
    parser.add_argument("--ceiling-seconds", type=float, default=4, help="for each length of text, of seven")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the peers' environments")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end with it
    file = FOLDER / "live.json"
    before: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    result = measure(asked)
    for name, said in result["settings"].items():
        print(f"{name}: {said}")
    for name in ("accuracy", "speed", "alone", "clients", "arrivals", "cached", "start"):
        if name in result:
            table(name, result[name])
    result["asked"] = {name: str(value) for name, value in vars(asked).items() if name != "cache"}
    whole = {**before, **result}
    whole["targets"] = judge(whole)
    table("targets", [{"what": name, **row} for name, row in whole["targets"].items()])
    if not asked.dry:
        save("live", whole)
    sys.exit(any(row["reached"] is False for row in whole["targets"].values()))


if __name__ == "__main__":
    main()
