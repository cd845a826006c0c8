"""The demo's report: one picture, one page, one JSON."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.app.demo.traffic import Seen

SPAN = 8.0
"""Seconds of answers behind each point of the curve."""
LEAST = 30
"""Answers that a point needs at least."""


@dataclass(frozen=True)
class Moment:
    """Something that happened, for the picture and the page."""

    at: float
    what: str
    """change, alarm, gate, swap, ..."""
    words: str


def curve(seen: Sequence[Seen], step: float = 1.0) -> tuple[list[float], list[float]]:
    """Times and the accuracy of the last SPAN seconds at each; failed requests count as wrong."""
    if not seen:
        return [], []
    at = np.array([s.at for s in seen])
    right = np.array([s.right for s in seen], float)
    times, values = [], []
    for moment in np.arange(SPAN / 2, at.max() + step, step):
        inside = (at > moment - SPAN) & (at <= moment)
        if inside.sum() >= LEAST:
            times.append(float(moment))
            values.append(float(right[inside].mean()))
    return times, values


def share(seen: Sequence[Seen]) -> float:
    """Accuracy of some answers; nan without any."""
    return float(np.mean([s.right for s in seen])) if seen else float("nan")


def draw(path: Path, seen: Sequence[Seen], moments: Sequence[Moment], floor: float) -> None:
    """Accuracy over time with what happened."""
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    times, values = curve(seen)
    axes.plot(times, values, color="#1f5fa8", linewidth=2, label=f"accuracy of the last {SPAN:.0f} s")
    axes.axhline(floor, color="#999999", linestyle=":", linewidth=1, label=f"floor {floor:.2f}")
    colours = {"change": "#d08000", "alarm": "#c02020", "swap": "#208040"}
    names = {"change": "the world changes", "alarm": "alarm, retraining begins", "swap": "hot swap"}
    for moment in moments:
        if moment.what in colours:
            axes.axvline(moment.at, color=colours[moment.what], linewidth=1.4)
            axes.annotate(names[moment.what], (moment.at, 0.02), xycoords=("data", "axes fraction"), rotation=90,
                          ha="right", va="bottom", color=colours[moment.what], fontsize=9)  # fmt: skip
    axes.set(xlabel="seconds of live traffic", ylabel="accuracy", ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(loc="upper center", frameon=False)
    figure.savefig(path)


def write(folder: Path, result: Mapping[str, Any], seen: Sequence[Seen], moments: Sequence[Moment]) -> None:
    """accuracy.png, report.html and result.json."""
    picture = folder / "accuracy.png"
    draw(picture, seen, moments, float(result["floor"]))
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    image = base64.b64encode(picture.read_bytes()).decode()
    rows = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(shown(v))}</td></tr>" for k, v in result.items())
    story = "".join(f"<tr><td>{m.at:.1f} s</td><td>{html.escape(m.words)}</td></tr>" for m in moments)
    (folder / "report.html").write_text(PAGE.format(image=image, rows=rows, story=story), "utf-8")


def shown(value: Any) -> str:
    """A value for people."""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>keepfit: the demo</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}}
img{{width:100%}}table{{border-collapse:collapse;margin:1rem 0}}th,td{{text-align:left;padding:.25rem .8rem;
border-bottom:1px solid #ddd;vertical-align:top;white-space:pre-line}}</style>
<h1>keepfit: a classifier that stays fit</h1>
<p>A model was trained, served over HTTP under steady load and watched. The world changed, the label queue was answered
late, and what followed is told below.</p>
<img alt="Accuracy over time" src="data:image/png;base64,{image}">
<h2>What happened</h2><table>{story}</table>
<h2>The numbers</h2><table>{rows}</table></html>
"""
