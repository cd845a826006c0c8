"""Another class mix: the same model, its probabilities weighed by how much more frequent each class is now."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keepfit.errors import BackendError
from keepfit.tasks.task import Floats

FORMAT = 2
"""Of a model folder with a prior: a keepfit that knows of none refuses it, rather than answer without."""
LEFT_BEHIND = ("manifest.json", "reference.npz", "evaluation.json")
"""Files that tell of the model before."""


def reweighted(scores: Floats, ratios: Floats | None) -> Floats:
    """Probabilities (n, k) after the classes' shares have changed by these ratios (k,); None: as they are.

    Bayes' rule for a change of the prior alone (Saerens, Latinne, Decaestecker 2002).

    >>> reweighted(np.array([[0.5, 0.5]], np.float32), np.array([3.0, 1.0], np.float32)).tolist()
    [[0.75, 0.25]]
    """
    if ratios is None:
        return scores
    weighed = scores * ratios
    return np.asarray(weighed / weighed.sum(axis=1, keepdims=True), np.float32)


def read_prior(values: Mapping[str, Any], labels: Sequence[str]) -> Floats | None:
    """The ratios (k,) that a model.json holds. Raises KeyError or ValueError on what makes no sense."""
    if values.get("prior") is None:
        return None
    ratios = np.array([float(values["prior"][label]) for label in labels], np.float32)
    if not (np.isfinite(ratios).all() and (ratios > 0).all()):
        raise ValueError("its prior makes no sense")
    return ratios


def copy_with_prior(model: Path, ratios: Mapping[str, float], folder: Path) -> Path:
    """A copy of a finished model's folder that answers for another class mix; again it is made anew.

    What the model was corrected by before is part of the new ratios' meaning: they are multiplied. Raises BackendError.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(
            model, folder, ignore=lambda place, names: [n for n in names if n in LEFT_BEHIND or n[0] == "."]
        )
        values = json.loads((folder / "model.json").read_text("utf-8"))
        had = values.get("prior") or {}
        values["prior"] = {label: float(ratio) * float(had.get(label, 1.0)) for label, ratio in ratios.items()}
        values["format"] = FORMAT
        values.pop("first", None)  # what it would change was measured with the old class mix
        (folder / "model.json").write_text(json.dumps(values, indent=1, ensure_ascii=False), "utf-8")
    except (OSError, ValueError) as error:
        raise BackendError(
            f"cannot write the model in {folder} ({error}); make room on the disk and try again"
        ) from error
    return folder
