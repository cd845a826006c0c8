"""When to retrain: what policies cost against bounds, on synthetic streams and on real texts in the order of time.

    python -m benchmarks.decisions.policies --part synthetic --seeds 10
    KEEPFIT_DATA=... python -m benchmarks.decisions.policies --part real

Synthetic: 200 steps of 5,000 answers, 100 or 500 random labels a step, retrainings of 500, 2,000 and 8,000 mistakes;
gradual, abrupt, mixed, recurring and null. Real: SemEval tweets, Reuters and HuffPost by time, IMDB reviews that turn
into reviews of books and films; 40 steps after the first 30 % of the rows, every row labelled and standing for 50
answers, the gate in between, retrainings of 30 to 1,000 mistakes. The triggers are the product's own.
`period, tuned elsewhere` is the fixed period (in steps) that was best on the other streams at the same price;
`random` retrains as often as ours, at random. The causal bound is the best rule of two numbers in hindsight; neither
bound asks a gate. Costs are excess mistakes (synthetic) or mistakes (real) and retrainings.
Writes benchmarks/results/decisions_policies.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decisions import real
from benchmarks.decisions.streams import KINDS, PREDICTIONS, STEPS, World, causal_grid, clairvoyant
from benchmarks.results import FOLDER, save, table
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.backtest.bounds import causal
from keepfit.pipelines.backtest.bounds import clairvoyant as optimum
from keepfit.pipelines.backtest.matrix import Plan, make
from keepfit.pipelines.backtest.replay import Replay
from keepfit.triggers.combinators import AnyOf
from keepfit.triggers.drift import Ks, KsPlain
from keepfit.triggers.facts import Price
from keepfit.triggers.growth import Growth
from keepfit.triggers.harm import AccuracyDrop, AccuracyFloor
from keepfit.triggers.trigger import NoObjection, Reason, Situation, Trigger, fire, wait
from keepfit.triggers.worth import Benefit, SkiRental, WorthIt

NAME = "decisions_policies"
PERIODS = (1, 2, 3, 5, 8, 13, 20, 39)
OURS = "worth_it or growth"
TOLD = ("never", "period, tuned elsewhere", "worth_it", "growth", OURS)
"""Policies whose cases are kept one by one; of the others the summary."""
SHARED: Mapping[str, Trigger] = {
    "accuracy_floor": AccuracyFloor(), "accuracy_drop": AccuracyDrop(), "ski_rental": SkiRental(), "benefit": Benefit(),
    "worth_it": WorthIt(most_per_month=0),
}  # fmt: skip
REAL: Mapping[str, Trigger] = {
    **SHARED, "ks_plain": KsPlain(), "ks": Ks(), "growth": Growth(), OURS: AnyOf((WorthIt(most_per_month=0), Growth())),
}  # fmt: skip


class Every(NoObjection):
    """A fixed period in answers: the fixed period in its best form, for it needs no even clock."""

    kind = "period"

    def __init__(self, answers: float) -> None:
        self.answers = answers

    def decide(self, situation: Situation) -> Decision:
        """Fires when so many answers were given since the last attempt."""
        given = 0 if situation.losses is None else situation.losses.predictions
        ready = given >= self.answers * 0.999
        return fire("period", Reason.ROUTINE, f"{given} answers") if ready else wait("period", f"{given} answers")


class AtRandom(NoObjection):
    """Fires with a fixed chance: the control."""

    kind = "random"

    def __init__(self, chance: float, seed: int) -> None:
        self.chance, self.rng = chance, np.random.default_rng(seed)

    def decide(self, situation: Situation) -> Decision:
        """A lot is drawn."""
        drawn = self.rng.random() < self.chance
        return fire("random", Reason.ROUTINE, "drawn") if drawn else wait("random", "not drawn")


def fires(trigger: Trigger) -> Callable[[Situation], bool]:
    """As a yes or no."""
    return lambda situation: trigger.decide(situation).outcome is Outcome.FIRE


def synthetic(seeds: int, jobs: int) -> list[dict[str, Any]]:
    """A row for each stream, price, rate of labels and policy."""
    cases = [(labels, kind, seeds) for labels in (100, 500) for kind in KINDS]
    with get_context("spawn").Pool(jobs) as pool:
        return tuned([row for rows in pool.imap(of_kind, cases, chunksize=1) for row in rows])


def of_kind(case: tuple[int, str, int]) -> list[dict[str, Any]]:
    """The rows of one stream at one rate of labels."""
    labels, kind, seeds = case
    worlds = [World(kind, labels, 1000 + seed) for seed in range(seeds)]
    rows: list[dict[str, Any]] = []
    plain = {
        "never": fires(Every(np.inf)), **{f"period {k}": fires(Every(k * PREDICTIONS)) for k in (5, 10, 20, 40, 80)},
        **{name: fires(trigger) for name, trigger in SHARED.items() if name.startswith("accuracy")},
    }  # fmt: skip
    alike = {name: [world.play(decide, 0) for world in worlds] for name, decide in plain.items()}
    for price in (500, 2000, 8000):
        best = float(np.mean([clairvoyant(w.errors, price) for w in worlds]))
        never = float(np.mean([run.harm for run in alike["never"]]))
        bound = min(float(causal_grid(worlds, price).mean(axis=2).min()), never)
        weighed = {
            name: [world.play(fires(trigger), price) for world in worlds]
            for name, trigger in SHARED.items() if name not in plain
        }  # fmt: skip
        for name, runs in (alike | weighed).items():
            costs = [run.harm + price * len(run.attempts) for run in runs]
            rows.append({
                "stream": kind, "labels": labels, "price": price, "policy": name, "cost": float(np.mean(costs)),
                "attempts": float(np.mean([len(run.attempts) for run in runs])), "clairvoyant": best, "causal": bound,
            })  # fmt: skip
        print(kind, labels, price, flush=True)
    return rows


def tuned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the fixed period that is best on the other streams (by mean cost over the causal bound), at each price."""
    found = list(rows)
    for key in {(row["labels"], row["price"]) for row in rows}:
        here = [row for row in rows if (row["labels"], row["price"]) == key]
        names = sorted({row["policy"] for row in here if row["policy"].startswith("period ")})
        for stream in {row["stream"] for row in here}:

            def elsewhere(name: str, stream: str = stream, here: list[dict[str, Any]] = here) -> float:
                return float(np.mean([
                    row["cost"] / row["causal"] for row in here
                    if row["policy"] == name and row["stream"] != stream and row["causal"] > 0
                ]))  # fmt: skip

            chosen = min(names, key=elsewhere)
            own = next(row for row in here if row["stream"] == stream and row["policy"] == chosen)
            found.append({**own, "policy": "period, tuned elsewhere", "chosen": chosen})
    return found


