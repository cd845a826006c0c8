"""The answering half of the text task: what it reads, how it batches, and that a text's answer depends on it alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from keepfit.engine.engine import Arrays, Outputs
from keepfit.engine.fake import FakeEngine
from keepfit.errors import BackendError, InvalidInput, TooLarge
from keepfit.tasks.task import predict
from keepfit.tasks.text.cuts import ROWS, ROWS_TOGETHER, TOKENS_PER_CALL, TOKENS_TOGETHER, cut, together, width
from keepfit.tasks.text.model import LONGEST, Facts, TextModel, load, read_folder, softmax

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(40)), "good", "bad", "film"]
FACTS: dict[str, Any] = {
    "format": 1,
    "task": "text",
    "labels": ["negative", "neutral", "positive"],
    "columns": ["text"],
    "temperature": 1.5,
    "abstain_below": None,
    "max_tokens": 48,
    "truncation": "head+tail",
    "cleaning": 1,
    "pooling": "mean",
    "precision": "fp32",
    "embedding_dim": 8,
    "backbone": "tiny",
    "pad_id": 0,
}


def write_folder(folder: Path, **changes: Any) -> Path:
    """A model folder without a network."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "model.json").write_text(json.dumps(FACTS | changes), "utf-8")
    return folder


class Recorder:
    """The fake engine, remembering the shapes it was asked for."""

    precision, device, lanes = "fp32", "cpu", 1

    def __init__(self) -> None:
        self._engine, self.shapes = FakeEngine(classes=3), list[tuple[int, ...]]()

    def infer(self, inputs: Arrays) -> Outputs:
        self.shapes.append(inputs["input_ids"].shape)
        return self._engine.infer(inputs)


@pytest.fixture
def engine() -> Recorder:
    return Recorder()


@pytest.fixture
def make(tmp_path: Path, engine: Recorder) -> Callable[..., TextModel]:
    return lambda **changes: TextModel(*read_folder(write_folder(tmp_path, **changes)), engine)


@pytest.fixture
def model(make: Callable[..., TextModel]) -> TextModel:
    return make()


def texts(n: int, seed: int = 0, longest: int = 60) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[4:], rng.integers(1, longest))) for _ in range(n)]


# reading


def test_a_text_is_read_as_it_is(model: TextModel) -> None:
    assert model.read(" Good  film") == " Good  film"


