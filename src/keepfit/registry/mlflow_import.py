"""A model of Transformers that is kept in MLflow, brought into a folder of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from keepfit.errors import InvalidInput
from keepfit.registry.mlflow_quiet import get_artifact_repository, is_server, shown, talking

SCHEMES = ("models:/", "runs:/")
FLAVOUR = "transformers"
MLMODEL = "MLmodel"


@dataclass(frozen=True)
class Fetched:
    """Where its parts lie."""

    model: Path
    tokenizer: Path
    origin: Mapping[str, Any]
    """What MLflow knows of it: the model's id, the run, the flavour's version."""


def fetched(source: str, tracking: str, folder: Path) -> Fetched:
    """The model behind `models:/NAME/3`, `models:/NAME@alias` or `runs:/ID/PATH`, or in a folder that MLflow wrote.

    Downloads go to `folder`, from the server or database `tracking`. Raises NotFound and BackendError as MLflow fails,
    InvalidInput for a model of another flavour, or one whose weights were not kept with it.
    """
    place = Path(source)
    if source.startswith(SCHEMES):
        is_server(tracking)  # refuses what is no place for MLflow
        folder.mkdir(parents=True, exist_ok=True)
        missing = f"MLflow at {shown(tracking)} knows no {source}; look at its page, or name another server: --tracking"
        with talking(tracking, missing):
            repository = get_artifact_repository(source, tracking_uri=tracking, registry_uri=tracking)
            place = Path(repository.download_artifacts("", dst_path=str(folder)))
    return opened(place, source)


def opened(place: Path, source: str) -> Fetched:
    """A folder that MLflow wrote. Raises InvalidInput as `fetched`."""
    try:
        found: dict[str, Any] = yaml.safe_load((place / MLMODEL).read_text("utf-8"))
        flavours: dict[str, Any] = found["flavors"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InvalidInput(f"{source} is no model of MLflow: its file MLmodel cannot be read ({error})") from error
    about = flavours.get(FLAVOUR)
    if about is None:
        raise InvalidInput(
            f"{source} has the flavours {', '.join(sorted(flavours))}; one logged with mlflow.transformers can be "
            "imported, others keep pickles or code"
        )
    model = place / str(about.get("model_binary", ""))
    if not about.get("model_binary") or not model.is_dir():
        raise InvalidInput(
            f"{source} names the weights {about.get('source_model_name')!r} and does not hold them; log it with "
            "save_pretrained=True (the default)"
        )
    origin = {"model_id": found.get("model_id"), "run": found.get("run_id"), "at": found.get("utc_time_created")}
    tokenizer = place / "components" / "tokenizer"
    origin |= {"transformers": about.get("transformers_version")}
    return Fetched(model, tokenizer if tokenizer.is_dir() else model, {k: v for k, v in origin.items() if v})
