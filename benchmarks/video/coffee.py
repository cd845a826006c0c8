"""Falls in a coffee room: labelled clips of one camera, and the same without their labels.

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.coffee [--kind labelled|unlabelled] [--minutes 10] [--seed 17]

FOLDER holds video/coffee_room_falls/. Clips 01 to 10 are learnt from, 11 to 14 set the threshold, 15 to 24 are the
test; the parts go by the numbers of the clips. `labelled`: the falls of clips 01 to 10 teach the head, as in
`keepfit train clips/ labels.csv`. `unlabelled`: it sees only what comes before the falls (where to cut is read from the
labels), and synthetic events. What lies on the floor after a fall is in neither part of the learning, and is scored
apart: the data set calls it normal. Nothing is chosen on the test clips. Each kind is kept in build/benchmarks/coffee
and can be killed and started again; the result is written to benchmarks/results/video_coffee.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import save, table
from benchmarks.video.data import CoffeeClip, Ped2Part, coffee
from benchmarks.video.floors import TRAILING, differences
from benchmarks.video.floors import scored as one_line_scores
from benchmarks.video.intervals import paired_clip_bootstrap
from benchmarks.video.measures import MEANING, at_threshold, auc, causal_mean, events, micro, summary, to_json
from benchmarks.video.ped2 import plain_scores, say, scores_of
from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow
from keepfit.tasks.video.clips import Clip, window_frames, windows
from keepfit.tasks.video.fit import VideoTask
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.stored import keep, keep_starts
from keepfit.tasks.video.thresholding import calibrate, label
from keepfit.tasks.video.timeline import ANOMALY, NORMAL
from keepfit.training.recipe import Recipe, VideoRecipe

WORK = Path("build/benchmarks/coffee")
FPS = 25.0
LEARNT, TESTED = 10, 14
"""Clips up to the first number are learnt from, those after the second are the test."""
BUDGETS = (1.0, 24.0, 240.0, 1440.0, 8640.0)
"""False alarms a day; the first is the default, the last one in ten seconds."""
KINDS = ("labelled", "unlabelled")
SEED = 0

Values = dict[str, Any]


def rows(clips: Sequence[CoffeeClip], place: Path, folder: Path, labelled: bool) -> Iterator[SnapshotRow]:
    """Windows of what comes before each fall, and with labels the falls of the clips that are learnt from."""
    for number, clip in enumerate(clips):
        name = keep(place / f"{clip.name}.avi", folder / "videos")
        keep_starts(folder / "videos", name, np.arange(len(clip.truth)) == 0)
        split = Split.TRAIN if number < LEARNT else Split.VALIDATION
        falls = np.flatnonzero(clip.truth)
        parts = [(one, NORMAL) for one in windows(name, 0, int(falls[0]), window_frames(FPS))]
        if labelled and split is Split.TRAIN:
            parts.append((Clip(name, int(falls[0]), int(falls[-1]) + 1), ANOMALY))
        for one, said in parts:
            yield SnapshotRow(str(one), str(one), said, name, split, UNKNOWN_TIME)


def snapshot(clips: Sequence[CoffeeClip], place: Path, folder: Path, labelled: bool) -> Snapshot:
    """What the training is given."""
    made = list(rows(clips[:TESTED], place, folder, labelled))
    return write_snapshot(folder / "snapshots", made, ("video",), {"kind": "benchmark", "source": "coffee", "fps": FPS})


def joined(clips: Sequence[CoffeeClip]) -> Ped2Part:
    """The clips one after another."""
    starts = np.concatenate([np.arange(len(clip.truth)) == 0 for clip in clips])
    images, truth = np.concatenate([c.images for c in clips]), np.concatenate([c.truth for c in clips])
    return Ped2Part(images, starts, truth, tuple(clip.name for clip in clips), FPS)


def score(model_folder: Path, clips: Sequence[CoffeeClip]) -> Values:
    """The model, its plain errors and the one line on the test clips; frames after a fall are scored apart."""
    model, test = VideoTask().load(model_folder), joined(clips)
    said, _, rate = scores_of(model, test)
    differing = one_line_scores(differences(test.images, test.starts), 32, 32)[0]
    others = {"plain": plain_scores(model, test), "one_line": causal_mean(differing, test.starts, TRAILING)}
    kept = ~np.concatenate([clip.after_fall for clip in clips])
    truth, index, flags = test.truth[kept], test.index[kept], label(said, test.starts, model.threshold)[kept]
    found: Values = {
        "model": summary(said[kept].astype(np.float64), truth, index, test.starts[kept], np.random.default_rng(SEED)),
        "at_threshold": to_json(at_threshold(flags, truth, index, FPS)),
        "events": to_json(events(flags, truth, index)),
        "at_budgets": {str(budget): at_budget(model, said, kept, test, budget) for budget in BUDGETS},
        "highest_score": round(float(said[kept].max()), 2),
        "lying_against_before": round(lying(said, test, ~kept), 4),
        "frames_per_second": round(rate, 1),
        **{f"{name}_raw_micro": float(micro(other[kept], truth, index)) for name, other in others.items()},
    }
    for name, other in others.items():
        rng = np.random.default_rng(SEED)
        paired = paired_clip_bootstrap(micro, said[kept], other[kept], truth, index, rng)
        found[f"model_minus_{name}"] = to_json(paired)
    settings = json.loads((model_folder / "model.json").read_text("utf-8"))
    found["head"] = {name: value for name, value in settings["head"].items() if name != "training"}
    return found | {"threshold": asdict(model.threshold), "denoiser": settings["denoiser"]}


def at_budget(
    model: VideoModel, said: NDArray[np.float32], kept: NDArray[np.bool_], test: Ped2Part, budget: float
) -> Values:
    """Falls that are found and false alarms, had so many false alarms a day been allowed."""
    # of each normal second the highest score: one frame a second says the same of `enter`
    maxima = model.facts.own.maxima
    threshold = calibrate(maxima, 1.0, np.ones(len(maxima), np.bool_), budget)
    flags, truth, index = label(said, test.starts, threshold)[kept], test.truth[kept], test.index[kept]
    at, found = at_threshold(flags, truth, index, FPS), events(flags, truth, index)
    return {"enter": round(threshold.enter, 2), "method": threshold.method, "falls_found": found.recall,
            "false_alarms": at.false_alarms, "normal_minutes": round(at.normal_minutes, 2)}  # fmt: skip


def lying(said: NDArray[np.float32], test: Ped2Part, after: NDArray[np.bool_]) -> float:
    """Area under the curve of the frames after a fall against those before it."""
    chosen = after | (test.truth == 0)
    return float(auc(said[chosen], after[chosen].astype(np.uint8)))


def run(data: Path, kind: str, recipe: Recipe) -> Values:
    """Fit and score one kind; what was finished is kept."""
    folder, clips = WORK / f"{kind}-{recipe.seed}", list(coffee(data))
    folder.mkdir(parents=True, exist_ok=True)
    made = snapshot(clips, data / "video" / "coffee_room_falls", folder / "state", kind == "labelled")
    note, began = folder / "fit.json", time.time()
    model = VideoTask().fit(made, recipe, say, folder / "state" / "work" / "job")
    if not note.is_file():
        note.write_text(json.dumps({"minutes": (time.time() - began) / 60, "load": os.getloadavg()}), "utf-8")
    return score(model, clips[TESTED:]) | {"fit": json.loads(note.read_text("utf-8"))}


def report(found: Mapping[str, Values]) -> None:
    """One JSON and one table."""
    save("video_coffee", {"benchmark": "video_coffee", "meaning": MEANING, "runs": found})
    shown = [
        {
            "run": name,
            "raw micro": values["model"]["raw_micro"]["value"],
            "plain errors": values["plain_raw_micro"],
            "one line": values["one_line_raw_micro"],
            "macro": values["model"]["macro"]["value"],
            "falls found": values["events"]["recall"],
            "lying": values["lying_against_before"],
            "frames/s": values["frames_per_second"],
            "minutes": values["fit"]["minutes"],
        }
        for name, values in found.items()
    ]
    table("Coffee-room falls, test clips 15 to 24", shown)


def main() -> int:
    """Both kinds, or the one that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=17)
    asked = parser.parse_args()
    data = os.environ.get("KEEPFIT_DATA")
    if not data:
        print("skipped: set KEEPFIT_DATA to the folder that holds video/coffee_room_falls/")
        return 0
    recipe = Recipe(seed=asked.seed, video=VideoRecipe(budget_minutes=asked.minutes))
    for kind in [asked.kind] if asked.kind else KINDS:
        result = run(Path(data), kind, recipe)
        (WORK / f"{kind}-{asked.seed}" / "result.json").write_text(json.dumps(result), "utf-8")
    report({path.parent.name: json.loads(path.read_text("utf-8")) for path in sorted(WORK.glob("*/result.json"))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
