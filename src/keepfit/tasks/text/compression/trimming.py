"""Vocabulary trimming: words that the corpus never used leave the tokenizer, the networks and the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from keepfit.engine.tables import select_rows
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.text import network as networks
from keepfit.tasks.text.compression.corpus import Corpus, counted, parts
from keepfit.tasks.text.compression.folders import copied, read_facts, revise
from keepfit.tasks.text.compression.judging import Made, Renumbered
from keepfit.tasks.text.compression.shape import drop_words, read_vocabulary, write_vocabulary
from keepfit.tasks.text.compression.vocabulary import Ints, needed, trimmed
from keepfit.tasks.text.model import read_folder
from keepfit.tasks.text.preprocessing import Content, Preprocessor, clean

CHECKED = 2000
"""Texts of the corpus that are read by both tokenizers, to be sure."""
TOKENIZER = "tokenizer.json"


def trim(before: Made, after: Path, corpus: Corpus) -> tuple[str, Made]:
    """Without the words that no text of the corpus needs.

    It is judged by a tokenizer that has not seen the texts it is judged on: they are read with fewer words than the
    folder has. Raises InvalidInput for a tokenizer that cannot be trimmed, or where no word is left over.
    """
    facts, preprocessor = read_folder(before.folder)
    tokenizer = Tokenizer.from_file(str(before.folder / TOKENIZER))
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    seen, held_back = (counted(preprocessor, texts, size) for texts in (corpus.seen, corpus.held_back))
    fewer = needed(tokenizer, seen, facts.pad_id, unread(tokenizer, preprocessor, corpus.seen))
    kept = needed(tokenizer, seen + held_back, facts.pad_id, unread(tokenizer, preprocessor, corpus.all))
    if len(kept) == size:
        raise InvalidInput(f"the texts need all {size:,} words of the vocabulary")
    copied(before.folder, after)
    trimmed(tokenizer, kept).save(str(after / TOKENIZER))
    for xml in (before.folder / "ir").glob("*.xml"):
        select_rows(xml, kept, after / "ir" / xml.name)
    pad_id = int(np.searchsorted(kept, facts.pad_id))
    trim_weights(before.folder / "weights", after / "weights", kept, pad_id)
    revise(after, pad_id=pad_id)
    check_reading(preprocessor, read_folder(after)[1], kept, corpus.all)
    return f"{len(kept):,} of {size:,} words", Made(after, judged_reading(tokenizer, fewer, kept, after))


def judged_reading(tokenizer: Tokenizer, fewer: Ints, kept: Ints, after: Path) -> Renumbered:
    """How the held-out texts are read: by a tokenizer with `fewer` words, in the numbers of the one with `kept`."""
    aside = after.with_name(f"{after.name}-judged")
    aside.mkdir(exist_ok=True)
    trimmed(tokenizer, fewer).save(str(aside / TOKENIZER))
    return Renumbered(Preprocessor.from_settings(aside, read_facts(after)), np.searchsorted(kept, fewer))


def trim_weights(before: Path, after: Path, kept: Ints, pad_id: int) -> None:
    """The weights, from which a warm start goes on and a GPU answers."""
    network, had = networks.load(before), read_vocabulary(before)
    drop_words(network, kept, pad_id)
    networks.save(network, after)
    write_vocabulary(after, kept if had is None else had[kept])


def unread(tokenizer: Tokenizer, preprocessor: Preprocessor, contents: Sequence[Content]) -> set[str]:
    """The words of the texts that the tokenizer reads as unknown; nothing where it knows no such thing."""
    if preprocessor.unknown < 0:
        return set()
    found: set[str] = set()
    for part in parts(contents):
        texts = [text for content in part for text in ((content,) if isinstance(content, str) else content)]
        for text, ids in zip(texts, preprocessor.pieces(part), strict=True):
            if preprocessor.unknown in ids:
                found.update(words(tokenizer, clean(text)))
    return {word for word in found if preprocessor.unknown in tokenizer.encode(word, add_special_tokens=False).ids}


def words(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """The text as the model of the tokenizer is given it, word by word."""
    plain = text if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is None:
        yield plain
        return
    yield from (word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(plain))


def check_reading(before: Preprocessor, after: Preprocessor, kept: Ints, contents: Sequence[Content]) -> None:
    """Raises BackendError when the corpus is not read in the same pieces."""
    some = contents[:: max(1, len(contents) // CHECKED)]
    for was, now in zip(before.encode(some).ids, after.encode(some).ids, strict=True):
        if kept[np.asarray(now, np.int64)].tolist() != was:
            raise BackendError("without the words that no text needs, some texts are read otherwise; report this")
