"""The options that all commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepfit.app.completion import decision_ids, model_names, versions

ProjectOption = Annotated[Path, typer.Option("--project", help="The project folder.")]
ModelOption = Annotated[
    str | None,
    typer.Option("--model", help="Which of several models.", autocompletion=model_names),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
HERE = Path()
VERSIONS, DECISIONS = versions, decision_ids
"""Shell completions of arguments that are one of these."""
