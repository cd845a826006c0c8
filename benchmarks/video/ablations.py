"""Ped2: what each part of the detector adds, with one denoiser, one seed and the same synthetic events.

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.ablations

After `python -m benchmarks.video.ped2`, whose denoiser, background and usual errors are taken. The heads learn from
synthetic events in training clips 11 to 13 and are judged on test clips 01 to 06 (raw micro area, causal). `plain` is
the surprise alone. `raw frames` is the same CNN+LSTM on the distance from the background in place of the
errors: of the present picture and the four of its past, mean and maximum of 4 x 4 pixels. It has no surprise to start
from, so `errors alone` is the same head on the errors without the surprises. Intervals by paired clip bootstrap. Made
clips are kept in build/benchmarks/ablations. The result is
written to benchmarks/results/video_ablations.json.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results import save, table
from benchmarks.video.data import Ped2Part, part
from benchmarks.video.intervals import paired_clip_bootstrap
from benchmarks.video.measures import micro, to_json
from benchmarks.video.ped2 import ROUNDS_SEED, fitted
from keepfit.tasks.video.diffusion import history
from keepfit.tasks.video.draws import FRAMES
from keepfit.tasks.video.features import Floats, pool_max, pool_mean
from keepfit.tasks.video.fit import VideoTask
from keepfit.tasks.video.head import Head, HeadShape, Kind
from keepfit.tasks.video.head_training import EPOCHS, fit_head
from keepfit.tasks.video.normality import MOST_ERROR, SURPRISES, WIDTH
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.sequences import Extractor, Sequences, make
from keepfit.tasks.video.stream import SMOOTHING, Parts
from keepfit.tasks.video.synthetic import FAMILIES, Injected, sample

SEED = 17
COUNT = 120
"""Clips with synthetic events, or none, that the heads learn from."""
HEAD_CLIPS = ("11", "12", "13")
FOLDER = Path("build/benchmarks/ablations")
VARIANTS: Mapping[str, tuple[str, Kind]] = {
    "plain": ("errors", "none"),
    "CNN+LSTM per cell": ("errors", "cells"),
    "CNN only": ("errors", "cnn_only"),
    "CNN+LSTM global": ("errors", "global"),
    "errors alone, CNN+LSTM per cell": ("bare", "cells"),
    "raw frames, CNN+LSTM per cell": ("frames", "cells"),
}
RAW = "raw frames, CNN+LSTM per cell"
Scores = NDArray[np.float32]


class Bare(Sequences):
    """The same clips without the surprises."""

    def maps(self, chosen: Sequence[int]) -> NDArray[np.float32]:
        return without_surprises(super().maps(chosen))


class RawFrames:
    """The pictures in place of error maps: the present one and its past, by mean and maximum; see ErrorMaps."""

    def __init__(self, grid: tuple[int, int]) -> None:
        self.grid = grid

    def of(self, now: Floats, past: Floats) -> Floats:
        """now (n, H, W) and past (n, 4, H, W) -> (n, 10, rows, columns)."""
        shown = np.abs(np.concatenate([now[:, None], past], axis=1))
        pooled = np.stack([pool_mean(shown), pool_max(shown)], axis=2)
        rows, columns = self.grid
        return np.asarray(pooled.reshape(len(now), -1, *pooled.shape[3:])[..., :rows, :columns], np.float32)


def without_surprises(normalised: Any) -> Any:
    """(..., WIDTH, rows, columns) with zeros in the place of the surprises."""
    bare = normalised.copy()
    bare[..., -SURPRISES:, :, :] = 0
    return bare


def unjudged(maps: Floats) -> Floats:
    """No surprise: the head must do everything itself."""
    nothing = np.zeros((len(maps), SURPRISES, *maps.shape[2:]), np.float32)
    return np.concatenate([np.clip(maps, 0, MOST_ERROR), nothing], axis=1)


def folder_of(model: Path) -> Path:
    """Where what was made with this model is kept: another model, or another plan, has another folder."""
    plan = f"{SEED} {COUNT} {hashlib.sha256((model / 'model.json').read_bytes()).hexdigest()}"
    return FOLDER / hashlib.sha256(plan.encode()).hexdigest()[:12]


def extractor_of(kind: str, parts: Parts) -> Extractor:
    """Clips to what the head sees."""
    if kind == "errors":
        return Extractor(parts.preparation, parts.maps, parts.normal)
    return Extractor(parts.preparation, RawFrames(parts.maps.grid), unjudged)


def sequences_of(kind: str, parts: Parts, train: Ped2Part, folder: Path) -> Sequences:
    """The same synthetic events for every variant, as a training draws them."""
    edges = [*np.flatnonzero(train.starts).tolist(), len(train)]
    spans = zip(train.clips, edges, edges[1:], strict=False)
    stretches = [train.images[first:stop] for name, first, stop in spans if name in HEAD_CLIPS]

    def draw(number: int, rng: np.random.Generator) -> Injected:
        return sample(stretches, parts.preparation.background, FRAMES, FAMILIES, rng)

    if kind == "bare":
        made = sequences_of("errors", parts, train, folder)
        return Bare(made.folder, made.cells, made.families)
    extractor = extractor_of(kind, parts)
    return make(draw, lambda number, images: extractor.of(images), COUNT, SEED, folder / kind)


def seen_of(kind: str, parts: Parts, test: Ped2Part, folder: Path) -> NDArray[np.float16]:
    """What the head sees of every test frame; kept."""
    if kind == "bare":
        return without_surprises(seen_of("errors", parts, test, folder))
    file = folder / f"test-{kind}.npy"
    if not file.is_file():
        extractor, preparation = extractor_of(kind, parts), parts.preparation
        places = range(0, len(test), 16)
        found = [_seen(extractor, preparation, test, np.arange(i, min(i + 16, len(test)))) for i in places]
        partial = file.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(found))
        partial.replace(file)
    return np.asarray(np.load(file))


def _seen(
    extractor: Extractor, preparation: Preparation, test: Ped2Part, rows: NDArray[np.int64]
) -> NDArray[np.float16]:
    past = history(test.starts)[rows]
    shown = np.stack([preparation.pictures(test.images[past[:, back]]) for back in range(past.shape[1])], axis=1)
    maps = extractor.maps.of(preparation.pictures(test.images[rows]), shown)
    return np.asarray(extractor.normal(maps), np.float16)


def said_by(head: Head, seen: NDArray[np.float16], test: Ped2Part) -> Scores:
    """Frame scores as a stream smooths them, clip by clip."""
    edges, found = [*np.flatnonzero(test.starts).tolist(), len(test)], []
    head.eval()
    with torch.inference_mode():
        for first, stop in pairwise(edges):
            maps = torch.from_numpy(seen[first:stop].astype(np.float32))[None]
            logits = head(maps)["frames"][0].numpy()
            smooth = [float(logits[0])]
            for logit in logits[1:]:
                smooth.append(smooth[-1] + SMOOTHING * (float(logit) - smooth[-1]))
            found.append(np.array(smooth, np.float32))
    return np.concatenate(found)


def head_of(kind: Kind, made: Sequences, grid: tuple[int, int], place: Path) -> Head:
    """A head of this kind, trained on all families."""
    shape = HeadShape(WIDTH, grid, kind)
    return Head(shape).eval() if kind == "none" else fit_head(made, shape, EPOCHS, SEED, _silent, place)[0]


def _silent(metrics: Mapping[str, float], step: int) -> None:
    """Nothing is shown of the many short trainings."""


def main() -> int:
    """Every variant, then the table."""
    places = fitted(SEED)
    if places is None:
        return 0
    place, model_folder = places
    train, test = part(place, "train"), part(place, "test_01_06")
    parts, folder = VideoTask().load(model_folder).parts, folder_of(model_folder)
    scores: dict[str, Scores] = {}
    found: dict[str, Any] = {}
    for name, (kind, head_kind) in VARIANTS.items():
        made = sequences_of(kind, parts, train, folder)
        head = head_of(head_kind, made, parts.maps.grid, folder / "heads" / name.replace(" ", "-"))
        scores[name] = said_by(head, seen_of(kind, parts, test, folder), test)
        found[name] = {"raw_micro": float(micro(scores[name], test.truth, test.index))}
        print(name, found[name], flush=True)
    compared = [(name, "plain") for name in list(VARIANTS)[1:]]
    compared += [("CNN+LSTM per cell", RAW), ("errors alone, CNN+LSTM per cell", RAW)]
    rng = np.random.default_rng(ROUNDS_SEED)
    differences = {
        f"{ours} minus {theirs}": to_json(
            paired_clip_bootstrap(micro, scores[ours], scores[theirs], test.truth, test.index, rng)
        )
        for ours, theirs in compared
    }
    save(
        "video_ablations",
        {"seed": SEED, "sequences": COUNT, "model": folder.name, "variants": found, "differences": differences},
    )
    table("Ped2, test clips 01 to 06", [{"variant": n, "raw micro": v["raw_micro"]} for n, v in found.items()])
    return 0


if __name__ == "__main__":
    sys.exit(main())
