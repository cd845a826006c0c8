"""The evidence of a decision as a picture: what was measured until then beside its limits, or what was compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from keepfit.data.records import StoredDecision
from keepfit.errors import BackendError, InvalidInput
from keepfit.registry.search_pictures import importance, parallel

Panel = Callable[[Axes], None]
LINE, BAD, QUIET = "#1f5f8b", "#b03a2e", "#8a8a8a"
MOST_PANELS, MOST_BARS = 6, 20
E_VALUES = {"e_worse": "the champion is better", "e_better": "the challenger is better", "e_not_worse": "not worse"}


def picture(decision: StoredDecision, before: Sequence[StoredDecision], target: Path) -> Path:
    """Draw the evidence into a file (PNG, SVG or PDF, by its ending).

    before: decisions on the same subject, in any order; those that are younger are left out.
    Raises InvalidInput for an unknown ending, or a decision that holds no number; BackendError when it cannot be
    written.
    """
    if target.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InvalidInput(f"{target.name} must end in .png, .svg or .pdf", "plot")
    past = sorted((one for one in before if one.at <= decision.at and one.id != decision.id), key=lambda one: one.at)
    drawn = list(panels(decision, [*past, decision]))[:MOST_PANELS]
    if not drawn:
        raise InvalidInput(f"the decision {decision.id} rests on no number that could be drawn; its reasons say it all")
    figure = Figure(figsize=(8, 1.2 + 2.3 * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(drawn), squeeze=False)[:, 0]
    figure.suptitle(literal(title(decision)), fontsize=10, x=0.01, ha="left")
    for panel, place in zip(drawn, axes, strict=True):
        panel(place)
        place.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(target, dpi=150)
    except OSError as error:
        raise BackendError(f"{target} cannot be written ({error.strerror or error}); choose another place") from error
    return target


def literal(text: str) -> str:
    """As it is; dollar signs would start a formula.

    >>> print(literal("US$ or A$"))
    US\\$ or A\\$
    """
    return text.replace("$", r"\$")


def title(decision: StoredDecision) -> str:
    """What was decided, and the first reason."""
    first = decision.decision.because[0] if decision.decision.because else ""
    words = f"{decision.subject}, {decision.at:%Y-%m-%d %H:%M} UTC: {decision.decision.outcome.value}"
    lines, line = [words], ""
    for word in first.split():
        if len(line) + len(word) > 100:
            lines, line = [*lines, line], ""
        line += f"{word} "
    return "\n".join([*lines, line])


def panels(decision: StoredDecision, history: Sequence[StoredDecision]) -> Iterator[Panel]:
    """What there is to see: measurements over time, a rollout's evidence, pairs, a search, else all numbers."""
    evidence = decision.decision.evidence
    found = [*measured(evidence, history), *rolled(evidence, history), *paired(evidence), *searched(evidence)]
    yield from found
    if not found and (numbers := dict(leaves(evidence))):
        yield lambda axes: bars(axes, numbers)


def measured(evidence: Mapping[str, Any], history: Sequence[StoredDecision]) -> Iterator[Panel]:
    """One panel for each measurement on which a trigger's parts rest, and for the accuracy."""
    known = {one["name"] for one in evidence.get("measurements", ())}
    telling = [part["measurement"] for part in parts(evidence) if part.get("measurement") in known]
    for name in dict.fromkeys([*telling, *(["accuracy"] if "accuracy" in known else [])]):
        bounds = [part["bound"] for part in parts(evidence) if part.get("measurement") == name and "bound" in part]
        rows = [
            (one.at, found)
            for one in history
            for found in one.decision.evidence.get("measurements", ())
            if found["name"] == name
        ]
        yield lambda axes, rows=rows, name=name, bounds=bounds: trend(axes, name, rows, bounds)  # type: ignore[misc]


