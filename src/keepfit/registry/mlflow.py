"""MlflowRegistry: versions, runs and aliases in MLflow, on a database file by default or a tracking server by URL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from hashlib import sha256 as sha256_of
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import TYPE_CHECKING, Any

from keepfit.decision import Decision
from keepfit.errors import BackendError, NotFound
from keepfit.evaluation.evaluator import Evaluation
from keepfit.registry.files import (
    MANIFEST,
    check_model,
    damage,
    locked,
    place,
    remove,
    sha256,
    size_of,
    write_manifest,
)
from keepfit.registry.mlflow_files import ArtifactFiles
from keepfit.registry.mlflow_model import EVALUATION, INSIDE, pack
from keepfit.registry.mlflow_quiet import (
    Entry,
    LoggedModel,
    MlflowClient,
    MlflowException,
    Model,
    download_artifacts,
    is_server,
    shown,
    talking,
)
from keepfit.registry.mlflow_runs import RunReport, Runs, job_key, metrics_of, tags_of
from keepfit.registry.registry import (
    Alias,
    Lineage,
    ModelVersion,
    RunInfo,
    checked_name,
    gone,
    model_folder,
    verdict_from_json,
    verdict_to_json,
)
from keepfit.tasks.task import Report

if TYPE_CHECKING:
    from keepfit.training.trials import Tuned

LONGEST_TAG = 4500
"""Older servers cut tags of versions at 5000 characters; longer verdicts lie in a file of the run."""
PACKING = ".packing-"
REMOVED = "keepfit.removed"
REGISTER_SECONDS = 900.0


class MlflowRegistry:
    """A Registry in MLflow; fetched models lie in `models_dir`.

    `tracking_uri` is sqlite:///FILE, another database's URL, or a tracking server's http(s) URL. With a database,
    artifacts go to `artifacts` (a folder or URL; unset: `mlartifacts` beside `models_dir`); with a server it decides.
    `snapshots` is where `<id>.parquet` are, so that runs can describe their data. Nothing is opened before first use.
    MLflow's global tracking URI and active run are neither read nor changed.
    """

    def __init__(
        self,
        tracking_uri: str,
        models_dir: Path,
        experiment: str = "keepfit",
        *,
        artifacts: str | None = None,
        snapshots: Path | None = None,
    ) -> None:
        self._uri, self._root, self._experiment = tracking_uri, models_dir, experiment
        self._artifacts, self._snapshots = artifacts, snapshots
        self._lock = Lock()
        self._opened: tuple[MlflowClient, Runs, str] | None = None
        self._evaluations: dict[tuple[str, int], Evaluation] = {}
        self._monitoring: dict[str, str] = {}

    def register(self, name: str, folder: Path, lineage: Lineage, evaluation: Evaluation, at: datetime) -> ModelVersion:
        check_model(folder)
        with locked(self._root / checked_name(name), REGISTER_SECONDS, "register"):
            entry = self._of_job(name, lineage) or self._create(name, folder, lineage, evaluation, at)
            self._runs.finish(str(entry.run_id))
            self._drop_stranger(entry)
        return self._read(entry)

    def record_verdict(self, name: str, number: int, verdict: Decision) -> None:
        entry = self._entry(name, number)
        text = json.dumps(verdict_to_json(verdict), sort_keys=True)
        if len(text) > LONGEST_TAG:
            path = f"verdict-{sha256_of(text.encode()).hexdigest()[:16]}.json"
            self._runs.write(str(entry.run_id), path, text)
            text = path
        with self._talking():
            self._client.set_model_version_tag(name, str(entry.version), "keepfit.verdict", text)
            self._client.set_model_version_tag(name, str(entry.version), "keepfit.gate", str(verdict.outcome))
        before = entry.tags.get("keepfit.verdict", "{")
        if not before.startswith("{") and before != text:  # nobody reads it any more, and it may quote texts
            self._runs.delete_file(str(entry.run_id), before)

    def version(self, name: str, number: int) -> ModelVersion:
        return self._read(self._entry(name, number))

    def versions(self, name: str) -> list[ModelVersion]:
        return [self._read(entry) for entry in self._entries(name)]

    def latest(self, name: str) -> ModelVersion | None:
        newest = next(self._entries(name, page=10), None)
        return None if newest is None else self._read(newest)

    def fetch(self, name: str, number: int) -> Path:
        target = model_folder(self._root, name, number)
        if damage(target) is None:
            return target
        entry = self._entry(name, number)
        if (removed := _removed(entry)) is not None:
            raise gone(name, number, removed)
        with locked(target.parent):
            if damage(target) is not None:
                place(target, partial(self._download, entry))
        return target

    def size(self, name: str, number: int) -> int:
        entry = self._entry(name, number)
        here = size_of(model_folder(self._root, name, number))
        with self._talking():
            return here + ArtifactFiles(str(entry.source), self._uri).size()

    def remove(self, name: str, number: int, at: datetime) -> None:
        entry = self._entry(name, number)
        target = model_folder(self._root, name, number)
        with self._talking():
            if REMOVED not in entry.tags:
                self._client.set_model_version_tag(name, str(entry.version), REMOVED, at.isoformat())
            ArtifactFiles(str(entry.source), self._uri).delete_all_but(EVALUATION)  # it is part of the record
        with locked(target.parent):
            remove(target)

    def revise(self, name: str, number: int, change: Callable[[Path], bool]) -> bool:
        target, entry = self.fetch(name, number), self._entry(name, number)
        with locked(target.parent), TemporaryDirectory(dir=target.parent, prefix=".revising-") as part:
            copy = Path(part) / "model"
            shutil.copytree(target, copy)
            if not change(copy):
                return False
            write_manifest(copy)
            with self._talking():
                # a kill from here on leaves files that do not fit the manifest: done again, this mends it
                ArtifactFiles(str(entry.source), self._uri).replace(copy, INSIDE)
                tag = sha256(copy / MANIFEST)
                self._client.set_model_version_tag(name, str(entry.version), "keepfit.manifest", tag)
            place(target, lambda beside: copy)
        return True

    def runs(self, name: str) -> list[RunInfo]:
        return self._runs.versionless(checked_name(name), {str(entry.run_id) for entry in self._entries(name)})

    def remove_run(self, name: str, id: str) -> None:
        if any(run.id == id for run in self.runs(name)):
            self._runs.delete(id)

    def alias(self, name: str, alias: Alias) -> int | None:
        try:
            with self._talking(missing="no such model"):
                number = self._client.get_registered_model(checked_name(name)).aliases.get(str(alias))
        except NotFound:
            return None
        return None if number is None else int(number)

    def set_alias(self, name: str, alias: Alias, number: int | None) -> None:
        if number is not None:
            entry = self._entry(name, number)
            with self._talking():
                self._client.set_registered_model_alias(name, str(alias), str(entry.version))
        elif self.alias(name, alias) is not None:
            with self._talking():
                self._client.delete_registered_model_alias(name, str(alias))

    def progress(self, job_id: str, name: str, lineage: Lineage) -> Report:
        with locked(self._root / checked_name(name), REGISTER_SECONDS, "register"):
            run_id = self._runs.training(name, lineage)
        return RunReport(self._runs, run_id)

    def log_window(self, name: str, at: datetime, values: Mapping[str, float]) -> None:
        if name not in self._monitoring:
            with locked(self._root / checked_name(name)):
                self._monitoring[name] = self._runs.monitoring(name)
        try:
            self._runs.log(self._monitoring[name], metrics_of(values, at, int(at.timestamp())))
        except BackendError:
            self._monitoring.pop(name, None)  # somebody may have deleted the run: find or make it anew next time
            raise

    def log_search(self, name: str, search_id: str, found: Tuned) -> None:
        with locked(self._root / checked_name(name), REGISTER_SECONDS, "register"):
            self._runs.search(name, search_id, found)

    def _create(self, name: str, folder: Path, lineage: Lineage, evaluation: Evaluation, at: datetime) -> Entry:
        """Everything before the last call may be repeated; the version exists when that returns."""
        run_id = self._runs.training(name, lineage)
        self._runs.result(run_id, folder, evaluation, at)
        model = self._uploaded(run_id) or self._upload(name, run_id, folder, evaluation)
        tags = tags_of(name, lineage) | {
            "keepfit.lineage": json.dumps(lineage.to_json(), sort_keys=True),
            "keepfit.at": at.isoformat(),
            "keepfit.manifest": model.tags["keepfit.manifest"],
        }
        with self._talking():
            self._ensure_model(name)
            return self._client.create_model_version(
                name, model.artifact_location, run_id, tags, model_id=model.model_id, await_creation_for=0
            )

    def _ensure_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name, tags={"keepfit": "true"})
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _uploaded(self, run_id: str) -> LoggedModel | None:
        """The model that this run has uploaded whole, if any; what a kill left half-way is thrown away."""
        whole = None
        with self._talking():
            found = self._client.search_logged_models([self._experiment_id], f"source_run_id = '{run_id}'")
            for model in found:
                if str(model.status) == "READY" and "keepfit.manifest" in model.tags:
                    whole = model
                else:
                    self._client.delete_logged_model(model.model_id)
        return whole

    def _upload(self, name: str, run_id: str, folder: Path, evaluation: Evaluation) -> LoggedModel:
        home = self._root / name
        for left in home.glob(f"{PACKING}*"):  # by a kill; the lock says that nobody else is packing
            remove(left)
        with self._talking(), TemporaryDirectory(dir=home, prefix=PACKING) as place:
            model = self._client.create_logged_model(self._experiment_id, name, run_id, model_type="classifier")
            packed = Path(place) / "packed"
            about = Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id)
            digest = pack(folder, evaluation, packed, about)
            self._client.log_model_artifacts(model.model_id, str(packed))
            self._client.set_logged_model_tags(model.model_id, {"keepfit.manifest": digest})
            self._client.finalize_logged_model(model.model_id, "READY")
            return self._client.get_logged_model(model.model_id)

    def _drop_stranger(self, entry: Entry) -> None:
        """Remove a local folder of the same number that came from another registry, such as a deleted database."""
        target = model_folder(self._root, entry.name, int(entry.version))
        if target.exists() and not _is_registered(target, entry):
            with locked(target.parent):
                remove(target)

    def _download(self, entry: Entry, part: Path) -> Path:
        with self._talking():
            made = Path(download_artifacts(f"{entry.source}/{INSIDE}", dst_path=str(part), tracking_uri=self._uri))
        wrong = damage(made) if _is_registered(made, entry) else "its manifest is not the registered one"
        if wrong is not None:
            raise BackendError(
                f"version {entry.version} of {entry.name!r} is damaged in MLflow: {wrong}; train it again"
            )
        return made

    def _of_job(self, name: str, lineage: Lineage) -> Entry | None:
        query = f"name = '{name}' and tag.`keepfit.job` = '{job_key(lineage.job_id)}'"
        with self._talking():
            found = self._client.search_model_versions(query, 1)
        return found[0] if found else None

    def _entry(self, name: str, number: int) -> Entry:
        missing = f"there is no version {number} of {name!r}; `keepfit models` lists them"
        try:
            with self._talking(missing):
                entry = self._client.get_model_version(checked_name(name), str(int(number)))
        except NotFound as error:
            if came_from_mlflow(model_folder(self._root, name, number)):
                raise BackendError(
                    f"MLflow at {shown(self._uri)} does not know version {number} of {name!r}, whose files are here: "
                    "it is another MLflow, or has lost its data; check `tracking`, or restore it from a backup"
                ) from error
            raise
        if "keepfit.lineage" not in entry.tags:
            raise NotFound(
                f"version {number} of {name!r} was not registered by keepfit; choose one of `keepfit models`"
            )
        return entry

    def _entries(self, name: str, page: int = 1000) -> Iterator[Entry]:
        """Those that keepfit registered, newest first, as far as they are asked for."""
        query, token = f"name = '{checked_name(name)}'", None
        while True:
            with self._talking():
                found = self._client.search_model_versions(query, page, ["version_number DESC"], token)
            yield from (entry for entry in found if "keepfit.lineage" in entry.tags)
            if not (token := found.token):
                return

    def _read(self, entry: Entry) -> ModelVersion:
        number, tags = int(entry.version), entry.tags
        try:
            lineage, at = (
                Lineage.from_json(json.loads(tags["keepfit.lineage"])),
                datetime.fromisoformat(tags["keepfit.at"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(
                f"the tags of version {number} of {entry.name!r} in MLflow were changed ({error!r}); restore them"
            ) from error
        return ModelVersion(
            entry.name, number, lineage, self._evaluation(entry), at, self._verdict(entry), str(entry.run_id),
            _removed(entry),
        )  # fmt: skip

    def _evaluation(self, entry: Entry) -> Evaluation:
        """It never changes, so it is read once."""
        key = (entry.name, int(entry.version))
        if key not in self._evaluations:
            self._evaluations[key] = Evaluation.from_json(self._json(f"{entry.source}/{EVALUATION}"))
        return self._evaluations[key]

    def _verdict(self, entry: Entry) -> Decision | None:
        text = entry.tags.get("keepfit.verdict")
        if text is None:
            return None
        if text.startswith("{"):
            return verdict_from_json(json.loads(text))
        with self._talking():
            base = self._client.get_run(str(entry.run_id)).info.artifact_uri
        return verdict_from_json(self._json(f"{base}/{text}"))

    def _json(self, uri: str) -> dict[str, Any]:
        with self._talking(), TemporaryDirectory() as place:
            path = Path(download_artifacts(uri, dst_path=place, tracking_uri=self._uri))
            try:
                values: dict[str, Any] = json.loads(path.read_text("utf-8"))
            except ValueError as error:
                raise BackendError(f"{uri} in MLflow is damaged ({error}); restore it from a backup") from error
        return values

    @property
    def _client(self) -> MlflowClient:
        return self._connection()[0]

    @property
    def _runs(self) -> Runs:
        return self._connection()[1]

    @property
    def _experiment_id(self) -> str:
        return self._connection()[2]

    def _connection(self) -> tuple[MlflowClient, Runs, str]:
        """Opened at first use, under a lock: a new database is set up by one process only."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> tuple[MlflowClient, Runs, str]:
        server = is_server(self._uri)
        with locked(self._root), talking(self._uri):
            if self._uri.startswith("sqlite:///"):
                self._make_room(Path(self._uri.removeprefix("sqlite:///")))
            client = MlflowClient(self._uri, self._uri)
            found = client.get_experiment_by_name(self._experiment)
            location = None if server else self._artifacts or (self._root.parent / "mlartifacts").absolute().as_uri()
            experiment_id = (
                client.create_experiment(self._experiment, location) if found is None else found.experiment_id
            )
        return client, Runs(client, self._uri, experiment_id, self._snapshots), experiment_id

    def _make_room(self, database: Path) -> None:
        """For a new database. Raises BackendError when there was one: an empty one would know no version."""
        if not database.exists() and any(came_from_mlflow(folder) for folder in self._root.glob("*/*")):
            raise BackendError(
                f"the registry cannot be reached: MLflow's database {database} is gone, though versions of it are in "
                f"{self._root}; restore it from a backup (to begin anew without them: make an empty file there)"
            )
        database.parent.mkdir(parents=True, exist_ok=True)

    def _talking(self, missing: str | None = None) -> AbstractContextManager[None]:
        return talking(self._uri, missing)


def came_from_mlflow(folder: Path) -> bool:
    """Whether a folder holds a version that was fetched from an MLflow; the local registry has a record beside it."""
    return (folder / MANIFEST).is_file() and not folder.with_suffix(".json").exists()


def _removed(entry: Entry) -> datetime | None:
    moment = entry.tags.get(REMOVED)
    return None if moment is None else datetime.fromisoformat(moment)


def _is_registered(folder: Path, entry: Entry) -> bool:
    path = folder / MANIFEST
    return path.is_file() and sha256(path) == entry.tags["keepfit.manifest"]
