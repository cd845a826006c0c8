"""A model folder packed as an MLflow model from code: signature, requirements, example; no pickle."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path

from keepfit.evaluation.evaluator import Evaluation
from keepfit.registry.files import MANIFEST, link, sha256, write_manifest
from keepfit.registry.mlflow_quiet import ColSpec, Model, ModelSignature, Schema, save_model
from keepfit.tasks.loading import content_columns

ENTRY = Path(__file__).with_name("pyfunc_entry.py")
INSIDE = "artifacts/model"
"""Where the model folder lies in the packed model."""
EVALUATION = "evaluation.json"
EXAMPLE = "I love this product!"
REQUIREMENTS = ("keepfit", "openvino", "tokenizers", "numpy")


def pack(folder: Path, evaluation: Evaluation, target: Path, about: Model) -> str:
    """Write the MLflow model into `target` (which must not exist); returns the SHA-256 of the folder's manifest.

    `about` carries the ids of the run and the logged model.
    """
    staged = target.with_name("staged") / "model"  # MLflow keeps the name of the folder
    shutil.copytree(folder, staged, copy_function=link)
    write_manifest(staged)
    columns = content_columns(staged)
    save_model(
        path=str(target),
        python_model=str(ENTRY),
        artifacts={"model": str(staged)},
        signature=signature(columns, evaluation.labels),
        input_example=[EXAMPLE] if len(columns) == 1 else [dict.fromkeys(columns, EXAMPLE)],
        pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
        mlflow_model=about,
    )
    (target / EVALUATION).write_text(json.dumps(evaluation.to_json()), "utf-8")
    digest = sha256(staged / MANIFEST)
    shutil.rmtree(staged.parent)
    return digest


def signature(columns: tuple[str, ...], labels: tuple[str, ...]) -> ModelSignature:
    """What goes in and out. A single text column has no name here, so that a plain list of texts is accepted too."""
    inputs = [ColSpec("string")] if len(columns) == 1 else [ColSpec("string", column) for column in columns]
    chances = [ColSpec("float", f"p_{label}") for label in labels]
    outputs = [ColSpec("string", "label", required=False), ColSpec("float", "score"), *chances]
    return ModelSignature(Schema([*inputs]), Schema([*outputs]))
