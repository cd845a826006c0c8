"""`keepfit costs`: what a month has cost and what was saved, with the arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.project import Project

KINDS = {"tune": "searches for a recipe", "compress": "compressions", "batch": "files", "serve": "answering"}


def register(cli: typer.Typer) -> None:
    """Add the command to the root."""
    cli.command()(costs)


def costs(
    month: Annotated[str | None, typer.Option(help="Such as 2026-11; the present one unless given.")] = None,
    project: Annotated[Path, typer.Option("--project", help="The project folder.")] = Path(),
    model: Annotated[str | None, typer.Option("--model", help="Which of several models.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """What a month has cost: by retraining, version and 1,000 answers, against the budget, and what was saved."""
    home = Project(project, model)
    report = dict(home.costs(month))
    if model is not None:
        report["models"] = {model: report["models"][model]}
    show.result(report, json, "\n".join(lines(report)))


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The report for people."""
    yield f"{report['month']} ({report['timezone']}), all models: {report['total']['arithmetic']}"
    if report["total"]["kwh"] is None:
        yield "  energy: not stated, this machine does not tell"
    budget = report["budget"]
    if budget is not None:
        held = "; only harm or a person begins a retraining once it is spent" if budget["enforced"] else ""
        yield f"  budget: {budget['arithmetic']}{held}"
    for name, one in report["models"].items():
        yield f"{name}: {one['total']['arithmetic']}"
        counted = ", ".join(f"{n} {source}" for source, n in sorted(one["labels"].items()))
        yield f"  labels that people gave: {counted or 'none'}"
        for made in one["retrainings"]:
            version = "no version" if made["version"] is None else f"version {made['version']}"
            yield (
                f"  retraining of {made['at']:%Y-%m-%d %H:%M} UTC, {version}, {made['labels_used']} labels, "
                f"{made['seconds']:.1f} s: {made['arithmetic']}"
            )
        yield from (f"  {words}: {one[kind]['arithmetic']}" for kind, words in KINDS.items() if one[kind]["seconds"])
        for number, version in one["versions"].items():
            each = version["per_1000"]
            yield f"  version {number}, 1,000 answers: {'it gave none' if each is None else each['arithmetic']}"
        for saving in one["saved"]:
            yield f"  saved by {saving['by']}: {saving.get('arithmetic') or 'not stated: ' + saving['not_stated']}"
