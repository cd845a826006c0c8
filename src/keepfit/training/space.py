"""Space: the recipes that a search may try, as ranges of values around the recipe as set."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, distribution_to_json

from keepfit.errors import SettingsError
from keepfit.training.recipe import Recipe

Refuses = Callable[[Recipe], str | None]
"""Why a recipe cannot be learnt by, whatever the data; None where it can."""
DOUBTFUL = ("frozen_layers", "lora_rank")
"""What not every backbone can do."""


@dataclass(frozen=True)
class Space:
    """What is varied around a recipe, which is always part of it."""

    base: Recipe
    passes: float | None
    """What `epochs = 0` means for this data; None: not known."""
    ranges: Mapping[str, BaseDistribution]
    left_out: tuple[str, ...] = ()
    """What is not tried since it would be refused, as sentences."""

    @classmethod
    def around(
        cls, base: Recipe, kind: str, fields: Sequence[str], passes: float | None = None, refuses: Refuses | None = None
    ) -> Space:
        """The ranges of these fields, without what would be refused. Raises SettingsError when there are none."""
        middle = base.epochs or passes
        made = (_grid if kind == "grid" else _ranges)(base, middle)
        chosen = {name: made[name] for name in fields if name in made}
        if not chosen:
            raise SettingsError("this task has nothing to tune; leave --tune out")
        if refuses is None:
            return cls(base, passes, chosen)
        possible, left_out = _possible(base, chosen, refuses)
        return cls(base, passes, possible, left_out)

    @property
    def start(self) -> dict[str, Any]:
        """The recipe as set, as a point of this space."""
        return {name: self.passes if name == "epochs" and not self.base.epochs else getattr(self.base, name)
                for name in self.ranges}  # fmt: skip

    def recipe(self, point: Mapping[str, Any]) -> Recipe:
        """The recipe at a point; numbers have two digits, so that what is shown is what was used."""
        start = self.start
        changes = {
            name: _short(value) if isinstance(self.ranges[name], FloatDistribution) else value
            for name, value in point.items()
            if value != start[name]
        }
        return self.base.with_(**changes)

    def points(self, seed: int) -> list[dict[str, Any]]:
        """Every point of a grid, the recipe as set first and the others in random order."""
        choices = [r.choices for r in self.ranges.values() if isinstance(r, CategoricalDistribution)]
        found = [dict(zip(self.ranges, values, strict=True)) for values in itertools.product(*choices)]
        found.remove(self.start)
        order = np.random.default_rng(seed % 2**32).permutation(len(found))
        return [self.start, *(found[i] for i in order)]

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with the recipe and with any range."""
        ranges = {name: distribution_to_json(r) for name, r in self.ranges.items()}
        text = json.dumps([self.base.hash, self.passes, ranges], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _ranges(base: Recipe, passes: float | None) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(min(2e-5, base.learning_rate), max(3e-4, base.learning_rate), log=True),
        "batch_size": _choice((16, 32), base.batch_size),
        "warmup": FloatDistribution(0.0, max(0.2, base.warmup)),
        "weight_decay": FloatDistribution(0.0, max(0.1, base.weight_decay)),
        "max_tokens": _choice([n for n in (128, 256) if _fits(base, n)], base.max_tokens),
        "truncation": _choice(("head", "head+tail"), base.truncation),
        "label_smoothing": _choice((0.0, 0.1), base.label_smoothing),
        "frozen_layers": _choice((0, 2, 4), base.frozen_layers),
        "lora_rank": _choice((0, 8), base.lora_rank),
    }
    if passes:
        found["epochs"] = FloatDistribution(*_passes_around(base, passes), log=True)
    return found


def _possible(
    base: Recipe, ranges: Mapping[str, BaseDistribution], refuses: Refuses
) -> tuple[dict[str, BaseDistribution], tuple[str, ...]]:
    """The ranges without the choices that would be refused, alone or together, and why; the base's own stay."""
    choices = {name: list(ranges[name].choices) for name in DOUBTFUL if name in ranges}  # type: ignore[attr-defined]
    said: dict[str, str] = {}

    def drop(name: str, value: Any, why: str) -> None:
        choices[name].remove(value)
        said[f"{name} {value} is not tried"] = why

    for name, values in choices.items():
        for value in [value for value in values if value != getattr(base, name)]:
            if (why := refuses(base.with_(**{name: value}))) is not None:
                drop(name, value, why)
    for frozen, rank in itertools.product(*(list(choices.get(name, ())) for name in DOUBTFUL)):
        if frozen not in choices["frozen_layers"] or rank not in choices["lora_rank"]:
            continue
        why = refuses(base.with_(frozen_layers=frozen, lora_rank=rank))
        if why is not None and frozen != base.frozen_layers:
            drop("frozen_layers", frozen, f"with lora_rank {rank} {why}")
        elif why is not None and rank != base.lora_rank:
            drop("lora_rank", rank, why)
    kept = {name: CategoricalDistribution(values) for name, values in choices.items()}
    return {**ranges, **kept}, tuple(f"{what}: {why}" for what, why in said.items())


def _fits(base: Recipe, max_tokens: int) -> bool:
    """Whether the recipe may be cut to so many tokens."""
    return base.short_tokens < max_tokens <= (base.tokens_per_batch or max_tokens)


def _grid(base: Recipe, passes: float | None) -> dict[str, BaseDistribution]:
    rate = base.learning_rate
    found: dict[str, BaseDistribution] = {
        "learning_rate": _choice((_short(rate / 2), _short(rate * 2)), rate),
        "batch_size": _choice((16, 32), base.batch_size),
    }
    if passes:
        found["epochs"] = _choice([_short(end) for end in _passes_around(base, passes)], passes)
    return found


def _passes_around(base: Recipe, passes: float) -> tuple[float, float]:
    """Half as many to twice as many, within one and eight; not fewer than those that read short texts."""
    low, high = max(1.0, base.short_passes, passes / 2), min(8.0, passes * 2)
    return min(low, passes), max(high, passes)


def _choice(values: Sequence[Any], own: Any) -> CategoricalDistribution:
    return CategoricalDistribution(sorted({*values, own}))


def _short(value: float) -> float:
    return float(f"{value:.2g}")
