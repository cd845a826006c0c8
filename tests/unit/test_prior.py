"""A folder with another class mix, a model under other names, and answers that are asked for once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.data.classes import ClassChange, ClassMap
from keepfit.errors import BackendError, InvalidInput
from keepfit.pipelines.answering import Answers
from keepfit.tasks.mapped import as_called_today
from keepfit.tasks.prior import copy_with_prior, read_prior
from keepfit.tasks.task import predict
from keepfit.tasks.text.model import Facts
from keepfit.tasks.toy import ToyModel, load

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def toy_folder(folder: Path) -> Path:
    folder.mkdir()
    state = {"format": 1, "task": "toy", "labels": ["neg", "pos"], "table": {"good": "pos"}, "shares": [0.5, 0.5]}
    (folder / "model.json").write_text(json.dumps(state), "utf-8")
    (folder / "manifest.json").write_text("{}", "utf-8")
    return folder


def test_a_correction_is_a_copy_that_older_readers_refuse(tmp_path: Path) -> None:
    made = copy_with_prior(toy_folder(tmp_path / "1"), {"neg": 3.0, "pos": 1.0}, tmp_path / "2")
    assert predict(load(made), ["unheard"]).scores[0] == pytest.approx([0.75, 0.25])
    assert json.loads((made / "model.json").read_text("utf-8"))["format"] == 2
    assert not (made / "manifest.json").exists()
    again = copy_with_prior(made, {"neg": 2.0, "pos": 1.0}, tmp_path / "3")
    assert predict(load(again), ["unheard"]).scores[0] == pytest.approx([6 / 7, 1 / 7])
    with pytest.raises(BackendError):
        copy_with_prior(tmp_path / "nowhere", {}, tmp_path / "4")


def test_a_prior_that_makes_no_sense_is_refused() -> None:
    facts = {
        "labels": ["a", "b"], "columns": ["text"], "temperature": 1.0, "max_tokens": 8, "embedding_dim": 2, "pad_id": 0,
        "precision": "fp32",
    }  # fmt: skip
    assert Facts.from_json(facts).prior is None
    assert Facts.from_json(facts | {"prior": {"a": 2, "b": 1}}).prior is not None
    for wrong in ({"a": 1}, {"a": 0, "b": 1}, {"a": float("nan"), "b": 1}):
        with pytest.raises((KeyError, ValueError)):
            read_prior({"prior": wrong}, ["a", "b"])


def test_scores_of_merged_classes_are_added_and_retired_ones_shared_out() -> None:
    model = ToyModel(["joy", "neg", "none", "pos"], {"good": "joy"}, [0.2, 0.4, 0.2, 0.2])
    now = {"joy": "pos", "neg": "neg", "none": None, "pos": "pos"}
    called = as_called_today(model, now.__getitem__)
    assert called.labels == ("neg", "pos")
    said = predict(called, ["unheard", "good day"])
    assert said.scores[0] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert said.scores[1].argmax() == 1
    assert as_called_today(model, lambda name: name) is model


def test_contents_are_asked_once_also_after_a_kill(tmp_path: Path) -> None:
    model = ToyModel(["neg", "pos"], {"good": "pos"}, [0.5, 0.5])
    loads = []

    def loaded() -> ToyModel:
        loads.append(1)
        return model

    asked = Answers(loaded, tmp_path / "answers.npz")
    first = asked(["good day", "bad day", "good day"])
    assert asked.asked == 2
    after = Answers(loaded, tmp_path / "answers.npz")
    again = after(["bad day", "good day"])
    assert (after.asked, len(loads)) == (0, 1)
    assert np.array_equal(again.scores[1], first.scores[0])


@pytest.mark.parametrize("left", [0, 60, 200, -30])
def test_a_damaged_file_of_answers_is_asked_anew(tmp_path: Path, left: int) -> None:
    model, file = ToyModel(["neg", "pos"], {"good": "pos"}, [0.5, 0.5]), tmp_path / "answers.npz"
    Answers(lambda: model, file)(["good day", "bad day"])
    file.write_bytes(file.read_bytes()[:left])
    after = Answers(lambda: model, file)
    assert after(["good day"]).scores.shape == (1, 2)
    assert after.asked == 1
    file.write_bytes(b"other bytes")
    assert Answers(lambda: model, file)(["good day"]).scores.shape == (1, 2)


def changes(*made: tuple[str, tuple[str, ...], str | None]) -> ClassMap:
    found = ClassMap()
    for day, (action, names, into) in enumerate(made):
        found = ClassMap((*found.changes, ClassChange(NOW + timedelta(days=day), "ann", action, names, into)))
    return found


def test_the_map_follows_one_change_after_another() -> None:
    found = changes(("rename", ("a",), "b"), ("merge", ("b", "c"), "d"), ("retire", ("e",), None))
    assert [found.read(name, NOW) for name in "abcdef"] == ["d", "d", "d", "d", None, "f"]
    assert found.known() == {"d"}
    assert found.given_up() == {"a", "b", "c", "e"}


def test_a_name_that_is_accepted_again_is_another_class_from_then_on() -> None:
    found = changes(("rename", ("a",), "b"), ("accept", ("a",), None))
    assert found.read("a", NOW) == "b", "the label is older than the second a"
    assert found.read("a", NOW + timedelta(days=2)) == "a"
    assert found.known_beside(["a", "c"]) == {"a", "b", "c"}


def test_a_name_that_was_given_up_comes_back_only_by_undoing_or_by_accepting() -> None:
    found = changes(("rename", ("a",), "b"))
    with pytest.raises(InvalidInput, match="given up"):
        found.checked(ClassChange(NOW + timedelta(days=1), "ann", "rename", ("c",), "a"), frozenset("bc"))
    back = found.checked(ClassChange(NOW + timedelta(days=1), "ann", "rename", ("b",), "a"), frozenset("bc"))
    assert (back.read("a", NOW), back.read("b", NOW)) == ("a", "a")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), max_size=6), st.sampled_from("abcd"))
def test_whatever_was_renamed_what_it_is_now_is_known_or_untouched(steps, name) -> None:
    found, existing = ClassMap(), frozenset("abc")
    for day, (old, new) in enumerate(steps):
        made = ClassChange(NOW + timedelta(days=day), "ann", "rename", (old,), new)
        try:
            found = found.checked(made, found.known_beside(sorted(existing)))
        except InvalidInput:
            continue
    later = NOW + timedelta(days=99)
    assert all(found.read(one, later) == one for one in found.known_beside(sorted(existing)))
    now = found.read(name, NOW)
    assert now in found.known() or now == name
