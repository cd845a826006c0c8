"""Which words of a tokenizer a corpus needs, and the same tokenizer without the others.

What is left out must not change how the corpus is read. Each kind of tokenizer has its own reason why it does not:
WordPiece takes the longest piece that fits, BPE only ever applies merges that lead to a piece in use, and the likeliest
division of a Unigram model stays the likeliest when others are taken away. A word that was not in the corpus and has
lost its piece falls into shorter ones, down to single characters, which all stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from keepfit.errors import InvalidInput

Ints = NDArray[np.int64]
Numbers = Mapping[int, int]
"""Old id -> new id."""

SHORT = 3
"""ASCII pieces of so many characters stay, used or not: what an unheard word falls into should still mean something."""
NEAR = 1000
"""A padding id below this keeps its number (with all ids below it): some networks count positions from it."""


def needed(tokenizer: Tokenizer, used: Ints, pad_id: int, unread: Iterable[str] = ()) -> Ints:
    """The ids that must stay, ascending.

    used: shape (v,), how often the corpus has each id. unread: words of the corpus that were read as unknown. Raises
    InvalidInput for a kind of tokenizer that is not known here.
    """
    plain = json.loads(tokenizer.to_str())
    model = plain["model"]
    pieces = _pieces(model)
    kept = {int(i) for i in np.flatnonzero(used)} | {token["id"] for token in plain["added_tokens"]}
    kept |= {number for piece, number in pieces.items() if _always(piece, model)}
    if pad_id < NEAR:
        kept |= set(range(pad_id + 1))
    if model.get("unk_token") in pieces:
        kept.add(pieces[model["unk_token"]])
    more: Callable[[Mapping[str, Any], Mapping[str, int], set[int], Iterable[str]], set[int]] = _MORE[model["type"]]
    return np.array(sorted(kept | more(model, pieces, kept, unread)), np.int64)


def trimmed(tokenizer: Tokenizer, kept: Sequence[int] | Ints) -> Tokenizer:
    """The tokenizer with these ids alone (ascending); the new id of each is its place among them.

    Raises InvalidInput when what is left is no tokenizer.
    """
    plain = json.loads(tokenizer.to_str())
    new = {int(old): place for place, old in enumerate(kept)}
    plain["model"] = _fewer(plain["model"], new)
    plain["added_tokens"] = [{**token, "id": new[token["id"]]} for token in plain["added_tokens"]]
    plain["post_processor"] = _framed(plain["post_processor"], new)
    plain["truncation"] = plain["padding"] = None  # the preprocessor does both
    try:
        return Tokenizer.from_str(json.dumps(plain))
    except Exception as error:  # the library raises bare Exception
        raise InvalidInput(f"this tokenizer cannot be trimmed ({error}); leave its words as they are") from error


def _pieces(model: Mapping[str, Any]) -> dict[str, int]:
    if model.get("type") not in _MORE:
        raise InvalidInput(f"a tokenizer of the kind {model.get('type')!r} cannot be trimmed; leave its words alone")
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        return {piece: number for number, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _always(piece: str, model: Mapping[str, Any]) -> bool:
    """Single characters and bytes, and short pieces of letters that English and code are made of."""
    if piece.startswith("<0x") and piece.endswith(">"):
        return True
    bare = piece.removeprefix(model.get("continuing_subword_prefix") or "").removeprefix("▁").removeprefix("Ġ")
    return len(bare) <= 1 or (len(bare) <= SHORT and bare.isascii())


def _of_word_pieces(
    model: Mapping[str, Any], pieces: Mapping[str, int], kept: set[int], unread: Iterable[str]
) -> set[int]:
    """All pieces of a word that could not be read: with fewer of them it might be read after all, in another way."""
    prefix, longest = model["continuing_subword_prefix"], model["max_input_chars_per_word"]
    found = set()
    for word in (word for word in unread if len(word) <= longest):
        for start in range(len(word)):
            for end in range(start + 1, len(word) + 1):
                name = word[start:end] if start == 0 else prefix + word[start:end]
                if name in pieces:
                    found.add(pieces[name])
    return found


def _of_words(model: Mapping[str, Any], pieces: Mapping[str, int], kept: set[int], unread: Iterable[str]) -> set[int]:
    return set()


def _of_merges(model: Mapping[str, Any], pieces: Mapping[str, int], kept: set[int], unread: Iterable[str]) -> set[int]:
    """What is made of no other piece, and whatever the kept ones are made of."""
    made: dict[int, list[tuple[int, int]]] = {}
    for left, right in map(_pair, model["merges"]):
        made.setdefault(pieces[_joined(left, right, model)], []).append((pieces[left], pieces[right]))
    found = {number for number in pieces.values() if number not in made}
    waiting = [*kept]
    while waiting:
        for pair in made.get(waiting.pop(), ()):
            fresh = [part for part in pair if part not in found and part not in kept]
            found.update(fresh)
            waiting += fresh
    return found


def _of_likeliest(
    model: Mapping[str, Any], pieces: Mapping[str, int], kept: set[int], unread: Iterable[str]
) -> set[int]:
    """The unknown piece; and the least likely one, which says how unlikely an unknown character is."""
    scores = [score for _, score in model["vocab"]]
    return {int(np.argmin(scores)), *([model["unk_id"]] if model["unk_id"] is not None else [])}


_MORE = {"WordPiece": _of_word_pieces, "WordLevel": _of_words, "BPE": _of_merges, "Unigram": _of_likeliest}


def _fewer(model: Mapping[str, Any], new: Numbers) -> dict[str, Any]:
    """The model with the pieces that stay, under their new numbers."""
    fewer = dict(model)
    if model["type"] == "Unigram":
        fewer["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in new]
        fewer["unk_id"] = None if model["unk_id"] is None else new[model["unk_id"]]
        return fewer
    fewer["vocab"] = {piece: new[number] for piece, number in model["vocab"].items() if number in new}
    if model["type"] == "BPE":
        known = fewer["vocab"]
        fewer["merges"] = [
            pair
            for pair in model["merges"]
            if all(part in known for part in (*_pair(pair), _joined(*_pair(pair), model)))
        ]
    return fewer


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
    """Older files join the two by a blank."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _joined(left: str, right: str, model: Mapping[str, Any]) -> str:
    return left + right.removeprefix(model.get("continuing_subword_prefix") or "")


def _framed(processor: Any, new: Numbers) -> Any:
    """The post-processor with the special tokens under their new numbers."""
    if not isinstance(processor, dict):
        return processor
    found = dict(processor)
    if isinstance(found.get("special_tokens"), dict):
        found["special_tokens"] = {
            name: {**token, "ids": [new[number] for number in token["ids"]]}
            for name, token in found["special_tokens"].items()
        }
    for name in ("sep", "cls"):
        if isinstance(found.get(name), list):
            found[name] = [found[name][0], new[found[name][1]]]
    if isinstance(found.get("processors"), list):
        found["processors"] = [_framed(one, new) for one in found["processors"]]
    return found
