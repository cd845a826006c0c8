"""The text model on torch: the same answers from the weights as from the converted network; no GPU is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, BertConfig

from keepfit.engine.convert import export
from keepfit.errors import BackendError
from keepfit.tasks.task import predict
from keepfit.tasks.text import cuda, model
from keepfit.tasks.text.network import Classifier, save

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "bad", "film", "a"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT with random weights, saved and converted."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    facts = {"format": 1, "task": "text", "labels": ["no", "yes"], "columns": ["text"], "temperature": 1.0,
             "abstain_below": None, "max_tokens": 16, "truncation": "head", "cleaning": 1, "precision": "fp32",
             "embedding_dim": 16, "pad_id": 0}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    network = Classifier(AutoModel.from_config(config, add_pooling_layer=False), "mean", 2, 16)
    save(network, tmp_path / "weights")
    export(network, tmp_path / "ir" / "model.xml", longest=16)
    return tmp_path


def test_the_weights_answer_as_the_converted_network_does(folder: Path) -> None:
    texts = ["good", "a bad film", "a " * 40]
    ours, theirs = predict(cuda.load_on("cpu", folder), texts), predict(model.load(folder, threads=1), texts)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
    np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_do(folder: Path) -> None:
    with pytest.raises(BackendError, match="no usable CUDA device; serve on the CPU instead"):
        cuda.load(folder)


def test_damaged_weights_are_refused_with_a_sentence(folder: Path) -> None:
    (folder / "weights" / "config.json").write_text("{", "utf-8")
    with pytest.raises(BackendError, match="cannot read the weights"):
        cuda.load_on("cpu", folder)
