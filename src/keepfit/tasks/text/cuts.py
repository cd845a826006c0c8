"""Cutting contents of many lengths into few calls of the engine, with little padding and few different shapes.

A compiled network prepares itself for each new shape (rows x tokens), which costs as much as a small call; so rows
come in powers of two and tokens in steps. Within that, padding is what costs: calls of one row are nearly as
efficient per token as calls of thirty-two, so the cheapest cut is found exactly, by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS = (1, 2, 4, 8, 16, 32)
TOKENS_PER_CALL = 1024
"""Padded tokens; beyond it (measured with two cores) the intermediate values fall out of the cache."""
CALL_COST = 16
"""What a call costs besides its tokens, in tokens."""


@dataclass(frozen=True)
class Cut:
    """One call: the numbers of its rows, and the tokens that each is padded to."""

    rows: NDArray[np.int64]
    width: int


def width(tokens: int, longest: int) -> int:
    """`tokens` rounded up by 8 to 64, by 16 to 128, then by 32; at most `longest`.

    >>> width(9, 256), width(70, 256), width(140, 256), width(250, 250)
    (16, 80, 160, 250)
    """
    step = 8 if tokens <= 64 else 16 if tokens <= 128 else 32
    return min(-(-max(tokens, 1) // step) * step, longest)


def cut(lengths: Sequence[int], longest: int) -> list[Cut]:
    """Each row once; together the cheapest in padded tokens, counting CALL_COST for each call.

    >>> [(c.rows.tolist(), c.width) for c in cut([5, 100, 7], 256)]
    [([0, 2], 8), ([1], 112)]
    """
    order = np.argsort(np.asarray(lengths, np.int64), kind="stable")
    widths = [width(lengths[row], longest) for row in order]
    best, size = [0], [0]
    for end, padded in enumerate(widths, start=1):
        fitting = [rows for rows in ROWS if rows == 1 or (rows <= end and rows * padded <= TOKENS_PER_CALL)]
        price, rows = min((best[end - rows] + rows * padded + CALL_COST, -rows) for rows in fitting)
        best.append(price)
        size.append(-rows)
    return _walk(order, widths, size)


def _walk(order: NDArray[np.int64], widths: Sequence[int], size: Sequence[int]) -> list[Cut]:
    """From the end back to the start, taking at each place the call that was cheapest there."""
    cuts: list[Cut] = []
    end = len(order)
    while end:
        cuts.append(Cut(order[end - size[end] : end], widths[end - 1]))
        end -= size[end]
    return cuts[::-1]
