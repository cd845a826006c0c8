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
    """Lets each look at `start`, then every `interval_s`, at once after a `nudge`."""

    def __init__(self, followers: Sequence[Refreshed], interval_s: float = 0.25) -> None:
        self._followers, self._interval_s = tuple(followers), interval_s
        self._wake = threading.Event()
        self._stop = False
        self._dead: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="refresher", daemon=True)

    def start(self) -> None:
        """Refresh once in the caller's thread, so that a started server can answer, then go on aside."""
        for follower in self._followers:
            follower.refresh()
        self._thread.start()

    def nudge(self) -> None:
        """Look now."""
        self._wake.set()

    def ready(self) -> str | None:
        """Why new deployments would not be noticed; None when they are."""
        if self._dead is not None:
            return f"the thread that looks for new deployments died ({self._dead}); restart the server"
        return None

    def close(self) -> None:
        """Stop looking; waits for a load that is under way."""
        self._stop = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(60)

    def _run(self) -> None:
        try:
            while not self._stop:
                self._wake.wait(self._interval_s)
                self._wake.clear()
                for follower in self._followers:
                    if not self._stop:
                        follower.refresh()
        except BaseException as error:
            self._dead = error
            log.exception("the refresher died")
