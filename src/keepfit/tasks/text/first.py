"""FirstStage of texts: hashed words and pairs of words, one linear layer. Numpy only; it answers in microseconds.

A text becomes the set of its words and of its pairs of neighbours, each hashed into one of 2^18 buckets (the hashing
trick: Weinberger et al., arXiv 0902.2206). What a bucket weighs was learnt with the weights of tf-idf folded in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from keepfit.errors import BackendError
from keepfit.tasks.task import Floats
from keepfit.tasks.text.preprocessing import Content, clean
from keepfit.tasks.trade import Trade

FORMAT = 1
"""Of what model.json calls `first`; a newer one is refused. A keepfit that knows of none answers without it."""
FILE = "first.safetensors"
BITS = 18
ENDS = 4000
"""Characters that are read from either end of a text."""
_WORDS = re.compile(r"\w+|[^\w\s]")
_LEFT, _RIGHT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_SHIFT = np.uint64(64 - BITS)


class FirstStage:
    """See tasks.task.FirstStage. Any thread."""

    def __init__(self, ids: NDArray[np.int64], weights: NDArray[Any], bias: Floats, idf: Floats, trade: Trade) -> None:
        """ids (m,): the buckets that were learnt, sorted. weights (m, k): of each, already multiplied by its idf (m,);
        bias (k,). Both are divided by the temperature."""
        self._trade, self._weights, self._bias = trade, weights, bias
        self._squares = idf.astype(np.float32) ** 2
        self._rows = np.full(1 << BITS, -1, np.int32)
        self._rows[ids] = np.arange(len(ids), dtype=np.int32)

    @property
    def trade(self) -> Trade:
        return self._trade

    def scores(self, contents: Sequence[Content]) -> Floats:
        """Probabilities, shape (n, k)."""
        logits = np.empty((len(contents), len(self._bias)), np.float32)
        for row, content in enumerate(contents):
            logits[row] = self._logits(content)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def _logits(self, content: Content) -> Floats:
        rows = self._rows[buckets(content)]
        rows = rows[rows >= 0]
        length = float(self._squares[rows].sum()) ** 0.5
        if not length:
            return self._bias
        return np.asarray(self._weights[rows].sum(axis=0, dtype=np.float32) / length + self._bias, np.float32)


def buckets(content: Content) -> NDArray[np.int64]:
    """The different buckets of a content's words and neighbours, sorted; the same on every machine and release."""
    words = words_of(content)
    codes = np.fromiter(map(crc32, words), np.uint64, len(words))
    pairs = codes[:-1] * _LEFT + codes[1:] * _RIGHT
    hashed = np.concatenate([codes * _LEFT, pairs * _LEFT]) >> _SHIFT
    seen = np.sort(hashed.astype(np.int64))
    return seen[np.concatenate([[True], seen[1:] != seen[:-1]])] if len(seen) else seen


def words_of(content: Content) -> list[bytes]:
    """Lower-cased words and signs; of several columns one after another, with a separator.

    >>> words_of(("Good day!", "B"))
    [b'good', b'day', b'!', b'\\x1f', b'b']
    """
    parts = (content,) if isinstance(content, str) else content
    texts = (clean(part if len(part) <= 2 * ENDS else f"{part[:ENDS]} {part[-ENDS:]}").lower() for part in parts)
    return " \x1f ".join(" ".join(_WORDS.findall(text)) for text in texts).encode("utf-8", "replace").split()


def load(folder: Path, values: Mapping[str, Any]) -> FirstStage | None:
    """The first stage of a model folder, whose model.json has these `values`; None where it has none.

    Raises BackendError when it is of a newer keepfit, OSError, KeyError or ValueError when it is damaged.
    """
    first = values.get("first")
    if first is None:
        return None
    if first["format"] > FORMAT:
        raise BackendError(f"the first stage in {folder} was made by a newer keepfit; update this one")
    arrays = load_file(folder / FILE)
    return FirstStage(
        arrays["ids"].astype(np.int64),
        arrays["weights"],
        arrays["bias"],
        arrays["idf"],
        Trade.from_json(first["trade"]).above(values.get("abstain_below")),
    )
