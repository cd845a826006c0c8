"""Input drift by betting: false alarms on streams without a change, and the delay after one.

`python -m benchmarks.decisions.inputs [quiet] [delays] [classical] [cost]` simulates streams (needs no data), prints
tables and writes results/decisions_inputs.json. The classical detectors are run on the same streams, in windows.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import FOLDER, save, table
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.betting import Bounds, InputBets
from keepfit.monitoring.detectors import KsMax, MeanShift
from keepfit.monitoring.gathering import gathered
from keepfit.monitoring.ranks import Ranks, Rows
from keepfit.monitoring.two_sample import ClassifierTwoSample, Mmd, Psi

WIDTH, CLASSES = 24, 3
DAY = 20_000
"""Predictions in a day."""
CHUNK = 70
"""Predictions in five minutes of such a day: what the watch looks at together."""
RUN_LENGTH = 1e6
LONGEST = 50_000
"""Predictions after a change; later it counts as missed."""
REFERENCES = (500, 2_000, 10_000)
PRIOR = np.array([0.5, 0.35, 0.15])


@dataclass(frozen=True)
class World:
    """Where inputs come from. Shifts are in standard deviations of a component."""

    rho: float = 0.0
    """Of the latent state from one prediction to the next."""
    season: float = 0.0
    """Amplitude of a daily wave in the mean of three components, and in the log odds of the first class."""
    storm: float = 0.0
    """Share of the predictions that repeat one text for a while."""
    shift: float = 0.0
    """Of the mean of the first component."""
    prior: float = 0.0
    """Of the share of the first class, taken from the second."""
    wider: float = 1.0
    """Standard deviation of all components."""


FAMILIES = {
    "iid": World(),
    "seasonal": World(season=0.3),
    "bursts": World(storm=0.5),
    "AR(1) 0.9": World(rho=0.9),
    "AR(1) 0.98": World(rho=0.98),
    "small change that is tolerated": World(shift=0.05),
}
CHANGES = {
    "first component +0.25 sd": {"shift": 0.25},
    "first component +0.5 sd": {"shift": 0.5},
    "first component +1 sd": {"shift": 1.0},
    "class share 0.50 to 0.65": {"prior": 0.15},
    "class share 0.50 to 0.80": {"prior": 0.30},
    "all components 1.5 times as wide": {"wider": 1.5},
}
SCALE = np.linspace(3.0, 0.5, WIDTH)


@dataclass
class Stream:
    """Predictions of a world, chunk by chunk; the latent state goes on."""

    rng: np.random.Generator
    at: int = 0
    state: NDArray[np.float64] | None = None
    repeated: NDArray[np.float64] | None = None

    def rows(self, world: World, n: int) -> Rows:
        """The next n."""
        phase = 2 * np.pi * ((self.at + np.arange(n)) % DAY) / DAY
        weekend = (self.at // DAY) % 7 >= 5
        wave = world.season * np.sin(phase) * (0.5 if weekend else 1.0)
        latent = self._latent(world.rho, n, WIDTH + 2) * world.wider
        latent[:, :3] += wave[:, None]
        latent[:, 0] += world.shift
        if world.storm:
            latent = self._storm(latent, world.storm)
        prior = np.array([PRIOR[0] + world.prior, PRIOR[1] - world.prior, PRIOR[2]])
        logits = np.log(prior)[None] + np.zeros((n, 1))
        logits[:, 0] += wave * 1.3
        share = np.cumsum(np.exp(logits), axis=1) / np.exp(logits).sum(axis=1, keepdims=True)
        said = (normal_cdf(latent[:, -1] / world.wider)[:, None] > share).sum(axis=1)
        top = 0.4 + 0.6 * normal_cdf(latent[:, -2] / world.wider)
        scores = np.full((n, CLASSES), 0.0, np.float32) + ((1 - top) / (CLASSES - 1))[:, None]
        scores[np.arange(n), np.minimum(said, CLASSES - 1)] = top
        measures = {"length": np.round(np.exp(3 + 0.5 * latent[:, 1])), "unknown": np.maximum(0, latent[:, 2] - 1) / 20}
        self.at += n
        embeddings = (latent[:, :WIDTH] * SCALE).astype(np.float32)
        return Rows(scores.astype(np.float32), embeddings, measures, self.rng.random(n))

    def _latent(self, rho: float, n: int, columns: int) -> NDArray[np.float64]:
        fresh = self.rng.normal(size=(n, columns))
        if not rho:
            return fresh
        state = self.rng.normal(size=columns) if self.state is None else self.state
        step = (1 - rho**2) ** 0.5
        for i in range(n):
            state = rho * state + step * fresh[i]
            fresh[i] = state
        self.state = state
        return fresh

    def _storm(self, latent: NDArray[np.float64], share: float) -> NDArray[np.float64]:
        # a storm lasts an hour or so, and there is one in half of the time
        if self.repeated is None or self.rng.random() < 1 / 12:
            self.repeated = self.rng.normal(size=latent.shape[1]) if self.rng.random() < 0.5 else np.empty(0)
        if len(self.repeated):
            latent[self.rng.random(len(latent)) < share] = self.repeated
        return latent


def normal_cdf(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Near enough (Bowling et al. 2009), and quick."""
    return np.asarray(1 / (1 + np.exp(-1.5976 * values - 0.07056 * values**3)), np.float64)


