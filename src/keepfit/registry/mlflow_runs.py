"""The MLflow runs of keepfit: one per training job, one per search, and one per model, monitoring, that never ends."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psutil
import pyarrow.parquet as pq

from keepfit.errors import BackendError
from keepfit.evaluation.evaluator import Evaluation
from keepfit.registry.mlflow_files import ArtifactFiles
from keepfit.registry.mlflow_quiet import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    MlflowClient,
    Param,
    Run,
    talking,
)
from keepfit.registry.pictures import draw
from keepfit.registry.registry import Lineage, RunInfo
from keepfit.registry.search_pictures import draw_search

if TYPE_CHECKING:
    from keepfit.training.trials import Trial, Tuned

log = logging.getLogger(__name__)

SYSTEM_SECONDS = 5.0
"""System metrics are taken with a report, but not more often than this."""
MOST_METRICS = 1000
"""In one call; MLflow's limit."""


def job_key(job_id: str) -> str:
    """A job's id as MLflow's search can take it, whatever characters it has: 32 hex digits."""
    return hashlib.sha256(job_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def tags_of(name: str, lineage: Lineage) -> dict[str, str]:
    """Lineage as tags, for people and for searches; on runs and on versions."""
    return {
        "keepfit.model": name,
        "keepfit.job": job_key(lineage.job_id),
        "keepfit.job_id": lineage.job_id,
        "keepfit.snapshot": lineage.snapshot_id,
        "keepfit.recipe": lineage.recipe.hash,
        "keepfit.code": lineage.code,
        "keepfit.reason": lineage.reason[:5000],
        "keepfit.parent": "" if lineage.parent is None else str(lineage.parent),
        "keepfit.seed": str(lineage.seed),
    }


def metric_name(name: str) -> str:
    """A name that MLflow accepts.

    >>> metric_name("recall[spam&ham]")
    'recall_spam_ham_'
    """
    return re.sub(r"[^\w\-./ :]", "_", name)[:250]


def metrics_of(values: Mapping[str, float], at: datetime | None, step: int) -> list[Metric]:
    """Values as MLflow's; `at` None means now."""
    moment = int((time.time() if at is None else at.timestamp()) * 1000)
    return [Metric(metric_name(name), float(value), moment, step) for name, value in values.items()]


class Runs:
    """Finds or makes the runs of one experiment; every method may be called again after a kill."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str, snapshots: Path | None) -> None:
        self._client, self._uri, self._experiment, self._snapshots = client, uri, experiment_id, snapshots

    def training(self, name: str, lineage: Lineage) -> str:
        """The id of the job's run, with its parameters and its data. A model's older unfinished runs have failed."""
        with talking(self._uri):
            run = self._find(f"tags.`keepfit.job` = '{job_key(lineage.job_id)}' and tags.`keepfit.model` = '{name}'")
            if run is None:
                self._bury(name)
                tags = {**tags_of(name, lineage), "keepfit.kind": "training"}
                run = self._client.create_run(self._experiment, tags=tags, run_name=f"{name} {lineage.job_id}"[:200])
            run_id = str(run.info.run_id)
            params = [Param(key, str(value)) for key, value in lineage.recipe.to_json().items()]
            self._client.log_batch(run_id, params=params)
            self._client.log_inputs(run_id, [self._dataset(lineage.snapshot_id)])
        return run_id

    def monitoring(self, name: str) -> str:
        """The id of the model's monitoring run."""
        with talking(self._uri):
            run = self._find(f"tags.`keepfit.kind` = 'monitoring' and tags.`keepfit.model` = '{name}'")
            if run is None:
                tags = {"keepfit.kind": "monitoring", "keepfit.model": name}
                run = self._client.create_run(self._experiment, tags=tags, run_name="monitoring")
        return str(run.info.run_id)

    def search(self, name: str, search_id: str, found: Tuned) -> None:
        """A run of the search, and below it one of each trial: its recipe and its loss on the validation part."""
        parent = self._of_search(name, search_id, 0, f"{name} search")
        for trial in found.trials:
            self._trial(self._of_search(name, search_id, trial.number, f"trial {trial.number}", parent), trial)
        with talking(self._uri):
            self._client.set_tag(parent, "keepfit.recipe", found.best.hash)
            self._client.set_tag(parent, "keepfit.because", "\n".join(found.because)[:5000])
        best = min(trial.loss for trial in found.trials if trial.loss is not None)
        importance = {f"importance/{field}": share for field, share in found.importance.items()}
        self.log(parent, metrics_of({"validation_loss": best, **importance}, None, len(found.trials)))
        with talking(self._uri), TemporaryDirectory() as place:
            draw_search(found.to_json(), Path(place))
            (Path(place) / "search.json").write_text(json.dumps(found.to_json(), indent=1), "utf-8")
            self._client.log_artifacts(parent, place)
        self.finish(parent)

    def _of_search(self, name: str, search_id: str, number: int, title: str, parent: str | None = None) -> str:
        """The run of a trial, or of the search itself (0); made when there is none."""
        tags = {"keepfit.kind": "trial" if number else "search", "keepfit.model": name,
                "keepfit.search": job_key(search_id), "keepfit.trial": str(number)}  # fmt: skip
        with talking(self._uri):
            run = self._find(" and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items()))
            if run is None:
                below = {} if parent is None else {"mlflow.parentRunId": parent}
                run = self._client.create_run(self._experiment, tags={**tags, **below}, run_name=title[:200])
        return str(run.info.run_id)

    def _trial(self, run_id: str, trial: Trial) -> None:
        with talking(self._uri):
            if self._client.get_run(run_id).info.status != "RUNNING":
                return
            params = [Param(key, str(value)) for key, value in trial.recipe.to_json().items()]
            self._client.log_batch(run_id, params=params)
            self._client.set_tag(run_id, "keepfit.recipe", trial.recipe.hash)
            if trial.error:
                self._client.set_tag(run_id, "keepfit.error", trial.error[:5000])
        found = {"seconds": trial.seconds} | ({} if trial.loss is None else {"validation_loss": trial.loss})
        self.log(run_id, metrics_of(found, None, 0))
        status = {"finished": "FINISHED", "stopped early": "KILLED"}.get(trial.state, "FAILED")
        with talking(self._uri):
            self._client.set_terminated(run_id, status)

    def log(self, run_id: str, metrics: list[Metric]) -> None:
        """Add metrics; the same ones again change nothing."""
        with talking(self._uri):
            for start in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(run_id, metrics=metrics[start : start + MOST_METRICS])

    def result(self, run_id: str, folder: Path, evaluation: Evaluation, at: datetime) -> None:
        """The final metrics with their intervals, the pictures, the evaluation and the model's card."""
        values: dict[str, float] = {}
        for name, interval in evaluation.metrics.items():
            values |= {f"{evaluation.split}/{name}": interval.value}
            values |= {f"{evaluation.split}/{name}.low": interval.low, f"{evaluation.split}/{name}.high": interval.high}
        for label, found in evaluation.per_class.items():
            values |= {f"{evaluation.split}/{name}/{label}": interval.value for name, interval in found.items()}
        self.log(run_id, metrics_of(values, at, 0))
        with talking(self._uri), TemporaryDirectory() as place:
            draw(evaluation, Path(place))
            (Path(place) / "evaluation.json").write_text(json.dumps(evaluation.to_json(), indent=1), "utf-8")
            if (folder / "card.md").is_file():
                (Path(place) / "card.md").write_bytes((folder / "card.md").read_bytes())
            self._client.log_artifacts(run_id, place)

    def finish(self, run_id: str) -> None:
        """Mark the run as finished, if it is not yet."""
        with talking(self._uri):
            if self._client.get_run(run_id).info.status == "RUNNING":
                self._client.set_terminated(run_id)

    def write(self, run_id: str, path: str, text: str) -> None:
        """Keep a text as an artifact of the run."""
        with talking(self._uri):
            self._client.log_text(run_id, text, path)

    def delete_file(self, run_id: str, path: str) -> None:
        """Delete an artifact of the run."""
        with talking(self._uri):
            ArtifactFiles(str(self._client.get_run(run_id).info.artifact_uri), self._uri).delete(path)

    def versionless(self, name: str, of_versions: Collection[str]) -> list[RunInfo]:
        """Trainings, searches and trials of a model, newest first, without those of its versions."""
        found: list[RunInfo] = []
        token = None
        with talking(self._uri):
            while True:
                page = self._client.search_runs(
                    [self._experiment], f"tags.`keepfit.model` = '{name}'", max_results=1000,
                    order_by=["attributes.start_time DESC"], page_token=token,
                )  # fmt: skip
                found += [_info(run) for run in page if run.info.run_id not in of_versions]
                if not (token := page.token):
                    return [run for run in found if run.kind in ("training", "search", "trial")]

    def delete(self, run_id: str) -> None:
        """Delete a run with its files; MLflow itself keeps the row, marked as deleted, until `mlflow gc`."""
        with talking(self._uri):
            ArtifactFiles(str(self._client.get_run(run_id).info.artifact_uri), self._uri).delete_all_but()
            self._client.delete_run(run_id)

    def _find(self, query: str) -> Run | None:
        found = self._client.search_runs([self._experiment], query, max_results=1, order_by=["attributes.start_time"])
        return found[0] if found else None

    def _bury(self, name: str) -> None:
        """One training at a time per model: when a new one starts, those that never ended are dead."""
        query = (
            f"attributes.status = 'RUNNING' and tags.`keepfit.kind` = 'training' and tags.`keepfit.model` = '{name}'"
        )
        for run in self._client.search_runs([self._experiment], query, max_results=100):
            self._client.set_terminated(run.info.run_id, "FAILED")

    def _dataset(self, snapshot_id: str) -> DatasetInput:
        """The snapshot as a dataset; of the file only the footer is read."""
        path = None if self._snapshots is None else (self._snapshots / f"{snapshot_id}.parquet").absolute()
        schema = profile = None
        if path is not None and path.is_file():
            footer = pq.ParquetFile(path)
            columns = [
                {"name": field.name, "type": "string" if "string" in str(field.type) else "object", "required": False}
                for field in footer.schema_arrow
            ]
            schema = json.dumps({"mlflow_colspec": columns})
            profile = json.dumps({"num_rows": footer.metadata.num_rows})
            footer.close()
        source = json.dumps({"uri": f"{snapshot_id}.parquet" if path is None else path.as_uri()})
        dataset = Dataset(snapshot_id, snapshot_id[:36], "local", source, schema, profile)
        return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _info(run: Run) -> RunInfo:
    at = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    tags = run.data.tags
    return RunInfo(run.info.run_id, at, tags.get("keepfit.kind", ""), 0, tags.get("keepfit.job_id", ""))


class RunReport:
    """Where a training reports; a `Report`. With the metrics go those of the machine, without a thread of their own.

    A training that runs for an hour must not fail because MLflow is away for a minute: what could not be
    logged is kept and goes with the next report.
    """

    def __init__(self, runs: Runs, run_id: str) -> None:
        self._runs, self._run_id = runs, run_id
        self._looked, self._looks = -SYSTEM_SECONDS, 0
        self._waiting: list[Metric] = []

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self._waiting += metrics_of(metrics, None, step) + self._system()
        try:
            self._runs.log(self._run_id, self._waiting)
        except BackendError as error:
            log.warning("the training goes on; its metrics wait: %s", error)
        else:
            self._waiting = []

    def _system(self) -> list[Metric]:
        if time.monotonic() - self._looked < SYSTEM_SECONDS:
            return []
        self._looked = time.monotonic()
        self._looks += 1
        return metrics_of(machine(), None, self._looks)


def machine() -> dict[str, float]:
    """How busy this machine is, under the names of MLflow's own system metrics."""
    memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / 1e6,
        "system/system_memory_usage_percentage": memory.percent,
        "system/process_memory_megabytes": psutil.Process().memory_info().rss / 1e6,
        "system/disk_usage_percentage": disk.percent,
        "system/disk_available_megabytes": disk.free / 1e6,
        "system/network_receive_megabytes": network.bytes_recv / 1e6,
        "system/network_transmit_megabytes": network.bytes_sent / 1e6,
    }
