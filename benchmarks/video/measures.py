"""How good the scores of frames are: AUC in its several protocols, EER, AP, alarms, events, and their summary.

Throughout: `scores` (n,) floats, higher is more anomalous; `truth` (n,) 0 or 1; `clips` (n,) integers, the clip of each
frame, the frames of a clip side by side; `starts` (n,) true at the first frame of each clip. A measure that its data do
not define (one class only) is NaN. Shares are of 1, not of 100.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn import metrics

from benchmarks.video.intervals import Estimate, Measure, clip_bootstrap, per_frame
from benchmarks.video.regions import Regions
from keepfit.errors import InvalidInput
from keepfit.metrics import area

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]
SIGMA = 8.0
"""Frames, of the two-sided smoothing: at 10 frames a second, most of the weight lies within a second and a half."""

MEANING = {
    "raw_micro": "headline: frame AUC of the scores as they are, one threshold for the whole stream",
    "smoothed_micro": f"frame AUC after two-sided Gaussian smoothing within clips, sigma {SIGMA:g} frames: not causal",
    "minmax_micro": "literature protocol: each test clip scaled to 0..1 by its own extremes first; not causal",
    "smoothed_minmax_micro": "literature protocol after two-sided smoothing; not causal",
    "macro": "mean of the AUC of each clip that has both classes",
    "smoothed_macro": "the same after two-sided smoothing; not causal",
    "eer": "equal error rate of the scores as they are, linear between the points of the ROC curve",
    "ap_anomaly": "average precision; a coin reaches `prevalence`",
    "ap_normal": "average precision of finding the normal frames; a coin reaches 1 - `prevalence`",
    "oracle_f1": "F1 at the best threshold for these very labels: an upper bound, never a result",
    "always_1_f1": "F1 of calling every frame anomalous",
    "prevalence": "share of the frames that are anomalous",
}
"""What each entry of a summary is."""


def auc(scores: Array, truth: Array) -> float:
    """Area under the ROC curve, ties count half; not a number where there is one class only.

    The same number as sklearn's roc_auc_score in a tenth of its time, for a bootstrap asks a thousand times.
    """
    positive = _binary(scores, truth)
    if positive.all() or not positive.any():
        return math.nan
    values = np.asarray(scores)
    return area(values[positive], values[~positive])


def micro(scores: Array, truth: Array, clips: Array | None = None) -> float:
    """AUC over all frames together, the scores as they are; the clips are of no account."""
    return auc(scores, truth)


def per_clip_minmax(scores: Array, truth: Array, clips: Array) -> float:
    """AUC over all frames together after each clip is scaled to 0..1 by its own extremes; see MEANING.

    It needs the whole clip before the first answer, and it gives every clip an alarm, so it can be much too kind.
    A clip whose scores are all the same becomes 0.
    """
    _binary(scores, truth)
    kinds, place = np.unique(per_frame(clips, scores), return_inverse=True)
    low, high = np.full(len(kinds), np.inf), np.full(len(kinds), -np.inf)
    np.minimum.at(low, place, scores)
    np.maximum.at(high, place, scores)
    width = np.where(high > low, high - low, 1.0)
    return auc((scores - low[place]) / width[place], truth)


def macro(scores: Array, truth: Array, clips: Array) -> float:
    """Mean of the AUC of each clip, over the clips with both classes."""
    per_frame(clips, scores)
    each = [auc(scores[clips == clip], truth[clips == clip]) for clip in np.unique(clips)]
    known = [value for value in each if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def eer(scores: Array, truth: Array, clips: Array | None = None) -> float:
    """Rate at which false alarms and misses are equally frequent, by linear interpolation between ROC points."""
    if _one_class(_binary(scores, truth)):
        return math.nan
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    gap = fpr + tpr - 1
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(fpr[after - 1] + share * (fpr[after] - fpr[after - 1]))


def average_precision(scores: Array, truth: Array, of: int = 1) -> float:
    """Average precision of finding the frames of class `of`: 1 by high scores, 0 by low ones."""
    positive = _binary(scores, truth)
    if _one_class(positive):
        return math.nan
    return float(
        metrics.average_precision_score(positive == bool(of), np.asarray(scores, np.float64) * (1 if of else -1))
    )


def oracle_f1(scores: Array, truth: Array) -> float:
    """F1 at the threshold that is best for this truth: an upper bound, for nobody knows that threshold before."""
    if not _binary(scores, truth).any():
        return math.nan
    precision, recall, _ = metrics.precision_recall_curve(truth, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


@dataclass(frozen=True)
class AtThreshold:
    """What one fixed threshold gives."""

    precision: float
    """NaN without an alarm."""
    recall: float
    f1: float
    always_1_f1: float
    """F1 of calling every frame anomalous, to read `f1` beside."""
    fpr: float
    """Share of the normal frames that are called anomalous."""
    false_alarms: int
    """Alarms (frames labelled 1 in a row, within a clip) that touch no anomalous frame."""
    false_alarms_per_minute: float
    """Of normal video. One long alarm counts once, so read it beside `fpr`."""
    normal_minutes: float


@dataclass(frozen=True)
class Events:
    """Anomalous frames in a row, within a clip, are an event."""

    events: int
    found: int
    """Events with at least one frame labelled 1."""
    recall: float
    mean_delay: float
    """Frames from the start of an event to its first frame labelled 1, over the events found; NaN if none is."""


def at_threshold(scores: Array, truth: Array, clips: Array, fps: float, threshold: float = 0.5) -> AtThreshold:
    """Frames with a score of at least `threshold` are alarms; 0/1 labels may stand for scores. `fps` in 1/s."""
    positive, said = _binary(scores, truth), np.asarray(scores) >= threshold
    hits, alarms, found = int((said & positive).sum()), int(said.sum()), int(positive.sum())
    normal = len(positive) - found
    false = sum(not positive[first : last + 1].any() for first, last in _runs(said, per_frame(clips, scores)))
    minutes = normal / fps / 60
    return AtThreshold(
        precision=_share(hits, alarms),
        recall=_share(hits, found),
        f1=_share(2 * hits, alarms + found),
        always_1_f1=_share(2 * found, len(positive) + found),
        fpr=_share(alarms - hits, normal),
        false_alarms=false,
        false_alarms_per_minute=_share(false, minutes),
        normal_minutes=minutes,
    )


def events(labels: Array, truth: Array, clips: Array) -> Events:
    """How many events the 0/1 labels find, and how late."""
    positive, said = _binary(labels, truth), np.asarray(labels).astype(np.bool_)
    runs = _runs(positive, per_frame(clips, labels))
    delays = [int(np.argmax(said[first : last + 1])) for first, last in runs if said[first : last + 1].any()]
    mean = float(np.mean(delays)) if delays else math.nan
    return Events(len(runs), len(delays), _share(len(delays), len(runs)), mean)


def causal_mean(scores: Array, starts: Array, n: int) -> Doubles:
    """Mean of the last `n` frames of the clip, of fewer at its start; scores (n, ...) along the first axis."""
    if n < 1:
        raise InvalidInput(f"A mean of {n} frames does not exist; take at least 1.", "n")
    frame = np.arange(len(scores))
    begin = np.maximum.accumulate(np.where(_begun(starts, scores), frame, 0))
    low = np.maximum(frame - n + 1, begin)
    sums = np.zeros((len(scores) + 1, *scores.shape[1:]))
    np.cumsum(scores, axis=0, dtype=np.float64, out=sums[1:])
    counts = (frame + 1 - low).reshape(-1, *[1] * (scores.ndim - 1))
    return np.asarray((sums[frame + 1] - sums[low]) / counts, np.float64)


def gaussian(scores: Array, starts: Array, sigma: float) -> Doubles:
    """Two-sided Gaussian smoothing within clips, `sigma` in frames: it looks ahead, so it is no real-time score."""
    cuts = np.flatnonzero(_begun(starts, scores))[1:]
    parts = np.split(np.asarray(scores, np.float64), cuts)
    return np.concatenate([ndimage.gaussian_filter1d(part, sigma, axis=0, mode="nearest") for part in parts])


def summary(
    scores: Array, truth: Array, clips: Array, starts: Array, rng: np.random.Generator, sigma: float = SIGMA
) -> dict[str, Any]:
    """Every measure of scores alone, by the names of MEANING; the headline takes the scores as they are.

    The AUCs carry an interval by clips; what is not defined is None. sigma 0, for scores that are smoothed already,
    leaves out the smoothed entries.
    """
    found: dict[str, Any] = {}
    for prefix in ("", "smoothed_") if sigma else ("",):
        taken = gaussian(scores, starts, sigma) if prefix else scores
        for name, measure in (("micro", micro), ("minmax_micro", per_clip_minmax), ("macro", macro)):
            key = "raw_micro" if not prefix and name == "micro" else prefix + name
            found[key] = _interval(measure, taken, truth, clips, rng)
    positive = _binary(scores, truth)
    plain = {
        "eer": eer(scores, truth),
        "ap_anomaly": average_precision(scores, truth),
        "ap_normal": average_precision(scores, truth, of=0),
        "oracle_f1": oracle_f1(scores, truth),
        "always_1_f1": _share(2 * int(positive.sum()), len(positive) + int(positive.sum())),
        "prevalence": float(positive.mean()),
    }
    counts = {"frames": len(positive), "clips": len(np.unique(clips))}
    return found | {name: _plain(value) for name, value in plain.items()} | counts


def to_json(value: AtThreshold | Events | Estimate | Regions) -> dict[str, Any]:
    """Plain values, rounded; what is not a number becomes None."""
    return {name: _plain(number) for name, number in asdict(value).items()}


def _interval(
    measure: Measure, scores: Array, truth: Array, clips: Array, rng: np.random.Generator
) -> dict[str, Any] | None:
    if math.isnan(measure(scores, truth, clips)):
        return None
    return to_json(clip_bootstrap(measure, scores, truth, clips, rng))


def _runs(flags: Array, clips: Array) -> Ints:
    """First and last frame of each run of true flags within a clip, both inside, shape (runs, 2)."""
    cut = np.concatenate([[True], clips[1:] != clips[:-1], [True]])
    before, after = np.concatenate([[False], flags[:-1]]), np.concatenate([flags[1:], [False]])
    firsts, lasts = flags & (~before | cut[:-1]), flags & (~after | cut[1:])
    return np.stack([np.flatnonzero(firsts), np.flatnonzero(lasts)], axis=1)


def _binary(scores: Array, truth: Array) -> NDArray[np.bool_]:
    """The truth as booleans, checked to fit the scores."""
    if np.ndim(scores) != 1 or np.shape(truth) != np.shape(scores) or not len(scores):
        message = f"Scores {np.shape(scores)} and truth {np.shape(truth)} differ; give one of each per frame."
        raise InvalidInput(message, "truth")
    if not np.isfinite(scores).all():
        raise InvalidInput("The scores hold NaN or infinity; correct the model that made them.", "scores")
    positive = np.asarray(truth) == 1
    if not (positive | (np.asarray(truth) == 0)).all():
        raise InvalidInput("The truth holds other values than 0 and 1; leave those frames out.", "truth")
    return np.asarray(positive, np.bool_)


def _begun(starts: Array, scores: Array) -> Array:
    if len(starts) != len(scores) or not len(scores) or not starts[0]:
        raise InvalidInput("Starts must have one value per frame and be true at the first; correct them.", "starts")
    return starts


def _one_class(positive: NDArray[np.bool_]) -> bool:
    return bool(positive.all() or not positive.any())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _plain(value: float) -> float | int | None:
    if isinstance(value, int):
        return value
    return round(value, 5) if math.isfinite(value) else None
