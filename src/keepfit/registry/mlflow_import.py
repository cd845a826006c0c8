"""A model of Transformers that is kept in MLflow, brought into a folder of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepfit.errors import InvalidInput
from keepfit.registry.mlflow_quiet import MlflowClient, Model, get_artifact_repository, is_server, shown, talking

SCHEMES = ("models:/", "runs:/")
FLAVOUR = "transformers"


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
            address = _address(MlflowClient(tracking, tracking), source)
            repository: Any = get_artifact_repository(address, tracking_uri=tracking, registry_uri=tracking)
            place = Path(repository.download_artifacts("", dst_path=str(folder)))
    return opened(place, source)


def _address(client: MlflowClient, source: str) -> str:
    """Where the files are. A version names a logged model, which MLflow would look for on its own global server."""
    rest = source.removeprefix("models:/")
    if rest != source:
        name, _, alias = rest.partition("@")
        path, _, number = rest.rpartition("/")
        if alias:
            source = str(client.get_model_version_by_alias(name, alias).source)
        elif number.isdigit() and path:
            source = str(client.get_model_version(path, number).source)
        elif path and number == "latest":
            found = client.search_model_versions(f"name = '{path}'", order_by=["version_number DESC"], max_results=1)
            source = str(found[0].source) if found else source
    elif (found_in := _logged(client, source)) is not None:
        return found_in
    if source.startswith("models:/m-"):
        return str(client.get_logged_model(source.removeprefix("models:/")).artifact_location)
    return source


def _logged(client: MlflowClient, source: str) -> str | None:
    """Of a run's model by its name: since MLflow 3 its files are not below the run any more."""
    run, _, name = source.removeprefix("runs:/").partition("/")
    outputs = client.get_run(run).outputs
    for output in outputs.model_outputs if outputs else ():
        model = client.get_logged_model(output.model_id)
        if model.name == name:
            return str(model.artifact_location)
    return None


def opened(place: Path, source: str) -> Fetched:
    """A folder that MLflow wrote. Raises InvalidInput as `fetched`."""
    try:
        found = Model.load(str(place))
    except Exception as error:  # MLflow lets through whatever the parser raises
        raise InvalidInput(f"{source} is no model of MLflow: its file MLmodel cannot be read ({error})") from error
    flavours: dict[str, Any] = found.flavors or {}
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
    origin = {"model_id": found.model_id, "run": found.run_id, "at": str(found.utc_time_created or "")}
    tokenizer = place / "components" / "tokenizer"
    origin |= {"transformers": about.get("transformers_version")}
    return Fetched(model, tokenizer if tokenizer.is_dir() else model, {k: v for k, v in origin.items() if v})