def reference_of(n: int, rng: np.random.Generator) -> Reference:
    """What the version answered on its test part: inputs of the quiet world, all hours mixed."""
    rows = Stream(rng).rows(World(), n)
    measures = {name: column.astype(np.float32) for name, column in rows.measures.items()}
    return Reference(
        rows.scores, rows.embeddings.astype(np.float16).astype(np.float32), np.zeros(n, np.int64), measures
    )


def detector(reference: Reference) -> tuple[Ranks, InputBets]:
    """As the watch makes it."""
    ranks = Ranks(reference)
    return ranks, InputBets(Bounds(ranks.low, ranks.high, ranks.deviation, ranks.feature), RUN_LENGTH)


def play(ranks: Ranks, bets: InputBets, stream: Stream, world: World, n: int) -> Iterator[int]:
    """Places of alarms among the next n predictions."""
    for start in range(0, n, CHUNK):
        day = stream.at // DAY
        bets.seasons.begin(str(day))
        bin_ = (stream.at % DAY) * 24 // DAY + (24 if day % 7 >= 5 else 0)
        rows = stream.rows(world, min(CHUNK, n - start))
        contents = [row.tobytes() for row in rows.embeddings] if world.storm else list(range(len(rows.scores)))
        seen = gathered(ranks.values(rows), contents, [None] * len(contents))
        alarms = bets.update(seen.values, seen.counts, np.full(len(seen.values), bin_))
        yield from (start + int(seen.places[alarm.place]) for alarm in alarms)


def quiet(name: str, world: World, n: int, seeds: int, millions: float) -> dict[str, Any]:
    """False alarms of one family with references of one size."""
    alarms, total, block = [], int(millions * 1e6), 0
    for seed in range(seeds):
        rng = np.random.default_rng([seed, n])
        ranks, bets = detector(reference_of(n, rng))
        stream = Stream(rng)
        alarms.append(sum(1 for _ in play(ranks, bets, stream, world, total)))
        block = max(block, bets.block or 0)
    predictions = total * seeds
    return {
        "family": name, "reference": n, "predictions": predictions, "alarms": sum(alarms),
        "per million": sum(alarms) / predictions * 1e6, "upper 95 %": poisson_upper(sum(alarms)) / predictions * 1e6,
        "references with an alarm": sum(count > 0 for count in alarms), "block": block,
    }  # fmt: skip


def delays(n: int, quiet_for: int, seeds: int, season: float) -> list[dict[str, Any]]:
    """Predictions from each change to the first alarm, after so many quiet ones; up to LONGEST."""
    found: dict[str, list[int | None]] = {name: [] for name in CHANGES}
    early = 0
    for seed in range(seeds):
        rng = np.random.default_rng([100 + seed, n])
        ranks, bets = detector(reference_of(n, rng))
        stream, world = Stream(rng), World(season=season)
        early += sum(1 for _ in play(ranks, bets, stream, world, quiet_for))
        for name, change in CHANGES.items():
            again = InputBets.from_json(bets.to_json(), bets.bounds, RUN_LENGTH)
            moved = replace(world, **change)
            found[name].append(next(play(ranks, again, copy.deepcopy(stream), moved, LONGEST), None))
    return [
        {
            "change": name, "reference": n, "season": season, "quiet before": quiet_for,
            "median delay": float(np.median([LONGEST if d is None else d for d in runs])),
            "missed": sum(d is None for d in runs), "runs": seeds, "alarms before": early,
        }
        for name, runs in found.items()
    ]  # fmt: skip


