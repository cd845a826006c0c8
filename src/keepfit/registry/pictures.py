"""The confusion matrix and the reliability of an evaluation as PNG files; no global state of matplotlib is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.evaluation.evaluator import Evaluation

MOST_NUMBERS = 20
"""Above this many classes the cells carry no numbers, and only some of the names fit."""
DPI = 120


def draw(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write `confusion_matrix.png` and `reliability.png` into the folder, those for which there are numbers."""
    made = []
    if evaluation.labels and evaluation.confusion:
        made.append(_save(_confusion(evaluation), folder / "confusion_matrix.png"))
    if evaluation.reliability:
        made.append(_save(_reliability(evaluation), folder / "reliability.png"))
    return made


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=DPI, format="png")
    return path


def _confusion(evaluation: Evaluation) -> Figure:
    """Rows are the true classes; colours are shares of a row, cells hold counts."""
    counts = np.array(evaluation.confusion, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    k = len(evaluation.labels)
    size = min(4 + 0.35 * k, 16)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    step = max(1, k // 40)
    names = [_short(label) for label in evaluation.labels[::step]]
    axes.set_xticks(range(0, k, step), names, rotation=60, ha="right")
    axes.set_yticks(range(0, k, step), names)
    axes.set(xlabel="answered", ylabel="true", title=f"{evaluation.split} part, {evaluation.n} rows")
    if k <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:.0f}", ha="center", va="center", color=colour)
    return figure


def _reliability(evaluation: Evaluation) -> Figure:
    """How often answers of some confidence were right, with intervals; on the diagonal when probabilities are true."""
    points = [point for point in evaluation.reliability if point.accuracy.n]
    confidence = [point.confidence for point in points]
    value = [point.accuracy.value for point in points]
    below = [point.accuracy.value - point.accuracy.low for point in points]
    above = [point.accuracy.high - point.accuracy.value for point in points]
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", label="true probabilities")
    bars = (np.maximum(below, 0), np.maximum(above, 0))  # rounding can put the value a hair outside its interval
    axes.errorbar(confidence, value, yerr=bars, marker="o", capsize=3, label="this model, 95 %")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that was right", title="reliability")
    axes.legend(loc="upper left")
    return figure


def _short(label: str, longest: int = 24) -> str:
    """A class name that fits beside the axis; a dollar sign would start a formula."""
    text = label if len(label) <= longest else label[: longest - 1] + "…"
    return text.replace("$", r"\$")
