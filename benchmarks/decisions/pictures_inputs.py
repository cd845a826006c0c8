"""The pictures of docs/decisions.md about inputs: `python -m benchmarks.decisions.pictures_inputs`; needs no data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.decisions.inputs import CHUNK, DAY, RUN_LENGTH, Stream, World, detector, reference_of
from benchmarks.results import FOLDER
from keepfit.monitoring.gathering import gathered

DOCS = Path(__file__).parents[2] / "docs"
COLOURS = {"prior": "#208040", "covariate": "#c02020", "group": "#1f5fa8", "time": "#d08000", "none": "#777777"}
WORDS = {
    "prior": "other class shares", "covariate": "another source", "group": "other groups of inputs",
    "time": "later (the classes themselves moved)", "none": "no change",
}  # fmt: skip


def figure() -> Figure:
    """An empty one."""
    made = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(made)
    return made


def evidence(days: int = 6, changed: float = 4.6) -> None:
    """A daily wave that is learnt, then a real change."""
    rng = np.random.default_rng(4)
    ranks, bets = detector(reference_of(2_000, rng))
    stream, times, proof, waves = Stream(rng), [], [], []
    alarm = None
    while stream.at < days * DAY and alarm is None:
        day = stream.at // DAY
        bets.seasons.begin(str(day))
        bin_ = (stream.at % DAY) * 24 // DAY
        rows = stream.rows(World(season=0.3, shift=0.5 if stream.at / DAY > changed else 0.0), CHUNK)
        seen = gathered(ranks.values(rows), list(range(CHUNK)), [None] * CHUNK)
        alarm = stream.at / DAY if bets.update(seen.values, seen.counts, np.full(CHUNK, bin_)) else None
        times.append(stream.at / DAY)
        proof.append(RUN_LENGTH if alarm else max(bets.evidence, 1.0))
        waves.append(float((rows.embeddings[:, 0] / 3).mean()))
    made = figure()
    upper, lower = made.subplots(2, 1, sharex=True)
    upper.plot(times, waves, ".", markersize=1.5, color="#1f5fa8")
    upper.set(ylabel="first component\n(5-minute means)")
    lower.semilogy(times, proof, color="#c02020")
    lower.axhline(RUN_LENGTH, color="#999999", linestyle=":", label="alarm: one false one in 1,000,000 answers at most")
    lower.set(xlabel="days since the deployment", ylabel="evidence", ylim=(1, RUN_LENGTH * 5))
    for axes in (upper, lower):
        axes.axvline(changed, color="#d08000", linewidth=1.2)
        axes.grid(alpha=0.25)
    lower.legend(loc="center left", frameon=False)
    made.savefig(DOCS / "input_drift.png")


def estimates() -> None:
    """What was estimated without labels against what was true, from the results of the benchmark."""
    windows = json.loads((FOLDER / "decisions_labelfree.json").read_text("utf-8"))["windows"]
    made = figure()
    axes = made.add_subplot()
    for kind, colour in COLOURS.items():
        some = [w for w in windows if w["kind"] == kind]
        actual, said = [w["accuracy"] for w in some], np.array([w["estimated"] for w in some])
        ends = np.array([[w["estimated"] - w["low"], w["high"] - w["estimated"]] for w in some]).T
        axes.errorbar(actual, said, np.maximum(ends, 0), fmt="o", markersize=3, elinewidth=0.4, color=colour,
                      alpha=0.6, label=WORDS[kind])  # fmt: skip
    axes.plot([0.15, 1], [0.15, 1], color="#999999", linewidth=1)
    axes.set(xlabel="accuracy that it really had", ylabel="estimated without a label", xlim=(0.15, 1), ylim=(0.15, 1))
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", frameon=False)
    made.savefig(DOCS / "accuracy_without_labels.png")


if __name__ == "__main__":
    evidence()
    estimates()
