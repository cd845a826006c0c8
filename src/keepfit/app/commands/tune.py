"""`keepfit tune`: recipes are tried without a training; several processes or machines at once share the trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import training_progress
from keepfit.app.project import Project
from keepfit.app.worker import calm_down
from keepfit.data.records import new_id
from keepfit.errors import SettingsError

if TYPE_CHECKING:
    pass

TrialsOption = Annotated[int, typer.Option(min=1, help="Recipes in all, of all processes together.")]
SearchOption = Annotated[
    str | None, typer.Option(help="How recipes are chosen, with --tune: tpe (unless given), random or grid.")
]
MinutesOption = Annotated[
    float | None, typer.Option(min=0, help="With --tune: begin no trial after so many minutes; 0: no limit.")
]
MoneyOption = Annotated[
    float | None,
    typer.Option(min=0, help="With --tune: begin no trial once they cost so much, by costs.per_cpu_hour; 0: no limit."),
]
PrunerOption = Annotated[
    str | None, typer.Option(help="With --tune: which trials are stopped early, median (unless given) or halving.")
]


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(tune)


def tune(
    data: Annotated[Path, typer.Argument(help="A labelled CSV, TSV, JSONL or Parquet file.")],
    trials: TrialsOption = 20,
    search: Annotated[str, typer.Option(help="How recipes are chosen: tpe, random or grid.")] = "tpe",
    minutes: Annotated[
        float, typer.Option(min=0, help="Begin no trial once all together took so many minutes; 0: no limit.")
    ] = 0.0,
    money: Annotated[
        float, typer.Option(min=0, help="Begin no trial once they cost so much, by costs.per_cpu_hour; 0: no limit.")
    ] = 0.0,
    pruner: Annotated[str, typer.Option(help="Which trials are stopped early: median or halving.")] = "median",
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Try recipes and say which is the best; start it several times at once, and the trials are shared.

    `keepfit train DATA --tune N` with the same settings then finds them done, and trains with the best.
    """
    home = Project(project, model)
    wanted = replace(home.search(trials, search, minutes, pruner, money), share=new_id())
    snapshot, report = home.import_data(data)
    if not json:
        show.text(report.as_text())
    if home.worker_runs():  # answering goes first here, too
        calm_down(home.home.settings.worker.niceness, home.home.settings.worker.threads)
    with training_progress(json) as progress:
        found = home.tune(snapshot, wanted, progress).to_json()
    if json:
        show.out(found)
    else:
        show.tuning(found, home.model, trains=False)


def refuse_without_tune(tune: int | None, options: Mapping[str, Any]) -> None:
    """Raises SettingsError where an option is given that only a search heeds."""
    given = [name for name, value in options.items() if value is not None]
    if tune is None and given:
        raise SettingsError(
            f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} --tune N, the number of trials"
        )