def on_real(seeds: int, steps: int = 40) -> list[dict[str, Any]]:
    """A row for each stream, price and policy; means over seeds of labels and held-out parts."""
    rows: list[dict[str, Any]] = []
    for stream in real.STREAMS:
        replays = []
        for seed in range(seeds):
            plan = Plan(steps=steps, first=0.3, seed=seed)
            replays.append(Replay(make(real.stream(stream, 50.0), plan, real.CACHE / "matrix"), Price(0.0, "")))
        for price in (30.0, 100.0, 300.0, 1000.0):
            rows += of_stream(stream, [priced(one, price) for one in replays], price)
            print(stream, price, flush=True)
    return tuned(rows)


def priced(replay: Replay, price: float) -> Replay:
    """The same at another price, with what was measured already."""
    found = Replay(replay.matrix, Price(price, "as the benchmark sets it", 1))
    for name in ("right", "mistakes", "_measured", "_monitor", "reference"):
        found.__dict__[name] = getattr(replay, name)
    return found


def of_stream(stream: str, replays: Sequence[Replay], price: float) -> list[dict[str, Any]]:
    """All policies."""
    steps = replays[0].matrix.steps
    per_step = [float((one.matrix.cuts[-1] - one.matrix.cuts[0]) * one.matrix.traffic.scale / steps) for one in replays]
    never = np.array([one.mistakes[0].sum() for one in replays])
    always = np.array([np.trace(one.mistakes) for one in replays])
    shared = {
        "clairvoyant": float(np.mean([optimum(one.mistakes, price).cost for one in replays])),
        "causal": float(np.mean([causal(one, price).cost for one in replays])),
    }
    rows = []

    def add(name: str, make_trigger: Callable[[int], Trigger | None], repeats: int = 1) -> float:
        costs, attempts, closed = [], [], []
        for _ in range(repeats):
            for i, replay in enumerate(replays):
                trigger = make_trigger(i)
                mistakes, tried = never[i], 0
                if trigger is not None:
                    life = replay.play(trigger)
                    mistakes, tried = life.mistakes.sum(), len(life.tried)
                costs.append(mistakes + price * tried)
                attempts.append(tried)
                closed.append((never[i] - mistakes) / (never[i] - always[i]))
        rows.append({
            "stream": stream, "labels": 0, "price": price, "policy": name, "cost": float(np.mean(costs)),
            "attempts": float(np.mean(attempts)), "gap_closed": float(np.mean(closed)),
            "training_share": float(np.mean(attempts)) / (steps - 1), **shared,
        })  # fmt: skip
        return float(np.mean(attempts))

    add("never", lambda i: None)
    for k in PERIODS:
        add(f"period {k}", lambda i, k=k: Every(k * per_step[i]))  # type: ignore[misc]
    for name, trigger in REAL.items():
        rate = add(name, lambda i, trigger=trigger: trigger) / (steps - 1)  # type: ignore[misc]
    rng = np.random.default_rng(5)
    add("random", lambda i: AtRandom(rate, int(rng.integers(1 << 30))), 5)
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """By policy: cost over the causal bound and over the clairvoyant one, mean and worst, and what was closed."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(row["policy"] for row in rows):
        own = [row for row in rows if row["policy"] == name]
        bound = [row for row in own if row["causal"] > 0]
        ratios = np.array([row["cost"] / row["causal"] for row in bound])
        future = np.array([row["cost"] / row["clairvoyant"] for row in bound])
        found[name] = {
            "over_causal": float(ratios.mean()), "over_causal_worst": float(ratios.max()),
            "over_clairvoyant": float(future.mean()), "over_clairvoyant_worst": float(future.max()),
            "attempts": float(np.mean([row["attempts"] for row in own])),
        }  # fmt: skip
        if "gap_closed" in own[0]:
            found[name]["gap_closed"] = float(np.mean([row["gap_closed"] for row in own]))
            found[name]["training_share"] = float(np.mean([row["training_share"] for row in own]))
        if null := [row for row in own if row["causal"] <= 0]:
            found[name]["wasted_on_null"] = float(np.mean([row["cost"] for row in null]))
    return found


def brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of a case, in four digits; which period was chosen is left out."""
    kept = {name: value for name, value in row.items() if name != "chosen"}
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in kept.items()}


