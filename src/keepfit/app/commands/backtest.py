"""`keepfit backtest`: what would other policies of retraining have cost on the traffic that was?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.changing import moment
from keepfit.app.commands.class_changes import AsOfOption
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import stages_progress
from keepfit.app.project import Project


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(backtest)


def backtest(
    file: Annotated[
        Path | None, typer.Argument(help="A table with time, text and label; the stored labelled traffic unless given.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="never, every_step, settings (as they are now), or a trigger with its keys: period:days=7. May be "
            "given several times; the usual ones unless it is."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Into how many steps the traffic is cut.")] = 40,
    first: Annotated[float, typer.Option(help="Share of the rows that the first model is made from.")] = 0.2,
    label_rate: Annotated[float | None, typer.Option(help="Of a file: share of the rows that get a label; 1.")] = None,
    label_delay: Annotated[str, typer.Option(help='How long a label takes to come: "1d".')] = "0s",
    rows: Annotated[int, typer.Option(min=200, help="Thin the traffic evenly to so many rows.")] = 10_000,
    scale: Annotated[
        float | None, typer.Option(help="Answers in life that a row stands for; of stored traffic it is known.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A report: .html, or a picture: .png.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the recommended policy into keepfit.toml.")] = False,
    as_of: AsOfOption = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Replay the past under several policies of retraining, and recommend one."""
    home = Project(project, model)
    with stages_progress(json) as tell:
        result = home.backtest(
            file, policy or (), tell=tell, steps=steps, first=first, label_rate=label_rate, label_delay=label_delay,
            rows=rows, scale=scale, out=out, write=write, as_of=moment(as_of, "as-of"),
        )  # fmt: skip
    if json:
        show.out(result)
        return
    printed(result)
    if out is not None:
        show.text(f"{out} is written.")


def printed(result: dict[str, Any]) -> None:
    """The table and the recommendation."""
    console = Console()
    shown = show.table("policy", "accuracy", "retrained", "in vain", "seconds", "cost", "more than the best")
    shown.columns[0].overflow, shown.columns[0].no_wrap = "ellipsis", True
    shown.columns[-1].min_width = len("recommended")
    for one in result["policies"]:
        more = one["more_than_best"]
        last = "" if more is None else f"{more[0]:+.0f} to {more[1]:+.0f}"
        last = "recommended" if one["policy"] == result["recommended"] else last
        money = "" if one["money"] is None else f" ({one['money']:.2f} for machines and labels)"
        shown.add_row(
            escape(one["policy"]), f"{one['accuracy']:.3f}", f"{one['retrainings']}",
            str(one["false_alarms"]), f"{one['seconds']:.0f}", f"{one['cost']:.0f}{money}", last,
        )  # fmt: skip
    console.print(shown)
    price, bounds = result["price"], result["bounds"]
    lines = [
        f"Costs are in mistakes; a retraining costs {price['mistakes']:.4g} ({price['from']}).",
        f"{result['labelled']} of {result['rows']} rows had a label in the steps; each stands for {result['scale']:.4g}"
        " answers. In vain: the version before would have done as well.",
        f"At best: {bounds['clairvoyant']['cost']:.0f} knowing the future, {bounds['causal']['cost']:.0f} by the best "
        f"simple rule in hindsight.",
        *(f"{one['policy']}: {one['refused']}" for one in result["policies"] if one["refused"]),
        f"Recommended: {result['recommended']}",
        *(f"  - {reason}" for reason in result["because"]),
    ]  # fmt: skip
    for line in lines:
        console.print(escape(line), soft_wrap=True)
