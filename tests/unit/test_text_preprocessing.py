"""A text is cleaned, tokenized and cut in the same way while learning and while answering."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from keepfit.errors import InvalidInput
from keepfit.tasks.text.preprocessing import Preprocessor, clean, share_room, truncate

WORDS = {word: i for i, word in enumerate(["[PAD]", "[CLS]", "[SEP]", "[UNK]", "a", *(f"w{i}" for i in range(30))])}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Good<br /><br />film", "Good film"),
        ("<p class='x'>one</p><!-- hidden -->two", "one two"),
        ("fish &amp; chips &#39;n&#39; peas", "fish & chips 'n' peas"),
        ("2 < 3 and 5 > 4, I <3 it, a <b and c> d", "2 < 3 and 5 > 4, I <3 it, a <b and c> d"),
        ("nul\x00 tab\t line\n\r bell\x07", "nul tab line bell"),
        ("cafe\u0301", "café"),
        ("lone \ud83d half", "lone \ufffd half"),
        ("whole \ud83d\ude00 pair", "whole 😀 pair"),
        ("zero\u200bwidth \ufeffmark soft\u00adhyphen", "zerowidth mark softhyphen"),
        ("  many   spaces\u00a0here ", "many spaces here"),
        ("", ""),
    ],
)
def test_a_text_is_cleaned(raw: str, expected: str) -> None:
    assert clean(raw) == expected


@given(st.text(st.characters(codec=None), max_size=80))
def test_any_text_becomes_one_that_can_be_written_as_utf8(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert cleaned == " ".join(cleaned.split())


def test_ten_megabytes_are_cleaned_and_cut(tokenizer: Path) -> None:
    found = Preprocessor(tokenizer, 16).encode(["w1 <br/> &amp; " * 700_000])
    assert len(found.ids[0]) == 16


def test_a_short_text_is_framed_and_left_whole(tokenizer: Path) -> None:
    found = Preprocessor(tokenizer, 16).encode(["w1 w2 w3"])
    assert found.ids == [[1, WORDS["w1"], WORDS["w2"], WORDS["w3"], 2]]
    assert found.lengths == [3]


@pytest.mark.parametrize(("truncation", "expected"), [("head", [0, 1, 2, 3]), ("head+tail", [0, 7, 8, 9])])
def test_a_long_text_keeps_its_head_or_both_ends(tokenizer: Path, truncation: str, expected: list[int]) -> None:
    found = Preprocessor(tokenizer, 6, truncation).encode([" ".join(f"w{i}" for i in range(10))])
    assert found.ids[0][1:-1] == [WORDS[f"w{i}"] for i in expected]
    assert found.lengths == [10]


def test_the_share_of_unknown_words_is_counted(tokenizer: Path) -> None:
    assert Preprocessor(tokenizer, 16).encode(["w1 zebra w2 okapi", "w1", ""]).unknown == [0.5, 0.0, 0.0]


def test_two_columns_are_joined_by_the_separator_and_the_long_one_is_cut(tokenizer: Path) -> None:
    subject, body = "w1 w2", " ".join(f"w{i}" for i in range(20))
    found = Preprocessor(tokenizer, 11, "head", columns=2).encode([(subject, body)])
    middle = [WORDS[f"w{i}"] for i in range(6)]
    assert found.ids[0] == [1, WORDS["w1"], WORDS["w2"], 2, *middle, 2]


def test_no_texts_give_no_ids(tokenizer: Path) -> None:
    assert list(Preprocessor(tokenizer, 16).encode([]).ids) == []


def test_too_small_a_limit_is_refused_with_the_field(tokenizer: Path) -> None:
    with pytest.raises(InvalidInput, match="leaves no room") as caught:
        Preprocessor(tokenizer, 3, columns=2)
    assert caught.value.field == "max_tokens"


def test_a_damaged_tokenizer_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(InvalidInput, match="cannot read the tokenizer"):
        Preprocessor(tmp_path / "tokenizer.json", 16)


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(0, 40), st.floats(0, 1))
def test_truncation_keeps_no_more_than_the_room_and_only_ends(tokens: list[int], room: int, head: float) -> None:
    cut = truncate(tokens, room, head)
    assert len(cut) == min(len(tokens), room)
    kept = round(room * head) if len(tokens) > room else len(tokens)
    assert cut[:kept] == tokens[:kept]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=5), st.integers(0, 600))
def test_columns_share_the_room_without_waste(lengths: list[int], room: int) -> None:
    shares = share_room(lengths, room)
    assert sum(shares) == min(sum(lengths), room)
    assert all(share <= length for share, length in zip(shares, lengths, strict=True))
