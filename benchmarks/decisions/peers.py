"""The harm detector beside river's drift detectors: false alarms, and the delay at a matched rate of them.

    python -m benchmarks.decisions.peers [--labels 1000000] [--runs 20] [--seed 1]

The same labels for all, all of them known (100 %); the risk is 0.10. Null streams: iid, season (20,000 labels a day,
0.03 up and down), bursts (AR(1), 0.9 and 0.98, deviation 0.03). Each peer runs at its defaults, and tuned: of its grid
the most sensitive setting with at most one alarm in 10^6 labels on the *other* null families (leave one family out),
which is what it is then held to on the family that was left out. Delay: a season, then 5, 10 or 20 points more after
41,000 labels; an alarm before that is no find. Ours is as shipped, with a reference of 20,000 rows that say when they
happened. The control alarms at random, as often as a peer at its defaults does on the season. The peers are installed
into an environment of their own. Writes benchmarks/results/decisions_peers.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decisions.harm import ANSWERS, BINS, columns_of
from benchmarks.results import save, table
from keepfit.monitoring.baseline import Sums, learn
from keepfit.monitoring.harm import HarmDetector, Observations

DAY, WARM, TAIL = 20_000, 41_000, 20_000
RIVER = "0.26.1"
ENVIRONMENT = Path("build/benchmarks/peers/river")
GRIDS: Mapping[str, Sequence[Mapping[str, float]]] = {
    "ADWIN": [{}, *({"delta": d} for d in (1e-3, 1e-4, 1e-6, 1e-9, 1e-13, 1e-20))],
    "PageHinkley": [{}, *({"threshold": t} for t in (100, 200, 400, 800, 1600))],
    "DDM": [{}, *({"drift_threshold": t} for t in (4.0, 5.0, 6.0, 8.0))],
    "HDDM_A": [{}, *({"drift_confidence": c} for c in (1e-5, 1e-8, 1e-12, 1e-20, 1e-40))],
    "HDDM_W": [{}, *({"drift_confidence": c} for c in (1e-5, 1e-8, 1e-12))],
}
"""The defaults first, then less and less sensitive ones."""
SHORT = {"KSWIN": 40_000, "EDDM": 200_000}
"""At their defaults only, on so many labels: they alarm so often, or are so slow, that more would teach nothing."""
Streams = NDArray[np.uint8]


def risks(family: str, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """The risk of each label."""
    if family == "season":
        return np.asarray(0.10 + 0.03 * np.sin(2 * np.pi * np.arange(n) / DAY), np.float64)
    if family.startswith("bursts"):
        rho = float(family.split()[1])
        noise, latent, found = rng.standard_normal(n).tolist(), 0.0, np.empty(n)
        for place in range(n):
            latent = rho * latent + (1 - rho**2) ** 0.5 * noise[place]
            found[place] = latent
        return np.clip(0.10 + 0.03 * found, 0, 1)
    return np.full(n, 0.10)


FAMILIES = ("iid", "season", "bursts 0.9", "bursts 0.98")


def drawn(risk: NDArray[np.float64], rng: np.random.Generator) -> Streams:
    """Mistakes."""
    return (rng.random(risk.shape) < risk).astype(np.uint8)


def environment() -> Path:
    """river's own environment, made when it is missing."""
    python = ENVIRONMENT / "bin/python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"river=={RIVER}"], check=True)
    return python


