"""What Ped2 gives without any learning: one-line scores of test clips 01 to 06, under every measure.

    KEEPFIT_DATA=FOLDER python -m benchmarks.video.floors

FOLDER holds video/ucsd_ped2/. Each score is taken at full and at half resolution, with a causal trailing mean and with
two-sided smoothing. Its threshold is the conformal 95 % point of one-second block maxima of training clips 14 to 16;
no test label is read for it. The background is the median of all training clips, those three included. These lines
were picked among several on this very test set, so they are slightly optimistic floors and no claims. The result is
written to benchmarks/results/video_floors.json.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import save, table
from benchmarks.video.data import Images, Ped2, Ped2Part, ped2
from benchmarks.video.intervals import ROUNDS
from benchmarks.video.measures import (
    MEANING,
    SIGMA,
    at_threshold,
    causal_mean,
    events,
    gaussian,
    summary,
    to_json,
)
from benchmarks.video.regions import rbdc_tbdc

Picture = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

LAG = 2
"""Frames between the two of a difference."""
TRAILING = 5
"""Frames of the causal mean."""
CELL = 8
"""Pixels of the full picture along a cell of the heat maps."""
EVERY = 5
"""Of the training frames, for the median background; they hardly differ from one to the next."""
CALIBRATION = 3
"""The last training clips, which the thresholds come from."""
ALPHA = 0.05
SEED = 0
ANCHOR = 0.897
RESOLUTIONS = {"full": 1, "half": 2}
"""Name, and pixels of the original along one of ours."""


@dataclass(frozen=True)
class Line:
    """A score of one line: of the difference over LAG frames or of the one to the background."""

    name: str
    background: bool
    box: int | None
    """Pixels of the full picture along the box whose largest mean is the score; None for the mean of the picture."""


LINES = (
    Line("largest 32-px box of |x_t - x_(t-2)|", False, 32),
    Line("mean |x_t - x_(t-2)|", False, None),
    Line("mean |x - background|", True, None),
    Line("largest 64-px box of |x - background|", True, 64),
)
"""The first is the anchor, at full resolution with the trailing mean."""


def box_means(picture: NDArray[Any], size: int) -> Doubles:
    """Mean of every box of size x size pixels by an integral image: (h, w) -> (h - size + 1, w - size + 1)."""
    sums = np.zeros((picture.shape[0] + 1, picture.shape[1] + 1))
    np.cumsum(np.cumsum(picture, axis=0, dtype=np.float64), axis=1, out=sums[1:, 1:])
    total = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    return np.asarray(total / size**2, np.float64)


def differences(images: NDArray[Any], starts: Bools) -> Iterator[Picture]:
    """|x_t - x_(t-2)| of each frame, within its clip; the first two frames take the first difference there is.

    Two frames of a clip thus see up to two frames ahead; a clip of fewer than three frames compares its last with its
    first.
    """
    firsts = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    ends = np.append(np.flatnonzero(starts)[1:], len(starts)) - 1
    for frame, (first, end) in enumerate(zip(firsts, ends[np.cumsum(starts) - 1], strict=True)):
        later = max(frame, min(first + LAG, end))
        earlier = max(later - LAG, first)
        yield np.abs(images[later].astype(np.float32) - images[earlier].astype(np.float32))


def pooled(images: Images, factor: int) -> NDArray[Any]:
    """Means of factor x factor pixels, (n, h, w) -> (n, h / factor, w / factor); what is left over is cut off."""
    if factor == 1:
        return images
    n, high, wide = len(images), images.shape[1] // factor, images.shape[2] // factor
    whole = images[:, : high * factor, : wide * factor].reshape(n, high, factor, wide, factor)
    return np.asarray(whole.mean(axis=(2, 4), dtype=np.float32))


def scored(pictures: Iterator[Picture], box: int | None, cell: int) -> tuple[Doubles, Picture | None]:
    """Scores (n,), and for boxes the heat (n, rows, columns): the box nearest to the middle of each cell."""
    if box is None:
        return np.array([float(picture.mean()) for picture in pictures]), None
    scores, heat = [], []
    for picture in pictures:
        means = box_means(picture, box)
        scores.append(float(means.max()))
        rows, columns = (_nearest(side, box, cell) for side in picture.shape)
        heat.append(means[np.ix_(rows, columns)].astype(np.float32))
    return np.array(scores), np.stack(heat)


def conformal(scores: Doubles, index: NDArray[np.int64], block: int) -> float:
    """The (1 - ALPHA) point of the maxima over blocks of frames within clips, as conformal prediction counts it."""
    parts = [scores[index == clip] for clip in np.unique(index)]
    maxima = np.sort([part[at : at + block].max() for part in parts for at in range(0, len(part), block)])
    return float(maxima[min(math.ceil((len(maxima) + 1) * (1 - ALPHA)), len(maxima)) - 1])


def rows_of(line: Line, name: str, data: Ped2, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The line at one resolution: causal, then two-sided."""
    factor = RESOLUTIONS[name]
    held = _last_clips(data.train)
    background = np.median(pooled(data.train.images[::EVERY], factor), axis=0).astype(np.float32)
    size, cell = line.box and line.box // factor, CELL // factor
    (scores, heat), (normal, _) = (
        scored(_pictures(line, pooled(part.images, factor), part.starts, background), size, cell)
        for part in (data.test, held)
    )
    made = []
    for causal in (True, False):
        smooth = _smoothing(causal)
        about = {"score": line.name, "resolution": name, "causal": causal, "smoothing": _said(causal)}
        taken = smooth(scores, data.test.starts)
        judged = summary(taken, data.test.truth, data.test.index, data.test.starts, rng, sigma=SIGMA if causal else 0.0)
        threshold = conformal(smooth(normal, held.starts), held.index, round(held.fps))
        where = None if heat is None else _regions(smooth(heat, data.test.starts), data.test)
        made.append({**about, **judged, "regions": where, "fixed": _fixed(taken, data.test, threshold)})
    return made


