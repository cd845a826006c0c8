"""Flips: the answers that turned from wrong to right, or back, between two versions on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.data.snapshot import Rows
from keepfit.evaluation.evaluator import Reference
from keepfit.intervals import Interval, paired_interval
from keepfit.metrics import predicted

EXAMPLES = 5


@dataclass(frozen=True)
class Flip:
    """One answer that turned."""

    content: Any
    truth: str
    before: str
    after: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"content": self.content, "truth": self.truth, "before": self.before, "after": self.after}


@dataclass(frozen=True)
class Flips:
    """Two versions on the rows that both can be held to."""

    n: int
    gained: int
    """From wrong to right."""
    lost: int
    """From right to wrong."""
    right_before: int
    examples: Mapping[str, tuple[Flip, ...]]
    """"gained" and "lost" -> a few."""

    @property
    def difference(self) -> Interval:
        """Of the two accuracies, with its paired interval."""
        return paired_interval(self.gained, self.lost, self.n)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        before = self.right_before / self.n if self.n else None
        after = (self.right_before + self.gained - self.lost) / self.n if self.n else None
        return {
            "n": self.n, "gained": self.gained, "lost": self.lost, "accuracy_before": before, "accuracy_after": after,
            "difference": self.difference.to_json(),
            "examples": {name: [flip.to_json() for flip in found] for name, found in self.examples.items()},
        }  # fmt: skip


def flips(rows: Rows, before: Sequence[str], after: Sequence[str], most: int = EXAMPLES) -> Flips:
    """What turned, of the answers of two versions to these rows; `most` examples each way."""
    counts = {"gained": 0, "lost": 0}
    examples: dict[str, list[Flip]] = {"gained": [], "lost": []}
    right = 0
    for content, truth, was, now in zip(rows.contents, rows.truth, before, after, strict=True):
        right += was == truth
        if (was == truth) == (now == truth):
            continue
        kind = "gained" if now == truth else "lost"
        counts[kind] += 1
        if len(examples[kind]) < most:
            examples[kind].append(Flip(content, truth, was, now))
    kept = {kind: tuple(found) for kind, found in examples.items()}
    return Flips(len(rows), counts["gained"], counts["lost"], right, kept)


def said_before(rows: Rows, reference: Reference, labels: Sequence[str]) -> dict[Any, str] | None:
    """Content -> what a version answered when it was judged on these rows; None when it was judged on others."""
    if len(reference.scores) != len(rows):
        return None
    index = {label: number for number, label in enumerate(labels)}
    if any(index.get(label, -1) != number for label, number in zip(rows.truth, reference.truth, strict=True)):
        return None
    said = (labels[number] for number in predicted(reference.scores))
    return dict(zip(rows.contents, said, strict=True))
