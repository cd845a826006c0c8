"""What MLflow holds after a training, what survives a kill, and what happens when it is away."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keepfit.data.snapshot import Split
from keepfit.errors import BackendError, InvalidInput, NotFound, SettingsError
from keepfit.evaluation.evaluator import Evaluation
from keepfit.intervals import wilson
from keepfit.metrics import ReliabilityPoint
from keepfit.registry.mlflow import MlflowRegistry
from keepfit.registry.mlflow_quiet import Metric, MlflowClient
from keepfit.registry.mlflow_runs import RunReport, Runs
from keepfit.registry.pyfunc_entry import raws
from keepfit.registry.registry import Alias, Lineage
from keepfit.tasks.loading import load_answering
from keepfit.tasks.task import predict
from keepfit.training.recipe import Recipe

pytestmark = pytest.mark.slow

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
EXPERIMENT = "2"
"""The id of the tests' own experiment; 0 and 1 came with the empty database."""
SNAPSHOT = "5ab1e" * 6
LINEAGE = Lineage(SNAPSHOT, Recipe(batch_size=8), "harm", "job-1", None, "0.1.0")
EVALUATION = Evaluation(
    SNAPSHOT, Split.TEST, 100, ("neg", "pos"), {"accuracy": wilson(90, 100)},
    {"neg": {"recall": wilson(45, 50)}, "pos": {"recall": wilson(45, 50)}}, ((45, 5), (5, 45)),
    reliability=(ReliabilityPoint(0.6, wilson(6, 10)), ReliabilityPoint(0.95, wilson(20, 20))),
)  # fmt: skip


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template")
    MlflowRegistry(f"sqlite:///{home / 'mlflow.db'}", home / "models").versions("none")
    return home / "mlflow.db"


@pytest.fixture
def uri(empty_database: Path, tmp_path: Path) -> str:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def registry(uri: str, tmp_path: Path) -> MlflowRegistry:
    place = tmp_path / "snapshots"
    place.mkdir()
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": ["x", "y", "x"], "weight": [1.0, 1.0, 1.0]}),
                   place / f"{SNAPSHOT}.parquet")  # fmt: skip
    artifacts = (tmp_path / "artifacts").as_uri()
    return MlflowRegistry(uri, tmp_path / "models", "experiment", artifacts=artifacts, snapshots=place)


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri, uri)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "fitted"
    folder.mkdir()
    state = {
        "task": "toy",
        "labels": ["neg", "pos"],
        "table": {"good": "pos"},
        "shares": [0.5, 0.5],
        "columns": ["text"],
    }
    (folder / "model.json").write_text(json.dumps(state), "utf-8")
    (folder / "card.md").write_text("# A toy\n", "utf-8")
    return folder


