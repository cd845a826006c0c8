"""Trials: the recipes that a search has tried, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.training.recipe import Recipe


@dataclass(frozen=True)
class Trial:
    """One recipe that was tried."""

    number: int
    """From 1, which is the recipe as set."""
    recipe: Recipe
    state: str
    """finished, stopped early or failed."""
    loss: float | None
    """On the validation part; None unless it finished."""
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Tuned:
    """What a search came to."""

    best: Recipe
    trials: tuple[Trial, ...]
    because: tuple[str, ...]
    """Sentences for people."""
    fields: tuple[str, ...]
    """What was varied."""
    importance: Mapping[str, float]
    """Share of each field in the differences between the losses; empty when there are too few trials to tell."""

    def to_json(self) -> dict[str, Any]:
        """Plain values: the best recipe in full, of each trial the fields that were varied."""
        trials = [
            {"number": t.number, "state": t.state, "loss": t.loss, "seconds": round(t.seconds, 1), "error": t.error}
            | {"recipe": {name: getattr(t.recipe, name) for name in self.fields}}
            for t in self.trials
        ]
        return {
            "best": self.best.to_json(), "changes": changes(self.best, self.trials[0].recipe), "trials": trials,
            "importance": dict(self.importance), "because": list(self.because),
        }  # fmt: skip


def changes(recipe: Recipe, base: Recipe) -> dict[str, Any]:
    """The values of a recipe that differ from another's.

    >>> changes(Recipe(epochs=3.0), Recipe())
    {'epochs': 3.0}
    """
    before = base.to_json()
    return {name: value for name, value in recipe.to_json().items() if value != before[name]}
