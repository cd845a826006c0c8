"""Memory: what each model takes on the disk and, as an estimate, in a server's memory; and when it was last asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.registry.registry import model_folder
from keepfit.serving.predictor import Predictor

log = logging.getLogger(__name__)
MEMORY = "memory"
"""Under this name the store keeps what a server reported last of a model."""
INT8, FULL = "int8.bin", "model.bin"


@dataclass(frozen=True)
class ModelMemory:
    """Of one model in one serving process."""

    files_bytes: int
    """Of every version on this disk."""
    resident_bytes: int
    """An estimate: the weights of the versions in memory, as large as their files. What the engine lays out besides
    them, and the cache of answers, are not in it."""
    loaded: tuple[int, ...]
    unloaded: bool
    """Nobody asked for `server.unload_idle_after`; the next request loads it."""
    asked: datetime | None
    """When this process was asked last; None: not since it started."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "files_bytes": self.files_bytes, "resident_bytes_estimate": self.resident_bytes,
            "loaded": list(self.loaded), "unloaded": self.unloaded,
            "last_asked": None if self.asked is None else self.asked.isoformat(),
        }  # fmt: skip


@dataclass(frozen=True)
class Memory:
    """Looks at the predictors of this process and at the folder of all versions."""

    models: Path
    predictors: Mapping[str, Predictor]

    def of(self, name: str) -> ModelMemory:
        """As it is now. Raises KeyError for a model that is not served here."""
        predictor = self.predictors[name]
        loaded = predictor.warm()
        resident = sum(weights(model_folder(self.models, name, number)) for number in loaded)
        rest = predictor.rest
        return ModelMemory(files(self.models, name), resident, loaded, rest.asleep, rest.asked)


@dataclass
class MemoryReport:
    """Writes what changed into the store now and then, so that the command line can tell; several servers: the last."""

    memory: Memory
    store: RecordStore
    clock: Clock
    worker: str

    def __post_init__(self) -> None:
        self._told: dict[str, dict[str, Any]] = {}

    def refresh(self) -> None:
        """While the store is away it waits."""
        for name in self.memory.predictors:
            said = self.memory.of(name).to_json()
            if said == self._told.get(name):
                continue
            try:
                self.store.put(name, MEMORY, {**said, "server": self.worker, "at": self.clock.now().isoformat()})
            except KeepfitError as error:
                log.warning("what %s takes in memory could not be told: %s", name, error)
                return
            self._told[name] = said


def files(models: Path, name: str) -> int:
    """Bytes of all versions of a model on this disk."""
    return sum(sizes(models / name))


def weights(folder: Path) -> int:
    """Bytes of the weights that a server loads of a version: its networks, in the precision that it answers with."""
    networks = [file for file in folder.rglob("*.bin") if file.is_file()]
    names = {file.name for file in networks}
    if {INT8, FULL} <= names:
        left_out = FULL if precision(folder) == "int8" else INT8
        networks = [file for file in networks if file.name != left_out]
    found = [*networks, *(folder / one for one in ("model.json", "tokenizer.json", "first.safetensors"))]
    return sum(size(file) for file in found)


def precision(folder: Path) -> str | None:
    """In which a version answers, as its model.json says."""
    try:
        said = json.loads((folder / "model.json").read_text("utf-8")).get("precision")
    except (OSError, ValueError):
        return None
    return None if said is None else str(said)


def sizes(folder: Path) -> Iterator[int]:
    """Of every file below a folder."""
    return (size(file) for file in folder.rglob("*") if file.is_file())


def size(file: Path) -> int:
    """Zero for one that is gone."""
    try:
        return file.stat().st_size
    except OSError:
        return 0
