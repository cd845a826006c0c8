"""Draws docs/on_what.png from benchmarks/results/decisions_windows.json: accuracy by the past that is learnt from.

python -m benchmarks.decisions.pictures_windows
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.results import FOLDER

TARGET = Path(__file__).parents[2] / "docs/on_what.png"
WINDOWS = ("all", "recency", "replay", "half", "quarter", "eighth")


def main() -> None:
    streams = json.loads((FOLDER / "decisions_windows.json").read_text("utf-8"))["streams"]
    names = list(streams)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes, places = figure.subplots(), np.arange(len(names))
    best = [streams[name]["accuracy"]["all"] for name in names]
    for number, window in enumerate(WINDOWS):
        less = [100 * (streams[name]["accuracy"][window] - all_) for name, all_ in zip(names, best, strict=True)]
        axes.plot(places + (number - 2.5) * 0.1, less, "o", label=window, markersize=5)
    chosen = [100 * (streams[name]["accuracy"]["auto"] - all_) for name, all_ in zip(names, best, strict=True)]
    axes.plot(places, chosen, "_", color="black", markersize=34, label="auto: what was chosen")
    axes.axhline(0.0, color="#8a8a8a", linewidth=0.8)
    axes.set_xticks(places, [name.replace(", ", ",\n") for name in names], fontsize=8)
    axes.set_ylabel("points against all data")
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower left")
    axes.set_ylim(-15, 2)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(TARGET, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
