"""LocalRegistry: versions as plain files in one folder; the shipped fake, and enough for one machine without MLflow.

ROOT/NAME/3/            the model of version 3, with its manifest
ROOT/NAME/3.json        what is known of it; a version exists when this file does
ROOT/NAME/aliases.json  {"champion": 3}
ROOT/NAME/runs/JOB.jsonl, ROOT/NAME/monitoring.jsonl    metrics, one line each
ROOT/NAME/searches/ID.json    the trials of a search
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from keepfit.decision import Decision
from keepfit.errors import BackendError, NotFound
from keepfit.evaluation.evaluator import Evaluation
from keepfit.registry.files import (
    check_model,
    damage,
    locked,
    place,
    remove,
    size_of,
    write_at_once,
    write_manifest,
)
from keepfit.registry.registry import Alias, Lineage, ModelVersion, RunInfo, checked_name, gone, model_folder
from keepfit.tasks.task import Report

if TYPE_CHECKING:
    from keepfit.training.trials import Tuned

ALIASES = "aliases.json"


class LocalRegistry:
    """A Registry in the folder `root`. Writers lock; readers need no lock, since files are replaced whole."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def register(self, name: str, folder: Path, lineage: Lineage, evaluation: Evaluation, at: datetime) -> ModelVersion:
        home = self._home(name)
        check_model(folder)
        with locked(home):
            known = self.versions(name)
            if (same := _of_job(known, lineage.job_id)) is not None:
                return same
            number = known[0].number + 1 if known else 1
            place(home / str(number), lambda part: _copy(folder, part))
            version = ModelVersion(name, number, lineage, evaluation, at, None, lineage.job_id)
            self._write(version)
        return version

    def record_verdict(self, name: str, number: int, verdict: Decision) -> None:
        with locked(self._home(name)):
            self._write(replace(self.version(name, number), verdict=verdict))

    def version(self, name: str, number: int) -> ModelVersion:
        path = self._home(name) / f"{int(number)}.json"
        values = _read(path)
        if values is None:
            raise NotFound(f"there is no version {number} of {name!r}; `keepfit models` lists them")
        try:
            return ModelVersion.from_json(values)
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"{path} is damaged ({error!r}); restore it from a backup") from error

    def versions(self, name: str) -> list[ModelVersion]:
        numbers = [int(path.stem) for path in self._home(name).glob("*.json") if path.stem.isdigit()]
        return [self.version(name, number) for number in sorted(numbers, reverse=True)]

    def latest(self, name: str) -> ModelVersion | None:
        return next(iter(self.versions(name)), None)

    def fetch(self, name: str, number: int) -> Path:
        folder = model_folder(self._root, name, number)
        if (removed := self.version(name, number).removed) is not None:
            raise gone(name, number, removed)
        if (wrong := damage(folder)) is not None:
            raise BackendError(f"version {number} of {name!r} is damaged: {wrong}; restore {folder} or train again")
        return folder

    def size(self, name: str, number: int) -> int:
        return size_of(self._home(name) / str(self.version(name, number).number))

    def remove(self, name: str, number: int, at: datetime) -> None:
        with locked(self._home(name)):
            known = self.version(name, number)
            if known.removed is None:
                self._write(replace(known, removed=at))
            remove(self._home(name) / str(known.number))
            for left in self._home(name).glob(f".going-{known.number}-*"):
                remove(left)

    def revise(self, name: str, number: int, change: Callable[[Path], bool]) -> bool:
        folder = self.fetch(name, number)
        with locked(self._home(name)), TemporaryDirectory(dir=self._home(name), prefix=".revising-") as part:
            copy = Path(part) / "model"
            _copy(folder, copy)
            if not change(copy):
                return False
            place(folder, lambda target: _copy(copy, target))
        return True

    def runs(self, name: str) -> list[RunInfo]:
        home, made = self._home(name), {version.lineage.job_id for version in self.versions(name)}
        found = [_run(path, "search", "") for path in home.glob("searches/*.json")]
        for path in home.glob("runs/*.jsonl"):
            if (job_id := unquote(path.stem)) not in made:
                found.append(_run(path, "training", job_id))
        return sorted(found, key=lambda run: (run.at, run.id), reverse=True)

    def remove_run(self, name: str, id: str) -> None:
        for run in self.runs(name):
            if run.id == id:
                (self._home(name) / id).unlink(missing_ok=True)

    def alias(self, name: str, alias: Alias) -> int | None:
        number = (_read(self._home(name) / ALIASES) or {}).get(str(alias))
        return None if number is None else int(number)

    def set_alias(self, name: str, alias: Alias, number: int | None) -> None:
        with locked(self._home(name)):
            aliases = _read(self._home(name) / ALIASES) or {}
            aliases.pop(str(alias), None)
            if number is not None:
                aliases[str(alias)] = self.version(name, number).number
            write_at_once(self._home(name) / ALIASES, json.dumps(aliases, sort_keys=True))

    def progress(self, job_id: str, name: str, lineage: Lineage) -> Report:
        path = self._home(name) / "runs" / f"{quote(job_id, safe='')}.jsonl"
        return lambda metrics, step: self._append(name, path, {"step": step, **metrics})

    def log_window(self, name: str, at: datetime, values: Mapping[str, float]) -> None:
        self._append(name, self._home(name) / "monitoring.jsonl", {"at": at.isoformat(), **values})

    def log_search(self, name: str, search_id: str, found: Tuned) -> None:
        path = self._home(name) / "searches" / f"{quote(search_id, safe='')}.json"
        with locked(self._home(name)):
            write_at_once(path, json.dumps(found.to_json(), indent=1))

    def _home(self, name: str) -> Path:
        return self._root / checked_name(name)

    def _write(self, version: ModelVersion) -> None:
        path = self._home(version.name) / f"{version.number}.json"
        write_at_once(path, json.dumps(version.to_json(), indent=1, sort_keys=True))

    def _append(self, name: str, path: Path, line: Mapping[str, Any]) -> None:
        with locked(self._home(name)):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise BackendError(f"{path} cannot be written ({error}); make room on the disk") from error


def _of_job(versions: list[ModelVersion], job_id: str) -> ModelVersion | None:
    return next((version for version in versions if version.lineage.job_id == job_id), None)


def _run(path: Path, kind: str, job_id: str) -> RunInfo:
    stat = path.stat()
    at = datetime.fromtimestamp(stat.st_mtime, UTC)
    return RunInfo(f"{path.parent.name}/{path.name}", at, kind, stat.st_size, job_id)


def _copy(folder: Path, part: Path) -> None:
    shutil.copytree(folder, part, dirs_exist_ok=True)
    write_manifest(part)


def _read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file. Raises BackendError when it is damaged."""
    try:
        values: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return values
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BackendError(f"{path} is damaged ({error}); restore it from a backup") from error
