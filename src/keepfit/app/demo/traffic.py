"""The demo's users and labeller: steady requests over real HTTP, and answers to the label queue that come late."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from keepfit.app.demo.stream import Review

TIMEOUT = 30.0


@dataclass(frozen=True)
class Seen:
    """One request as its sender saw it; times are seconds since the demo began to send."""

    at: float
    truth: str
    said: str | None
    version: int
    latency_s: float
    failed: bool
    prediction_id: str = ""

    @property
    def right(self) -> bool:
        """Was the answer right?"""
        return self.said == self.truth


class Client:
    """One kept-alive connection to the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, JSON). Raises OSError or HTTPException when the server cannot be reached."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            payload = None if body is None else json.dumps(body)
            self._connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection; the next call makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@dataclass
class Traffic:
    """Sends reviews at a steady rate with some threads, and remembers what was answered."""

    port: int
    rate: float
    source: Callable[[], Iterator[Review]]
    """Gives the stream of the present world; asked again at `change`."""
    threads: int = 4
    seen: list[Seen] = field(default_factory=list)
    truths: dict[str, str] = field(default_factory=dict)
    """True labels by prediction id, for the labeller."""
    began: float = 0.0

    def __post_init__(self) -> None:
        self._reviews = self.source()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._next = 0.0
        self._threads = [
            threading.Thread(target=self._send, name=f"user {i}", daemon=True) for i in range(self.threads)
        ]

    def start(self) -> None:
        """Begin to send."""
        self.began = self._next = time.monotonic()
        for thread in self._threads:
            thread.start()

    def change(self, source: Callable[[], Iterator[Review]]) -> float:
        """From now on reviews come from another world; returns the moment."""
        with self._lock:
            self._reviews = source()
        return self.now()

    def stop(self) -> None:
        """Stop sending; requests under way end."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(TIMEOUT)

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def _send(self) -> None:
        client = Client(self.port)
        while not self._stop.is_set():
            with self._lock:
                self._next = due = max(self._next + 1 / self.rate, time.monotonic() - 1.0)
                review = next(self._reviews)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._note(self._ask(client, review))

    def _ask(self, client: Client, review: Review) -> Seen:
        start = time.monotonic()
        try:
            status, answer = client.call("POST", "/predict", {"examples": [{"text": review.text, "key": review.key}]})
        except (OSError, http.client.HTTPException, ValueError):
            return Seen(self.now(), review.label, None, 0, time.monotonic() - start, True)
        took = time.monotonic() - start
        if status != 200:
            return Seen(self.now(), review.label, None, 0, took, True)
        told = answer["predictions"][0]
        return Seen(self.now(), review.label, told["label"], told["model_version"], took, False, told["id"])

    def _note(self, seen: Seen) -> None:
        with self._lock:
            self.seen.append(seen)
            if not seen.failed:
                self.truths[seen.prediction_id] = seen.truth


class Labeller:
    """A person who answers the label queue some seconds late."""

    def __init__(self, traffic: Traffic, delay_s: float) -> None:
        self._traffic, self._delay_s = traffic, delay_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="labeller", daemon=True)
        self.labels = 0

    def start(self) -> None:
        """Begin to look into the queue."""
        self._thread.start()

    def stop(self) -> None:
        """Leave."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT)

    def _run(self) -> None:
        client, waiting, known = Client(self._traffic.port), deque[tuple[float, str]](), set[str]()
        while not self._stop.wait(0.5):
            try:
                self._look(client, waiting, known)
                self._answer(client, waiting)
            except (OSError, http.client.HTTPException, ValueError):
                continue  # the server is asked again in a moment; what was not acknowledged is still in `waiting`

    def _look(self, client: Client, waiting: deque[tuple[float, str]], known: set[str]) -> None:
        status, queue = client.call("GET", "/labels/queue?limit=500")
        for item in queue["items"] if status == 200 else ():
            id_ = item["prediction_id"]
            if id_ not in known and id_ in self._traffic.truths:
                known.add(id_)
                waiting.append((time.monotonic() + self._delay_s, id_))

    def _answer(self, client: Client, waiting: deque[tuple[float, str]]) -> None:
        due = [id_ for at, id_ in waiting if at <= time.monotonic()][:500]
        if not due:
            return
        labels = [{"prediction_id": i, "label": self._traffic.truths[i], "actor": "labeller"} for i in due]
        status, _ = client.call("POST", "/labels", {"labels": labels})
        if status == 200:
            self.labels += len(due)
            for _ in due:
                waiting.popleft()
