"""Thresholding: from the scores of normal video to the level of an alarm, and from that level to 1 or 0 a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.timeline import Threshold

SECONDS_PER_DAY = 86_400
LEAST_BLOCKS = 5
EXIT_SHARE = 0.7
"""Of the way from the usual score to `enter`: what a score must keep for an alarm to go on."""


def calibrate(
    scores: NDArray[np.floating], fps: float, starts: NDArray[np.bool_], alarms_per_day: float = 1.0
) -> Threshold:
    """The threshold that normal video, shape (n,), reaches in about `alarms_per_day` blocks of a second each day.

    Every second that reaches `enter` counts as an alarm, though a real one needs `min_frames` scores in a row: the
    true rate is rather lower. Raises InvalidInput on fewer than LEAST_BLOCKS blocks or scores that are not finite.
    """
    maxima = block_maxima(scores, fps, starts)
    blank = Threshold(0.0, 0.0, alarms_per_day=alarms_per_day)
    return _fitted(blank, maxima, float(np.median(scores)), SECONDS_PER_DAY * fps / _block_frames(fps))


def from_levels(base: Threshold, levels: NDArray[np.floating], block_s: float) -> Threshold:
    """`base` with the levels of an alarm that other blocks of normal video give for its budget.

    `levels` (n,) are what blocks of `block_s` seconds reached in `min_frames` frames in a row. What is usual stays
    that of `base`. Raises InvalidInput as `calibrate`.
    """
    return _fitted(base, _finite(levels, "levels"), usual_score(base), SECONDS_PER_DAY / block_s)


def block_maxima(scores: NDArray[np.floating], fps: float, starts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The highest score of each second, shape (blocks,); neighbouring frames are too alike to count one by one.

    Blocks begin anew at each start; a rest of less than half a second is dropped.
    """
    values, width = _finite(scores, "scores"), _block_frames(fps)
    if not len(values):
        raise InvalidInput("there are no scores; score some normal video first", "scores")
    if np.shape(starts) != values.shape:
        raise InvalidInput(f"{len(values)} scores came with {np.size(starts)} starts; give one for each", "starts")
    clips = np.split(values, np.flatnonzero(np.asarray(starts, bool)[1:]) + 1)
    blocks = (clip[at : at + width] for clip in clips for at in range(0, len(clip), width))
    return np.array([block.max() for block in blocks if 2 * len(block) >= width], np.float64)


def sustained(scores: NDArray[np.float32], frames: int) -> float:
    """The highest level that so many scores in a row have reached.

    >>> sustained(np.array([0, 5, 1, 2, 3], np.float32), 2)
    2.0
    """
    if len(scores) < frames:
        return float(scores.min())
    return float(np.lib.stride_tricks.sliding_window_view(scores, frames).min(axis=1).max())


def p_values(peaks: ArrayLike, maxima: NDArray[np.float64]) -> NDArray[np.float64]:
    """Conformal p-value of each peak: the share of normal seconds, itself among them, whose maximum is as high.

    Same shape as `peaks`; never below 1/(n+1) for n maxima. Vovk, Gammerman and Shafer 2005.
    """
    ordered = np.sort(_finite(maxima, "maxima"))
    reached = len(ordered) - np.searchsorted(ordered, _finite(peaks, "peaks"), side="left")
    return np.asarray((1 + reached) / (len(ordered) + 1), np.float64)


def usual_score(threshold: Threshold) -> float:
    """The median normal score, read off the distance of `exit` from `enter`."""
    return threshold.enter - (threshold.enter - threshold.exit) / (1 - EXIT_SHARE)


