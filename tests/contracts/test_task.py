"""One suite for every task: what the rest of keepfit relies on when a model is learnt, kept in a folder and asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keepfit.app.wiring import learning_half
from keepfit.data.snapshot import Snapshot, Split, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.loading import content_columns, first_trade, load_answering
from keepfit.tasks.prior import copy_with_prior
from keepfit.tasks.task import FirstStage, Model, Task, first_of, predict
from keepfit.training.recipe import Recipe

GOOD = ("lovely", "superb", "charming", "brilliant")
BAD = ("dreadful", "boring", "shoddy", "broken")
FILLER = ("the", "film", "was", "a", "story", "with", "actors", "and", "music")


def silent(metrics: object, step: int) -> None:
    """Report to nobody."""


def text(label: int, rng: np.random.Generator, words: int) -> str:
    """The first word tells the class."""
    return " ".join([str(rng.choice(GOOD if label else BAD)), *map(str, rng.choice(FILLER, words))])


def rows(classes: Sequence[str] = ("negative", "positive"), n: int = 160) -> Iterator[SnapshotRow]:
    rng = np.random.default_rng(0)
    for i in range(n):
        split = Split.TRAIN if i < 0.7 * n else Split.VALIDATION if i < 0.85 * n else Split.TEST
        content = text(i % 2, rng, int(rng.integers(1, 24)))
        yield SnapshotRow(f"{i:05d}", content, classes[i % len(classes)], str(i), split)


def toy_recipe(folder: Path, tiny_bert: Callable[..., str]) -> Recipe:
    return Recipe()


def text_recipe(folder: Path, tiny_bert: Callable[..., str]) -> Recipe:
    return Recipe(
        backbone=tiny_bert(folder), epochs=8, batch_size=16, max_tokens=32, learning_rate=5e-3, precision="fp32",
        inference="fp32",
    )  # fmt: skip


TASKS: dict[str, Callable[[Path, Callable[..., str]], Recipe]] = {"toy": toy_recipe, "text": text_recipe}
BOTH = [
    "toy",
    pytest.param(
        "text", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
    ),  # of the libraries that convert
]


@dataclass(frozen=True)
class Fitted:
    """A task, what it learnt from, and where the model lies."""

    task: Task
    recipe: Recipe
    snapshot: Snapshot
    workdir: Path
    folder: Path


@pytest.fixture(scope="module", params=BOTH)
def fitted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_bert: Callable[..., str]
) -> Fitted:
    place = tmp_path_factory.mktemp(request.param)
    task, recipe = learning_half(request.param), TASKS[request.param](place / "backbone", tiny_bert)
    snapshot = write_snapshot(place / "data", rows(), ("text",), {"kind": "test"})
    return Fitted(task, recipe, snapshot, place / "work", task.fit(snapshot, recipe, silent, place / "work"))


@pytest.fixture(scope="module")
def model(fitted: Fitted) -> Model:
    return fitted.task.load(fitted.folder)


def mixed(n: int = 30) -> list[str]:
    rng = np.random.default_rng(7)
    return [text(i % 2, rng, int(rng.integers(1, 60))) for i in range(n)]


# learning


def test_fit_gives_a_folder_that_says_what_it_is(fitted: Fitted) -> None:
    assert fitted.folder.is_relative_to(fitted.workdir)
    facts = json.loads((fitted.folder / "model.json").read_text("utf-8"))
    assert facts["task"] == fitted.task.name
    assert content_columns(fitted.folder) == ("text",)


def test_fitting_again_gives_the_same_folder_with_the_same_answers(fitted: Fitted, model: Model) -> None:
    again = fitted.task.fit(fitted.snapshot, fitted.recipe, silent, fitted.workdir)
    assert again == fitted.folder
    assert np.array_equal(predict(fitted.task.load(again), mixed()).scores, predict(model, mixed()).scores)


def test_it_learns_what_there_is_to_learn(fitted: Fitted, model: Model) -> None:
    test = fitted.snapshot.rows(Split.TEST)
    said = predict(model, test.contents).scores.argmax(axis=1)
    assert np.mean([model.labels[i] == truth for i, truth in zip(said, test.truth, strict=True)]) > 0.8


def test_one_class_only_is_refused_with_a_sentence(fitted: Fitted, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "data", rows(("positive",)), ("text",), {"kind": "test"})
    with pytest.raises(InvalidInput, match="class"):
        fitted.task.fit(snapshot, fitted.recipe, silent, tmp_path / "work")


def test_a_start_that_the_task_has_not_or_that_lacks_a_parent_is_refused(fitted: Fitted, tmp_path: Path) -> None:
    for start in ("warm", "recalibrate"):
        with pytest.raises(InvalidInput, match=start):
            fitted.task.fit(fitted.snapshot, fitted.recipe.with_(start=start), silent, tmp_path / "work")


def test_a_warm_start_still_knows_what_its_parent_knew(fitted: Fitted, model: Model, tmp_path: Path) -> None:
    few = [row for row in rows(n=320) if str(row.content).startswith((GOOD[0], BAD[0]))]
    snapshot = write_snapshot(tmp_path / "data", few, ("text",), {"kind": "test"})
    warm = fitted.recipe.with_(start="warm", learning_rate=fitted.recipe.learning_rate / 10)
    folder = fitted.task.fit(snapshot, warm, silent, tmp_path / "work", fitted.folder)
    said = predict(fitted.task.load(folder), [f"{word} story with music" for word in (*GOOD, *BAD)]).scores.argmax(
        axis=1
    )
    assert said.tolist() == [1] * len(GOOD) + [0] * len(BAD)
    again = fitted.task.fit(snapshot, warm, silent, tmp_path / "work", fitted.folder)
    assert again == folder


def test_a_class_that_is_new_is_learnt_by_a_warm_start_and_the_others_keep_their_names(
    fitted: Fitted, tmp_path: Path
) -> None:
    more = [
        replace(row, id=f"a{row.id}", group=f"a{row.id}", label="arson", content=f"story {row.content}")
        for row in rows()
        if int(row.id) % 4 == 0
    ]
    snapshot = write_snapshot(tmp_path / "data", [*rows(), *more], ("text",), {"kind": "test"})
    folder = fitted.task.fit(snapshot, fitted.recipe.with_(start="warm"), silent, tmp_path / "work", fitted.folder)
    model = fitted.task.load(folder)
    assert model.labels == ("arson", "negative", "positive")
    said = predict(model, ["lovely story", "dreadful music"]).scores.argmax(axis=1)
    assert [model.labels[i] for i in said] == ["positive", "negative"]


def test_what_a_model_of_the_task_reads_can_be_learnt_from(fitted: Fitted, model: Model) -> None:
    assert fitted.task.learns_from(model.read("a lovely film"), fitted.snapshot.path.parent)


# answering


def test_what_it_reads_it_knows_how_to_judge(model: Model) -> None:
    assert model.knows(model.read("a lovely film"))


def test_the_answering_half_loads_what_the_learning_half_made(fitted: Fitted, model: Model) -> None:
    other = load_answering(fitted.folder, threads=1)
    assert other.labels == model.labels == ("negative", "positive")
    assert other.abstain_below is None
    assert np.abs(predict(other, mixed()).scores - predict(model, mixed()).scores).max() < 1e-3


def test_rows_are_probabilities_and_embeddings_of_one_width(model: Model) -> None:
    output = predict(model, mixed())
    assert output.scores.shape == (30, 2)
    assert output.scores.dtype == np.float32
    assert np.allclose(output.scores.sum(axis=1), 1, atol=1e-5)
    assert (output.scores >= 0).all()
    assert output.embeddings.shape[0] == 30
    assert np.isfinite(output.embeddings).all()


def test_the_order_is_kept_whatever_the_lengths(model: Model) -> None:
    texts = mixed()
    order = np.random.default_rng(3).permutation(len(texts))
    shuffled = predict(model, [texts[i] for i in order])
    straight = predict(model, texts)
    assert np.abs(shuffled.scores - straight.scores[order]).max() < 0.02
    assert np.abs(shuffled.embeddings - straight.embeddings[order]).max() < 0.1


def test_a_text_gets_the_same_answer_alone_and_in_company(model: Model) -> None:
    texts = mixed()
    together = predict(model, texts).scores
    alone = np.concatenate([predict(model, [one]).scores for one in texts])
    assert np.abs(alone - together).max() < 0.02
    tied = np.abs(together[:, 0] - together[:, 1]) < 0.02
    assert (tied | (alone.argmax(axis=1) == together.argmax(axis=1))).all()


def test_nothing_is_answered_with_nothing(model: Model) -> None:
    output = predict(model, [])
    assert output.scores.shape == (0, 2)
    assert output.embeddings.shape == (0, predict(model, ["lovely film"]).embeddings.shape[1])


def test_each_content_has_a_cost_and_measures(model: Model) -> None:
    prepared = model.prepare(["lovely", "lovely film with music", "unheard"])
    assert len(prepared.items) == len(prepared.costs) == len(prepared.measures) == 3
    assert all(cost >= 1 for cost in prepared.costs)
    assert all({"length", "unknown"} <= measures.keys() for measures in prepared.measures)
    assert prepared.measures[1]["length"] > prepared.measures[0]["length"]
    assert prepared.measures[2]["unknown"] > prepared.measures[0]["unknown"] == 0


@pytest.mark.parametrize("raw", [5, 1.5, None, True, b"bytes", [], ["lovely"], {}, {"txt": "lovely"}, "", "  \n\t "])
def test_what_is_no_text_is_refused(model: Model, raw: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        model.read(raw)
    assert str(refused.value)
    assert refused.value.field is not None


@pytest.mark.parametrize("raw", ["a\x00b", "\ud800 lovely", "😀" * 50, "<br>lovely", "x" * 50_000, "\u202elovely"])
def test_odd_texts_are_answered_or_refused_but_never_break_anything(model: Model, raw: str) -> None:
    try:
        content = model.read(raw)
    except InvalidInput:
        return
    assert predict(model, [content]).scores.sum() == pytest.approx(1, abs=1e-5)


def test_what_read_returned_can_be_read_again(model: Model) -> None:
    once = model.read("a lovely film")
    assert model.read(once) == once


def test_a_folder_that_cannot_be_read_is_said(fitted: Fitted, tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        load_answering(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"task": fitted.task.name}), "utf-8")
    with pytest.raises(BackendError, match="cannot be read"):
        fitted.task.load(tmp_path)


# the first stage, which a model may have


@pytest.fixture
def first(model: Model) -> FirstStage:
    found = first_of(model)
    if found is None:
        pytest.skip("the task's models have no first stage")
    return found


def test_a_first_stage_gives_probabilities_of_the_models_classes(first: FirstStage, model: Model) -> None:
    scores = first.scores(mixed())
    assert scores.shape == (30, len(model.labels))
    assert scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=1), 1, atol=1e-5)
    assert (scores >= 0).all()
    assert first.scores([]).shape == (0, len(model.labels))


def test_a_first_stage_says_the_same_alone_and_in_company_and_when_loaded_again(
    first: FirstStage, fitted: Fitted
) -> None:
    texts = mixed()
    together = first.scores(texts)
    assert np.array_equal(np.concatenate([first.scores([one]) for one in texts]), together)
    again = first_of(load_answering(fitted.folder, threads=1))
    assert again is not None
    assert np.array_equal(again.scores(texts), together)


def test_a_first_stage_has_learnt_something_and_is_measured_on_rows_that_it_did_not_learn_from(
    first: FirstStage, fitted: Fitted, model: Model
) -> None:
    trade = first.trade
    validation = fitted.snapshot.rows(Split.VALIDATION)
    assert trade.n == len(validation)
    assert trade.first_right / trade.n > 0.6
    assert [p.threshold for p in trade.points] == sorted({p.threshold for p in trade.points}, reverse=True)
    said = first.scores(validation.contents)
    full = predict(model, validation.contents).scores.argmax(axis=1)
    for point in trade.points:
        sure = said.max(axis=1) >= np.float32(point.threshold)
        assert point.sure == sure.sum()
        assert point.differing == (sure & (said.argmax(axis=1) != full)).sum()
    assert first_trade(fitted.folder) == trade


@pytest.mark.parametrize("raw", ["a\x00b", "😀" * 50, "x" * 50_000, "unheard of words", "!!! ???", "\u202elovely"])
def test_odd_texts_never_break_a_first_stage(first: FirstStage, model: Model, raw: str) -> None:
    try:
        content = model.read(raw)
    except InvalidInput:
        return
    assert first.scores([content]).sum() == pytest.approx(1, abs=1e-5)


def test_a_folder_without_a_first_stage_is_read_as_before(fitted: Fitted, model: Model, tmp_path: Path) -> None:
    shutil.copytree(fitted.folder, tmp_path / "old")
    values = json.loads((tmp_path / "old" / "model.json").read_text("utf-8"))
    values.pop("first", None)
    (tmp_path / "old" / "model.json").write_text(json.dumps(values), "utf-8")
    old = load_answering(tmp_path / "old", threads=1)
    assert first_of(old) is None
    assert first_trade(tmp_path / "old") is None
    assert np.abs(predict(old, mixed()).scores - predict(model, mixed()).scores).max() < 1e-3


def test_a_model_for_another_class_mix_has_no_first_stage(fitted: Fitted, tmp_path: Path) -> None:
    if not fitted.task.reweights:
        pytest.skip("its models heed no prior")
    folder = copy_with_prior(fitted.folder, {"negative": 2.0, "positive": 0.5}, tmp_path / "mixed")
    assert first_of(fitted.task.load(folder)) is None
