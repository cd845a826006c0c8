"""Importing a model, put together from a project; the command's verb."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from keepfit.app.project import Project, actor
from keepfit.app.recipes import about_import
from keepfit.app.wiring import LATE, named, recipe
from keepfit.errors import InvalidInput, NotFound, SettingsError
from keepfit.pipelines.importing import Importing, Wanted
from keepfit.pipelines.interrupted import close_interrupted
from keepfit.telling import Tell, silent

URIS = ("models:/", "runs:/")
COMPILED = {".onnx": "onnx", ".xml": "openvino"}


def run(
    project: Project, source: str, tell: Tell = silent, data: Path | None = None, labels: str | None = None,
    tokenizer: Path | None = None, max_tokens: int | None = None, backbone: str | None = None,
    tracking: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """See Project.import_model."""
    entry = project.traits.adopter
    if entry is None:
        raise SettingsError(f"a model of {project.settings.task} cannot be imported; `keepfit import` is for texts")
    asked = project.settings.recipe
    importer = named(entry)(
        recipe(project.settings),
        frozenset(asked.model_fields_set),
        class_names(labels),
        tokenizer,
        max_tokens,
        backbone,
    )
    rooms = project.retraining(project.model)
    close_interrupted(project.store, project.home.work, project.home.clock)
    Importing(rooms, importer).refuse()  # before anything is fetched or read
    project.home.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-", dir=project.home.work) as aside:
        tell("fetching", 0, None)
        place, beside, origin = found(project, source, tracking, Path(aside))
        importer = replace(importer, tokenizer=tokenizer or beside)
        snapshot = None
        if data is not None:
            tell("reading the data", 0, None)
            snapshot = project.imported(data, remembered=False)[0]
        done = Importing(rooms, importer).run(Wanted(place, origin, snapshot, actor()), tell)
    project.announcer(project.model).announce()
    project.registry.fetch(project.model, done["version"])  # a refused one lies in the registry alone
    done["imported"] = about_import(project.home, project.model, done["version"])
    if (objection := project.objection()) is not None:
        done["objection"] = objection
    return done


def found(project: Project, source: str, tracking: str | None, aside: Path) -> tuple[Path, Path | None, dict[str, Any]]:
    """Where the model lies, where its tokenizer where that is apart, and where it comes from.

    Raises NotFound for what is not there, SettingsError for an MLflow address that cannot be used.
    """
    place = Path(source)
    if source.startswith(URIS) or (place / "MLmodel").is_file():
        home = project.home
        if source.startswith(URIS) and tracking is None and home.settings.tracking == "local":
            raise SettingsError(f'{source} is in an MLflow and tracking = "local" names none; add --tracking URL')
        if not source.startswith(URIS) and tracking is not None:
            raise SettingsError(f"--tracking is for MLflow URIs ({' or '.join(URIS)}...), and {source} is a folder")
        got = named(LATE["mlflow_import"])(source, tracking or home.mlflow_url, aside)
        return got.model, got.tokenizer, {"from": source, "kind": "mlflow", "sha256": digest(got.model), **got.origin}
    if tracking is not None:
        raise SettingsError(f"--tracking is for MLflow URIs ({' or '.join(URIS)}...), and {source} is a path")
    if not place.exists():
        raise NotFound(f"there is no file or folder {source}, and it is no URI of MLflow ({' or '.join(URIS)}...)")
    if place.is_file() and place.suffix not in COMPILED:
        raise InvalidInput(
            f"{source} cannot be imported: give a folder of Transformers, an .onnx file, or the .xml of an OpenVINO IR "
            "(its .bin beside it)"
        )
    kind = COMPILED[place.suffix] if place.is_file() else "transformers"
    return place.absolute(), None, {"from": str(place.absolute()), "kind": kind, "sha256": digest(place)}


def digest(place: Path) -> str:
    """SHA-256 over the names and contents of a folder's files, or of a file and what lies under its name beside it."""
    files = sorted(place.parent.glob(f"{place.stem}.*")) if place.is_file() else sorted(place.rglob("*"))
    whole = hashlib.sha256()
    for path in (path for path in files if path.is_file()):
        whole.update(path.name.encode())
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def class_names(given: str | None) -> Sequence[str] | Mapping[str, str] | None:
    """What `--labels` says: `a,b,c`, or a JSON file with a list, with names by number or by the model's own names.

    Raises NotFound and InvalidInput.

    >>> class_names("neg, pos")
    ['neg', 'pos']
    """
    if given is None:
        return None
    if not given.endswith(".json"):
        return [name.strip() for name in given.split(",")]
    try:
        found = json.loads(Path(given).read_text("utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {given}") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{given} cannot be read ({error}); write a JSON list of names", "labels") from error
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return found
    if isinstance(found, dict) and all(isinstance(name, str) for name in found.values()):
        return found
    if isinstance(found, dict) and all(isinstance(n, int) for n in found.values()):  # label2id
        return {str(number): name for name, number in found.items()}
    raise InvalidInput(f'{given} holds no names: write ["neg", "pos"], or {{"0": "neg", "1": "pos"}}', "labels")
