"""The recipe of a model's next training: as the settings say, and where they say nothing as an imported network was."""

from __future__ import annotations

import json
from typing import Any

from keepfit.app.wiring import Home, recipe
from keepfit.data.store import RecordStore
from keepfit.registry.registry import model_folder
from keepfit.rollout.rollout import single
from keepfit.training.recipe import Recipe

IMPORTED = "imported:"
"""Before the id of a network that was imported, in a recipe's `backbone` (see tasks/text/imported.py)."""
OWN = ("backbone", "max_tokens", "truncation", "learning_rate")
"""What later trainings take over from it."""


def recipe_now(home: Home, name: str, store: RecordStore) -> Recipe:
    """The settings' recipe; where they name no backbone and an imported network answers, it is trained on from that.

    So it is as long as its heirs answer: each has its recipe in its folder, and a way back to a version from before
    the import is one to that version's recipe.
    """
    _, model = home.settings.model(name)
    asked, said = recipe(model), model.recipe.model_fields_set
    live = store.deployment(name)
    if live is None or "backbone" in said:
        return asked
    had = described(home, name, single(live.traffic)).get("recipe") or {}
    if not str(had.get("backbone", "")).startswith(IMPORTED):
        return asked
    return asked.with_(**{field: had[field] for field in OWN if field not in said})


def about_import(home: Home, name: str, number: int) -> dict[str, Any] | None:
    """What must be known of a version that was imported, with `words` for people; None where it was trained here."""
    found = described(home, name, number)
    about = found.get("imported")
    if about is None:
        return None
    begin = str(found["recipe"]["backbone"])
    _, model = home.settings.model(name)
    if "backbone" in model.recipe.model_fields_set:
        later = (
            f"trainings begin with recipe.backbone = {model.recipe.backbone!r} of the settings, not with this network"
        )
    elif about["learns"]:
        later = "trainings begin with its weights and tokenizer"
    elif begin.startswith(IMPORTED):
        later = "it has no weights that can learn, so trainings begin with the backbone that was named at the import"
    else:
        later = f"it has no weights that can learn, so trainings begin with the backbone {model.recipe.backbone!r}"
    words = [f"imported ({about['architecture']})"]
    words += [] if about["evaluated"] else ["not evaluated, and its probabilities are as they were"]
    return {**about, "words": "; ".join([*words, later])}


def described(home: Home, name: str, number: int) -> dict[str, Any]:
    """The model.json of a version; nothing where its files are not on this machine."""
    try:
        found = json.loads((model_folder(home.models, name, number) / "model.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
