"""A text is made into the same tokens while learning and while answering, whatever is odd about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from keepfit.engine.fake import FakeEngine
from keepfit.tasks.text.model import TextModel, read_folder
from keepfit.tasks.text.preprocessing import CLEANING, HEAD_SHARE, Preprocessor

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{i}" for i in range(40)), "good", "film", "&", "<"]
TEXTS = [
    "good film",
    "good<br /><br />film",
    "good &amp; film &lt; w1",
    "good\x00film\u200b\ufeff",
    "\ud800 good \udc00",
    "  good\t\n film ",
    " ".join(f"w{i % 40}" for i in range(200)),
    "nothing that is known",
]


@pytest.mark.parametrize("truncation", ["head", "head+tail"])
@pytest.mark.parametrize("columns", [["text"], ["subject", "body"]])
def test_learning_and_answering_see_the_same_tokens(tmp_path: Path, truncation: str, columns: list[str]) -> None:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    facts = {"format": 1, "labels": ["a", "b"], "columns": columns, "temperature": 1.0, "max_tokens": 32,
             "truncation": truncation, "head_share": HEAD_SHARE, "cleaning": CLEANING, "precision": "fp32",
             "embedding_dim": 8, "pad_id": 0}  # fmt: skip
    (tmp_path / "model.json").write_text(json.dumps(facts), "utf-8")
    answering = TextModel(*read_folder(tmp_path), FakeEngine())
    learning = Preprocessor(tmp_path / "tokenizer.json", 32, truncation, len(columns))
    contents = TEXTS if len(columns) == 1 else list(zip(TEXTS, TEXTS[::-1], strict=True))
    read = [answering.read(content) for content in contents]
    assert read == contents
    assert list(answering.prepare(read).items) == list(learning.encode(contents).ids)
