"""`keepfit compress`: a smaller or faster form of a version, within a stated loss of accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import stages_progress
from keepfit.app.project import Project
from keepfit.app.wiring import LATE, named
from keepfit.app.worker import calm_down

MB = 1e6


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(compress)


def compress(
    version: Annotated[int | None, typer.Argument(min=1, help="The version; the champion unless given.")] = None,
    loss: Annotated[float, typer.Option(help="Points of accuracy that may be lost, all methods together.")] = 0.3,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Keep so many layers, and teach them what the version answers: minutes.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Make int8 anew, smoothed in three ways; without it where it is not int8.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would bring; register nothing.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the trade-off into this file: .png, .svg or .pdf.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a version smaller or faster within a stated loss; what comes of it goes through the gate.

    Words that no text needs leave the vocabulary, and the word table is held in int8.
    """
    home = Project(project, model)
    if plot is not None:  # minutes of work should not end at the name of a file
        named(LATE["plot_name"])(plot)
    if home.worker_runs():  # answering goes first here, too
        calm_down(home.home.settings.worker.niceness, home.home.settings.worker.threads)
    with stages_progress(json) as tell:
        result = home.compress(version, tell, loss=loss, layers=layers, int8=int8, dry_run=dry_run)
    if plot is not None:
        named(LATE["compression_plot"])(result["points"], plot)
    if json:
        show.out(result)
        return
    printed(result)
    if plot is not None:
        show.text(f"{plot} is written.")


def printed(result: Mapping[str, Any]) -> None:
    """The trade-off, what came of each method, and what became of the candidate."""
    console, points = Console(), result["points"]
    lengths = list(points[0]["milliseconds"])
    times = [f"ms/{tokens}" for tokens in lengths]
    shown = show.table("form", "MB", "in memory", *times, "accuracy", "against fp32", "same label", "")
    for point in points:
        found, seen = point["comparison"], point["accuracy"]
        shown.add_row(
            escape(point["name"]), f"{point['size'] / MB:.1f}", f"{point['held'] / MB:.1f}",
            *(f"{point['milliseconds'].get(tokens, float('nan')):.2f}" for tokens in lengths),
            "" if seen["value"] is None else f"{seen['value']:.3f}",
            "" if found is None else f"{found['low']:+.2%} to {found['high']:+.2%}",
            "" if found is None else f"{found['agreement']:.2%}",
            "taken" if point["taken"] else "not taken",
        )  # fmt: skip
    console.print(shown)
    first, *reasons = result["because"]
    lines = [f"{first[0].upper()}{first[1:]}:", *(f"  - {reason}" for reason in reasons)]
    for line in lines:
        console.print(escape(line), soft_wrap=True)
    if result["version"] is not None:
        console.print(escape(show.trained(result["made"])), soft_wrap=True)
