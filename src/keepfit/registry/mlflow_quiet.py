"""MLflow without telemetry, chatter and long waits: the one door through which this room imports it."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from sqlalchemy.exc import SQLAlchemyError

from keepfit.errors import BackendError, NotFound, SettingsError

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""MLflow takes these from the environment only, some at its import; what the user has set is kept."""

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)

with warnings.catch_warnings():  # MLflow's own code warns while it is imported: nothing that a user can act on
    warnings.simplefilter("ignore")
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts
    from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, Metric, Param, Run
    from mlflow.entities.model_registry import ModelVersion as Entry
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.types import ColSpec, Schema

logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())  # also where MLflow was imported first

__all__ = [
    "ColSpec",
    "Dataset",
    "DatasetInput",
    "Entry",
    "InputTag",
    "LoggedModel",
    "Metric",
    "MlflowClient",
    "MlflowException",
    "Model",
    "ModelSignature",
    "Param",
    "Run",
    "Schema",
    "download_artifacts",
    "get_artifact_repository",
    "is_server",
    "save_model",
    "shown",
    "talking",
]


def is_server(uri: str) -> bool:
    """True for a tracking server, false for a database.

    Raises SettingsError for anything else: MLflow's plain folders cannot hold a registry.

    >>> is_server("http://localhost:5000"), is_server("sqlite:///mlflow.db")
    (True, False)
    """
    scheme = uri.split(":", 1)[0].split("+", 1)[0] if ":" in uri else ""
    if scheme in ("http", "https"):
        return True
    if scheme in ("sqlite", "postgresql", "mysql", "mssql"):
        return False
    raise SettingsError(
        f"tracking = {uri!r} is no place for MLflow; write sqlite:///FILE, postgresql://..., http://HOST:PORT or local",
        "tracking",
    )


def shown(uri: str) -> str:
    """The address without its password.

    >>> shown("postgresql://anna:secret@db/mlflow")
    'postgresql://db/mlflow'
    """
    return re.sub(r"//[^/@]*@", "//", uri)


@contextmanager
def talking(uri: str, missing: str | None = None) -> Iterator[None]:
    """Turn MLflow's failures into ours: NotFound with the sentence `missing`, where one is given, else BackendError."""
    try:
        yield
    except MlflowException as error:
        if missing is not None and error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFound(missing) from error
        raise _failed(uri, error) from error
    except (requests.RequestException, SQLAlchemyError, OSError) as error:
        raise _failed(uri, error) from error


def _failed(uri: str, error: Exception) -> BackendError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackendError(
        f"MLflow at {shown(uri)} failed ({shown(first)[:200]}); check that it runs and that `tracking` is right, "
        "then try again"
    )
