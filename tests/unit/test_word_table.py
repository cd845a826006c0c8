"""The word table of a network: fewer rows, or int8 rows, and otherwise the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from openvino import opset13 as ops
from transformers import AutoModel, BertConfig, DistilBertConfig, GPT2Config, RobertaConfig

from keepfit.engine.convert import export, quantise
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.engine.tables import is_small, per_row, select_rows, small_lookup, unfolded
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text.network import Classifier

WORDS, KEPT = 90, np.array([0, 1, 2, 3, *range(10, 60, 2)])
CONFIGS = {
    "bert": lambda: BertConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    ),
    "distilbert": lambda: DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=2, n_heads=2, hidden_dim=64),
    "roberta": lambda: RobertaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        pad_token_id=1,
    ),
    "gpt2": lambda: GPT2Config(
        vocab_size=WORDS, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CONFIGS)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of each kind, exported."""
    torch.manual_seed(3)
    module = Classifier(AutoModel.from_config(CONFIGS[request.param]()), "mean", 3, 32)
    return export(module, tmp_path_factory.mktemp(request.param) / "model.xml", longest=20, threads=1)


def inputs(known: np.ndarray) -> dict[str, np.ndarray]:
    """A few texts of these words, padded."""
    rng = np.random.default_rng(1)
    mask = (np.arange(11) < np.array([[11], [4], [1]])).astype(np.int64)
    ids = known[rng.integers(2, len(known), (3, 11))]
    return {"input_ids": np.where(mask, ids, known[1]), "attention_mask": mask}


def answers(xml: Path, given: dict[str, np.ndarray], precision: str = "fp32") -> np.ndarray:
    return OpenVinoEngine.load(xml, precision, threads=1).infer(given)["logits"]


def test_with_fewer_rows_the_words_that_are_left_mean_what_they_meant(network: Path, tmp_path: Path) -> None:
    before = inputs(KEPT)
    after = {**before, "input_ids": np.searchsorted(KEPT, before["input_ids"])}
    fewer = select_rows(network, KEPT, tmp_path / "fewer.xml")
    np.testing.assert_allclose(answers(fewer, after), answers(network, before), atol=1e-6)
    saved = network.with_suffix(".bin").stat().st_size - fewer.with_suffix(".bin").stat().st_size
    assert saved == (WORDS - len(KEPT)) * 32 * 4


def test_a_table_in_int8_is_a_quarter_and_changes_little(network: Path, tmp_path: Path) -> None:
    given = inputs(np.arange(WORDS))
    small = small_lookup(network, tmp_path / "small.xml")
    assert (is_small(network), is_small(small), unfolded(small)) == (False, True, 0)
    np.testing.assert_allclose(answers(small, given), answers(network, given), atol=0.02)
    saved = network.with_suffix(".bin").stat().st_size - small.with_suffix(".bin").stat().st_size
    assert saved == WORDS * 32 * 3 - WORDS * 4


def test_an_int8_network_keeps_its_answers_when_its_table_is_no_longer_unfolded(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = Classifier(AutoModel.from_config(CONFIGS["bert"]()), "mean", 3, 32)
    xml = export(module, tmp_path / "model.xml", longest=20, threads=1)
    rng = np.random.default_rng(0)
    texts = [{"input_ids": rng.integers(0, WORDS, (1, n)), "attention_mask": np.ones((1, n), np.int64)} for n in (3, 9)]
    int8 = quantise(xml, texts, tmp_path / "int8.xml")
    assert unfolded(int8) > 0, "the runtime would hold it as floating-point numbers"
    before = answers(int8, inputs(np.arange(WORDS)), "int8")
    small_lookup(int8, int8)
    assert unfolded(int8) == 0
    np.testing.assert_array_equal(answers(int8, inputs(np.arange(WORDS)), "int8"), before)
    both = select_rows(int8, KEPT, tmp_path / "both.xml")
    given = inputs(KEPT)
    renumbered = {**given, "input_ids": np.searchsorted(KEPT, given["input_ids"])}
    np.testing.assert_allclose(answers(both, renumbered, "int8"), answers(int8, given, "int8"), atol=1e-5)


def test_made_small_twice_it_stays_as_it_is(network: Path, tmp_path: Path) -> None:
    once = small_lookup(network, tmp_path / "once.xml")
    twice = small_lookup(once, tmp_path / "twice.xml")
    assert once.with_suffix(".bin").read_bytes() == twice.with_suffix(".bin").read_bytes()


def test_a_network_without_a_word_table_is_left_alone(tmp_path: Path) -> None:
    ids = ops.parameter([-1, -1], np.int64, "input_ids")
    ids.output(0).set_names({"input_ids"})
    ov.save_model(ov.Model([ops.convert(ids, np.float32)], [ids], "bare"), tmp_path / "bare.xml")
    with pytest.raises(InvalidInput, match="no word table"):
        select_rows(tmp_path / "bare.xml", KEPT, tmp_path / "out.xml")
    small_lookup(tmp_path / "bare.xml", tmp_path / "same.xml")
    assert unfolded(tmp_path / "same.xml") == 0
    with pytest.raises(BackendError, match="cannot be read"):
        small_lookup(tmp_path / "nowhere.xml", tmp_path / "out.xml")


@given(arrays(np.float32, (4, 5), elements=st.floats(-1e3, 1e3, width=32)))
def test_int8_is_nowhere_further_off_than_half_a_scale(table: np.ndarray) -> None:
    values, scales = per_row(table)
    assert values.dtype == np.int8
    assert (np.abs(values * scales - table) <= scales / 2 * 1.001 + 1e-30).all()
