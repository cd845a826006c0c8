"""The trials of a search as pictures: parallel coordinates (Inselberg 1985), and how much each setting matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BEST, OPEN = "#b03a2e", "#b8b8b8"
LOSS = "log loss"


def draw_search(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write `trials.png`, and `importance.png` where it is known, into the folder; `found` is `Tuned.to_json()`."""
    made = [
        _saved(folder / "trials.png", (2.0 + 1.3 * len(found["trials"][0]["recipe"]), 5.0), found["trials"], parallel)
    ]
    if found["importance"]:
        made.append(_saved(folder / "importance.png", (7.0, 4.0), found["importance"], importance))
    return made


def parallel(axes: Axes, trials: Sequence[Mapping[str, Any]]) -> None:
    """A line for each trial through its settings to its loss; the best in red, those without a loss end before."""
    names = [name for name in trials[0]["recipe"] if len({repr(t["recipe"][name]) for t in trials}) > 1]
    scales = {name: _scale([t["recipe"][name] for t in trials]) for name in names}
    losses = {t["number"]: t["loss"] for t in trials if t["loss"] is not None}
    low, high = min(losses.values()), max(losses.values())
    for trial in sorted(trials, key=lambda t: -(losses.get(t["number"], np.inf))):
        heights = [scales[name][repr(trial["recipe"][name])] for name in names]
        loss = losses.get(trial["number"])
        if loss is None:
            axes.plot(range(len(names)), heights, color=OPEN, linestyle=":", linewidth=1)
            continue
        share = 0.0 if high == low else (loss - low) / (high - low)
        colour = BEST if loss == low else colormaps["viridis"](0.9 * share)
        axes.plot(range(len(names) + 1), [*heights, share], color=colour, linewidth=2.5 if loss == low else 1)
    for place, name in enumerate(names):
        axes.axvline(place, color="black", linewidth=0.6)
        for value, height in scales[name].items():
            if len(scales[name]) <= 4 or height in (0.0, 1.0):
                _beside(axes, place, height, value.strip("'"))
    axes.axvline(len(names), color="black", linewidth=0.6)
    _beside(axes, len(names), 0.0, f"{low:.4f}")
    if high > low:
        _beside(axes, len(names), 1.0, f"{high:.4f}")
    axes.set(xlim=(-0.2, len(names) + 0.8), ylim=(-0.05, 1.1))
    axes.set_xticks(range(len(names) + 1), [*names, LOSS], fontsize=8, rotation=20)
    axes.set_yticks([])


def importance(axes: Axes, shares: Mapping[str, float]) -> None:
    """The share of each setting in the differences between the losses, the largest on top."""
    ordered = sorted(shares.items(), key=lambda item: item[1])
    axes.barh(range(len(ordered)), [share for _, share in ordered], color="#1f5f8b")
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered], fontsize=8)
    axes.set_xlabel("share in the differences between the losses")


def _beside(axes: Axes, place: int, height: float, words: str) -> None:
    """A value at its axis; it does not push the axes about."""
    axes.text(place, height, f" {words}", fontsize=7, va="bottom").set_in_layout(False)


def _scale(values: Sequence[Any]) -> dict[str, float]:
    """Heights from 0 to 1 of values, by how they are written: of numbers in proportion, else in their order."""
    distinct = sorted(set(values))
    if all(isinstance(value, int | float) for value in distinct) and len(distinct) > 1:
        width = distinct[-1] - distinct[0]
        return {repr(value): float((value - distinct[0]) / width) for value in distinct}
    return {repr(value): place / max(len(distinct) - 1, 1) for place, value in enumerate(distinct)}


def _saved(path: Path, size: tuple[float, float], values: Any, panel: Any) -> Path:
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panel(figure.add_subplot(), values)
    figure.savefig(path, dpi=120, format="png")
    return path
