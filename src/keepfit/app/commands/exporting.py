"""`keepfit labels export`: questions of the label queue as a file for a labelling tool."""

from __future__ import annotations

import csv
import json as jsons
from pathlib import Path
from typing import Annotated

import typer

from keepfit.app import label_studio, show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project
from keepfit.data.records import QueueItem
from keepfit.errors import BackendError, SettingsError

FORMATS = ("label-studio", "csv")


def register(labels: typer.Typer) -> None:
    """Add the command to `keepfit labels`."""
    labels.command("export")(export)


def export(
    file: Annotated[Path, typer.Argument(help="Where to; a file that is there is written over.")],
    kind: Annotated[str, typer.Option("--format", help="label-studio or csv.")] = FORMATS[0],
    limit: Annotated[int, typer.Option(min=1, help="How many questions at most.")] = 1000,
    blind: Annotated[
        bool, typer.Option("--blind", help="Leave the model's answers out, so that they sway nobody.")
    ] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Write what to label next for a labelling tool; its export comes back by `keepfit label FILE`."""
    if kind not in FORMATS:
        raise SettingsError(f"there is no format {kind!r}; use --format {' or --format '.join(FORMATS)}")
    home = Project(project, model)
    if home.traits.detects:
        raise SettingsError("questions about video cannot be exported; label its windows by their ids: keepfit label")
    items, columns = home.labels_next(limit), home.columns().text or ("text",)
    config = None
    try:
        if kind == FORMATS[0]:
            config = write_tasks(home, file, items, columns, blind)
        else:
            write_table(file, items, columns)
    except OSError as error:
        raise BackendError(f"{file} cannot be written: {error.strerror}") from error
    beside = "" if config is None else f" The labelling interface is in {config}."
    value = {"file": str(file), "items": len(items), "config": None if config is None else str(config)}
    show.result(value, json, f"{len(items)} questions are written to {file}.{beside} Then: keepfit label EXPORT")


def write_tasks(home: Project, file: Path, items: list[QueueItem], columns: tuple[str, ...], blind: bool) -> Path:
    """Tasks for Label Studio, and beside them the labelling interface."""
    answers = {} if blind else {
        item.prediction_id: home.store.prediction(home.model, item.prediction_id)[1] for item in items
    }  # fmt: skip
    accepted = home.store.classes(home.model).known()
    classes = sorted({name for item in items for name in item.label_set} | set(accepted))
    config = file.with_name(f"{file.stem}.label_config.xml")
    tasks = label_studio.tasks(items, columns, answers)
    file.write_text(jsons.dumps(tasks, ensure_ascii=False, indent=1) + "\n", "utf-8")
    config.write_text(label_studio.interface(columns, classes) + "\n", "utf-8")
    return config


def write_table(file: Path, items: list[QueueItem], columns: tuple[str, ...]) -> None:
    """A table with an empty column `label`."""
    with file.open("w", newline="", encoding="utf-8") as target:
        csv.writer(target).writerows(label_studio.table(items, columns))
