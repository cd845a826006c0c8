"""`keepfit import`: a version of a model that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import stages_progress
from keepfit.app.project import Project
from keepfit.app.worker import calm_down


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("import")(import_model)


def import_model(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PATH_OR_URI",
            help="A folder of Hugging Face Transformers; models:/NAME/3 or runs:/ID/PATH of MLflow, or a folder it "
            "wrote; an .onnx file; the .xml of an OpenVINO IR.",
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="A labelled file to judge and calibrate it by; without it, it is not evaluated.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="What its classes are called: a,b,c in the order of its outputs, or a JSON file.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="Where its tokenizer is, if not beside the model.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Tokens read of a text; as many as it takes, at most 512, unless given.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Of ONNX and OpenVINO: what later trainings begin with; a folder or a hub name.")
    ] = None,
    tracking: Annotated[
        str | None, typer.Option(help="Where MLflow is, for URIs; what the settings say unless given.")
    ] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a version of a model that was trained elsewhere; the first that keeps its floors becomes champion.

    Its classes, weights and tokenizer are taken over, and later trainings go on from them. Nothing is unpickled.
    """
    home = Project(project, model)
    if home.worker_runs():  # answering goes first here, too
        calm_down(home.home.settings.worker.niceness, home.home.settings.worker.threads)
    with stages_progress(json) as tell:
        result = home.import_model(
            source, tell, data=data, labels=labels, tokenizer=tokenizer, max_tokens=max_tokens, backbone=backbone,
            tracking=tracking,
        )  # fmt: skip
    show.result(result, json, printed(result))


def printed(done: Mapping[str, Any]) -> str:
    """What was imported, for people."""
    origin, about = done["origin"], done["imported"]
    lines = [
        show.trained(done),
        f"From {origin['from']} (SHA-256 {origin['sha256'][:12]}): {', '.join(done['labels'])}.",
        f"Answers in {done['precision']}, temperature {done['temperature']:g}, up to {done['max_tokens']} tokens.",
        f"{about['words'][0].upper()}{about['words'][1:]}.",
    ]
    return "\n".join(lines)
