"""Needles: texts and names that must not be found any more, in every form in which a file may hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHORTEST_NAME, SHORTEST_TEXT = 6, 12
"""Shorter ones are in everybody's data: they are looked for as whole ids and keys only, not as bytes."""
WHOLE, PIECE = 1000, 400
"""Longer texts are looked for by three pieces: a database may lay a long text out over several pages."""
FEW = 16
"""So many are looked for one after the other; more go through a table of their beginnings first."""
GONE = "[forgotten]"
SHOWN = 159
"""Characters of a text that reports quote on one line."""
_WORD = re.compile(rb"[A-Za-z0-9_\-]")


@dataclass(frozen=True, order=True)
class Needle:
    """Bytes to look for. Where they were cut off, what is beside them there does not matter."""

    content: bytes
    cut_before: bool = False
    cut_after: bool = False

    def alone(self, content: bytes, start: int) -> bool:
        """Whether what was found at `start` is not a part of a longer word, such as another's longer name."""
        end = start + len(self.content)
        before, after = content[max(start - 1, 0) : start], content[end : end + 1]
        escaped = content[max(start - 2, 0) : start] in (b"\\n", b"\\t", b"\\r")
        joined_before = _WORD.match(before) and _WORD.match(self.content[:1])
        joined_after = _WORD.match(after) and _WORD.match(self.content[-1:])
        return (self.cut_before or escaped or not joined_before) and (self.cut_after or not joined_after)


class Needles:
    """Some names (ids, keys) and texts, ready to be looked for."""

    def __init__(self, names: Collection[str], texts: Collection[str]) -> None:
        self.names, self.texts = frozenset(names), frozenset(texts)
        long_names = {name for name in names if len(encoded(name)) >= SHORTEST_NAME}
        long_texts = {text for text in texts if len(encoded(text)) >= SHORTEST_TEXT}
        self.too_short = (len(self.names) - len(long_names)) + (len(self.texts) - len(long_texts))
        """How many cannot be told from other people's data."""
        quoted = {one_line(text) for text in long_texts}
        self._words = dict.fromkeys(sorted(long_names | long_texts, key=len, reverse=True), False)
        self._words |= {text: cut for text, cut in sorted(quoted, reverse=True) if len(text) >= SHORTEST_TEXT}
        found = {needle for word, cut in self._words.items() for form in forms(word) for needle in pieces(form, cut)}
        self._needles = sorted(found)
        self._table = _table(self._needles) if len(self._needles) > FEW else None

    def __bool__(self) -> bool:
        return bool(self._needles)

    def with_texts(self, more: Collection[str]) -> Needles:
        """These and more."""
        return Needles(self.names, self.texts | set(more))

    def count(self, content: bytes, bounded: bool = True) -> int:
        """How often any is there; `bounded`: only where it stands alone."""
        return sum(1 for start, needle in self._found(content) if not bounded or needle.alone(content, start))

    def in_text(self, text: str, bounded: bool = True) -> int:
        """How often any is in a decoded text."""
        return self.count(encoded(text), bounded)

    def scrubbed(self, value: Any) -> Any:
        """A JSON value without them: what a string names is replaced, what is kept by name goes with the name.

        Of a quoted slip both texts go.
        """
        if isinstance(value, str):
            return self.without(value)
        if isinstance(value, list | tuple):
            return [self.scrubbed(each) for each in value]
        if isinstance(value, Mapping):
            quotes = isinstance(value.get("before"), str) and self.in_text(value["before"]) > 0
            return {
                self.without(str(name)): GONE if quotes and name in ("before", "after") else self.scrubbed(each)
                for name, each in value.items()
                if name not in self.names
            }
        return value

    def blanked(self, text: str) -> str:
        """A text that may be stored JSON, without any form of them."""
        if not self.in_text(text):
            return text
        for word, cut in self._words.items():
            for form in sorted(forms(word), key=len, reverse=True):
                text = _replaced(text, form.decode("utf-8", "surrogatepass"), cut)
        return text

    def changed_forms(self, value: Any) -> Iterator[str]:
        """What a text became where a behaviour check changed it: the `after` of slips whose `before` is one of them."""
        if isinstance(value, Mapping):
            before, after = value.get("before"), value.get("after")
            if isinstance(before, str) and isinstance(after, str) and self.in_text(before):
                yield after.removesuffix("…").strip()
            for each in value.values():
                yield from self.changed_forms(each)
        elif isinstance(value, list | tuple):
            for each in value:
                yield from self.changed_forms(each)

    def without(self, text: str) -> str:
        """A sentence with each of them replaced."""
        if not self.in_text(text):
            return text
        for word, cut in self._words.items():
            text = _replaced(text, word, cut)
        return text

    def _found(self, content: bytes) -> Iterator[tuple[int, Needle]]:
        if self._table is None:
            for needle in self._needles:
                start = content.find(needle.content)
                while start >= 0:
                    yield start, needle
                    start = content.find(needle.content, start + 1)
            return
        for start in _candidates(content, self._table):
            for needle in self._table[1].get(content[start : start + SHORTEST_NAME], ()):
                if content.startswith(needle.content, start):
                    yield start, needle