def _pictures(line: Line, images: NDArray[Any], starts: Bools, background: Picture) -> Iterator[Picture]:
    if line.background:
        return (np.abs(image.astype(np.float32) - background) for image in images)
    return differences(images, starts)


def _nearest(side: int, box: int, cell: int) -> NDArray[np.int64]:
    """First pixel of the box whose middle is nearest to that of each cell."""
    middles = np.arange(side // cell) * cell + cell // 2
    return np.clip(middles - box // 2, 0, side - box)


def _last_clips(train: Ped2Part) -> Ped2Part:
    first = int(np.flatnonzero(train.starts)[-CALIBRATION])
    kept = slice(first, None)
    return Ped2Part(
        train.images[kept], train.starts[kept], train.truth[kept], train.clips[-CALIBRATION:], train.fps, None
    )


def _smoothing(causal: bool) -> Callable[[NDArray[Any], Bools], Doubles]:
    if causal:
        return lambda scores, starts: causal_mean(scores, starts, TRAILING)
    return lambda scores, starts: gaussian(scores, starts, SIGMA)


def _said(causal: bool) -> str:
    return f"trailing mean of {TRAILING}" if causal else f"two-sided, sigma {SIGMA:g}: not causal"


def _regions(heat: Doubles, test: Ped2Part) -> dict[str, Any] | None:
    return None if test.masks is None else to_json(rbdc_tbdc(heat, test.masks, test.index))


def _fixed(scores: Doubles, test: Ped2Part, threshold: float) -> dict[str, Any]:
    labels = scores >= threshold
    judged = to_json(at_threshold(labels, test.truth, test.index, test.fps))
    return {"threshold": round(threshold, 4), **judged, **_event_names(to_json(events(labels, test.truth, test.index)))}


def _event_names(found: dict[str, Any]) -> dict[str, Any]:
    """`recall` is that of the frames already."""
    return {"event_recall" if name == "recall" else name: value for name, value in found.items()}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    raw, where, fixed = row["raw_micro"], row["regions"], row["fixed"]
    return {
        "score": row["score"],
        "px": row["resolution"],
        "causal": "yes" if row["causal"] else "no",
        "raw micro": f"{_percent(raw['value'])} ({_percent(raw['low'])}-{_percent(raw['high'])})",
        "min-max": _percent(row["minmax_micro"]["value"]),
        "macro": _percent(row["macro"]["value"]),
        "EER": _percent(row["eer"]),
        "AP 0": _percent(row["ap_normal"]),
        "R/TBDC": f"{_percent(where['rbdc'])}/{_percent(where['tbdc'])}" if where else "",
        "F1/FPR": f"{_percent(fixed['f1'])}/{_percent(fixed['fpr'])}",
    }


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def main() -> int:
    """Score, judge, print, keep."""
    folder = os.environ.get("KEEPFIT_DATA")
    if not folder:
        print("skipped: set KEEPFIT_DATA to the folder that holds video/ucsd_ped2/")
        return 0
    data, rng = ped2(Path(folder)), np.random.default_rng(SEED)
    rows = [row for name in RESOLUTIONS for line in LINES for row in rows_of(line, name, data, rng)]
    table("Ped2 test clips 01-06 without learning (%, 95 % interval by clips)", [_shown(row) for row in rows])
    found = rows[0]["raw_micro"]["value"]
    reproduced = abs(found - ANCHOR) < 0.0005
    print(
        f"anchor {ANCHOR:.3f}, found {found:.4f} at full resolution: {'reproduced' if reproduced else 'NOT reproduced'}"
    )
    about = {"data": "UCSD Ped2, test clips 01-06", "measures": MEANING, "rounds": ROUNDS, "seed": SEED, "alpha": ALPHA}
    save(
        "video_floors", {"benchmark": "video_floors", **about, "anchor": ANCHOR, "reproduced": reproduced, "rows": rows}
    )
    return 0 if reproduced else 1


if __name__ == "__main__":
    sys.exit(main())
