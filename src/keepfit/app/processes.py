"""`keepfit up`: the server and the worker as two processes, minded until Ctrl-C; once alive they are never given up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

GRACE = 15.0
"""Seconds that a process gets to finish before it is killed."""
STABLE = 10.0
"""A process that lived this long starts its count of failures anew."""
MOST_FAILURES = 5
REFUSED, FAULT = 2, 3
"""The exit codes of a process that said in a sentence what is wrong: with what it was given, or with keepfit itself. A
start that ends so would end so again."""
console = Console(stderr=True)


@dataclass
class Minded:
    """One process that is started again when it dies."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    proven: bool = False
    """It has lived for long once, so what stops it now may pass: a database that is away, a port not yet free."""
    wait_until: float = field(default=0.0)
    code: int | None = None
    """With which it ended, once it is given up."""

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches it through us only."""
        self.process = subprocess.Popen(self.command, start_new_session=True)
        self.started = time.monotonic()

    def mind(self) -> bool:
        """Start it again when it is dead and its pause is over; False when it never lived and died too often."""
        now = time.monotonic()
        if self.process is None:
            if now >= self.wait_until:
                self.start()
            return True
        code = self.process.poll()
        if code is None:
            return True
        self.proven = self.proven or now - self.started > STABLE
        self.failures = 1 if now - self.started > STABLE else self.failures + 1
        said_why = code in (REFUSED, FAULT)
        if not self.proven and (self.failures >= MOST_FAILURES or said_why):
            self.code = code
            if not said_why:
                console.print(f"keepfit {self.name} ended with code {code}; it is not started again")
            return False
        self.process, self.wait_until = None, now + 2.0 ** min(self.failures, MOST_FAILURES - 1) / 2
        console.print(f"keepfit {self.name} ended with code {code}; starting it again")
        return True

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def end_without(threads: Iterable[threading.Thread], code: int = 0) -> None:
    """End this process now where such a thread, a step of a training, would hold it for as long as it likes.

    What was finished is on record, and the rest goes on at the next start, as after a kill.
    """
    if not any(thread.is_alive() and not thread.daemon and thread is not threading.main_thread() for thread in threads):
        return
    console.print("keepfit: the retraining that was under way goes on at the next start")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def up(project: Path, host: str | None, port: int | None) -> int:
    """Run both until Ctrl-C or SIGTERM (0), or until one cannot be brought to life (1), or said why not (2, 3)."""
    base = [sys.executable, "-m", "keepfit.app.cli"]
    address = [*(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
    minded = [
        Minded("serve", [*base, "serve", "--project", str(project), *address]),
        Minded("worker", [*base, "worker", "--project", str(project)]),
    ]
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        alive = True
        while alive and not stop.is_set():
            states = [m.mind() for m in minded]
            alive = all(states)
            stop.wait(0.2)
        said_why = [code for code in (REFUSED, FAULT) if code in [m.code for m in minded]]
        return 0 if alive else max(said_why, default=1)
    finally:
        for m in minded:
            m.stop()
