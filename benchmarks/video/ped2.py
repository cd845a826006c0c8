"""UCSD Ped2: a video model fitted on the training clips alone, judged on test clips 01 to 06.

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.ped2 [--part fit|score|report] [--minutes 25] [--seed 17]
                                                        [--profile cpu|demo] [--steps 4800 --clips 160]

FOLDER holds video/ucsd_ped2/. Training clips 01 to 10 teach the denoiser, 11 to 13 the head, 14 to 16 set the
threshold, which is fixed before a test label is read. The headline is the raw micro AUC of the causal scores under one
threshold for the whole stream. Beside it: the plain error detector (the same denoiser without the CNN+LSTM), and the
one-line floor of benchmarks.video.floors. Each part can be killed and started again; what was finished is kept in
build/benchmarks/ped2. The result is written to benchmarks/results/video_ped2.json. Steps and clips that are not named
follow from the minutes and from how fast the machine is at the beginning.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.results import save, table
from benchmarks.video.data import Ped2Part, part
from benchmarks.video.floors import TRAILING, differences
from benchmarks.video.floors import scored as one_line_scores
from benchmarks.video.intervals import paired_clip_bootstrap
from benchmarks.video.measures import (
    MEANING,
    at_threshold,
    causal_mean,
    events,
    micro,
    summary,
    to_json,
)
from benchmarks.video.regions import rbdc_tbdc
from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow
from keepfit.tasks.video.clips import windows
from keepfit.tasks.video.finishing import scored
from keepfit.tasks.video.fit import VideoTask
from keepfit.tasks.video.head import Head, HeadShape
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.normality import WIDTH
from keepfit.tasks.video.stored import keep, keep_starts
from keepfit.tasks.video.stream import Parts
from keepfit.tasks.video.thresholding import label
from keepfit.training.recipe import Recipe, VideoRecipe

WORK = Path("build/benchmarks/ped2")
WINDOW = 30
CALIBRATION = ("14", "15", "16")
FLOOR = 0.897
TARGETS = (0.95, 0.975)
ROUNDS_SEED = 0

Values = dict[str, Any]


def snapshot(folder: Path, train: Ped2Part, video: Path) -> Snapshot:
    """The training clips as windows: 01 to 13 to learn from, 14 to 16 to set the threshold."""
    name = keep(video, folder / "videos")
    keep_starts(folder / "videos", name, train.starts)
    begins = [*np.flatnonzero(train.starts).tolist(), len(train)]
    rows = [
        SnapshotRow(str(clip), str(clip), "0", f"{name}/{clip_name}", split, UNKNOWN_TIME)
        for clip_name, first, stop in zip(train.clips, begins, begins[1:], strict=False)
        for split in [Split.VALIDATION if clip_name in CALIBRATION else Split.TRAIN]
        for clip in windows(name, first, stop, WINDOW)
    ]
    return write_snapshot(
        folder / "snapshots", rows, ("video",), {"kind": "benchmark", "source": "ped2", "fps": train.fps}
    )


def fit(data: Path, folder: Path, recipe: Recipe) -> Path:
    """The model's folder."""
    place = data / "video" / "ucsd_ped2"
    made = snapshot(folder / "state", part(place, "train"), place / "train.mp4")
    began, cpu = time.time(), time.process_time()
    model = VideoTask().fit(made, recipe, say, folder / "state" / "work" / "job")
    note = folder / "fit.json"
    if not note.is_file():
        spent = {"minutes": (time.time() - began) / 60, "cpu_minutes_of_all_cores": (time.process_time() - cpu) / 120}
        note.write_text(json.dumps(spent | {"load": os.getloadavg()}), "utf-8")
    return model


def scores_of(model: VideoModel, test: Ped2Part) -> tuple[NDArray[np.float32], NDArray[np.float16], float]:
    """Scores and heat of every frame as a live stream gives them, and frames per second."""
    stream, found, began = model.stream(), [], time.perf_counter()
    for i in range(0, len(test), 16):
        found.append(stream.push(test.images[i : i + 16], test.starts[i : i + 16]))
    rate = len(test) / (time.perf_counter() - began)
    return np.concatenate([f.scores for f in found]), np.concatenate([f.cells for f in found]), rate


def judged(scores: NDArray[np.float32], heat: NDArray[np.float16], model: VideoModel, test: Ped2Part) -> Values:
    """Every measure, at the fixed threshold too."""
    rng = np.random.default_rng(ROUNDS_SEED)
    flags = label(scores, test.starts, model.threshold)
    found = summary(scores.astype(np.float64), test.truth, test.index, test.starts, rng)
    found["at_threshold"] = to_json(at_threshold(flags, test.truth, test.index, test.fps))
    found["events"] = to_json(events(flags, test.truth, test.index))
    if test.masks is not None:
        found["regions"] = to_json(rbdc_tbdc(inside(heat, test), test.masks, test.index))
    return found


