"""Decision: what was decided, why, and on which numbers.

Gates, triggers and rollouts all answer with one of these, so every judgement is stored, tested and
explained in the same way, the negative ones too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """The verbs of a decision."""

    PASS = "pass"
    FAIL = "fail"
    FIRE = "fire"
    WAIT = "wait"
    ADVANCE = "advance"
    HOLD = "hold"
    ROLL_BACK = "roll back"
    UNDECIDED = "undecided"
    """A rollout is over, and nothing is proven against the challenger, nor for it: the champion stays."""


@dataclass(frozen=True)
class Decision:
    """An outcome with its reasons (sentences for people) and its evidence (JSON-able values for programs).

    >>> str(Decision(Outcome.WAIT, ("only 12 of 100 labels are in",)))
    'wait: only 12 of 100 labels are in'
    """

    outcome: Outcome
    because: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def telling(self) -> tuple[str, ...]:
        """The reasons that decided, where whoever decided has named them; else all.

        >>> Decision(Outcome.FIRE, ("it errs too much", "no event waits"), {"telling": ["it errs too much"]}).telling
        ('it errs too much',)
        """
        return tuple(self.evidence.get("telling", ())) or self.because

    def __str__(self) -> str:
        return f"{self.outcome}: {'; '.join(self.because)}"