def verdict(found: Mapping[str, Any]) -> str:
    """Whether ours beats the tuned fixed period on the real streams, said plainly."""
    period, harm, ours = (found[name]["over_causal"] for name in ("period, tuned elsewhere", "worth_it", OURS))
    words = (
        f"on real streams, cost over the causal bound: fixed period tuned elsewhere and gate {period:.3f}, worth_it "
        f"alone {harm:.3f}, {OURS} {ours:.3f}"
    )
    alone = "beats" if harm < period else "does not beat"
    return (
        f"{words}; worth_it alone {alone} the tuned period, {OURS} {'beats' if ours < period else 'does not beat'} it"
    )


def main() -> None:
    """Run one part, keep the other as it was."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("synthetic", "real"), required=True)
    parser.add_argument("--seeds", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    asked = parser.parse_args()
    rows = synthetic(asked.seeds or 10, asked.jobs) if asked.part == "synthetic" else on_real(asked.seeds or 3)
    file = Path(FOLDER) / f"{NAME}.json"
    kept = json.loads(file.read_text("utf-8")) if file.exists() else {}
    result = {name: kept[name] for name in ("synthetic", "real", "verdict") if name in kept}
    found = summary(rows)
    told = [list(row.values()) for row in map(brief, rows) if row["policy"] in TOLD]
    seeds = asked.seeds or (10 if asked.part == "synthetic" else 3)
    result[asked.part] = {"seeds": seeds, "summary": found, "columns": list(brief(rows[0])), "rows": told}
    if asked.part == "real":
        result["verdict"] = verdict(found)
        print(result["verdict"])
    table(asked.part, [{"policy": name, **values} for name, values in found.items()])
    save(NAME, {"steps": STEPS, "predictions": PREDICTIONS, **result})


if __name__ == "__main__":
    main()
