"""Which code a model folder may ask for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keepfit.errors import BackendError
from keepfit.tasks.loading import answering_entry, content_columns, load_answering
from keepfit.tasks.task import predict


def folder(place: Path, **facts: Any) -> Path:
    (place / "model.json").write_text(json.dumps(facts), "utf-8")
    return place


def test_a_model_names_its_answering_half(tmp_path: Path) -> None:
    facts = {"task": "toy", "labels": ["a", "b"], "table": {"good": "b"}, "shares": [0.5, 0.5]}
    for more in ({}, {"load": "keepfit.tasks.toy:load"}):
        model = load_answering(folder(tmp_path, **facts, **more), threads=1)
        assert predict(model, ["good day"]).scores[0, 1] > 0.5


def test_a_text_model_needs_no_entry(tmp_path: Path) -> None:
    assert answering_entry(folder(tmp_path, task="text")) == "keepfit.tasks.text.model:load"


@pytest.mark.parametrize(
    "entry", ["os:system", "keepfit.tasksx:load", "keepfit.app.cli:main", "subprocess:run", ":load"]
)
def test_a_model_cannot_choose_foreign_code(tmp_path: Path, entry: str) -> None:
    with pytest.raises(BackendError, match="not installed"):
        load_answering(folder(tmp_path, task="evil", load=entry))


def test_a_task_of_another_version_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be imported"):
        load_answering(folder(tmp_path, task="text", load="keepfit.tasks.audio:load"))
    with pytest.raises(BackendError, match="not installed"):
        load_answering(folder(tmp_path, task="audio"))


@pytest.mark.parametrize("text", ["", "{", "[]", "7"])
def test_an_unreadable_model_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.json").write_text(text, "utf-8")
    with pytest.raises(BackendError, match="cannot be read"):
        answering_entry(tmp_path)
    with pytest.raises(BackendError, match="cannot be read"):
        answering_entry(tmp_path / "nowhere")


def test_the_columns_are_the_models_own(tmp_path: Path) -> None:
    assert content_columns(folder(tmp_path, task="text", columns=["subject", "body"])) == ("subject", "body")
    assert content_columns(folder(tmp_path, task="text")) == ("text",)
