"""Cleaning, tokenizing and truncating a text; the same code runs while learning and while answering."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

from keepfit.errors import InvalidInput

CLEANING = 1
"""The version of `clean`, kept in every model's folder; a change of its results is a new number."""
RAW = 0
"""Texts as they come, for networks that were trained elsewhere; what cannot be encoded is replaced."""

HEAD_SHARE = 0.25
"""head+tail keeps this share of the tokens from the beginning and the rest from the end (Sun et al. 2019)."""

CHARS_PER_TOKEN = 24
"""A very long text is cut to this many characters per token on either side before it is tokenized."""

GLANCE = 64
"""Characters that are looked at first when a text may be empty."""

Content = str | tuple[str, ...]

_TAG_NAMES = (
    "a|abbr|article|aside|b|blockquote|body|br|button|center|cite|code|dd|del|div|dl|dt|em|figure|font|footer|form"
    "|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|main|mark|meta|nav|ol|option|p|pre|q|s|script"
    "|section|select|small|span|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul|video"
)
_TAG = re.compile(
    rf"</?(?:{_TAG_NAMES})(?:\s+[a-z][\w:-]{{0,40}}\s*=[^<>]{{0,2000}})?\s*/?>|<!--.{{0,2000}}?-->", re.I | re.S
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_INVISIBLE = dict.fromkeys(range(32), " ") | dict.fromkeys(range(127, 160), " ")
_INVISIBLE |= {0x00AD: "", 0x200B: "", 0x2060: "", 0xFEFF: "", 0xFFFE: "", 0xFFFF: ""}


def clean(text: str) -> str:
    """One text without HTML tags and entities, control and invisible characters, in NFC, with single spaces.

    >>> clean("Good<br /><br />film &amp; cast,\\x00 2 < 3")
    'Good film & cast, 2 < 3'
    """
    if _SURROGATE.search(text):  # two halves of one character become it, lone halves the replacement character
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    return " ".join(unicodedata.normalize("NFC", text).translate(_INVISIBLE).split())


def readable(text: str) -> str:
    """The text as it is, but for halves of characters that no tokenizer takes.

    >>> readable("<b>Good</b>  film")
    '<b>Good</b>  film'
    """
    if _SURROGATE.search(text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def says_something(text: str) -> bool:
    """Whether anything is left of a text once it is clean; mostly its beginning tells.

    >>> says_something("Good"), says_something("<br />"), says_something(" \\x00")
    (True, False, False)
    """
    beginning = text[:GLANCE]
    plain = "<" not in beginning and "&" not in beginning  # no markup begins here that would swallow it
    return bool((plain and clean(beginning)) or clean(text))


@dataclass(frozen=True)
class Encoded:
    """n contents as token ids (special tokens included, truncated, not padded)."""

    ids: Sequence[list[int]]
    lengths: Sequence[int]
    """Tokens before truncation, without special ones (of a very long text only its ends are counted)."""
    unknown: Sequence[float]
    """Share of these tokens that the vocabulary does not know."""


class Reading(Protocol):
    """What a model needs of a preprocessor."""

    def encode(self, contents: Sequence[Content]) -> Encoded:
        """Token ids of n contents, in order."""
        ...


@dataclass(frozen=True)
class _Frame:
    """The special tokens around and between the columns of one content."""

    before: list[int]
    between: list[int]
    after: list[int]

    def room(self, parts: int) -> int:
        return len(self.before) + len(self.after) + (parts - 1) * len(self.between)


class Preprocessor:
    """Turns contents into token ids; deterministic, and usable from several threads.

    `columns` > 1 means that each content is a tuple of so many texts; they are joined by the tokenizer's separator
    (a line break where it has none), and the room is shared so that the longest column is cut first.
    Raises InvalidInput when the tokenizer's file cannot be read or `max_tokens` leaves no room for text.
    """

    def __init__(
        self,
        tokenizer: Path,
        max_tokens: int,
        truncation: str = "head+tail",
        columns: int = 1,
        head_share: float | None = None,
        cleaning: int = CLEANING,
    ) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # the library raises bare Exception
            raise InvalidInput(f"cannot read the tokenizer {tokenizer}: {error}; train the model again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._columns = columns
        self._clean = readable if cleaning == RAW else clean
        self._frame = _frame(self._tokenizer)
        self._room = max_tokens - self._frame.room(columns)
        if self._room < columns:
            raise InvalidInput(f"max_tokens = {max_tokens} leaves no room for text; raise it", field="max_tokens")
        self._head = 1.0 if truncation == "head" else HEAD_SHARE if head_share is None else head_share
        self._chars = CHARS_PER_TOKEN * max_tokens
        self._unknown = _unknown_id(self._tokenizer)

    @classmethod
    def from_settings(cls, folder: Path, settings: Mapping[str, Any]) -> Preprocessor:
        """The one that a model's folder describes; `settings` is its model.json."""
        if settings["cleaning"] not in (RAW, CLEANING):
            raise InvalidInput(
                f"the model was made with cleaning version {settings['cleaning']}, this keepfit has {CLEANING}"
            )
        return cls(
            folder / "tokenizer.json",
            settings["max_tokens"],
            settings["truncation"],
            len(settings["columns"]),
            settings.get("head_share"),
            settings["cleaning"],
        )

    def encode(self, contents: Sequence[Content]) -> Encoded:
        """Token ids of n contents, in order; each content is a str, or a tuple of `columns` str."""
        tokens = self.pieces(contents)
        rows = [tokens[i : i + self._columns] for i in range(0, len(tokens), self._columns)]
        lengths = [sum(map(len, row)) for row in rows]
        return Encoded([self._join(row) for row in rows], lengths, [self._unknown_share(row) for row in rows])

    def pieces(self, contents: Sequence[Content]) -> list[list[int]]:
        """Token ids of each column of n contents, in order; not truncated, and without special tokens."""
        parts = [(content,) if isinstance(content, str) else content for content in contents]
        texts = [self._ends(self._clean(text)) for part in parts for text in part]
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @property
    def unknown(self) -> int:
        """The id of what cannot be read; -1 where there is none."""
        return self._unknown

    def _ends(self, text: str) -> str:
        """The text, or its two ends when it is far longer than what will be kept of it."""
        if len(text) <= 2 * self._chars:
            return text
        return text[: self._chars] + " " + text[-self._chars :]

    def _join(self, row: Sequence[list[int]]) -> list[int]:
        joined = list(self._frame.before)
        for i, (tokens, room) in enumerate(
            zip(row, share_room([len(tokens) for tokens in row], self._room), strict=True)
        ):
            joined += self._frame.between if i else []
            joined += truncate(tokens, room, self._head)
        return joined + self._frame.after

    def _unknown_share(self, row: Sequence[list[int]]) -> float:
        total = sum(map(len, row))
        return sum(tokens.count(self._unknown) for tokens in row) / total if total else 0.0


def truncate(tokens: list[int], room: int, head_share: float) -> list[int]:
    """At most `room` tokens: the first `head_share` of them from the beginning, the others from the end.

    >>> truncate([1, 2, 3, 4, 5, 6, 7, 8], 4, 0.25)
    [1, 6, 7, 8]
    """
    if len(tokens) <= room:
        return tokens
    head = round(room * head_share)
    return tokens[:head] + tokens[len(tokens) - (room - head) :]


def share_room(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens each column may keep: short columns stay whole, the long ones share what is left.

    >>> share_room([5, 300, 200], 105)
    [5, 50, 50]
    """
    shares = [0] * len(lengths)
    left = room
    for done, i in enumerate(sorted(range(len(lengths)), key=lambda i: lengths[i])):
        shares[i] = min(lengths[i], left // (len(lengths) - done))
        left -= shares[i]
    return shares


def _frame(tokenizer: Tokenizer) -> _Frame:
    """Read off from how the tokenizer frames a pair of texts."""
    probe = tokenizer.encode("a", add_special_tokens=False).ids
    single, pair = tokenizer.encode("a").ids, tokenizer.encode("a", "a").ids
    start = _find(single, probe, 0)
    before, after = single[:start], single[start + len(probe) :]
    second = _find(pair, probe, start + len(probe))
    between = pair[start + len(probe) : second]
    return _Frame(before, between or tokenizer.encode("\n", add_special_tokens=False).ids, after)


def _find(tokens: list[int], part: list[int], start: int) -> int:
    for i in range(start, len(tokens) - len(part) + 1):
        if tokens[i : i + len(part)] == part:
            return i
    raise InvalidInput("the backbone's tokenizer frames texts in a way that keepfit does not know; choose another one")


def _unknown_id(tokenizer: Tokenizer) -> int:
    """The id of the unknown token; -1 where there is none (byte-level vocabularies know everything)."""
    for token in ("[UNK]", "<unk>"):
        number = tokenizer.token_to_id(token)
        if number is not None:
            return int(number)
    return -1
