"""Which answering half loads a model folder: the one that its model.json names, or its task's; imported by name."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from keepfit.errors import BackendError
from keepfit.tasks.task import Model
from keepfit.tasks.trade import Trade

GROUP = "keepfit.tasks"
"""Other packages' tasks: entry points of this group, NAME = module:load."""
OWN = "keepfit.tasks."
LOADERS: Mapping[str, str] = {
    "text": "keepfit.tasks.text.model:load",
    "video": "keepfit.tasks.video.model:load",
    "toy": "keepfit.tasks.toy:load",
}
"""Task -> its answering half, for folders whose model.json names none."""


def load_answering(folder: Path, precision: str | None = None, threads: int | None = None) -> Model:
    """The model in a folder, ready to answer; a `precision` or `threads` of None leaves the choice to the model.

    Raises BackendError when the folder cannot be read or asks for code that is neither keepfit's nor a
    registered task's: a model folder is data, it must not choose what is run.
    """
    entry = answering_entry(folder)
    module, _, name = entry.partition(":")
    try:
        load = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise BackendError(
            f"{folder} needs {entry}, which cannot be imported ({error}); install the version of keepfit that made it"
        ) from error
    return cast(Model, load(folder, precision=precision, threads=threads))


def answering_entry(folder: Path) -> str:
    """The `module:function` that loads a folder, from its model.json; nothing is imported. Raises BackendError."""
    facts = _facts(folder)
    task = str(facts.get("task"))
    entry = str(facts.get("load", LOADERS.get(task, "")))
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    entry = entry or others.get(task, "")
    if not (entry.startswith(OWN) or entry in others.values()):
        raise BackendError(
            f"{folder} is for the task {task!r} ({entry!r}), which is not installed; install its package"
        )
    return entry


def content_columns(folder: Path) -> tuple[str, ...]:
    """The columns that the model reads, from its model.json; nothing is imported. Raises BackendError."""
    return tuple(_facts(folder).get("columns", ("text",)))


def first_trade(folder: Path) -> Trade | None:
    """What the model's first stage would change, from its model.json; None where it has none. Raises BackendError."""
    facts = _facts(folder)
    first = facts.get("first")
    try:
        return None if first is None else Trade.from_json(first["trade"]).above(facts.get("abstain_below"))
    except (KeyError, TypeError, ValueError) as error:
        raise BackendError(f"the first stage in {folder} cannot be read ({error}); fetch it again") from error


def _facts(folder: Path) -> dict[str, Any]:
    try:
        facts = json.loads((folder / "model.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BackendError(f"the model in {folder} cannot be read ({error}); fetch or register it again") from error
    if not isinstance(facts, dict):
        raise BackendError(f"the model in {folder} cannot be read (no object); fetch or register it again")
    return facts
