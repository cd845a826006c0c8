"""Networks that were imported, as backbones of later trainings: kept by their content beside the snapshots."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.network import Classifier
from keepfit.tasks.text.preprocessing import CLEANING

PREFIX = "imported:"
"""Before the id, in the `backbone` of a recipe."""
FACTS, TOKENIZER = "imported.json", "tokenizer.json"
FILES = ("config.json", "model.safetensors", TOKENIZER, FACTS)


@dataclass(frozen=True)
class Facts:
    """What a training must know of it besides its weights."""

    labels: tuple[str, ...]
    """Its classes, in the order of its head's rows; none where the head is to be learnt anew."""
    pad_id: int
    longest: int
    """The most tokens it can read."""
    cleaning: int = CLEANING
    """How texts were cleaned that it has learnt from."""


@dataclass(frozen=True, eq=False)
class Kept:
    """One of them, as it was stored."""

    network: Classifier
    tokenizer: str
    """tokenizer.json."""
    facts: Facts


def place_beside(snapshots: Path) -> Path:
    """Where those of a project lie, by the folder of its snapshots."""
    return snapshots.parent / "imported"


def is_imported(backbone: str) -> bool:
    """Whether a recipe's backbone is one of them."""
    return backbone.startswith(PREFIX)


def keep(found: Kept, place: Path) -> str:
    """Store it, whole or not at all, and give the name for recipes; the same network is stored once.

    Raises BackendError when the disk fails.
    """
    part = place / f"part-{os.getpid()}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        networks.save(found.network, part)
        (part / TOKENIZER).write_text(found.tokenizer, "utf-8")
        (part / FACTS).write_text(json.dumps(asdict(found.facts), sort_keys=True), "utf-8")
        id_ = _digest(part)
        if (place / id_).is_dir():
            shutil.rmtree(part)
        else:
            part.rename(place / id_)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise BackendError(f"cannot write in {place} ({error}); make room on the disk and start again") from error
    return PREFIX + id_


def read(backbone: str, place: Path | None) -> Kept:
    """What `keep` stored under this name. Raises BackendError when it is not there, or was changed."""
    folder = None if place is None else place / backbone.removeprefix(PREFIX)
    again = "import the model again, or set another recipe.backbone"
    if folder is None or folder.parent != place or not folder.is_dir():
        raise BackendError(f"the network {backbone!r} is not in {place}; {again}")
    try:
        if _digest(folder) != folder.name:
            raise BackendError(f"the network in {folder} was changed; {again}")
        values = json.loads((folder / FACTS).read_text("utf-8"))
        facts = Facts(**{**values, "labels": tuple(values["labels"])})
        return Kept(networks.load(folder), (folder / TOKENIZER).read_text("utf-8"), facts)
    except (OSError, ValueError, KeyError, TypeError, InvalidInput) as error:
        raise BackendError(f"the network in {folder} cannot be read ({error}); {again}") from error


def _digest(folder: Path) -> str:
    """Of the contents of its files."""
    whole = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]
