"""Draws docs/harm.png: labels of two models, one of which gets worse, and the evidence that they give.

python -m benchmarks.decisions.pictures_harm
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.monitoring.harm import HarmDetector, Observations

LABELS, CHANGE, CHANCE, NEEDED = 2_400, 1_400, 0.01, 1e6
TARGET = Path(__file__).parents[2] / "docs/harm.png"
SIDES = (("0.10, then 0.16", 0.16, "#b03a2e"), ("0.10 throughout", 0.10, "#1f5f8b"))


def main() -> None:
    rng = np.random.default_rng(4)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, sharex=True)
    for name, later, colour in SIDES:
        risk = np.where(np.arange(LABELS) < CHANGE, 0.10, later)
        wrong = (rng.random(LABELS) < risk).astype(float)
        detector, evidence = HarmDetector(), []
        for place in range(LABELS):
            detector.watch(Observations.of(wrong[place : place + 1], 0.115, CHANCE), NEEDED)
            evidence.append(float(detector.evidence))
        mean = np.convolve(wrong, np.ones(200) / 200, "valid")
        upper.plot(np.arange(199, LABELS), mean, color=colour, label=f"risk {name}")
        lower.plot(evidence, color=colour)
    upper.set_ylabel("wrong, of the last 200")
    upper.axhline(0.115, color="#8a8a8a", linewidth=1, label="the largest that is no harm")
    upper.legend(fontsize=8, frameon=False, loc="upper left")
    lower.axhline(NEEDED, color="black", linestyle="--", linewidth=1)
    lower.text(20, NEEDED * 1.6, "alarm: once in a million answers by chance", fontsize=8)
    lower.set_yscale("log")
    lower.set_ylim(1e2, 1e9)
    lower.set_ylabel("evidence of harm")
    lower.set_xlabel("labels, drawn from 1 % of the answers")
    for axes in (upper, lower):
        axes.axvline(CHANGE, color="#8a8a8a", linestyle=":", linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(TARGET, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
