"""Cross-validation, put together from the settings of one model."""

from __future__ import annotations

from functools import partial

from keepfit.app.learning import user_metrics
from keepfit.app.wiring import Home, learning_half
from keepfit.data.store import RecordStore
from keepfit.pipelines.cross import CrossValidation


def cross_validation(home: Home, name: str, store: RecordStore) -> CrossValidation:
    """Of one model."""
    _, model = home.settings.model(name)
    workdir = home.work / f"tune-{name}-folds"
    metrics = partial(user_metrics, model)
    return CrossValidation(name, learning_half(model.task), store, metrics, workdir, home.clock)