@pytest.fixture
def plain(uri: str) -> Iterator[None]:
    """A user who points plain MLflow to the same database."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield
    mlflow.set_tracking_uri(before)


def test_a_run_holds_all_that_a_person_wants_to_see(
    registry: MlflowRegistry, client: MlflowClient, folder: Path
) -> None:
    report = registry.progress("job-1", "reviews", LINEAGE)
    report({"loss": 0.9, "eval_loss": 0.8}, 10)
    report({"loss": 0.4, "eval_loss": 0.5}, 20)
    made = registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    run = client.get_run(made.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.params["batch_size"], run.data.params["backbone"]) == ("8", "minilm")
    assert [(m.value, m.step) for m in client.get_metric_history(made.run_id, "eval_loss")] == [(0.8, 10), (0.5, 20)]
    assert run.data.metrics["test/accuracy"] == 0.9
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert run.data.tags["keepfit.snapshot"] == SNAPSHOT
    assert run.data.tags["keepfit.recipe"] == LINEAGE.recipe.hash
    assert run.data.tags["keepfit.job_id"] == "job-1"
    files = {file.path: file.file_size for file in client.list_artifacts(made.run_id)}
    assert files.keys() == {"card.md", "confusion_matrix.png", "evaluation.json", "reliability.png"}
    assert min(files["confusion_matrix.png"], files["reliability.png"]) > 5000


def test_the_snapshot_is_the_runs_dataset(registry: MlflowRegistry, client: MlflowClient, tmp_path: Path) -> None:
    registry.progress("job-1", "reviews", LINEAGE)
    registry.progress("job-1", "reviews", LINEAGE)
    (run,) = client.search_runs([EXPERIMENT])
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == (SNAPSHOT, SNAPSHOT[:36])
    assert json.loads(used.dataset.profile) == {"num_rows": 3}
    assert [c["name"] for c in json.loads(used.dataset.schema)["mlflow_colspec"]] == ["text", "label", "weight"]
    assert mlflow.data.get_source(used.dataset).load() == str(tmp_path / "snapshots" / f"{SNAPSHOT}.parquet")


@pytest.mark.usefixtures("plain")
def test_plain_mlflow_gives_the_same_answers(registry: MlflowRegistry, folder: Path) -> None:
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    registry.set_alias("reviews", Alias.CHAMPION, 1)
    model = mlflow.pyfunc.load_model("models:/reviews@champion")
    texts = ["good day", "bad day"]
    ours = predict(load_answering(registry.fetch("reviews", 1)), texts).scores
    for given in (texts, pd.DataFrame({"text": texts}), [{"text": text} for text in texts]):
        said = model.predict(given)
        assert list(said.columns) == ["label", "score", "p_neg", "p_pos"]
        assert list(said["label"]) == ["pos", "neg"]
        np.testing.assert_array_equal(said[["p_neg", "p_pos"]].to_numpy(np.float32), ours)
    with pytest.raises(InvalidInput, match="no column 'text'"):
        model.predict(pd.DataFrame({"review": texts}))
    with pytest.raises(InvalidInput, match="empty"):
        model.predict([" "])


def test_several_columns_are_read_together_and_by_name() -> None:
    table = pd.DataFrame({"body": ["b"], "subject": ["s"]})
    assert raws(table, ("subject", "body")) == [{"subject": "s", "body": "b"}]
    with pytest.raises(InvalidInput, match="no column 'title'"):
        raws(table, ("title", "body"))


def test_a_model_of_several_columns_says_so_in_its_signature(
    registry: MlflowRegistry, client: MlflowClient, folder: Path
) -> None:
    facts = json.loads((folder / "model.json").read_text()) | {"columns": ["subject", "body"]}
    (folder / "model.json").write_text(json.dumps(facts), "utf-8")
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    source = client.get_model_version("reviews", "1").source.removeprefix("file://")
    signature = mlflow.models.Model.load(source).signature
    assert signature is not None
    assert signature.inputs.input_names() == ["subject", "body"]
    assert signature.outputs.input_names() == ["label", "score", "p_neg", "p_pos"]


def test_the_model_comes_from_code_and_nothing_is_pickled(
    registry: MlflowRegistry, client: MlflowClient, folder: Path, tmp_path: Path
) -> None:
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".joblib", ".pt", ".bin")]
    source = Path(client.get_model_version("reviews", "1").source.removeprefix("file://"))
    described = mlflow.models.Model.load(source)
    flavour = described.flavors["python_function"]
    assert flavour["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert "python_model" not in flavour
    assert described.signature is not None
    assert [line.split("==")[0] for line in (source / "requirements.txt").read_text().split()] == [
        "mlflow", "keepfit", "openvino", "tokenizers", "numpy",
    ]  # fmt: skip


def test_a_kill_while_uploading_leaves_one_version_and_no_rest(
    registry: MlflowRegistry, client: MlflowClient, folder: Path
) -> None:
    registry.progress("job-1", "reviews", LINEAGE)
    (run,) = client.search_runs([EXPERIMENT])
    client.create_logged_model(EXPERIMENT, "reviews", run.info.run_id)  # begun, never finalised
    made = registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    assert (made.number, made.run_id) == (1, run.info.run_id)
    assert len(client.search_logged_models([EXPERIMENT])) == len(client.search_runs([EXPERIMENT])) == 1


def test_a_kill_before_the_version_uses_what_was_uploaded(
    registry: MlflowRegistry, client: MlflowClient, folder: Path
) -> None:
    first = registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    source = client.get_model_version("reviews", "1").source
    client.delete_model_version("reviews", "1")  # as if the last step had not been reached
    again = registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    assert again.run_id == first.run_id
    assert client.get_model_version("reviews", str(again.number)).source == source


def test_a_training_that_never_ended_is_marked_as_failed_by_the_next(
    registry: MlflowRegistry, client: MlflowClient
) -> None:
    registry.progress("job-1", "reviews", LINEAGE)
    registry.progress("job-2", "reviews", Lineage(SNAPSHOT, Recipe(), "harm", "job-2"))
    states = {run.data.tags["keepfit.job_id"]: run.info.status for run in client.search_runs([EXPERIMENT])}
    assert states == {"job-1": "FAILED", "job-2": "RUNNING"}


def test_windows_go_to_one_monitoring_run_per_model(
    registry: MlflowRegistry, uri: str, client: MlflowClient, tmp_path: Path
) -> None:
    for hour in (1, 2):
        registry.log_window("reviews", AT.replace(hour=hour), {"accuracy": hour / 10})
    MlflowRegistry(uri, tmp_path / "other", "experiment").log_window("reviews", AT, {"accuracy": 0.9})
    registry.log_window("spam", AT, {"accuracy": 0.5})
    runs = client.search_runs([EXPERIMENT], "tags.`keepfit.model` = 'reviews'")
    assert [run.info.run_name for run in runs] == ["monitoring"]
    history = client.get_metric_history(runs[0].info.run_id, "accuracy")
    assert sorted((m.step, m.value) for m in history) == [
        (int(AT.replace(hour=hour).timestamp()), value) for hour, value in ((1, 0.1), (2, 0.2), (12, 0.9))
    ]


def test_a_model_that_was_damaged_in_mlflow_is_refused(
    registry: MlflowRegistry, client: MlflowClient, folder: Path, tmp_path: Path
) -> None:
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    kept = Path(client.get_model_version("reviews", "1").source.removeprefix("file://")) / "artifacts" / "model"
    (kept / "model.json").write_text("{}", "utf-8")
    with pytest.raises(BackendError, match=r"damaged in MLflow: model\.json is changed"):
        registry.fetch("reviews", 1)
    shutil.rmtree(kept)
    with pytest.raises(BackendError, match="MLflow at"):
        registry.fetch("reviews", 1)
    assert [path.name for path in (tmp_path / "models" / "reviews").iterdir() if path.is_dir()] == []


def test_a_folder_of_a_deleted_database_is_not_mistaken_for_the_new_version(
    registry: MlflowRegistry, folder: Path, tmp_path: Path
) -> None:
    old = tmp_path / "models" / "reviews" / "1"
    shutil.copytree(folder, old)
    (old / "model.json").write_text('{"task": "toy", "old": true}', "utf-8")
    (old / "manifest.json").write_text("{}", "utf-8")
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    assert (registry.fetch("reviews", 1) / "model.json").read_text() == (folder / "model.json").read_text()


def test_a_registry_that_is_gone_is_not_taken_for_an_empty_one(
    registry: MlflowRegistry, folder: Path, empty_database: Path, tmp_path: Path
) -> None:
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    registry.fetch("reviews", 1)
    database = tmp_path / "mlflow.db"
    database.unlink()
    again = MlflowRegistry(f"sqlite:///{database}", tmp_path / "models", "experiment")
    for look in (
        lambda: again.version("reviews", 1),
        lambda: again.versions("reviews"),
        lambda: again.latest("reviews"),
    ):
        with pytest.raises(BackendError, match=r"cannot be reached.*is gone.*restore it from a backup"):
            look()
    assert not database.exists(), "nothing was made in its place"
    shutil.copy(empty_database, tmp_path / "other.db")
    other = MlflowRegistry(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "models", "experiment")
    with pytest.raises(BackendError, match="does not know version 1 of 'reviews', whose files are here"):
        other.version("reviews", 1)
    with pytest.raises(NotFound):
        other.version("reviews", 2)


def test_a_version_of_somebody_else_is_left_alone(registry: MlflowRegistry, client: MlflowClient, folder: Path) -> None:
    registry.register("reviews", folder, LINEAGE, EVALUATION, AT)
    client.create_model_version("reviews", "/somewhere/else")
    assert [version.number for version in registry.versions("reviews")] == [1]
    newest = registry.latest("reviews")
    assert newest is not None
    assert newest.number == 1


def test_mlflow_away_is_a_sentence_within_seconds(tmp_path: Path, folder: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        away = MlflowRegistry(f"http://anna:secret@127.0.0.1:{closed.getsockname()[1]}", tmp_path / "models")
        started = monotonic()
        with pytest.raises(BackendError, match="MLflow at http://127") as caught:
            away.register("reviews", folder, LINEAGE, EVALUATION, AT)
    assert "secret" not in str(caught.value)
    assert monotonic() - started < 30


def test_a_database_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database, whatever it is called " * 50)
    with pytest.raises(BackendError, match="MLflow at sqlite"):
        MlflowRegistry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "models").versions("reviews")


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "ftp://host", ""])
def test_a_place_that_is_none_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no place for MLflow"):
        MlflowRegistry(uri, tmp_path).versions("reviews")


class Flaky(Runs):
    """MLflow that is away for the first call."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, int]]] = []

    def log(self, run_id: str, metrics: list[Metric]) -> None:
        self.calls.append([(metric.key, metric.step) for metric in metrics if not metric.key.startswith("system/")])
        if len(self.calls) == 1:
            raise BackendError("MLflow is away")


def test_a_training_goes_on_while_mlflow_is_away_and_loses_no_metric() -> None:
    runs = Flaky()
    report = RunReport(runs, "run")
    report({"loss": 0.9}, 1)
    report({"loss": 0.8}, 2)
    report({"loss": 0.7}, 3)
    assert runs.calls == [[("loss", 1)], [("loss", 1), ("loss", 2)], [("loss", 3)]]


QUIET = """
import sys, threading, warnings
warnings.simplefilter("error")
from pathlib import Path
from keepfit.registry.mlflow import MlflowRegistry
import mlflow.telemetry.client as telemetry
MlflowRegistry(sys.argv[1], Path(sys.argv[2])).log_window("reviews", __import__("datetime").datetime.now(), {"a": 1.0})
print(telemetry.get_telemetry_client() is None, [t.name for t in threading.enumerate()])
"""


def test_mlflow_is_quiet_phones_nobody_and_leaves_no_thread(uri: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", QUIET, uri, str(tmp_path / "models")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=250)
    assert (done.stdout, done.stderr) == ("True ['MainThread']\n", "")
    assert not (tmp_path / "mlruns").exists()