def parts(evidence: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The evidence of a trigger and of all it is made of."""
    yield evidence
    for part in [*evidence.get("triggers", ()), *([evidence["held"]] if "held" in evidence else [])]:
        yield from parts(part)


def trend(axes: Axes, name: str, rows: Sequence[tuple[Any, Mapping[str, Any]]], bounds: Sequence[float]) -> None:
    """A measurement with its interval and its limit."""
    times = [at for at, _ in rows]
    values, low, high = (np.array([found[key] for _, found in rows]) for key in ("value", "low", "high"))
    axes.plot(times, values, color=LINE, marker="." if len(rows) < 40 else "", label=literal(name))
    axes.fill_between(times, low, high, color=LINE, alpha=0.2, linewidth=0)
    for limit in bounds or [found["limit"] for _, found in rows[-1:] if found.get("limit") is not None]:
        axes.axhline(limit, color=BAD, linestyle="--", linewidth=1, label=f"limit {limit:.3g}")
    over_time(axes, name)


def rolled(evidence: Mapping[str, Any], history: Sequence[StoredDecision]) -> Iterator[Panel]:
    """A rollout's e-values over time, and the gain in accuracy with its interval."""
    rows = [(one.at, one.decision.evidence["quality"]) for one in history if "quality" in one.decision.evidence]
    if "quality" not in evidence or not rows:
        return

    def e_values(axes: Axes) -> None:
        for (key, words), style in zip(E_VALUES.items(), ("-", "--", ":"), strict=True):
            values = [max(float(found.get(key, 1.0)), 1e-6) for _, found in rows]
            colour = BAD if key == "e_worse" else LINE
            axes.plot([at for at, _ in rows], values, style, color=colour, label=words)  # type: ignore[arg-type]
        axes.set_yscale("log")
        axes.axhline(1 / float(evidence.get("level", 0.05)), color=QUIET, linewidth=1, label="proof")
        over_time(axes, "evidence")

    def gain(axes: Axes) -> None:
        found = [(at, one["difference"]) for at, one in rows if "difference" in one]
        times = [at for at, _ in found]
        axes.plot(times, [one["value"] for _, one in found], color=LINE, label="accuracy gained")  # type: ignore[arg-type]
        low, high = [one["low"] for _, one in found], [one["high"] for _, one in found]
        axes.fill_between(times, low, high, color=LINE, alpha=0.2, linewidth=0)  # type: ignore[arg-type]
        axes.axhline(0.0, color=QUIET, linewidth=1)
        over_time(axes, "difference")

    yield e_values
    yield gain


def paired(evidence: Mapping[str, Any]) -> Iterator[Panel]:
    """Of a gate: on how many rows only one of the two was right, rule by rule."""
    rules = {name: rule for name, rule in evidence.get("rules", {}).items() if {"wins", "losses"} <= set(rule)}
    if not rules:
        return

    def pairs(axes: Axes) -> None:
        names = list(rules)
        places = np.arange(len(names))
        axes.barh(places, [rules[name]["wins"] for name in names], color=LINE, label="only the candidate is right")
        axes.barh(places, [-rules[name]["losses"] for name in names], color=BAD, label="only the champion is right")
        axes.set_yticks(places, list(map(literal, names)))
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_xlabel("held-out rows")
        axes.legend(fontsize=8, frameon=False)

    yield pairs


def searched(evidence: Mapping[str, Any]) -> Iterator[Panel]:
    """Of a search: its trials, and how much each setting matters."""
    trials = evidence.get("trials")
    if isinstance(trials, Sequence) and trials and "recipe" in trials[0]:
        yield lambda axes: parallel(axes, trials)
        if evidence.get("importance"):
            yield lambda axes: importance(axes, evidence["importance"])


def leaves(evidence: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """All numbers by their path."""
    if isinstance(evidence, bool):
        return
    if isinstance(evidence, int | float) and np.isfinite(evidence):
        yield path, float(evidence)
    children = evidence.items() if isinstance(evidence, Mapping) else ()
    for name, child in children:
        yield from leaves(child, f"{path}.{name}" if path else str(name))


def bars(axes: Axes, numbers: Mapping[str, float]) -> None:
    """Numbers that have nothing to be compared with."""
    shown = dict(list(numbers.items())[:MOST_BARS])
    places = np.arange(len(shown))[::-1]
    axes.barh(places, list(shown.values()), color=LINE)
    axes.set_yticks(places, [literal(f"{name} = {value:.4g}") for name, value in shown.items()], fontsize=7)
    axes.set_xscale("symlog")


def over_time(axes: Axes, name: str) -> None:
    """Times along the bottom."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_ylabel(literal(name))
    axes.legend(fontsize=8, frameon=False)
