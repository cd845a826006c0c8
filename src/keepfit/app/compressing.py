"""Compressing, put together from a project; the command's verb."""

from __future__ import annotations

from typing import Any

from keepfit.app.project import Project, actor
from keepfit.app.wiring import named
from keepfit.data.costs import COMPRESS
from keepfit.errors import SettingsError
from keepfit.pipelines.compressing import Compressing
from keepfit.telling import Tell, silent

LOSS = 0.3
"""Points of accuracy."""


def run(
    project: Project, number: int | None = None, tell: Tell = silent, loss: float = LOSS, layers: int | None = None,
    int8: bool = False, dry_run: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """See Project.compress; what it cost is stored, too."""
    entry = project.traits.compressor
    if entry is None:
        raise SettingsError(
            f"a model of {project.settings.task} cannot be compressed; `keepfit compress` is for transformers of text"
        )
    if not 0 < loss <= 100:
        raise SettingsError("the loss is in points of accuracy, above 0 and at most 100; 0.3 is what fits most")
    compressor = named(entry)(loss / 100, layers, int8)
    version = project.champion() if number is None else number
    compressing = Compressing(project.retraining(project.model), compressor)
    with project.spending.on(COMPRESS, {"compressed": version}) as told:
        found = compressing.run(version, actor(), tell, dry_run)
        told["version"] = found["version"]
    return found
