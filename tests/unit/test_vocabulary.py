"""A tokenizer without the words that a corpus needs not: the corpus is read as before, other texts still are."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel, Metaspace, Whitespace
from tokenizers.processors import BertProcessing, RobertaProcessing, Sequence, TemplateProcessing
from tokenizers.processors import ByteLevel as Offsets
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer

from keepfit.tasks.text.compression.trimming import words
from keepfit.tasks.text.compression.vocabulary import needed, trimmed

SYLLABLES = ("lo", "ve", "ly", "dread", "ful", "ing", "er", "cast", "music", "st", "ory", "un", "é", "ß", "1", "2")
RNG = np.random.default_rng(5)
EVERYTHING = [
    " ".join("".join(RNG.choice(SYLLABLES, RNG.integers(1, 4))) for _ in range(RNG.integers(3, 12))) for _ in range(400)
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
TEMPLATE = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B [SEP]"}


def word_pieces() -> Tokenizer:
    made = Tokenizer(WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    made.train_from_iterator(EVERYTHING, WordPieceTrainer(vocab_size=300, special_tokens=SPECIAL, show_progress=False))
    made.post_processor = TemplateProcessing(**TEMPLATE, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    made.enable_padding(pad_id=0, pad_token="[PAD]", length=16)
    made.enable_truncation(16)
    return made


def bytes_merged() -> Tokenizer:
    made = Tokenizer(BPE())
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=500, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(EVERYTHING, trainer)
    made.add_special_tokens(["<|late|>"])
    late = made.token_to_id("<|late|>")
    made.post_processor = Sequence([RobertaProcessing(("<|late|>", late), ("<|end|>", 0)), Offsets()])
    return made


def likeliest() -> Tokenizer:
    made = Tokenizer(Unigram())
    made.pre_tokenizer = Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(EVERYTHING, trainer)
    made.post_processor = BertProcessing(("</s>", 2), ("<s>", 0))
    return made


KINDS = {"word pieces": word_pieces, "bytes merged": bytes_merged, "likeliest": likeliest}


@cache
def written(kind: str) -> str:
    """A trained tokenizer, as it is stored."""
    return str(KINDS[kind]().to_str())


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer.from_str(written(request.param))


def ids(tokenizer: Tokenizer, text: str, special: bool = False) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=special).ids)


def kept_for(tokenizer: Tokenizer, corpus: list[str], pad_id: int = 0) -> np.ndarray:
    used = np.zeros(tokenizer.get_vocab_size(), np.int64)
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_padding()
    plain.no_truncation()
    unknown = tokenizer.token_to_id("[UNK]")
    for text in corpus:
        used += np.bincount(ids(plain, text), minlength=len(used))
    unread = {w for text in corpus for w in words(plain, text) if unknown is not None and unknown in ids(plain, w)}
    return needed(tokenizer, used, pad_id, unread)


def test_the_corpus_is_read_in_the_same_pieces(tokenizer: Tokenizer) -> None:
    corpus = EVERYTHING[:8]
    kept = kept_for(tokenizer, corpus)
    assert len(kept) < tokenizer.get_vocab_size()
    fewer, whole = trimmed(tokenizer, kept), Tokenizer.from_str(tokenizer.to_str())
    whole.no_padding()
    whole.no_truncation()
    assert fewer.get_vocab_size() == len(kept)
    for text in corpus:
        assert kept[ids(fewer, text)].tolist() == ids(whole, text)
        assert kept[ids(fewer, text, special=True)].tolist() == ids(whole, text, special=True)
        pair = kept[fewer.encode(text, "lovely").ids]
        assert len(pair) > 0
    again = Tokenizer.from_str(fewer.to_str())
    assert ids(again, corpus[0]) == ids(fewer, corpus[0])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_whatever_the_corpus_it_is_read_as_before(data: st.DataObject) -> None:
    made = Tokenizer.from_str(written(data.draw(st.sampled_from(sorted(KINDS)))))
    made.no_padding()
    made.no_truncation()
    text = st.text(alphabet="loverdufing stéß12xyz☃", max_size=40)
    corpus = data.draw(st.lists(text, min_size=1, max_size=5))
    kept = kept_for(made, corpus)
    fewer = trimmed(made, kept)
    for one in corpus:
        assert kept[np.array(ids(fewer, one), np.int64)].tolist() == ids(made, one)


def test_an_unheard_word_falls_into_pieces_that_are_left(tokenizer: Tokenizer) -> None:
    kept = kept_for(tokenizer, ["lo ve"])
    fewer = trimmed(tokenizer, kept)
    unknown = {fewer.token_to_id(name) for name in ("[UNK]", "<unk>")} - {None}
    said = ids(fewer, "dreadfuling lovestory")
    assert said
    assert not unknown & set(said)
    assert len(said) >= len(ids(tokenizer, "dreadfuling lovestory")) - 14  # of the padding


def test_a_word_that_could_not_be_read_stays_unread() -> None:
    pieces = ["[PAD]", "[UNK]", "abcd", "##bcde", "##efgh", "a", "b", "e"]
    made = Tokenizer(WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.add_special_tokens(["[PAD]", "[UNK]"])
    assert ids(made, "abcde") == [1], "the longest first piece leads nowhere"
    kept = kept_for(made, ["abcde a"])
    assert kept[ids(trimmed(made, kept), "abcde a")].tolist() == [1, 5]
    assert ids(trimmed(made, np.setdiff1d(kept, [2])), "abcde") != [1], "without it another way is found"


def test_a_padding_from_which_positions_are_counted_keeps_its_number() -> None:
    made = likeliest()
    assert kept_for(made, ["lo ve"], pad_id=1)[1] == 1
    late = bytes_merged()
    kept = kept_for(late, ["lo ve"], pad_id=late.token_to_id("<|late|>"))
    assert trimmed(late, kept).token_to_id("<|late|>") == len(kept) - 1


def test_plain_words_can_be_trimmed_too() -> None:
    made = Tokenizer(WordLevel({"[UNK]": 0, "music": 1, "story": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    kept = kept_for(made, ["story"])
    assert kept.tolist() == [0, 2]
    assert ids(trimmed(made, kept), "music story") == [0, 1]
