"""The two pictures of docs/decisions.md on retraining: harm that pays for it, and a backtest of made-up traffic.

python -m benchmarks.decisions.policy_pictures
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.decisions.streams import OWN, PREDICTIONS, World
from keepfit.pipelines.backtest import picture
from keepfit.pipelines.backtest.matrix import Plan, make
from keepfit.pipelines.backtest.outcome import compare
from keepfit.pipelines.backtest.policies import policy_of
from keepfit.pipelines.backtest.traffic import Traffic
from keepfit.triggers.facts import Price
from keepfit.triggers.worth import WorthIt

DOCS = Path(__file__).parents[2] / "docs"
PRICE, SEED = 2000.0, 5


def retrain_or_not(target: Path) -> None:
    """What the harm has cost so far, and what a retraining would save, for slow and for sudden harm."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (kind, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (
            ("gradual", "slow harm: it has paid for a retraining"),
            ("abrupt", "sudden harm: it would pay, so do not wait"),
        ),
        strict=True,
    ):
        world, trigger = World(kind, 500, SEED), WorthIt(most_per_month=0)
        change = 0 if kind == "gradual" else int(np.argmax(world.errors[0] > OWN))
        steps = range(max(0, change - 12), change + 22)
        seen = [trigger.decide(world.situation(0, 0, step + 1, PRICE, [])).evidence for step in steps]
        true = np.cumsum((world.errors[0] - OWN) * PREDICTIONS)[list(steps)]
        axes.plot(steps, true, color="grey", label="mistakes too many so far (true)")
        axes.plot(
            steps, [one["excess_so_far"] for one in seen], color="#4c72b0", label="the same, by 500 labels a step"
        )
        saved = [one["expected"] if one["alarm"] == "fire" else 0.0 for one in seen]
        axes.plot(steps, saved, color="#55a868", label="a retraining would save (with an alarm)")
        axes.axhline(PRICE, color="black", linestyle="--", linewidth=1, label="price of a retraining")
        first = next((step for step, one in zip(steps, seen, strict=True) if "reason" in one), None)
        if first is not None:
            axes.axvline(first, color="#c44e52", label=f"worth_it fires, by {seen[first - steps[0]]['by']}")
        axes.set(title=title, xlabel="step of 5,000 answers", ylim=(-500, 8000))
        axes.legend(fontsize=8, loc="upper left")
    figure.axes[0].set_ylabel("mistakes")
    figure.savefig(target, dpi=100)


def backtest(target: Path) -> None:
    """Traffic whose second half brings inputs that the first model does not know."""
    rng = np.random.default_rng(2)
    n = 6000
    inputs = rng.normal(size=(n, 8)).astype(np.float32)
    late = np.arange(n) >= 3600
    new = late & (rng.random(n) < 0.6)
    truth = (np.where(new, inputs[:, 1], inputs[:, 0]) > 0).astype(np.int64)
    inputs[new, 0] *= 0.05
    truth = np.where(rng.random(n) < 0.08, 1 - truth, truth)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = tuple(start + timedelta(minutes=15 * i) for i in range(n))
    matrix = make(Traffic(times, inputs, truth, ("no", "yes"), scale=20.0), Plan(steps=40))
    names = (
        "worth_it",
        "never",
        "period:days=5",
        "period:days=20",
        "accuracy_drop",
        "ks_plain",
        "ski_rental",
        "every_step",
    )
    picture.write(compare(matrix, Price(600.0, "made up", 1), [policy_of(name) for name in names]), target)


if __name__ == "__main__":
    retrain_or_not(DOCS / "retrain_or_not.png")
    backtest(DOCS / "backtest.png")
