"""What may be asked for now: the day's budget is earned evenly and spent by chances, so that every answer has one.

Were it spent by what the lots drew, in whole labels, most answers would have no chance at all, and the chance of the
others would know how the lots of their neighbours fell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

AT_ONCE = 0.25
"""The share of a day's label budget that may be spent at any time of it; the rest is earned evenly until midnight."""

AHEAD = timedelta(hours=3)
"""What may be spent now is spread over the traffic of so long: neighbouring answers have nearly the same chance."""

TRICKLE = 0.05
"""The share of a day's budget that flows whatever was spent: no answer is without a chance, also after a clock that
jumped back or a budget that was lowered."""

DAYS = 3
"""Days whose questions are remembered, so that a clock that jumps over midnight and back brings no second budget."""


@dataclass(frozen=True)
class Allowance:
    """What was spent, and how much traffic there is."""

    spent: Mapping[str, float] = field(default_factory=dict)
    """By local day how many labels were expected of what was drawn from."""
    near: float = 0.0
    """How many answers came lately; each counts less as it ages, so this is about the traffic of `AHEAD`."""
    until: datetime | None = None

    def met(self, answers: int, until: datetime) -> Allowance:
        """After so many answers more, up to `until`."""
        ago = timedelta(0) if self.until is None else max(timedelta(0), until - self.until)
        return replace(self, near=answers + self.near * math.exp(-ago / AHEAD), until=until)

    def left(self, budget: int, day: str, elapsed: float, span: timedelta) -> float:
        """How many may be expected now, `elapsed` of the day being over, of the answers of this last span of time.

        >>> round(Allowance({"2025-01-01": 100.0}).left(200, "2025-01-01", 0.5, timedelta(minutes=1)), 6)
        25.0
        """
        earned = budget * (AT_ONCE + (1 - AT_ONCE) * elapsed) - self.spent.get(day, 0.0)
        return max(earned, budget * TRICKLE * min(1.0, span / timedelta(days=1)))

    def paid(self, day: str, labels: float) -> Allowance:
        """After so many more were expected."""
        days = sorted({**self.spent, day: self.spent.get(day, 0.0) + labels}.items())
        return replace(self, spent=dict(days[-DAYS:]))
