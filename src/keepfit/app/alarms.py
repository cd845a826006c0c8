"""What people see of a camera that is followed: when an alarm begins and when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """What the server says of one frame; number and seconds are the camera's own."""

    frame: int
    time_s: float
    score: float
    label: int


Tell = Callable[[Said], None]


class Alarms:
    """Tells people when an alarm begins and ends; `line` writes one."""

    def __init__(self, line: Callable[[str], None]) -> None:
        self._print, self._peak = line, 0.0
        self.frames = self.count = 0
        self._since: float | None = None

    def __call__(self, said: Said) -> None:
        """The next frame."""
        self.frames += 1
        if said.label and self._since is None:
            self._since, self._peak, self.count = said.time_s, said.score, self.count + 1
            self._print(f"{clock(said.time_s)}  alarm: score {said.score:.2f} at frame {said.frame}")
        elif said.label:
            self._peak = max(self._peak, said.score)
        elif self._since is not None:
            lasted = said.time_s - self._since
            self._print(f"{clock(said.time_s)}  over after {lasted:.1f} s; its peak was {self._peak:.2f}")
            self._since = None


def clock(seconds: float) -> str:
    """Hours, minutes and seconds since the first frame.

    >>> clock(3725.25), clock(59.96)
    ('1:02:05.2', '0:01:00.0')
    """
    whole, tenths = divmod(round(10 * seconds), 600)
    hours, minutes = divmod(whole, 60)
    return f"{hours}:{minutes:02d}:{tenths / 10:04.1f}"
