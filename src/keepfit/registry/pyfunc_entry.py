"""The code that `mlflow.pyfunc.load_model` runs: answers of a keepfit model as a table label, score, p_<label>.

MLflow stores this file beside the model and runs it when the model is loaded; nothing is pickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from keepfit.errors import InvalidInput
from keepfit.tasks.loading import content_columns, load_answering
from keepfit.tasks.task import predict


class KeepfitModel(PythonModel):
    """A model folder as an MLflow model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the folder; MLflow calls this once."""
        folder = Path(context.artifacts["model"])
        self._model, self._columns = load_answering(folder), content_columns(folder)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row per text: label (None: abstained), score and p_<label>. Raises InvalidInput like the server."""
        contents = [self._model.read(raw) for raw in raws(model_input, self._columns)]
        scores = predict(self._model, contents).scores
        best = scores.argmax(axis=1)
        top = scores[np.arange(len(best)), best]
        floor = self._model.abstain_below or 0.0
        labels = [self._model.labels[i] if score >= floor else None for i, score in zip(best, top, strict=True)]
        chances = {f"p_{label}": scores[:, i] for i, label in enumerate(self._model.labels)}
        return pd.DataFrame({"label": labels, "score": top, **chances})


def raws(table: pd.DataFrame, columns: Sequence[str]) -> list[Any]:
    """What `Model.read` takes, row by row. A list of texts comes as one nameless column.

    Raises InvalidInput when a content column is missing.
    """
    if len(columns) == 1 and not any(isinstance(column, str) for column in table.columns):
        return [raw for row in table.itertuples(index=False, name=None) for raw in row]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InvalidInput(
            f"the table has no column {missing[0]!r} (it has {', '.join(map(str, table.columns))}); "
            f"pass only the columns {', '.join(columns)}",
            missing[0],
        )
    if len(columns) == 1:
        return list(table[columns[0]])
    return [dict(zip(columns, row, strict=True)) for row in table[list(columns)].itertuples(index=False, name=None)]


set_model(KeepfitModel())
