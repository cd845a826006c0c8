"""Whatever changes a training can be set, and has the same default in the settings as in the recipe."""

from __future__ import annotations

from keepfit.app.learning_settings import RecipeSettings
from keepfit.training.recipe import Recipe


def test_the_settings_hold_the_whole_recipe() -> None:
    assert RecipeSettings().model_dump() == Recipe().to_json()
