"""Spread: how much the numbers of a recipe vary from fold to fold of a cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The metrics of each fold of a cross-validation."""

    kind: str
    """grouped or time; see data.folds."""
    values: Sequence[Mapping[str, float]]
    """By metric, one mapping a fold."""
    sizes: Sequence[tuple[int, int]]
    """Rows that each fold learnt from, and that it was judged on."""

    def mean(self, name: str) -> float:
        """Of a metric over the folds."""
        return float(np.mean(self._of(name)))

    def deviation(self, name: str) -> float:
        """The standard deviation of a metric between folds."""
        return float(np.std(self._of(name), ddof=1))

    def error(self, name: str) -> float:
        """The standard error of the mean, corrected since the folds learn from much the same rows.

        sd * sqrt(1/k + held/learnt), Nadeau and Bengio 2003, "Inference for the Generalization Error": the usual
        sd / sqrt(k) takes the folds for independent and is too small.
        """
        ratio = float(np.mean([held / learnt for learnt, held in self.sizes]))
        return self.deviation(name) * math.sqrt(1 / len(self.values) + ratio)

    def told(self, name: str) -> str:
        """A metric in words."""
        return f"{name} {self.mean(name):.3f} ± {self.error(name):.3f} (deviation {self.deviation(name):.3f})"

    def as_text(self) -> str:
        """Markdown for a card."""
        sizes = ", ".join(f"{learnt}/{held}" for learnt, held in self.sizes)
        lines = [f"- {len(self.values)} folds ({self.kind}); rows learnt from / judged on: {sizes}"]
        return "\n".join(lines + [f"- {self.told(name)}" for name in self.values[0]]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the summary of each metric; `from_json` reads them back."""
        names = list(self.values[0])
        summary = {n: {"mean": self.mean(n), "deviation": self.deviation(n), "error": self.error(n)} for n in names}
        return {
            "kind": self.kind, "values": [dict(each) for each in self.values],
            "sizes": [list(each) for each in self.sizes], "metrics": summary,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Spread:
        """What `to_json` gave."""
        sizes = [(int(learnt), int(held)) for learnt, held in values["sizes"]]
        return cls(values["kind"], [dict(each) for each in values["values"]], sizes)

    def _of(self, name: str) -> list[float]:
        return [each[name] for each in self.values]
