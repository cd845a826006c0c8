"""Segments: the stretches of alarm in a timeline, and the report that says so, fit for JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.thresholding import p_values
from keepfit.tasks.video.timeline import Segment, Threshold, Timeline

SCHEMA = "keepfit.video.segments/1"
INSTANT = 1e-6
"""Seconds: a frame so little before an interval's edge counts as on it, for times are sums of fractions."""


def checked(timeline: Timeline) -> Timeline:
    """The timeline itself. Raises InvalidInput when it is empty or ragged, or a number is not finite."""
    n = len(timeline)
    if not n:
        raise InvalidInput("the timeline holds no frames; score a video with at least one frame", "timeline")
    for name in ("times", "scores", "labels", "starts"):
        if len(getattr(timeline, name)) != n:
            raise InvalidInput(f"the timeline holds {n} frames but other {name}; give one value per frame", "timeline")
    if timeline.heat is not None and (timeline.heat.ndim != 3 or len(timeline.heat) != n or not timeline.heat.size):
        raise InvalidInput(f"the heat map must have shape ({n}, rows, columns); score the video again", "timeline")
    for name in ("times", "scores", "heat"):
        if getattr(timeline, name) is not None and not np.isfinite(getattr(timeline, name)).all():
            raise InvalidInput(
                f"the timeline's {name} must hold finite numbers only; score the video again", "timeline"
            )
    return timeline


def find(
    timeline: Timeline,
    threshold: Threshold,
    fps: float,
    maxima: NDArray[np.float64] | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Segment, ...]:
    """The stretches of label 1, in order, each begun at the first of the scores that raised the alarm.

    `maxima` are the normal block maxima, for p-values; `size` is (width, height) of the original video in pixels, for
    boxes. Looks back and ahead, unlike the labels. Raises InvalidInput as `checked` does.
    """
    checked(timeline)
    if not (math.isfinite(fps) and fps > 0):
        raise InvalidInput(f"{fps} frames per second are no frame rate; give a number above 0", "fps")
    spans = [(_begin(timeline, threshold, first), last) for first, last in _stretches(timeline)]
    return tuple(
        _segment(timeline, threshold, span, fps, maxima, size)
        for span in _merged(spans, timeline.starts, threshold.merge_gap)
    )


def report(
    timeline: Timeline,
    segments: Sequence[Segment],
    threshold: Threshold,
    video: Mapping[str, Any],
    model: Mapping[str, Any],
) -> dict[str, Any]:
    """What was found, fit for JSON: `video` tells name, sha256, fps, frames, width, height and decoder.

    Numbers that are not finite become null. Raises InvalidInput on what JSON cannot say, and as `checked` does.
    """
    checked(timeline)
    return {
        "schema": SCHEMA,
        "video": _plain(video),
        "model": _plain(model),
        "threshold": {
            **asdict(threshold),
            "enter": _digits(threshold.enter, 9),  # all that a float32 has: the labels can be made again
            "exit": _digits(threshold.exit, 9),
        },
        "segments": [_entry(segment) for segment in segments],
        "frames": len(timeline),
        "alarm_share": round(float(np.mean(timeline.labels == 1)), 6),
    }


def truth_of(intervals: Sequence[tuple[float, float]], times: NDArray[np.floating]) -> NDArray[np.uint8]:
    """1 for each frame whose time, in seconds, lies in an interval (its begin is inside, its end is not); shape (n,).

    Raises InvalidInput on an interval that ends before it begins.
    """
    truth, at = np.zeros(len(times), np.uint8), np.asarray(times, np.float64) + INSTANT
    for begin, end in intervals:
        if not begin <= end:
            raise InvalidInput(f"the interval from {begin} to {end} s ends before it begins; mend it", "intervals")
        truth[(at >= begin) & (at < end)] = 1
    return truth