class Hysteresis:
    """Turns a stream of scores into 1 or 0, looking only back.

    1 once `min_frames` scores in a row reached `enter`, until a score falls below `exit`. Not for several threads.
    """

    def __init__(self, threshold: Threshold) -> None:
        if not (math.isfinite(threshold.enter) and threshold.exit <= threshold.enter and threshold.min_frames >= 1):
            raise InvalidInput(
                f"enter {threshold.enter}, exit {threshold.exit} and min_frames {threshold.min_frames} make no "
                "threshold; enter must be a number, exit at most enter and min_frames at least 1",
                "threshold",
            )
        self._enter, self._exit, self._needed = float(threshold.enter), float(threshold.exit), threshold.min_frames
        self._on, self._run = False, 0

    def step(self, score: float, start: bool = False) -> int:
        """The label of the next frame; a start forgets all that was. Raises InvalidInput on a score not finite."""
        value = float(score)  # a float32 would round `enter` to its own precision in the comparison
        if not math.isfinite(value):
            raise InvalidInput(f"the score {value} is no finite number; look at the frame it came from", "scores")
        if start:
            self._on, self._run = False, 0
        self._run = min(self._run + 1, self._needed) if value >= self._enter else 0
        self._on = value >= self._exit if self._on else self._run >= self._needed
        return int(self._on)

    def state(self) -> dict[str, int]:
        """What to keep when a stream pauses; fits into JSON."""
        return {"on": int(self._on), "run": self._run}

    def restore(self, state: Mapping[str, int]) -> None:
        """Go on where `state()` was taken. Raises InvalidInput on anything else."""
        try:
            on, run = int(state["on"]), int(state["run"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput("this is no state of a hysteresis; start the stream anew", "state") from error
        if on not in (0, 1) or run < 0:
            raise InvalidInput("this is no state of a hysteresis; start the stream anew", "state")
        self._on, self._run = bool(on), run


def label(scores: NDArray[np.floating], starts: NDArray[np.bool_], threshold: Threshold) -> NDArray[np.uint8]:
    """1 or 0 for each score, shape (n,): exactly what the stream says frame by frame. Raises InvalidInput as `step`."""
    if np.shape(starts) != np.shape(scores):
        raise InvalidInput(f"{np.size(scores)} scores came with {np.size(starts)} starts; give one for each", "starts")
    machine = Hysteresis(threshold)
    pairs = zip(np.asarray(scores, np.float64).tolist(), np.asarray(starts, bool).tolist(), strict=True)
    return np.array([machine.step(score, start) for score, start in pairs], np.uint8)


def _fitted(base: Threshold, maxima: NDArray[np.float64], median: float, per_day: float) -> Threshold:
    """`base` with the levels that the maxima of blocks, `per_day` a day, give for its budget."""
    n = len(maxima)
    if n < LEAST_BLOCKS:
        raise InvalidInput(
            f"{n} seconds of normal video are too few to choose a threshold; give at least {LEAST_BLOCKS}", "scores"
        )
    if not 0 < base.alarms_per_day < per_day:
        raise InvalidInput(
            f"{base.alarms_per_day} alarms a day are no budget; give a number above 0 and below {per_day:,.0f}",
            "alarms_per_day",
        )
    alpha = base.alarms_per_day / per_day
    shown = alpha * (n + 1) >= 1
    enter = _above(_conformal(maxima, alpha) if shown else max(_gumbel(maxima, alpha), float(maxima.max())))
    leave = min(float(np.float32(median + EXIT_SHARE * (enter - median))), enter)
    method = "conformal" if shown else "extrapolated"
    return replace(base, enter=enter, exit=leave, blocks=n, method=method, note=_note(base, n, per_day, shown))


def _conformal(maxima: NDArray[np.float64], alpha: float) -> float:
    """The level above which a p-value is at most `alpha`: the floor(alpha (n + 1))-th largest of n maxima."""
    return float(np.sort(maxima)[-math.floor(alpha * (len(maxima) + 1))])


def _gumbel(maxima: NDArray[np.float64], alpha: float) -> float:
    """The (1 - alpha) quantile of a Gumbel law fitted by probability-weighted moments.

    Their weights are linear in the data, so that one high block does not rule the fit. Landwehr, Matalas, Wallis 1979.
    """
    ordered, n = np.sort(maxima), len(maxima)
    mean = float(ordered.mean())
    weighted = float((np.arange(n) / (n - 1) * ordered).mean())
    scale = max(2 * weighted - mean, 0.0) / math.log(2)
    return mean - scale * (float(np.euler_gamma) + math.log(-math.log1p(-alpha)))


def _above(value: float) -> float:
    """The next float32 above a value: a score as high as the quantile itself is no alarm, and scores are float32."""
    rounded = np.float32(value)
    return float(rounded if float(rounded) > value else np.nextafter(rounded, np.float32(np.inf)))


def _note(base: Threshold, n: int, per_day: float, shown: bool) -> str:
    budget, needed = base.alarms_per_day, per_day / base.alarms_per_day
    alarms = f"{budget:g} alarm{'' if budget == 1 else 's'} a day"
    needs = f"{needed:,.0f} blocks ({24 / budget:.3g} h)"
    begin = f"{n:,} blocks of normal video: the smallest p is {100 / (n + 1):.2g} %; {alarms}"
    if shown:
        return f"{begin} needs {needs}, so the threshold is a conformal quantile"
    return f"{begin} needs {needs}, so the threshold is extrapolated by a Gumbel fit"


def _block_frames(fps: float) -> int:
    if not (math.isfinite(fps) and fps > 0):
        raise InvalidInput(f"{fps} frames per second are no frame rate; give a number above 0", "fps")
    return max(1, round(fps))


def _finite(values: ArrayLike, field: str) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise InvalidInput(
            f"{bad} of {array.size} {field} are no finite numbers; look at the frames they are of", field
        )
    return array