def _replaced(text: str, word: str, cut: bool) -> str:
    """The word where it stands alone, as `Needle.alone` has it."""
    before, after = r"(?:(?<![A-Za-z0-9_\-])|(?<=\\[nrt]))", "…?" if cut else r"(?![A-Za-z0-9_\-])"
    return re.sub(before + re.escape(word) + after, GONE, text)


def encoded(text: str) -> bytes:
    """UTF-8, whatever is in it."""
    return text.encode("utf-8", "surrogatepass")


def one_line(text: str) -> tuple[str, bool]:
    """As reports quote it, and whether it is cut short there.

    >>> one_line("a  long\\nstory")
    ('a long story', False)
    """
    line = " ".join(text.split())
    return line[:SHOWN].strip(), len(line) > SHOWN


def forms(text: str) -> set[bytes]:
    """The bytes of a text plain, within JSON (with and without escapes), and within a quoted cell of a table.

    >>> sorted(forms('a "ü"'))[:2]
    [b'a ""\\xc3\\xbc""', b'a "\\xc3\\xbc"']
    """
    written = {text, text.replace('"', '""'), json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return {each.encode("utf-8", "surrogatepass") for each in written}


def pieces(form: bytes, cut: bool = False) -> list[Needle]:
    """The form itself; of a long one its beginning, middle and end. `cut`: it is a beginning already."""
    if len(form) <= WHOLE:
        return [Needle(form, cut_after=cut)]
    middle = (len(form) - PIECE) // 2
    return [
        Needle(form[:PIECE], cut_after=True),
        Needle(form[middle : middle + PIECE], True, True),
        Needle(form[-PIECE:], cut_before=True, cut_after=cut),
    ]


def _table(needles: Iterable[Needle]) -> tuple[NDArray[np.bool_], dict[bytes, list[Needle]]]:
    """Which hashes of the first bytes begin a needle, and the needles by these bytes."""
    known = np.zeros(1 << 20, np.bool_)
    by_start: dict[bytes, list[Needle]] = {}
    for needle in needles:
        by_start.setdefault(needle.content[:SHORTEST_NAME], []).append(needle)
    starts = np.frombuffer(b"".join(by_start), np.uint8)
    known[_hashes(starts)[::SHORTEST_NAME]] = True
    return known, by_start


def _hashes(content: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Of each SHORTEST_NAME bytes in a row, below 2**20."""
    size = len(content) - SHORTEST_NAME + 1
    found = np.zeros(max(size, 0), np.uint32)
    for place in range(SHORTEST_NAME):
        found = found * np.uint32(0x01000193) ^ content[place : place + size]
    return (found ^ (found >> np.uint32(12))) & np.uint32((1 << 20) - 1)


def _candidates(content: bytes, table: tuple[NDArray[np.bool_], Any]) -> Iterator[int]:
    step = 1 << 22
    for start in range(0, len(content), step):
        window = np.frombuffer(content, np.uint8, min(step + SHORTEST_NAME - 1, len(content) - start), start)
        if len(window) >= SHORTEST_NAME:
            yield from (start + int(i) for i in np.flatnonzero(table[0][_hashes(window)]))
