"""Pictures: the timeline of a video and the heat map of a frame as PNG files, without matplotlib's global state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.segments import checked, written_at_once
from keepfit.tasks.video.timeline import Segment, Threshold, Timeline

DPI = 100
MOST_POINTS = 4_000
"""Above this many frames the score is drawn as an envelope: lines closer than a pixel are a smear."""
BINS = 1_200
"""Of an envelope, about one a pixel."""
MOST_CUTS = 200
"""Above this many cuts their lines would hide the score."""
SCORE, ALARM, LEAVE, TRUTH, CUT = "#1f5fa8", "#c02020", "#d08000", "#208040", "#999999"
HEAT = LinearSegmentedColormap.from_list("heat", [(1.0, 0.55, 0.0, 0.0), (0.95, 0.25, 0.0, 0.4), (0.8, 0.0, 0.0, 0.7)])


def draw_timeline(
    path: Path,
    timeline: Timeline,
    threshold: Threshold,
    segments: Sequence[Segment],
    truth: NDArray[np.uint8] | None = None,
    title: str = "",
) -> None:
    """Write a PNG of 1200 x 360: score over seconds, both levels, alarms shaded, cuts, and the truth (n,) as a strip.

    Raises InvalidInput on a timeline that is empty or not finite or a truth of another length; BackendError on a
    full disk.
    """
    checked(timeline)
    if truth is not None and len(truth) != len(timeline):
        raise InvalidInput(f"the truth has {len(truth)} frames, the timeline {len(timeline)}; give one each", "truth")
    figure = Figure(figsize=(12, 3.6), dpi=DPI, layout="constrained")
    ratios = [14, 1] if truth is not None else [1]
    column = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    top, bottom = column[0], column[-1]
    for segment in segments:
        top.axvspan(segment.start_s, segment.end_s, color=ALARM, alpha=0.18, linewidth=1.0)  # the edge shows short ones
    cuts = timeline.times[1:][timeline.starts[1:]]
    for cut in cuts if len(cuts) <= MOST_CUTS else ():
        top.axvline(cut, color=CUT, linewidth=0.6, linestyle=":")
    _draw_scores(top, timeline)
    _draw_levels(top, threshold)
    if truth is not None:
        _draw_truth(bottom, timeline, truth)
    top.set(ylabel="score", xlim=(timeline.times[0], _end(timeline)))
    top.set_title(title.replace("$", r"\$"), loc="left", fontsize=11)
    top.spines[["top", "right"]].set_visible(False)
    bottom.set_xlabel("seconds")
    _save(figure, path)


def draw_heat(path: Path, image: NDArray[np.uint8], heat: NDArray[np.floating], scale: tuple[float, float]) -> None:
    """Write one frame, (h, w) or (h, w, 3), under its heat map (rows, columns) as a PNG.

    `scale` is the score where colour begins and where it is full, say (exit, enter): a fixed one, for a scale of its
    own makes every frame look alarming. Raises InvalidInput on other shapes and scales; BackendError on a full disk.
    """
    if image.ndim not in (2, 3) or heat.ndim != 2 or not heat.size or not np.isfinite(heat).all():
        raise InvalidInput("give one picture and one finite heat map with rows and columns", "heat")
    if not scale[0] < scale[1]:
        raise InvalidInput(f"the scale {scale} does not rise; give a lower and a higher score", "scale")
    height, width = image.shape[:2]
    figure = Figure(figsize=(7.2, max(2.0, 6.0 * height / width)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    whole = (0.0, float(width), float(height), 0.0)
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, extent=whole)
    drawn = axes.imshow(
        heat.astype(np.float32), cmap=HEAT, vmin=scale[0], vmax=scale[1], extent=whole, interpolation="nearest"
    )
    axes.set_axis_off()
    figure.colorbar(drawn, ax=axes, label="score", extend="both", shrink=0.9)
    _save(figure, path)


def _draw_scores(axes: Axes, timeline: Timeline) -> None:
    times, scores = timeline.times, timeline.scores.astype(np.float64)
    if len(timeline) > MOST_POINTS:
        at = np.linspace(0, len(timeline), BINS, endpoint=False).astype(np.int64)
        low, high = np.minimum.reduceat(scores, at), np.maximum.reduceat(scores, at)
        axes.fill_between(times[at], low, high, color=SCORE, linewidth=0.6, step="post")
        return
    cuts = np.flatnonzero(timeline.starts[1:]) + 1
    # a gap in the line, for nothing is carried over a cut
    axes.plot(np.insert(times, cuts, times[cuts]), np.insert(scores, cuts, np.nan), color=SCORE, linewidth=1.1)


def _draw_levels(axes: Axes, threshold: Threshold) -> None:
    for name, level, colour, side in (
        ("enter", threshold.enter, ALARM, "bottom"),
        ("exit", threshold.exit, LEAVE, "top"),
    ):
        axes.axhline(level, color=colour, linewidth=1.0, linestyle="--")
        axes.annotate(f"{name} {level:.3g}", (1.0, level), (5, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va=side, color=colour, fontsize=9)  # fmt: skip


def _draw_truth(axes: Axes, timeline: Timeline, truth: NDArray[np.uint8]) -> None:
    edges = np.diff(np.concatenate([[0], (np.asarray(truth) == 1).astype(np.int8), [0]]))
    times = np.append(timeline.times, _end(timeline))
    begins, ends = times[np.flatnonzero(edges == 1)], times[np.flatnonzero(edges == -1)]
    axes.broken_barh(list(zip(begins, ends - begins, strict=True)), (0, 1), color=TRUTH)
    axes.set(ylim=(0, 1), yticks=[])
    axes.set_ylabel("truth", rotation=0, ha="right", va="center", color=TRUTH)
    axes.spines[["top", "right"]].set_visible(False)


def _end(timeline: Timeline) -> float:
    """When the last frame ends, if it lasts as long as the usual one; seconds."""
    usual = float(np.median(np.diff(timeline.times))) if len(timeline) > 1 else 1.0
    return float(timeline.times[-1]) + usual


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with written_at_once(path) as part:
        figure.savefig(part, format="png")