def cost() -> dict[str, float]:
    """Microseconds an observation, in small and in large batches, and the size of the state."""
    rng = np.random.default_rng(0)
    ranks, bets = detector(reference_of(2_000, rng))
    stream, found = Stream(rng), {}
    for size in (CHUNK, 2_000):
        chunks = [stream.rows(World(), size) for _ in range(40_000 // size)]
        began = time.process_time()
        for rows in chunks:
            contents = [row.tobytes() for row in rows.embeddings]
            seen = gathered(ranks.values(rows), contents, [None] * len(contents))
            bets.update(seen.values, seen.counts, np.zeros(len(seen.values), np.int64))
        found[f"us in batches of {size}"] = (time.process_time() - began) / (len(chunks) * size) * 1e6
    return {**found, "bytes of state": len(json.dumps(bets.to_json()))}


def classical(rounds: int, size: int = 500) -> list[dict[str, Any]]:
    """How often windows without a change are beyond the usual limits of the classical detectors."""
    limits = {"mean_shift": 0.2, "ks": 0.95, "mmd": 0.95, "classifier": 0.1, "psi": 0.1}
    rows = []
    for family in ("iid", "seasonal", "AR(1) 0.9", "AR(1) 0.98"):
        beyond = dict.fromkeys([*limits, "ks_plain"], 0)
        for seed in range(rounds):
            rng = np.random.default_rng([7, seed])
            reference, stream = reference_of(2_000, rng), Stream(rng)
            stream.at = int(rng.integers(0, DAY))
            before = reference.embeddings[:, :8]
            after = stream.rows(FAMILIES[family], size).embeddings[:, :8]
            for made in (MeanShift(), KsMax(), Mmd(), ClassifierTwoSample(), Psi()):
                score = made.fit(before).score(after)
                beyond[made.name] += score > limits[made.name]
                if made.name == "ks":  # without the correction for eight columns, about
                    beyond["ks_plain"] += any(KsMax().fit(before[:, [j]]).score(after[:, [j]]) > 0.95 for j in range(8))
        rows += [
            {"detector": name, "limit": limits.get(name, "p < 0.05"), "family": family, "windows": rounds,
             "share beyond": count / rounds, "per million": count / rounds / size * 1e6}
            for name, count in beyond.items()
        ]  # fmt: skip
    return rows


def poisson_upper(count: int) -> float:
    """The one-sided 95 % bound of a Poisson mean after so many events."""
    low, high = 0.0, count + 10 * (count + 1) ** 0.5 + 10
    for _ in range(60):
        mean = (low + high) / 2
        terms = np.cumprod([1.0, *(mean / k for k in range(1, count + 1))])
        low, high = (low, mean) if np.exp(-mean) * terms.sum() < 0.05 else (mean, high)
    return float(high)


PARTS = ("quiet", "delays", "classical", "cost")


def measured(part: str, millions: float, seeds: int) -> Any:
    """One part of the results, printed as a table."""
    if part == "cost":
        return cost()
    if part == "classical":
        rows = classical(100)
        table("Classical detectors on windows of 500 without a change", rows)
    elif part == "delays":
        calm = ((2_000, 0.0), (3 * DAY, 0.0), (3 * DAY, 0.3))
        rows = [row for n in REFERENCES for quiet_for, season in calm for row in delays(n, quiet_for, seeds, season)]
        table("A change: predictions to the first alarm", rows)
    else:
        rows = [quiet(name, world, n, seeds, millions) for name, world in FAMILIES.items() for n in REFERENCES]
        table("No change: false alarms (asked for: at most 1 in 10^6 predictions)", rows)
    return rows


def main() -> None:
    """Run the parts that are wanted; the others stay as they were."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=PARTS, help=f"Of {', '.join(PARTS)}; all unless given.")
    parser.add_argument("--millions", type=float, default=1.12, help="Predictions of each quiet stream.")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    file = FOLDER / "decisions_inputs.json"
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    kept = {part: known[part] for part in PARTS if part in known}
    for part in given.parts:
        kept[part] = measured(part, given.millions, given.seeds)
        save("decisions_inputs", {"run_length": RUN_LENGTH, "day": DAY, **kept})


if __name__ == "__main__":
    main()