def peer(name: str, parameters: Mapping[str, float], streams: Streams) -> list[list[int]]:
    """The alarms of one of river's detectors on each stream."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "streams.npy"
        np.save(file, streams)
        script = Path(__file__).with_name("river_peer.py")
        command = [str(environment()), str(script), name, json.dumps(dict(parameters)), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[list[int]] = json.loads(done.stdout)
    return found


def ours(streams: Streams, family: str, seed: int, tolerance: float = 0.01) -> list[list[int]]:
    """The alarms of our detector, restarted after each; judged on rows of the same family."""
    rng, found, season = np.random.default_rng(seed), [], 0.03 if family == "season" else 0.0
    for stream in streams:
        bins = rng.integers(0, BINS * 7, 20_000)
        losses = rng.random(20_000) < 0.10 + season * np.sin(2 * np.pi * bins / BINS)
        columns = columns_of(np.arange(BINS * 7))
        bounds = learn(Sums.none(columns.shape[1]).add(losses, columns[bins])).upper(columns, 1.0, tolerance)
        places = (np.arange(len(stream)) * BINS // DAY) % (BINS * 7)
        alarms, start = list[int](), 0
        while start < len(stream):
            detector = HarmDetector()
            hit = detector.watch(Observations.of(stream[start:], bounds[places[start:]]), ANSWERS)
            if hit is None:
                break
            alarms.append(start + hit)
            start += hit + 1
        found.append(alarms)
    return found


def delay(alarms: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """Labels from the change to the first alarm behind it; the median, and the share of streams without one."""
    after = [min((place - WARM + 1 for place in one if place >= WARM), default=np.inf) for one in alarms]
    median = float(np.quantile(after, 0.5, method="nearest"))
    return {"median": median if np.isfinite(median) else None, "missed": float(np.isinf(after).mean())}


def tuned(counts: Mapping[str, Sequence[int]], family: str | None, allowed: float) -> int:
    """The first setting that keeps to the rate on all families but this one; the last where none does."""
    for place in range(len(next(iter(counts.values())))):
        if all(found[place] <= allowed for name, found in counts.items() if name != family):
            return place
    return len(next(iter(counts.values()))) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    rng = np.random.default_rng(chosen.seed)
    nulls = {family: drawn(risks(family, chosen.labels, rng), rng)[None] for family in FAMILIES}
    base = risks("season", WARM + TAIL, rng)
    changed = {
        points: drawn(np.tile(base + np.where(np.arange(len(base)) >= WARM, points / 100, 0.0), (chosen.runs, 1)), rng)
        for points in (5, 10, 20)
    }
    scale = 1e6 / chosen.labels
    rows: list[dict[str, Any]] = []

    def add(name: str, setting: str, counts: Mapping[str, float], delays: Mapping[int, Mapping[str, Any]]) -> None:
        told = {f"{points} points": found["median"] for points, found in delays.items()}
        missed = {f"missed {points}": found["missed"] for points, found in delays.items()}
        rows.append({"detector": name, "setting": setting, **counts, **told, **missed})
        print(rows[-1], flush=True)

    for tolerance in (0.01, 0.0):
        counts = {family: len(ours(streams, family, 7, tolerance)[0]) * scale for family, streams in nulls.items()}
        delays = {points: delay(ours(streams, "season", 8, tolerance)) for points, streams in changed.items()}
        add("keepfit harm", f"tolerance {tolerance:g}", counts, delays)
    for name, grid in GRIDS.items():
        found = {f: [len(peer(name, one, streams)[0]) * scale for one in grid] for f, streams in nulls.items()}
        first = {points: delay(peer(name, grid[0], streams)) for points, streams in changed.items()}
        add(name, "default", {family: counts_[0] for family, counts_ in found.items()}, first)
        held = {family: found[family][tuned(found, family, 1.0)] for family in FAMILIES}
        best = grid[tuned(found, None, 1.0)]
        add(name, f"tuned {json.dumps(dict(best))}", held, {p: delay(peer(name, best, s)) for p, s in changed.items()})
    for name, n in SHORT.items():
        counts = {f: len(peer(name, {}, streams[:, :n])[0]) * 1e6 / n for f, streams in nulls.items()}
        some = {
            points: delay(peer(name, {}, streams[:5, WARM - 2_000 : WARM + 5_000]))
            for points, streams in changed.items()
        }
        add(name, "default", counts, {p: {"median": None, "missed": one["missed"]} for p, one in some.items()})
    for row in [one for one in rows if one["setting"] == "default" and one["detector"] in GRIDS]:
        rate = row["season"] / 1e6
        wait = None if not rate else float(np.log(2) / rate)
        rows.append({"detector": f"random, as often as {row['detector']}", "setting": "", "season": row["season"],
                     "5 points": wait, "10 points": wait, "20 points": wait})  # fmt: skip
    table("alarms in 10^6 labels without harm, and median labels until harm is seen", [
        {key: row.get(key, "") for key in rows[0]} for row in rows
    ])  # fmt: skip
    save("decisions_peers", {"labels": chosen.labels, "runs": chosen.runs, "river": RIVER, "rows": rows})


if __name__ == "__main__":
    main()
