"""The load: one thread over raw keep-alive sockets, in a closed loop or at a fixed rate of arrivals.

It shares the cores with the server that it measures, so it does next to nothing: requests are bytes made beforehand, an
answer is read as far as its length says, and one epoll serves all clients (some 20 microseconds a request).

closed: each client sends as soon as it has its answer. open: requests are due at even spaces whatever the answers do,
and a latency counts from the moment when the request was due, also where no free line was left for it; so a server that
stalls is charged with everybody who came meanwhile (no coordinated omission).
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

LINES = 512
"""Open connections of the open loop at most."""
HEAD_END = b"\r\n\r\n"
GRACE_S = 2.0
"""So long after its end an open loop waits for the last answers."""


@dataclass
class Line:
    """One connection, and the request that is on it."""

    port: int
    socket: socket.socket = field(init=False)
    buffer: bytearray = field(default_factory=bytearray)
    due: float = 0.0
    number: int = -1

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        """Connect (anew)."""
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer.clear()

    def answer(self) -> tuple[int, bytes] | None:
        """Status and body once they are whole; None before. Raises ConnectionError when the server hung up."""
        try:
            read = self.socket.recv(65536)
        except BlockingIOError:
            return None
        if not read:
            raise ConnectionResetError("closed by the server")
        self.buffer += read
        end = self.buffer.find(HEAD_END)
        if end < 0:
            return None
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        if at < 0:
            raise ConnectionResetError("an answer without a length")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self.buffer) < end + 4 + length:
            return None
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        del self.buffer[: end + 4 + length]
        return int(head[9:12]), body


@dataclass
class Result:
    """What a run of the load saw."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    failed: int = 0
    late: int = 0
    """Of an open loop: due and never answered."""
    own_cpu: float = 0.0
    """Processor seconds that the load itself took."""
    answers: dict[int, bytes] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def figures(self) -> dict[str, Any]:
        """For a table."""
        p50, p99 = np.percentile(self.latencies, [50, 99]) * 1000 if self.latencies else (np.nan, np.nan)
        return {
            "per_s": round(self.rate, 1), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2),
            "failed": self.failed + self.late, "load_cpu": round(self.own_cpu / self.seconds, 2),
        }  # fmt: skip


class Lines:
    """Connections that one epoll watches."""

    def __init__(self, port: int, n: int) -> None:
        self._poll = select.epoll()
        self._lines: dict[int, Line] = {}
        self._port = port
        self.all = [self.more() for _ in range(n)]

    def more(self) -> Line:
        """One more."""
        line = Line(self._port)
        self._watch(line)
        return line

    def send(self, line: Line, request: bytes, due: float, number: int) -> None:
        """Ask on it, on a fresh connection where the server has closed this one."""
        line.due, line.number = due, number
        try:
            line.socket.sendall(request)
        except OSError:
            self.again(line)
            line.socket.sendall(request)

    def again(self, line: Line) -> None:
        """Connect it anew."""
        self._lines.pop(line.socket.fileno(), None)
        line.socket.close()
        line.open()
        self._watch(line)

    def ready(self, timeout: float) -> Iterator[tuple[Line, tuple[int, bytes] | None]]:
        """The lines that have an answer; None where the server hung up."""
        for number, _ in self._poll.poll(max(timeout, 0.0)):
            line = self._lines.get(number)
            if line is None:
                continue
            try:
                answer = line.answer()
            except OSError:
                waited = line.number >= 0
                self.again(line)
                if waited:
                    yield line, None
                continue
            if answer is not None:
                yield line, answer

    def close(self) -> None:
        """All of them."""
        for line in self._lines.values():
            line.socket.close()
        self._poll.close()

    def _watch(self, line: Line) -> None:
        self._lines[line.socket.fileno()] = line
        self._poll.register(line.socket.fileno(), select.EPOLLIN)


def closed(port: int, requests: Sequence[bytes], clients: int, seconds: float, warm_s: float = 1.0) -> Result:
    """Each client as fast as it is answered, for `seconds` after `warm_s` that do not count; requests in turn."""
    result, numbers = Result(seconds), cycle(range(len(requests)))
    lines = Lines(port, clients)
    gc.disable()
    try:
        for line in lines.all:
            number = next(numbers)
            lines.send(line, requests[number], time.perf_counter(), number)
        begin = time.perf_counter() + warm_s
        end, cpu = begin + seconds, None
        while (now := time.perf_counter()) < end:
            if cpu is None and now >= begin:
                cpu = time.process_time()
            for line, answer in lines.ready(min(end - now, 0.5)):
                now = time.perf_counter()
                if begin <= now < end:
                    count(result, line, answer, now)
                number = next(numbers)
                lines.send(line, requests[number], time.perf_counter(), number)
        result.own_cpu = time.process_time() - (cpu or time.process_time())
    finally:
        gc.enable()
        lines.close()
    return result


def at_rate(port: int, requests: Sequence[bytes], rate: float, seconds: float, warm_s: float = 1.0) -> Result:
    """`rate` requests a second at even spaces; those due in the first `warm_s` do not count."""
    result, numbers = Result(seconds), cycle(range(len(requests)))
    lines = Lines(port, 8)
    idle, behind = deque(lines.all), deque[float]()
    gc.disable()
    try:
        start = time.perf_counter()
        begin, last, cpu = start + warm_s, start + warm_s + seconds, time.process_time()
        sent, n = 0, int((warm_s + seconds) * rate)
        busy = 0
        while (now := time.perf_counter()) < last + GRACE_S and (sent < n or behind or busy):
            while sent < n and start + sent / rate <= now:
                behind.append(start + sent / rate)
                sent += 1
            while behind and (idle or busy < LINES):
                line = idle.popleft() if idle else lines.more()
                number = next(numbers)
                lines.send(line, requests[number], behind.popleft(), number)
                busy += 1
            pause = min(start + sent / rate - now, 0.5) if sent < n else 0.05
            for line, answer in lines.ready(pause):
                if begin <= line.due < last:
                    count(result, line, answer, time.perf_counter())
                line.number = -1
                idle.append(line)
                busy -= 1
        result.own_cpu = time.process_time() - cpu
        result.late = len(behind) + busy
    finally:
        gc.enable()
        lines.close()
    return result


def once(port: int, requests: Sequence[bytes], clients: int = 16) -> dict[int, bytes]:
    """Each request once; the bodies of the answers by the request's number. Raises SystemExit when one failed."""
    lines, numbers, found = Lines(port, min(clients, len(requests))), iter(range(len(requests))), dict[int, bytes]()
    try:
        for line, number in zip(lines.all, numbers, strict=False):
            lines.send(line, requests[number], 0.0, number)
        end = time.monotonic() + 120
        while len(found) < len(requests):
            if time.monotonic() > end:
                raise SystemExit(f"{len(requests) - len(found)} of {len(requests)} requests were not answered")
            for line, answer in lines.ready(0.5):
                if answer is None or answer[0] != 200:
                    raise SystemExit(f"a request failed: {answer}")
                found[line.number] = answer[1]
                if (number := next(numbers, None)) is not None:
                    lines.send(line, requests[number], 0.0, number)
    finally:
        lines.close()
    return found


def count(result: Result, line: Line, answer: tuple[int, bytes] | None, now: float) -> None:
    """One answer."""
    if answer is None or answer[0] != 200:
        result.failed += 1
    else:
        result.latencies.append(now - line.due)


def post(path: str, body: bytes, port: int) -> bytes:
    """A request as it goes over the line."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body
