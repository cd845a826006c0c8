"""A model that others keep in MLflow is imported by its URI; and ONNX, where the package that writes it is there."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import pytest
import torch

from keepfit.app.project import Project
from keepfit.errors import InvalidInput, NotFound, SettingsError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the libraries that write models

SETTINGS = 'tracking = "local"\n\n[models.default]\ntask = "text"\n\n[models.default.recipe]\ninference = "fp32"\n'


@pytest.fixture
def project(tmp_path: Path) -> Any:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "keepfit.toml").write_text(SETTINGS, "utf-8")
    made = Project(tmp_path / "project")
    yield made
    made.close()


def test_a_model_comes_out_of_mlflow_by_its_uri(project: Project, tiny: ModuleType, tmp_path: Path) -> None:
    theirs = f"sqlite:///{tmp_path / 'theirs.db'}"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(theirs)
    try:
        experiment = mlflow.create_experiment("theirs", (tmp_path / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment) as run:
            parts = {"model": tiny.classifier("bert"), "tokenizer": tiny.tokenizer()}
            mlflow.transformers.log_model(
                parts, name="model", task="text-classification", registered_model_name="reviews",
                pip_requirements=["transformers"],
            )  # fmt: skip
    finally:
        mlflow.set_tracking_uri(before)
    with pytest.raises(NotFound, match="knows no models:/reviews/9"):
        project.import_model("models:/reviews/9", tracking=theirs)
    with pytest.raises(SettingsError, match="is no place for MLflow"):
        project.import_model("models:/reviews/1", tracking="file:///nowhere")
    done = project.import_model("models:/reviews/1", tracking=theirs)
    assert (done["version"], done["deployed"], done["labels"]) == (1, True, ["neg", "pos"])
    assert done["origin"]["from"] == "models:/reviews/1"
    assert done["origin"]["run"] == run.info.run_id
    assert project.recipe.backbone.startswith("imported:")
    again = project.import_model(f"runs:/{run.info.run_id}/model", tracking=theirs)
    assert (again["version"], again["deployed"], again["evaluated"]) == (2, False, False)
    assert again["origin"]["sha256"] == done["origin"]["sha256"]
    assert [version.evaluation.n for version in project.models()] == [0, 0]
    folder = next((tmp_path / "artifacts").rglob("MLmodel")).parent
    assert project.import_model(str(folder))["version"] == 3
    (folder / "MLmodel").write_text("flavors:\n  sklearn: {}\n  python_function: {}\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"has the flavours python_function, sklearn; one logged with"):
        project.import_model(str(folder))


def test_an_onnx_file_is_imported(project: Project, tiny: ModuleType, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{name} is not installed")
    whole = tiny.classifier("distilbert")
    tiny.save(whole, tmp_path / "hf")
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    batch, sequence = torch.export.Dim("batch"), torch.export.Dim("sequence", min=2, max=32)
    axes = {0: batch, 1: sequence}
    torch.onnx.export(
        whole, (), str(tmp_path / "model.onnx"), kwargs={"input_ids": ids, "attention_mask": (ids > 0).long()},
        input_names=["input_ids", "attention_mask"], output_names=["logits"], dynamo=True,
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )  # fmt: skip
    done = project.import_model(
        str(tmp_path / "model.onnx"), data=tiny.table(tmp_path / "data.csv", 300),
        tokenizer=tmp_path / "hf", labels="pos,neg",
    )  # fmt: skip
    assert (done["deployed"], done["accuracy"]) == (True, 1.0)
    assert "no weights that can learn, so trainings begin with the backbone 'minilm'" in done["imported"]["words"]
