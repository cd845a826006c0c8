"""Where the time of a request goes: parse, tokenise, queue, infer, post, record, respond, and what is outside of it.

    python -m benchmarks.live.where [--seconds 2]

`keepfit serve` with a tracer that notes when each part of a request began, asked by 1, 8, 32 and 128 clients for texts
of 16, 64 and 256 tokens. Milliseconds, the median request. `outside` is what the client saw beyond the request: the
line, the wait for a thread, and reading the head. Writes benchmarks/results/live_where.json.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.live import load, models
from benchmarks.live.contenders import Contender
from benchmarks.results import save, table
from keepfit.app import server
from keepfit.app.serving import make
from keepfit.traces import Unheard

WORDS = (
    "good", "bad", "film", "time", "story", "great", "people", "really", "never", "best", "worst", "music", "love",
    "day", "night", "game", "work", "home", "life",
)  # fmt: skip
"""One token each."""
TOKENS, CLIENTS = (16, 64, 256), (1, 8, 32, 128)
PARTS = ("parse", "tokenise", "queue", "infer", "post", "record", "respond")

Moments = dict[str, tuple[float, float]]


class PartsTracer:
    """Keeps of each request when its parts began and ended; writes them into a file when it is closed."""

    def __init__(self, file: Path) -> None:
        self._file, self._here = file, threading.local()
        self._requests: list[Moments] = []

    @contextmanager
    def span(self, name: str, headers: Mapping[str, str] | None = None, **facts: Any) -> Iterator[Unheard]:
        """A part, or the request as a whole, which comes first and ends last."""
        if name == "request":
            self._here.parts = {}
        began = time.time()
        yield Unheard()
        self.past(name, began, time.time())
        if name == "request":
            self._requests.append(self._here.parts)

    def past(self, name: str, began: float, ended: float, **facts: Any) -> None:
        """A part that is over."""
        if hasattr(self._here, "parts"):
            self._here.parts[name] = (began, ended)

    def close(self) -> None:
        """Write."""
        self._file.write_text(json.dumps(self._requests), "utf-8")


def parts_of(request: Moments) -> dict[str, float]:
    """Milliseconds of each part."""
    (began, ended), tokenise, record = request["request"], request["tokenise"], request["record"]
    queue, infer = request["queue"], request["infer"]
    edges = (began, tokenise[0], tokenise[1], queue[1], infer[1], record[0], record[1], ended)
    return {name: 1000 * (edges[i + 1] - edges[i]) for i, name in enumerate(PARTS)}


def texts(tokens: int, n: int = 3_000) -> list[str]:
    """So many tokens each, the two special ones among them; no text twice."""
    rng = np.random.default_rng(tokens)
    return list({" ".join(rng.choice(WORDS, tokens - 2)) for _ in range(n)})


def asked(contender: Contender, seconds: float) -> list[dict[str, Any]]:
    """When each kind of load ran, and what the clients saw."""
    runs = []
    for tokens in TOKENS:
        requests = [contender.request(text) for text in texts(tokens)]
        for clients in CLIENTS:
            began = time.time() + 0.5
            seen = load.closed(contender.port, requests, clients, seconds, warm_s=0.5)
            requests = requests[701:] + requests[:701]
            runs.append({"tokens": tokens, "clients": clients, "between": (began, time.time()), **seen.figures()})
    return runs


def main() -> None:
    """Measure, print, write; or, with --serve, be the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2, help="of each run")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    parser.add_argument("--serve", nargs=3, metavar=("PROJECT", "FILE", "PORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        project, file, port = given.serve
        server.serve(partial(make, Path(project), PartsTracer(Path(file))), "127.0.0.1", int(port))
        return
    folder, file = models.project().resolve(), (models.WORK / "where.json").resolve()
    command = [sys.executable, "-m", "benchmarks.live.where", "--serve", str(folder), str(file)]
    contender = Contender("where", lambda port: [*command, str(port)], "traced")
    contender.start()
    try:
        runs = asked(contender, given.seconds)
    finally:
        assert contender.process is not None
        contender.process.send_signal(signal.SIGTERM)
        try:
            contender.process.wait(20)
        except subprocess.TimeoutExpired:
            contender.stop()
    requests = [request for request in json.loads(file.read_text("utf-8")) if "record" in request]
    rows = [row for run in runs if (row := told(run, requests))]
    table("median milliseconds of a request", rows)
    if not given.dry:
        save("live_where", {"rows": rows})


def told(run: dict[str, Any], requests: list[Moments]) -> dict[str, Any]:
    """One line of the table."""
    start, end = run.pop("between")
    mine = [parts_of(request) for request in requests if start <= request["request"][0] and request["request"][1] < end]
    if not mine:
        return {}
    middle = {name: round(statistics.median(one[name] for one in mine), 2) for name in PARTS}
    whole = statistics.median(sum(one.values()) for one in mine)
    return {
        "tokens": run["tokens"], "clients": run["clients"], "per_s": run["per_s"], "seen_ms": run["p50_ms"], **middle,
        "outside": round(max(run["p50_ms"] - whole, 0.0), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