def inside(heat: NDArray[np.float16], test: Ped2Part) -> NDArray[np.float32]:
    """The heat of 32-pixel cells over the padded picture, on a grid of 8 pixels that covers just the picture."""
    height, width = test.images.shape[1:]
    fine = np.repeat(np.repeat(heat.astype(np.float32), 4, axis=1), 4, axis=2)
    return fine[:, : height // 8, : width // 8]


def score(data: Path, folder: Path, model_folder: Path) -> Values:
    """The model and the plain error detector on the test clips, paired."""
    test = part(data / "video" / "ucsd_ped2", "test_01_06")
    model = VideoTask().load(model_folder)
    said, heat, rate = scores_of(model, test)
    np.savez(folder / "scores.npz", scores=said, heat=heat)
    settings = json.loads((model_folder / "model.json").read_text("utf-8"))
    found: Values = {
        "model": judged(said, heat, model, test),
        "frames_per_second": round(rate, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threshold": asdict(model.threshold),
        "head": {k: v for k, v in settings["head"].items() if k != "training"},
        "denoiser": settings["denoiser"],
        "fit": json.loads((folder / "fit.json").read_text("utf-8")),
    }
    plain = plain_scores(model, test)
    rng = np.random.default_rng(ROUNDS_SEED)
    found["plain_raw_micro"] = float(micro(plain, test.truth, test.index))
    found["model_minus_plain"] = to_json(paired_clip_bootstrap(micro, said, plain, test.truth, test.index, rng))
    differing = one_line_scores(differences(test.images, test.starts), 32, 32)[0]
    one_line = causal_mean(differing, test.starts, TRAILING)
    found["one_line_raw_micro"] = float(micro(one_line, test.truth, test.index))
    found["model_minus_one_line"] = to_json(paired_clip_bootstrap(micro, said, one_line, test.truth, test.index, rng))
    return found


def plain_scores(model: VideoModel, test: Ped2Part) -> NDArray[np.float32]:
    """What the same errors say without the CNN+LSTM: the surprises, pooled and smoothed as in the model."""
    parts = model.parts
    head = Head(HeadShape(WIDTH, parts.maps.grid, "none")).eval()

    class Plain:
        precision, device = "fp32", "cpu"

        def infer(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
            with torch.inference_mode():
                cells = head.plain(torch.from_numpy(inputs["maps"])).numpy()
            return {"cells": cells, "memory_out": inputs["memory"], "cell_out": inputs["cell"]}

    plain = Parts(parts.preparation, parts.maps, parts.normal, Plain(), parts.memory)
    return scored(plain, Material(test.images, test.starts, ()))


def report(found: Mapping[str, Values]) -> None:
    """One JSON and one table of all runs."""
    headline = [values["model"]["raw_micro"]["value"] for name, values in found.items() if name.startswith("cells")]
    reached = {f"raw micro >= {target}": bool(np.mean(headline) >= target) for target in TARGETS}
    save("video_ped2", {"floor": FLOOR, "reached": reached, "meaning": MEANING, "runs": found})
    rows: Sequence[Values] = [
        {
            "run": name,
            "raw micro": values["model"]["raw_micro"]["value"],
            "plain errors": values["plain_raw_micro"],
            "smoothed": values["model"]["smoothed_micro"]["value"],
            "min-max": values["model"]["smoothed_minmax_micro"]["value"],
            "macro": values["model"]["macro"]["value"],
            "EER": values["model"]["eer"],
            "left out": values["head"].get("left_out", {}).get("mean"),
            "frames/s": values["frames_per_second"],
            "minutes": values["fit"]["minutes"],
        }
        for name, values in found.items()
    ]
    table("Ped2, test clips 01 to 06", rows)


def say(metrics: Mapping[str, float], step: int) -> None:
    """One line of a training's log."""
    shown = {name: round(value, 4) for name, value in metrics.items() if name in ("loss", "eval_loss", "decoding")}
    print(time.strftime("%H:%M:%S"), f"step {step} ({metrics.get('progress', 0):.0%}) {shown}", flush=True)


def folder_of(head: str, seed: int, profile: str = "cpu") -> Path:
    """Where a run keeps what it has made."""
    return WORK / f"{'' if profile == 'cpu' else 'fast-'}{head}-{seed}"


def fitted(seed: int, profile: str = "cpu") -> tuple[Path, Path] | None:
    """Where the videos are, and the model that this program has fitted; None, and a word, without either."""
    data = os.environ.get("KEEPFIT_DATA")
    model = folder_of("cells", seed, profile) / "state" / "work" / "job" / "model"
    if not data or not model.is_dir():
        print("skipped: set KEEPFIT_DATA to the folder that holds video/ucsd_ped2, and run benchmarks.video.ped2 first")
        return None
    return Path(data) / "video" / "ucsd_ped2", model


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=["fit", "score", "report"])
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--head", default="cells", choices=["cells", "global", "cnn_only", "none"])
    parser.add_argument("--profile", default="cpu", choices=["cpu", "demo"], help="demo: the small, fast denoiser.")
    parser.add_argument("--steps", type=int, default=0, help="Of the denoiser; 0: from the minutes.")
    parser.add_argument("--clips", type=int, default=0, help="That the head learns from; 0: from the minutes.")
    asked = parser.parse_args()
    data = os.environ.get("KEEPFIT_DATA")
    if not data:
        print("skipped: set KEEPFIT_DATA to the folder that holds video/ucsd_ped2")
        return 0
    folder = folder_of(asked.head, asked.seed, asked.profile)
    folder.mkdir(parents=True, exist_ok=True)
    video = VideoRecipe(asked.profile, asked.minutes, asked.steps, asked.clips, head=asked.head)
    recipe = Recipe(seed=asked.seed, video=video)
    if asked.part in (None, "fit", "score"):
        model = fit(Path(data), folder, recipe)
    if asked.part in (None, "score"):
        (folder / "result.json").write_text(json.dumps(score(Path(data), folder, model)), "utf-8")
    if asked.part in (None, "report"):
        report({p.parent.name: json.loads(p.read_text("utf-8")) for p in sorted(WORK.glob("*/result.json"))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
