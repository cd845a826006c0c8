"""Pictures of a backtest: accuracy over time with the retrainings, and costs by policy; as PNG or within a page."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.errors import BackendError, InvalidInput
from keepfit.pipelines.backtest.outcome import Backtest, Outcome
from keepfit.pipelines.backtest.policies import EVERY_STEP, NEVER

DPI = 110
SHOWN = 4
"""Policies whose accuracy is drawn, besides never and every step."""


def write(backtest: Backtest, target: Path) -> None:
    """A .png, or a .html page that needs nothing else. Raises InvalidInput for another ending, BackendError."""
    kind = target.suffix.lower()
    if kind not in (".png", ".html"):
        raise InvalidInput(f"{target.name} must end in .html or .png", "out")
    picture = png(backtest)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture if kind == ".png" else page(backtest, picture).encode())
    except OSError as error:
        raise BackendError(f"{target} cannot be written: {error.strerror}") from error


def png(backtest: Backtest) -> bytes:
    """Both plots."""
    figure = Figure(figsize=(11, 9), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=[3, 2])
    matrix = backtest.replay.matrix
    ends = [backtest.replay.end(step) for step in range(matrix.steps)]
    answers = np.diff(matrix.cuts) * matrix.traffic.scale
    window = max(1, matrix.steps // 12)
    for one in chosen(backtest):
        accuracy = 1 - smooth(one.life.mistakes, window) / smooth(answers, window)
        (line,) = above.plot(ends, accuracy, label=f"{literal(one)} ({one.accuracy:.3f})", linewidth=1.6)
        for tried in one.life.tried if one.policy.name != EVERY_STEP else ():
            sign = "^" if tried.passed else "x"
            above.plot(ends[tried.step], accuracy[tried.step], sign, color=line.get_color(), markersize=7)
    above.set(
        ylabel=f"accuracy (mean of {window} steps)", title="accuracy over time; triangles: retrained, crosses: refused"
    )
    above.legend(fontsize=8, loc="best")
    above.grid(alpha=0.3)
    costs(below, backtest)
    target = io.BytesIO()
    figure.savefig(target, dpi=DPI, format="png")
    return target.getvalue()


def costs(axes, backtest: Backtest) -> None:  # type: ignore[no-untyped-def]  # matplotlib tells no types
    """Bars: mistakes, and retrainings on top of them."""
    found = backtest.outcomes
    places = np.arange(len(found))
    mistakes = [float(one.life.mistakes.sum()) for one in found]
    axes.bar(places, mistakes, color="#4c72b0", label="mistakes")
    axes.bar(places, [one.cost - m for one, m in zip(found, mistakes, strict=True)], bottom=mistakes, color="#dd8452",
             label="retrainings")  # fmt: skip
    for bound, name, style in (
        (backtest.future, "knows the future", ":"),
        (backtest.hindsight, "best in hindsight", "--"),
    ):
        axes.axhline(bound.cost, color="black", linestyle=style, linewidth=1, label=name)
    lowest = min(*mistakes, backtest.future.cost)
    axes.set_ylim(bottom=0.9 * lowest)
    axes.set_xticks(places, list(map(literal, found)), rotation=35, ha="right", fontsize=8)
    axes.set(ylabel="cost in mistakes", title="cost by policy (the axis does not begin at 0)")
    axes.legend(fontsize=8, loc="upper left")


def literal(one: Outcome) -> str:
    """The policy's name; a dollar sign would start a formula."""
    return one.policy.name.replace("$", r"\$")


def chosen(backtest: Backtest) -> list[Outcome]:
    """The cheapest ones, and the two extremes."""
    plain = [one for one in backtest.outcomes if one.policy.name not in (NEVER, EVERY_STEP)][:SHOWN]
    return [*plain, *(one for one in backtest.outcomes if one.policy.name in (NEVER, EVERY_STEP))]


def smooth(values, window: int):  # type: ignore[no-untyped-def]
    """Sums of the last `window` steps, fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(1, len(sums)) - window, 0)
    return sums[1:] - sums[first]


def page(backtest: Backtest, picture: bytes) -> str:
    """The page."""

    def cell(value: object) -> str:
        return f"<td>{html.escape(str(value))}</td>"

    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(f"<tr>{''.join(map(cell, row(backtest, one)))}</tr>" for one in backtest.outcomes)
    reasons = "".join(f"<li>{html.escape(reason)}</li>" for reason in (*backtest.because, *bounds(backtest)))
    image = base64.b64encode(picture).decode()
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>keepfit backtest</title><style>'
        "body{font:15px system-ui;max-width:75rem;margin:2rem auto;padding:0 1rem}table{border-collapse:collapse}"
        "td,th{padding:.25rem .7rem;border-bottom:1px solid #ccc;text-align:right}td:first-child{text-align:left}"
        f"img{{max-width:100%}}</style><h1>Backtest</h1><p>{html.escape(about(backtest))}</p><ul>{reasons}</ul>"
        f'<table><tr>{head}</tr>{rows}</table><p><img alt="accuracy over time, costs by policy" '
        f'src="data:image/png;base64,{image}"></p></html>'
    )


COLUMNS = (
    "policy", "accuracy", "mistakes", "retrainings", "passed", "false alarms", "labels", "seconds", "money", "cost",
    "more than the best (95 %)",
)  # fmt: skip


def row(backtest: Backtest, one: Outcome) -> tuple[str, ...]:
    """One policy, as text."""
    noise = backtest.noise.get(one.policy.name)
    extra = "recommended" if one is backtest.best else "" if noise is None else f"{noise[0]:.0f} to {noise[1]:.0f}"
    return (
        one.policy.name + (" (refused: see below)" if one.life.refused else ""), f"{one.accuracy:.3f}",
        f"{one.life.mistakes.sum():.0f}", str(one.attempts), str(sum(t.passed for t in one.life.tried)),
        str(one.false_alarms), str(one.labels), f"{one.seconds:.0f}", "" if one.money is None else f"{one.money:.2f}",
        f"{one.cost:.0f}", extra,
    )  # fmt: skip


def about(backtest: Backtest) -> str:
    """What was replayed, in a sentence."""
    matrix, replay = backtest.replay.matrix, backtest.replay
    return (
        f"{len(matrix.traffic)} rows of {len(matrix.traffic.classes)} classes, the first {matrix.start} of them to "
        f"begin with, the others in {matrix.steps} steps from {replay.begin(0):%Y-%m-%d %H:%M} to "
        f"{replay.end(matrix.steps - 1):%Y-%m-%d %H:%M} UTC; a row stands for {matrix.traffic.scale:g} answers; a "
        f"retraining costs {replay.price.mistakes:.4g} mistakes ({replay.price.words})"
    )


def bounds(backtest: Backtest) -> list[str]:
    """The bounds in sentences, and who was refused."""
    found = [
        f"who knows the future pays {backtest.future.cost:.0f} with {len(backtest.future.attempts)} retrainings; the "
        f"best simple rule in hindsight {backtest.hindsight.cost:.0f} with {len(backtest.hindsight.attempts)} "
        f"({backtest.hindsight.words})"
    ]
    return found + [f"{one.policy.name}: {one.life.refused}" for one in backtest.outcomes if one.life.refused]
