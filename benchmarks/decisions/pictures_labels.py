"""Draws docs/labels_asked.png and docs/is_it_better.png.

    python -m benchmarks.decisions.pictures_labels

The first: how wrong a model seems by labels that people volunteer, by those that are asked for more often where the
model is unsure, taken as they are, and by the same weighed with one over their chance. The second draws
benchmarks/results/promotion.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.results import FOLDER

DOCS = Path(__file__).parents[2] / "docs"
BLUE, RED, GREY = "#1f5f8b", "#b03a2e", "#8a8a8a"


def asked() -> None:
    """Three ways to read labels of the same answers."""
    rng, n = np.random.default_rng(3), 60_000
    unsure = rng.random(n) < 0.3
    wrong = rng.random(n) < np.where(unsure, 0.25, 0.04)
    volunteered = rng.random(n) < np.where(wrong, 0.05, 0.005)
    chance = np.where(unsure, 0.08, 0.02)
    drawn = rng.random(n) < chance
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    kinds = ((volunteered, np.ones(n), RED, "volunteered"), (drawn, np.ones(n), GREY, "asked, taken as they are"),
             (drawn, 1 / chance, BLUE, "asked, weighed by one over their chance"))  # fmt: skip
    for rows, weights, colour, name in kinds:
        which = np.flatnonzero(rows)
        mean = np.cumsum(wrong[which] * weights[which]) / np.cumsum(weights[which])
        axes.plot(which[20:], mean[20:], color=colour, label=name)
    axes.axhline(wrong.mean(), color="black", linestyle="--", linewidth=1, label="the truth")
    axes.set_xlabel("answers")
    axes.set_ylabel("wrong, as the labels say")
    axes.legend(fontsize=8, frameon=False, ncols=2)
    axes.set_ylim(0, 0.75)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "labels_asked.png", dpi=110, metadata={"Software": None})


def better() -> None:
    """Labels to prove that a challenger is better."""
    rows = json.loads((FOLDER / "promotion.json").read_text("utf-8"))["promotions"]
    rows = [row for row in rows if row["rule"] == "better" and "asked uniformly" in row]
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes, places = figure.subplots(), np.arange(len(rows))[::-1]
    for shift, key, colour, name in (
        (0.2, "labels", BLUE, "asked where the two disagree"),
        (-0.2, "asked uniformly", GREY, "asked of all answers alike"),
    ):
        median = [row[key]["median"] for row in rows]
        axes.barh(places + shift, median, 0.36, color=colour, label=name)
        for place, value in zip(places, median, strict=True):
            axes.text(value * 1.08, place + shift, f"{value:,.0f}", va="center", fontsize=8)
    axes.set_yticks(places, [row["case"] for row in rows], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(30, 40_000)
    axes.set_xlabel("labels until the challenger is proven better (median)")
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DOCS / "is_it_better.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    asked()
    better()
