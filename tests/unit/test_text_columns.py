"""Texts that come as objects: one order for all, the model's where it is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput
from keepfit.pipelines.text_columns import FIRST, TextColumns, text_columns


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    with RecordStore.open(f"sqlite:///{tmp_path / 'store.db'}") as opened:
        yield opened


def test_the_settings_come_first_then_the_training_then_the_first_object(store: RecordStore) -> None:
    text = {"b": "2", "c": "3", "a": "1"}
    assert text_columns(store, "m", (), [text]).content(text) == ("2", "3", "1")
    store.put("m", FIRST, ["c", "a", "b"])
    assert text_columns(store, "m", (), [text]).content(text) == ("3", "1", "2")
    store.put("m", "columns", {"text": ["a", "b", "c"]})
    assert text_columns(store, "m", (), [text]).content(text) == ("1", "2", "3")
    assert text_columns(store, "m", ("c", "b", "a"), [text]).content(text) == ("3", "2", "1")


def test_names_that_the_first_object_had_not_come_behind_by_name() -> None:
    columns = TextColumns(first=("title", "body"))
    assert columns.content({"x": "4", "body": "2", "d": "3", "title": "1"}) == ("1", "2", "3", "4")


@pytest.mark.parametrize(("text", "content"), [("one", "one"), ({"a": "one"}, "one"), ({}, ()), (None, None), (3, 3)])
def test_one_column_is_a_text_and_what_is_no_object_stays(text: Any, content: Any) -> None:
    assert TextColumns(first=("a",)).content(text) == content


def test_other_columns_than_the_model_has_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"wants exactly a, b \[columns.text\]; look at b, x"):
        TextColumns(known=("a", "b")).content({"a": "1", "x": "2"})
