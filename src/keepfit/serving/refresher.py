"""Refresher: one thread that lets predictors, and what else follows the store, look into it now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Protocol

log = logging.getLogger(__name__)


class Refreshed(Protocol):
    """A predictor, or what else follows the store."""

    def refresh(self) -> object:
        """Look, and follow; raises nothing for a store that is away."""


class Refresher:
    """Lets each look at `start`, then every `interval_s`, at once after a `nudge`; none waits for another one's load.

    Each has `at_once` threads: with two, one sees that somebody wants to go back while the other loads a version.
    """

    def __init__(self, followers: Sequence[Refreshed], interval_s: float = 0.25, at_once: int = 1) -> None:
        self._followers, self._interval_s = tuple(followers), interval_s
        self._wakes = [(follower, threading.Event()) for follower in self._followers for _ in range(at_once)]
        self._stop = False
        self._dead: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=one, name="refresher", daemon=True) for one in self._wakes
        ]

    def start(self) -> None:
        """Refresh once in the caller's thread, so that a started server can answer, then go on aside."""
        for follower in self._followers:
            follower.refresh()
        for thread in self._threads:
            thread.start()

    def nudge(self) -> None:
        """Look now."""
        for _, wake in self._wakes:
            wake.set()

    def ready(self) -> str | None:
        """Why new deployments would not be noticed; None when they are."""
        if self._dead is not None:
            return f"a thread that looks for new deployments died ({self._dead}); restart the server"
        return None

    def close(self) -> None:
        """Stop looking; waits for a load that is under way."""
        self._stop = True
        self.nudge()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(60)

    def _run(self, follower: Refreshed, wake: threading.Event) -> None:
        try:
            while not self._stop:
                wake.wait(self._interval_s)
                wake.clear()
                if not self._stop:
                    follower.refresh()
        except BaseException as error:
            self._dead = error
            log.exception("a refresher died")
