"""Resting: when a model that nobody asks may leave the memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keepfit.clock import Clock


def never() -> bool:
    """Nothing besides requests keeps a model in memory."""
    return False


@dataclass
class Resting:
    """Of one model in one process; any thread. `after` of zero: never."""

    clock: Clock
    after: timedelta = timedelta(0)
    busy: Callable[[], bool] = never
    """Whether something else than requests needs it, such as an open stream."""
    asleep: bool = False
    """Nothing is in memory, and the next request loads it."""
    asked: datetime | None = None
    """When somebody asked last, in this process."""
    since: datetime = field(init=False)
    """Since when nothing has happened that needs it: a request, or a load."""

    def __post_init__(self) -> None:
        self.since = self.clock.now()

    def note(self) -> None:
        """Somebody asks."""
        self.asked = self.since = self.clock.now()

    def stir(self) -> None:
        """Something was loaded: it begins to be idle now."""
        self.since, self.asleep = self.clock.now(), False

    def due(self) -> bool:
        """Whether it may be unloaded now."""
        if self.after <= timedelta(0) or self.asleep:
            return False
        if self.busy():
            self.since = self.clock.now()
            return False
        return self.clock.now() - self.since >= self.after
