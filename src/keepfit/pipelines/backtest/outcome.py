"""Outcomes: what each policy would have cost on the traffic, which differences are noise, and which one to take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput, SettingsError
from keepfit.pipelines.backtest.bounds import Bound, causal, clairvoyant
from keepfit.pipelines.backtest.matrix import Matrix
from keepfit.pipelines.backtest.policies import EVERY_STEP, NEVER, Policy
from keepfit.pipelines.backtest.replay import Life, Replay
from keepfit.triggers.facts import Price

Doubles = NDArray[np.float64]
ROUNDS = 2000
"""Resamples of the blocks of time."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """One policy's figures; mistakes and answers are of life, the scale of the traffic included."""

    policy: Policy
    life: Life
    costs: Doubles
    """Mistakes and retrainings of each step, in mistakes, shape (steps,)."""
    answers: float
    labels: int
    """That were asked for in the steps; 0 for never."""
    seconds: float
    money: float | None
    false_alarms: int
    """Attempts after which the version before would have done as well until the next one, or the end."""

    @property
    def cost(self) -> float:
        return float(self.costs.sum())

    @property
    def accuracy(self) -> float:
        return float(1 - self.life.mistakes.sum() / self.answers)

    @property
    def attempts(self) -> int:
        return len(self.life.tried)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "policy": self.policy.name, "accuracy": self.accuracy, "mistakes": float(self.life.mistakes.sum()),
            "retrainings": self.attempts, "passed": sum(one.passed for one in self.life.tried),
            "at_steps": [one.step for one in self.life.tried], "labels": self.labels, "seconds": self.seconds,
            "money": self.money, "cost": self.cost, "false_alarms": self.false_alarms, "refused": self.life.refused,
            "rules": [dict(rule) for rule in self.policy.rules],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Backtest:
    """All policies on one traffic."""

    replay: Replay
    outcomes: tuple[Outcome, ...]
    """The cheapest first."""
    future: Bound
    """Who knows it."""
    hindsight: Bound
    """The best simple rule in hindsight."""
    best: Outcome
    """The one to take."""
    because: tuple[str, ...]
    noise: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By policy, what it costs more than the best: a 95 % interval."""

    def named(self, name: str) -> Outcome | None:
        """The outcome of a policy."""
        return next((one for one in self.outcomes if one.policy.name == name), None)

    def gap_closed(self, one: Outcome) -> float | None:
        """Of the mistakes that retraining at every step spares against never; None where that spares nothing."""
        never, always = self.replay.mistakes[0].sum(), np.trace(self.replay.mistakes)
        spared = float(never - always)
        return None if spared <= 0 else float(never - one.life.mistakes.sum()) / spared

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        matrix, price = self.replay.matrix, self.replay.price
        return {
            "rows": len(matrix.traffic), "steps": matrix.steps, "scale": matrix.traffic.scale,
            "classes": len(matrix.traffic.classes), "labelled": int(matrix.labelled[matrix.start :].sum()),
            "from": self.replay.begin(0).isoformat(), "until": self.replay.end(matrix.steps - 1).isoformat(),
            "price": price.to_json(), "recommended": self.best.policy.name, "because": list(self.because),
            "policies": [
                {
                    **one.to_json(), "gap_closed": self.gap_closed(one),
                    "more_than_best": self.noise.get(one.policy.name),
                }
                for one in self.outcomes
            ],
            "bounds": {
                name: {"cost": bound.cost, "retrainings": len(bound.attempts), "rule": bound.words}
                for name, bound in (("clairvoyant", self.future), ("causal", self.hindsight))
            },
        }  # fmt: skip


def compare(
    matrix: Matrix, price: Price, policies: Sequence[Policy], timezone: str = "UTC",
    progress: Callable[[int, int | None], None] = lambda done, of: None,
) -> Backtest:  # fmt: skip
    """Replay every policy. Raises InvalidInput without any, SettingsError for one whose values are wrong."""
    if not policies:
        raise InvalidInput("name at least one policy", "policy")
    replay = Replay(matrix, price, timezone, inputs=any(one.looks_at_inputs for one in policies))
    found = []
    for number, policy in enumerate(policies):
        found.append(outcome(replay, policy))
        progress(number + 1, len(policies))
    found.sort(key=lambda one: one.cost)
    best = next((one for one in found if one.policy.name != EVERY_STEP), found[0])
    rng = np.random.default_rng(0)
    noise = {one.policy.name: difference(one.costs - best.costs, rng) for one in found if one is not best}
    future, hindsight = clairvoyant(replay.mistakes, price.mistakes), causal(replay, price.mistakes)
    return Backtest(replay, tuple(found), future, hindsight, best, words(found, best, noise), noise)


def outcome(replay: Replay, policy: Policy) -> Outcome:
    """One policy's life, counted."""
    try:
        life = replay.play(policy.trigger())
    except SettingsError as error:
        raise SettingsError(f"the policy {policy.name}: {error}") from error
    matrix, price = replay.matrix, replay.price
    costs = life.mistakes.copy()
    for one in life.tried:
        costs[one.step] += price.mistakes
    answers = float((matrix.cuts[-1] - matrix.cuts[0]) * matrix.traffic.scale)
    labels = int(matrix.labelled[matrix.start :].sum()) if policy.needs_labels else 0
    return Outcome(
        policy, life, costs, answers, labels, price.seconds * len(life.tried),
        None if price.money is None else price.money * len(life.tried), false_alarms(replay, life),
    )  # fmt: skip


def false_alarms(replay: Replay, life: Life) -> int:
    """Attempts in stretches in which staying was as good: until the next one the head before errs no more."""
    ends = [*(one.step for one in life.tried[1:]), replay.matrix.steps - 1]
    return sum(
        bool(
            replay.mistakes[one.before, one.step + 1 : end + 1].sum()
            <= replay.mistakes[one.head, one.step + 1 : end + 1].sum()
        )
        for one, end in zip(life.tried, ends, strict=False)
    )


def difference(steps: Doubles, rng: np.random.Generator, rounds: int = ROUNDS) -> tuple[float, float]:
    """A 95 % interval of a sum over steps (steps,): blocks of neighbouring steps are drawn again (Künsch 1989)."""
    n = len(steps)
    length = max(1, round(n**0.5))
    begins = rng.integers(0, n, (rounds, -(-n // length)))
    places = (begins[:, :, None] + np.arange(length)) % n
    sums = steps[places.reshape(rounds, -1)[:, :n]].sum(axis=1)
    low, high = np.quantile(sums, [0.025, 0.975])
    return float(low), float(high)


def words(found: Sequence[Outcome], best: Outcome, noise: dict[str, tuple[float, float]]) -> tuple[str, ...]:
    """Why this one."""
    said = [
        f"{best.policy.name} is the cheapest: {best.life.mistakes.sum():.0f} mistakes and {best.attempts} retrainings, "
        f"{best.cost:.0f} mistakes in all"
    ]
    alike = [one.policy.name for one in found if one is not best and noise[one.policy.name][0] <= 0]
    if alike:
        said.append(
            f"within the noise (95 %, by resampling blocks of time) it costs no less than {', '.join(alike)}: more "
            "traffic would tell them apart"
        )
    elif len(found) > 1:
        said.append("it is cheaper than every other one beyond the noise (95 %, by resampling blocks of time)")
    if NEVER in alike or best.policy.name == NEVER:
        said.append("that retraining paid at all on this traffic is not shown")
    return tuple(said)
