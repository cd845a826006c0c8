"""Ped2: what it costs, and what it changes, to judge only the places that differ from the empty scene (ADR 32).

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.gating [--seed 17] [--profile cpu|demo]

After `python -m benchmarks.video.ped2` with the same seed and profile, whose model is taken. Frames a second from grey
pictures to scores, with gating and without it, in turn, on the test clips (people walk everywhere) and on the empty
scene with a sensor's noise; beside it the raw micro areas, causal, of both. The threshold and what is usual stay those
of the model. The result is written to benchmarks/results/video_gating_PROFILE.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import save, table
from benchmarks.video.data import Ped2Part, part
from benchmarks.video.intervals import paired_clip_bootstrap
from benchmarks.video.measures import micro, to_json
from benchmarks.video.ped2 import ROUNDS_SEED, fitted
from keepfit.tasks.video.features import ErrorMaps
from keepfit.tasks.video.model import CHUNK, load
from keepfit.tasks.video.stream import Parts, Stream

ROUNDS = 1
CAMERA_FPS = 5.0
"""Frames a second of the cameras that are counted."""
NOISE = 2.0
"""Grey levels, standard deviation, of the empty scene."""
EMPTY_FRAMES = 128

Images = NDArray[np.uint8]


def without_gating(parts: Parts) -> Parts:
    """The same model, which looks at everything."""
    whole = replace(parts.preparation, still=0.0)
    return replace(parts, preparation=whole, maps=ErrorMaps(parts.maps.engine, whole))


def timed(parts: Parts, images: Images, starts: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float]:
    """Scores of all frames, and frames a second."""
    stream, began = Stream(parts), time.perf_counter()
    places = range(0, len(images), CHUNK)
    scores = [stream.push(images[i : i + CHUNK], starts[i : i + CHUNK]).scores for i in places]
    return np.concatenate(scores), len(images) / (time.perf_counter() - began)


def empty_scene(background: Images) -> Images:
    """Frames of it with a sensor's noise."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, NOISE, (EMPTY_FRAMES, *background.shape))
    return np.clip(np.round(background + noise), 0, 255).astype(np.uint8)


def compared(kinds: Mapping[str, Parts], test: Ped2Part) -> dict[str, Any]:
    """Best rates of the rounds, in turn, and the areas."""
    empty = empty_scene(kinds["gated"].preparation.background)
    nothing = np.arange(len(empty)) == 0
    rates: dict[str, float] = {}
    scores: dict[str, NDArray[np.float32]] = {}
    for _, (name, parts) in product(range(ROUNDS), kinds.items()):
        scores[name], rate = timed(parts, test.images, test.starts)
        rates[name] = max(rate, rates.get(name, 0.0))
        _, rate = timed(parts, empty, nothing)
        rates[f"{name}, empty"] = max(rate, rates.get(f"{name}, empty", 0.0))
    rng = np.random.default_rng(ROUNDS_SEED)
    change = paired_clip_bootstrap(micro, scores["gated"], scores["whole"], test.truth, test.index, rng)
    return {
        "frames_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "cameras_at_5_fps": {name: int(rate / CAMERA_FPS) for name, rate in rates.items()},
        "faster": round(rates["gated"] / rates["whole"], 2),
        "faster_empty": round(rates["gated, empty"] / rates["whole, empty"], 2),
        "raw_micro": {name: round(float(micro(said, test.truth, test.index)), 4) for name, said in scores.items()},
        "gated_minus_whole": to_json(change),
    }


def main() -> int:
    """Both, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--profile", default="cpu", choices=["cpu", "demo"])
    asked = parser.parse_args()
    found = fitted(asked.seed, asked.profile)
    if found is None:
        return 0
    place, folder = found
    parts = load(Path(folder)).parts
    result = compared({"gated": parts, "whole": without_gating(parts)}, part(place, "test_01_06"))
    save(f"video_gating_{asked.profile}", {"seed": asked.seed, "profile": asked.profile, **result})
    rates = result["frames_per_second"]
    table("Frames a second", [{"": name, "frames/s": rate} for name, rate in rates.items()])
    print(f"areas {result['raw_micro']}, gated minus whole {result['gated_minus_whole']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
