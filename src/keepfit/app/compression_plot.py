"""The trade-off of a compression as a picture: accuracy against bytes, and the time of a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.errors import BackendError, InvalidInput

SUFFIXES = (".png", ".svg", ".pdf")
TAKEN, LEFT = "#1f5fa8", "#b03a2e"
MB = 1e6

Point = Mapping[str, Any]


def draw(points: Sequence[Point], path: Path) -> Path:
    """Write the picture. points: the values of the decision, fp32 first.

    Raises InvalidInput for another kind of file, BackendError when the file cannot be written.
    """
    checked(path)
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    against_bytes(left, points)
    times(right, points)
    try:
        figure.savefig(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def checked(path: Path) -> None:
    """Raises InvalidInput for another kind of file."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{path.name} must end in {', '.join(SUFFIXES)}", "plot")


def against_bytes(axes: Axes, points: Sequence[Point]) -> None:
    """Accuracy less that of fp32 with its interval, by the memory of the weights."""
    for point in points:
        found, colour = point["comparison"], TAKEN if point["taken"] else LEFT
        value, low, high = (0.0, 0.0, 0.0) if found is None else (found["difference"], found["low"], found["high"])
        middle = value if np.isfinite(value) else 0.0
        at = point["held"] / MB
        axes.errorbar(
            [at],
            [100 * middle],
            yerr=[[100 * (middle - low)], [100 * (high - middle)]],
            fmt="o",
            color=colour,
            capsize=3,
        )
        axes.annotate(point["name"], (at, 100 * middle), xytext=(5, 5), textcoords="offset points", fontsize=8)
    axes.axhline(0.0, color="#999999", linewidth=1)
    axes.set(xlabel="MB of weights in memory", ylabel="points of accuracy against fp32 (95 %)", title="red: not taken")
    axes.set_xlim(left=0)
    axes.margins(x=0.25)
    axes.grid(alpha=0.25)


def times(axes: Axes, points: Sequence[Point]) -> None:
    """Milliseconds of one text, by its tokens."""
    lengths = list(points[0]["milliseconds"])
    places, width = np.arange(len(lengths)), 0.8 / len(points)
    for number, point in enumerate(points):
        spent = [point["milliseconds"].get(tokens, np.nan) for tokens in lengths]
        axes.bar(places + number * width, spent, width, label=point["name"])
    axes.set_xticks(places + 0.4 - width / 2, [f"{tokens} tokens" for tokens in lengths])
    axes.set(ylabel="milliseconds", title="one text alone")
    axes.legend(fontsize=8, frameon=False)
