"""Cutting contents of many lengths into few calls of the engine, with little padding and few different shapes.

A compiled network prepares itself for each new shape (rows x tokens), which costs as much as a small call; so rows
come in powers of two and tokens in steps. Within that, padding is what costs: calls of one row are nearly as
efficient per token as calls of thirty-two, so the cheapest cut is found exactly, by dynamic programming.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROWS = (1, 2, 4, 8, 16, 32)
TOKENS_PER_CALL = 1024
"""Padded tokens; beyond it (measured with two cores) the intermediate values fall out of the cache."""
CALL_COST = 20
"""What a call costs besides its tokens, in tokens (measured: 12 for the call, 10 for a shape other than the last)."""
ROWS_TOGETHER = (1, 2, 4, 8)
"""Of a call beside which others run: each shape takes memory in each lane, and more rows make none cheaper."""
TOKENS_TOGETHER = 512
"""Padded tokens of a call beside which others run: more make no call cheaper by the token, and all wait longer."""


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


def together(lengths: Sequence[int], longest: int) -> list[int]:
    """The places of those to answer in one call: the first, with those most like it, cheapest by the token.

    >>> together([30, 200, 29, 90, 31, 32], 256)
    [0, 2, 4, 5]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    at = order.index(0)
    best, window = math.inf, order[at : at + 1]
    for rows in (rows for rows in ROWS_TOGETHER if rows <= len(order)):
        for start in range(max(0, at + 1 - rows), min(at, len(order) - rows) + 1):
            chosen = order[start : start + rows]
            padded = rows * width(lengths[chosen[-1]], longest)
            price = (padded + CALL_COST) / sum(max(lengths[row], 1) for row in chosen)
            if price < best and (rows == 1 or padded <= TOKENS_TOGETHER):
                best, window = price, chosen
    return sorted(window)


def _walk(order: NDArray[np.int64], widths: Sequence[int], size: Sequence[int]) -> list[Cut]:
    """From the end back to the start, taking at each place the call that was cheapest there."""
    cuts: list[Cut] = []
    end = len(order)
    while end:
        cuts.append(Cut(order[end - size[end] : end], widths[end - 1]))
        end -= size[end]
    return cuts[::-1]
