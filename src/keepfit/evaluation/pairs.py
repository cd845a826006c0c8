"""Candidate beside champion, counted on some rows; and which old rows still bind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from keepfit.evaluation.contradiction import denied_by_neighbours
from keepfit.evaluation.gate import Flags, Trial
from keepfit.intervals import paired_interval


@dataclass(frozen=True)
class Pairs:
    """Candidate beside champion on some rows."""

    n: int
    wins: int
    losses: int
    before: float
    """Accuracy of the champion."""
    after: float

    def __str__(self) -> str:
        difference = paired_interval(self.wins, self.losses, self.n)
        return (
            f"accuracy {self.before:.3f} → {self.after:.3f}, difference {difference.value:+.3f} "
            f"({difference.low:+.3f} to {difference.high:+.3f}), {self.wins} better and {self.losses} worse of {self.n}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        difference = paired_interval(self.wins, self.losses, self.n).to_json()
        return {"n": self.n, "wins": self.wins, "losses": self.losses, "difference": difference}


def pairs(trial: Trial, mask: Flags) -> Pairs:
    """The comparison on the rows of a mask, shape (n,)."""
    n = int(mask.sum())
    after = int((trial.candidate.right & mask).sum())
    wins, losses = int((trial.wins & mask).sum()), int((trial.losses & mask).sum())
    return Pairs(n, wins, losses, (after - wins + losses) / max(n, 1), after / max(n, 1))


@dataclass(frozen=True, eq=False)
class Kept:
    """The held-out rows from before the change, apart: those that still bind, and those that life has denied."""

    old: Flags
    same_content: Flags
    neighbours: Flags

    @classmethod
    def of(cls, trial: Trial, neighbours: int) -> Kept:
        """Denied by the same content, or by the nearest recent labels (see `contradiction`)."""
        same, near = trial.same_content_denied, np.zeros(len(trial.candidate), bool)
        if (champion := trial.champion) is not None:
            near = denied_by_neighbours(
                champion.output.embeddings, champion.said, champion.truth, trial.since_change, neighbours
            )
        return cls(~trial.since_change & ~same & ~near, same, near & ~same)

    def __str__(self) -> str:
        left = int(self.same_content.sum()), int(self.neighbours.sum())
        if not any(left):
            return ""
        return (
            f"; {sum(left)} old rows do not count because new labels deny theirs "
            f"({left[0]} with the same content, {left[1]} by their nearest neighbours)"
        )

    def to_json(self, trial: Trial) -> dict[str, Any]:
        """How many were denied, in which way, and what became of them."""
        denied = self.same_content | self.neighbours
        return {
            "same_content": int(self.same_content.sum()),
            "neighbours": int(self.neighbours.sum()),
            "of_these_lost": int((denied & trial.losses).sum()),
        }
