"""The reference is made from the code; this fails when somebody forgot to make it again."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfit.app.model_settings import ModelSettings
from keepfit.app.reference import pages, sections
from keepfit.app.settings import SECTIONS, Settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES = pages()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == PAGES[name], "run: python -m keepfit.app.reference"


def test_every_setting_has_a_meaning() -> None:
    assert "| None |" not in PAGES["settings.md"]


def test_every_section_of_the_settings_is_there() -> None:
    assert {section for _, section in sections()} == {Settings, ModelSettings, *SECTIONS.values()}