@pytest.mark.parametrize("raw", [3, 2.5, None, True, ["good"], b"good", {"text": 3}], ids=repr)
def test_what_is_not_a_text_is_refused_naming_the_field(model: TextModel, raw: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a string") as caught:
        model.read(raw)
    assert caught.value.field == "text"


@pytest.mark.parametrize("raw", ["", " \n\t ", "\x00\x01", "<br /><br />", "&nbsp;", "\ufeff\u200b"], ids=repr)
def test_a_text_with_nothing_in_it_is_refused(model: TextModel, raw: str) -> None:
    with pytest.raises(InvalidInput, match="empty") as caught:
        model.read(raw)
    assert caught.value.field == "text"


def test_a_text_over_the_limit_is_too_large_and_one_at_the_limit_is_not(model: TextModel) -> None:
    assert model.read("a" * LONGEST)
    with pytest.raises(TooLarge, match="1,000,000"):
        model.read("a" * (LONGEST + 1))


@pytest.mark.parametrize("raw", ["good \ud800 film", "\udfff", "good\x00film", "\U0001f600" * 500], ids=ascii)
def test_odd_characters_are_cleaned_not_refused(model: TextModel, raw: str) -> None:
    assert np.isfinite(predict(model, [model.read(raw)]).scores).all()


def test_several_columns_are_read_from_an_object_in_the_order_of_the_model(make: Callable[..., TextModel]) -> None:
    model = make(columns=["subject", "body"])
    assert model.read({"body": "bad film", "subject": "good"}) == ("good", "bad film")
    assert model.read(("good", "bad film")) == model.read(["good", "bad film"]) == ("good", "bad film")
    assert model.read({"body": "", "subject": "good"}) == ("good", "")


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ("good film", "subject"),
        (["good"], "subject"),
        ({"subject": "good"}, "body"),
        ({"subject": "good", "body": "film", "sender": "me"}, "sender"),
        ({"subject": "good", "body": None}, "body"),
        ({"subject": "", "body": " "}, "subject"),
    ],
    ids=repr,
)
def test_wrong_columns_are_refused_naming_the_field(make: Callable[..., TextModel], raw: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(columns=["subject", "body"]).read(raw)
    assert caught.value.field == field


def test_a_model_of_one_column_takes_an_object_too(model: TextModel) -> None:
    assert model.read({"text": "good film"}) == "good film"


# preparing


def test_preparing_measures_length_and_unknown_words_and_counts_tokens_as_cost(model: TextModel) -> None:
    prepared = model.prepare(["good film", "good nonsense " * 50])
    assert prepared.costs == [4, 48]
    assert prepared.measures == [{"length": 2.0, "unknown": 0.0}, {"length": 100.0, "unknown": 0.5}]


# answering


def test_no_contents_give_no_rows(model: TextModel) -> None:
    output = predict(model, [])
    assert output.scores.shape == (0, 3)
    assert output.embeddings.shape == (0, 8)


@pytest.mark.parametrize("n", [1, 2, 7, 100])
def test_answers_come_in_order_and_as_if_each_text_were_alone(model: TextModel, n: int) -> None:
    contents = texts(n)
    together = predict(model, contents)
    alone = [predict(model, [content]) for content in contents]
    np.testing.assert_allclose(together.scores, np.concatenate([a.scores for a in alone]), atol=1e-6)
    np.testing.assert_allclose(together.embeddings, np.concatenate([a.embeddings for a in alone]), atol=1e-6)


def test_scores_are_float32_probabilities(model: TextModel) -> None:
    scores = predict(model, texts(9)).scores
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


def test_the_temperature_flattens_the_scores_and_keeps_the_order(make: Callable[..., TextModel]) -> None:
    sharp, flat = (predict(make(temperature=t), texts(20)).scores for t in (1.0, 4.0))
    assert (sharp.max(axis=1) > flat.max(axis=1)).all()
    np.testing.assert_array_equal(sharp.argsort(axis=1), flat.argsort(axis=1))


def test_huge_logits_give_probabilities_not_nan() -> None:
    np.testing.assert_array_equal(softmax(np.array([[1e30, -1e30]], np.float32)), [[1, 0]])


def test_a_prepared_text_without_a_single_token_is_answered(model: TextModel) -> None:
    prepared = model.prepare(["good"])
    bare = type(prepared)([[]], [0], prepared.measures)
    assert np.isfinite(model.infer(bare).scores).all()


def test_several_threads_get_their_own_answers(model: TextModel) -> None:
    work = [texts(5, seed) for seed in range(16)]
    expected = [predict(model, contents).scores for contents in work]
    with ThreadPoolExecutor(4) as threads:
        for ours, theirs in zip(threads.map(lambda c: predict(model, c).scores, work), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_the_engine_sees_only_few_shapes(model: TextModel, engine: Recorder) -> None:
    for n in range(1, 60):
        predict(model, texts(n, seed=n))
    assert {rows for rows, _ in engine.shapes} <= set(ROWS)
    assert {tokens for _, tokens in engine.shapes} <= set(range(8, 49, 8))


def test_warming_runs_the_usual_shapes_no_longer_than_the_model_allows(model: TextModel, engine: Recorder) -> None:
    model.warm()
    assert set(engine.shapes) == {(rows, tokens) for rows in (1, 2, 4, 8) for tokens in (16, 32)}


# cutting


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_takes_each_row_once_within_its_width_and_the_budget(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(0, 257, 70).tolist()
    cuts = cut(lengths, 256)
    assert sorted(row for c in cuts for row in c.rows) == list(range(70))
    for c in cuts:
        assert max(lengths[row] for row in c.rows) <= c.width <= 256
        assert len(c.rows) == 1 or len(c.rows) * c.width <= TOKENS_PER_CALL


@pytest.mark.parametrize("seed", range(5))
def test_the_oldest_is_always_answered_next_with_texts_that_need_little_padding(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(0, 257, 70).tolist()
    places = together(lengths, 256)
    chosen = [lengths[place] for place in places]
    assert places[0] == 0
    assert places == sorted(set(places))
    assert len(places) in ROWS_TOGETHER
    assert len(places) == 1 or width(max(chosen), 256) * len(places) <= TOKENS_TOGETHER
    as_they_came = lengths[: len(places)]
    assert sum(max(chosen) - length for length in chosen) <= sum(max(as_they_came) - length for length in as_they_came)


def test_texts_of_one_length_go_together_and_a_long_one_goes_alone() -> None:
    assert sorted((len(c.rows), c.width) for c in cut([10] * 13 + [250], 256)) == [(1, 16), (1, 256), (4, 16), (8, 16)]
    assert cut([10] * 13 + [250], 256)[-1].rows.tolist() == [13]


def test_widths_never_pass_the_longest_that_the_network_takes() -> None:
    assert width(20, 20) == 20
    assert width(0, 20) == 8


# the folder


def test_what_the_model_is_can_be_told(model: TextModel) -> None:
    assert model.labels == ("negative", "neutral", "positive")
    assert model.abstain_below is None
    assert model.precision == "fp32"
    assert model.describe()["backbone"] == "tiny"
    json.dumps(model.describe())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "newer keepfit"),
        ({"format": "x"}, "cannot be read"),
        ({"cleaning": 99}, "cleaning version 99"),
        ({"labels": ["one"]}, "make no sense"),
        ({"temperature": 0}, "make no sense"),
        ({"precision": "int3"}, "int3"),
        ({"max_tokens": 2}, "no room"),
    ],
    ids=repr,
)
def test_a_folder_that_makes_no_sense_is_refused_with_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BackendError, match=sentence):
        load(write_folder(tmp_path, **changes))


@pytest.mark.parametrize("missing", ["temperature", "labels", "pad_id", "format", "truncation"])
def test_a_folder_that_lacks_a_fact_says_which(tmp_path: Path, missing: str) -> None:
    write_folder(tmp_path)
    facts = {name: value for name, value in FACTS.items() if name != missing}
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    with pytest.raises(BackendError, match=missing):
        load(tmp_path)


@pytest.mark.parametrize("name", ["model.json", "tokenizer.json", "ir/model.xml"])
@pytest.mark.parametrize("damage", ["gone", "cut off"])
def test_a_damaged_folder_is_refused_with_a_sentence(tmp_path: Path, name: str, damage: str) -> None:
    path = write_folder(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if damage == "cut off":
        path.write_text("{<", "utf-8")
    with pytest.raises(BackendError, match=r"cannot be (read|loaded)"):
        load(tmp_path)


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="int3"):
        load(write_folder(tmp_path), precision="int3")


def test_facts_keep_the_abstain_threshold() -> None:
    assert Facts.from_json(FACTS | {"abstain_below": 0.7}).abstain_below == 0.7
