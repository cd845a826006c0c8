"""Accuracy over time as a picture: what labels say, what was estimated without them, and both together."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from keepfit.data.records import StoredDecision, Window
from keepfit.data.store import RecordStore
from keepfit.errors import BackendError, InvalidInput, NotFound
from keepfit.monitoring.measurement import Measurement
from keepfit.monitoring.performance import right_share

MOST = 20_000
"""Checks that are looked through, newest first."""
MOST_POINTS = 400
"""More would only be drawn over each other."""
SUFFIXES = (".png", ".svg", ".pdf")
LINES = {
    "accuracy": ("on labels", "#1f5fa8"),
    "accuracy:estimated": ("estimated without labels", "#d08000"),
    "accuracy:corrected": ("estimated, corrected by labels", "#208040"),
}


@dataclass(frozen=True)
class Point:
    """One measurement at the moment of its check."""

    at: datetime
    seen: Measurement


def draw(store: RecordStore, model: str, path: Path, as_of: datetime | None = None) -> int:
    """Write the picture; the number of checks in it. With `as_of` the answers of each check's window are counted again.

    Raises InvalidInput for another kind of file, NotFound before the first measurement, BackendError when the file
    cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"{path.name} must end in {', '.join(SUFFIXES)}", "plot")
    checks = store.decisions(model, subject="trigger", limit=MOST)
    lines = {name: points(checks, name) for name in LINES}
    if not any(lines.values()):
        raise NotFound(f"no accuracy of {model!r} was measured or estimated yet; `keepfit check` looks once")
    words = "accuracy at each check"
    if as_of is not None:
        lines = {"accuracy": recounted(store, model, lines["accuracy"], as_of)}  # an estimate cannot be counted again
        words += f", by the classes as of {as_of:%Y-%m-%d %H:%M}"
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, found in lines.items():
        line(axes, found, *LINES[name])
    first = min(point.at for found in lines.values() for point in found)
    for deployment in store.deployments(model, limit=100):
        if deployment.at >= first:
            at: Any = deployment.at
            axes.axvline(at, color="#999999", linewidth=1, linestyle=":")
    axes.set(ylabel="accuracy", title=f"{model}: {words}, with 95 % intervals; dotted: deployments")
    axes.grid(alpha=0.25)
    axes.legend(loc="lower left", frameon=False)
    figure.autofmt_xdate()
    try:
        figure.savefig(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written: {error.strerror or error}") from error
    return len(checks)


def points(checks: Sequence[StoredDecision], name: str) -> list[Point]:
    """The measurements of this name that have a value, oldest first, thinned evenly."""
    found = [
        Point(check.at, seen)
        for check in reversed(checks)
        for plain in check.decision.evidence.get("measurements", ())
        if plain["name"] == name and (seen := Measurement.from_json(plain)).known and seen.judged
    ]
    return found[:: max(1, -(-len(found) // MOST_POINTS))]


def recounted(store: RecordStore, model: str, found: Sequence[Point], as_of: datetime) -> list[Point]:
    """The same checks by one class map, on the labels of today; without those in whose window no label counts by it.

    Raises NotFound when none is left.
    """
    counted = []
    for version in {point.seen.model_version for point in found}:
        own = [point for point in found if point.seen.model_version == version]
        span = Window(min(one.seen.window.start for one in own), max(one.seen.window.end for one in own))
        pairs = store.labelled(model, span, version, as_of=as_of)
        times = [said.time for said, _ in pairs]
        for point in own:
            window = point.seen.window
            if inside := pairs[bisect_left(times, window.start) : bisect_left(times, window.end)]:
                now = right_share(inside)
                seen = replace(point.seen, value=now.value, low=now.low, high=now.high, n=now.n)
                counted.append(Point(point.at, seen))
    if not counted:
        raise NotFound(f"no check of {model!r} had labels that count by that class map; leave --as-of out")
    return sorted(counted, key=lambda point: point.at)


def line(axes: Axes, found: Sequence[Point], words: str, colour: str) -> None:
    """One line with its interval."""
    if not found:
        return
    times: Any = [point.at for point in found]
    axes.plot(times, [point.seen.value for point in found], color=colour, linewidth=1.8, marker=".", label=words)
    axes.fill_between(
        times, [point.seen.low for point in found], [point.seen.high for point in found], color=colour, alpha=0.15
    )
