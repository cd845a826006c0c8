"""Ped2: forms of the plain score beside one another, on one denoiser. This is where the form was chosen (ADR 8).

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.variants

After `python -m benchmarks.video.ped2`, whose denoiser and background are taken. What is usual is measured on training
clips 11 to 13; the areas (raw micro, causal) are those of test clips 01 to 06. So the best of them is optimistic; the
spread says how much there was to choose. The result is written to benchmarks/results/video_variants.json.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.results import save, table
from benchmarks.video.ablations import HEAD_CLIPS, SEED
from benchmarks.video.data import Ped2Part, part
from benchmarks.video.measures import micro
from benchmarks.video.ped2 import fitted
from keepfit.engine.engine import Engine
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.tasks.video.diffusion import history
from keepfit.tasks.video.features import Floats, Level, pool_mean
from keepfit.tasks.video.model import Facts
from keepfit.tasks.video.normality import expected
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.stream import SMOOTHING

LOOK = {sigma: Level(sigma, False) for sigma in (0.5, 1.0, 2.0)}
MOTION = {sigma: Level(sigma, True) for sigma in (0.5, 1.0, 2.0)}
LEVELS = (*LOOK.values(), *MOTION.values())
BOXES = (6, 8)
"""Grid cells on a side: 24 and 32 pixels."""
LOOKS = ((1.0,), (2.0,), (1.0, 2.0), (0.5, 1.0))
MOTIONS = ((0.5,), (1.0,), (2.0,), (0.5, 1.0))
TAKEN = (8, (1.0, 2.0), (0.5, 1.0))
"""Box, look levels and motion levels of keepfit.tasks.video.normality."""
BAND = 9
"""Rows that a score by height smooths over."""


def errors(engine: Engine, preparation: Preparation, frames: Ped2Part) -> Floats:
    """Mean errors on the grid by LEVELS, and last the difference of frames: (n, levels + 1, rows, columns)."""
    past, found = history(frames.starts), []
    rows, columns = (-(-side // 4) for side in preparation.background.shape)
    for number in range(len(frames)):
        now = preparation.pictures(frames.images[number : number + 1])
        shown = preparation.pictures(frames.images[past[number]])
        said = engine.infer(
            {
                "noisy": np.repeat(now[:, None], len(LEVELS), axis=0),
                "past": np.repeat(shown[None], len(LEVELS), axis=0),
                "known": np.array([level.past for level in LEVELS], np.float32),
                "sigma": np.array([level.sigma for level in LEVELS], np.float32),
                "place": np.tile(np.array([[0, 0, 1, 1]], np.float32), (len(LEVELS), 1)),
            }
        )["denoised"][:, 0]
        maps = np.concatenate([np.abs(said - now), np.abs(now - shown[:1])])
        found.append(pool_mean(maps[None])[0, :, :rows, :columns])
    return np.stack(found)


def boxed(maps: Floats, size: int) -> Floats:
    """Means of boxes around each cell of (n, rows, columns)."""
    return np.asarray(ndimage.uniform_filter(maps, (0, size, size), mode="nearest"), np.float32)


def area(scores: NDArray[Any], test: Ped2Part) -> float:
    """Raw micro area of frame scores (n,), smoothed as a stream smooths them."""
    smooth = np.array(scores, np.float64)
    for number in range(1, len(smooth)):
        if not test.starts[number]:
            smooth[number] = smooth[number - 1] + SMOOTHING * (smooth[number] - smooth[number - 1])
    return float(micro(smooth, test.truth, test.index))


def by_height(normal: Floats, maps: Floats) -> Floats:
    """Box errors z-scored by row of the grid, as ADR 8 gave up: both (n, rows, columns)."""
    highest = normal.max(axis=2)
    mean, spread = (
        ndimage.uniform_filter1d(v, BAND, mode="nearest") for v in (highest.mean(axis=0), highest.std(axis=0))
    )
    return np.asarray((maps - mean[:, None]) / (spread[:, None] + 1e-6), np.float32)


def surprise(normal: Floats, maps: Floats, size: int, looks: Sequence[float], motions: Sequence[float]) -> Floats:
    """Motion errors beyond those that go with the look, in spreads of a frame's highest: (n, rows, columns)."""

    def look(of: Floats) -> Floats:
        places = [LEVELS.index(LOOK[sigma]) for sigma in looks]
        peaks = [float(normal[:, place].max(axis=(1, 2)).mean()) for place in places]
        return np.asarray(
            np.mean([boxed(of[:, i], size) / peak for i, peak in zip(places, peaks, strict=True)], axis=0)
        )

    usual, shown, total = look(normal), look(maps), np.zeros((len(maps), *maps.shape[2:]), np.float32)
    for place in (LEVELS.index(MOTION[sigma]) for sigma in motions):
        held, seen = boxed(normal[:, place], size), boxed(maps[:, place], size)
        at, curves = expected(usual, held[:, None])
        highest = (held - np.interp(usual, at, curves[0])).max(axis=(1, 2))
        total += ((seen - np.interp(shown, at, curves[0]) - highest.mean()) / highest.std()).astype(np.float32)
    return total / len(motions)


def rows_of(normal: Floats, maps: Floats, test: Ped2Part) -> dict[str, float]:
    """The largest 32-pixel box of each error, as it is and by height; the difference of frames; and the surprise."""
    found = {"difference of frames": area(boxed(maps[:, -1], 8).max(axis=(1, 2)), test)}
    for place, level in enumerate(LEVELS):
        held, seen = boxed(normal[:, place], 8), boxed(maps[:, place], 8)
        found[str(level)] = area(seen.max(axis=(1, 2)), test)
        found[f"{level}, by height"] = area(by_height(held, seen).max(axis=(1, 2)), test)
    found["surprise, as taken"] = area(surprise(normal, maps, *TAKEN).max(axis=(1, 2)), test)
    return found


def main() -> int:
    """Every form, then the table."""
    found = fitted(SEED)
    if found is None:
        return 0
    place, model = found
    train, test = part(place, "train"), part(place, "test_01_06")
    kept = np.isin(train.index, [train.clips.index(name) for name in HEAD_CLIPS])
    held = Ped2Part(train.images[kept], train.starts[kept], train.truth[kept], HEAD_CLIPS, train.fps)
    facts = Facts.read(model)
    engine = OpenVinoEngine.load(model / "ir" / "denoiser.xml", facts.precision)
    preparation = Preparation(facts.background)
    normal, maps = errors(engine, preparation, held), errors(engine, preparation, test)
    forms = rows_of(normal, maps, test)
    variants = {
        f"box {4 * size} px, look {looks}, motion {motions}": area(
            surprise(normal, maps, size, looks, motions).max(axis=(1, 2)), test
        )
        for size, looks, motions in product(BOXES, LOOKS, MOTIONS)
    }
    areas = np.array(list(variants.values()))
    spread = {"lowest": float(areas.min()), "median": float(np.median(areas)), "highest": float(areas.max())}
    save("video_variants", {"forms": forms, "variants": variants, "spread": spread})
    table("Ped2, test clips 01 to 06", [{"largest box of": name, "area": value} for name, value in forms.items()])
    print(f"{len(areas)} variants of the surprise: {spread}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