@contextmanager
def written_at_once(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, moved in place when all went well. Raises BackendError when the disk fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written ({error}); make room on the disk and try again") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _stretches(timeline: Timeline) -> list[tuple[int, int]]:
    """First and last row of each run of label 1; a start begins another."""
    on = np.asarray(timeline.labels) == 1
    before = np.concatenate([[False], on[:-1]])
    firsts = np.flatnonzero(on & (~before | timeline.starts))
    after = np.concatenate([~on[1:] | timeline.starts[1:], [True]])
    return list(zip(firsts.tolist(), np.flatnonzero(on & after).tolist(), strict=True))


def _begin(timeline: Timeline, threshold: Threshold, first: int) -> int:
    """The row of the first of the `min_frames` scores that raised the alarm at row `first`."""
    row = first
    for _ in range(threshold.min_frames - 1):
        if row == 0 or timeline.starts[row] or float(timeline.scores[row - 1]) < threshold.enter:
            break
        row -= 1
    return row


def _merged(spans: Sequence[tuple[int, int]], starts: NDArray[np.bool_], gap: int) -> list[tuple[int, int]]:
    """The spans, one of two where fewer than `gap` rows and no start lie between them."""
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first - merged[-1][1] - 1 < gap and not starts[merged[-1][1] + 1 : first + 1].any():
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _segment(
    timeline: Timeline,
    threshold: Threshold,
    span: tuple[int, int],
    fps: float,
    maxima: NDArray[np.float64] | None,
    size: tuple[int, int] | None,
) -> Segment:
    first, last = span
    scores = timeline.scores[first : last + 1].astype(np.float64)
    peak = first + int(scores.argmax())
    return Segment(
        first=int(timeline.frames[first]),
        last=int(timeline.frames[last]),
        start_s=float(timeline.times[first]),
        end_s=float(timeline.times[last]) + 1 / fps,
        peak_frame=int(timeline.frames[peak]),
        peak_score=float(scores.max()),
        mean_score=float(scores.mean()),
        p_value=None if maxima is None else float(p_values(scores.max(), maxima)),
        box=None if timeline.heat is None or size is None else _box(timeline.heat[peak], threshold.exit, size),
    )


def _box(heat: NDArray[np.floating], base: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom (the latter two just outside) in pixels of the connected cells around the hottest one.

    A cell belongs to them with at least half of the hottest one's height above `base`.
    """
    cells = np.asarray(heat, np.float64)
    hottest = divmod(int(cells.argmax()), cells.shape[1])
    top = float(cells.max())
    rows, columns = np.nonzero(_connected(cells >= top - max(top - base, 0.0) / 2, hottest))
    across, down = size[0] / cells.shape[1], size[1] / cells.shape[0]
    return (
        math.floor(columns.min() * across),
        math.floor(rows.min() * down),
        min(math.ceil((columns.max() + 1) * across), size[0]),
        min(math.ceil((rows.max() + 1) * down), size[1]),
    )


def _connected(mask: NDArray[np.bool_], cell: tuple[int, int]) -> NDArray[np.bool_]:
    """The part of the mask that touches the cell, edges and corners alike; grown ring by ring."""
    reached = np.zeros_like(mask)
    reached[cell] = True
    while True:
        padded = np.pad(reached, 1)
        wide = padded[:, :-2] | padded[:, 1:-1] | padded[:, 2:]
        grown = (wide[:-2] | wide[1:-1] | wide[2:]) & mask
        if np.array_equal(grown, reached):
            return reached
        reached = grown


def _entry(segment: Segment) -> dict[str, Any]:
    return {
        "first": segment.first,
        "last": segment.last,
        "start_s": _plain(round(segment.start_s, 3)),
        "end_s": _plain(round(segment.end_s, 3)),
        "label": 1,
        "peak_frame": segment.peak_frame,
        "peak_score": _digits(segment.peak_score),
        "mean_score": _digits(segment.mean_score),
        "p_value": None if segment.p_value is None else _digits(segment.p_value),
        "box": None if segment.box is None else list(segment.box),
    }


def _digits(value: float, significant: int = 6) -> float | None:
    return float(f"{value:.{significant}g}") if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    raise InvalidInput(f"a {type(value).__name__} does not fit into JSON; give text or a number instead", "report")
