"""Since when it is otherwise: the moment at which a model began to err more, from its losses in the order of time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

SHORTEST = 15
"""Labels on either side of a change, at least."""
ROUNDS = 400
"""Orders drawn by chance that the change must stand out from."""
SEED = 20250101


def change_point(losses: Doubles, level: float = 0.05) -> int | None:
    """The place of the first label after the rise of a 0-1 loss (n,), oldest first; None: no rise is proven.

    The split with the largest likelihood ratio of two error rates against one, the second higher (Page 1954; Hinkley
    1970). Its chance under no change is counted among random orders of the same losses, so the level holds for any n.
    """
    if len(losses) < 2 * SHORTEST:
        return None
    ratios = _ratios(losses[None, :])[0]
    found = int(ratios.argmax())
    rng, as_large = np.random.default_rng(SEED), 0
    for _ in range(ROUNDS):  # one order at a time: what is in memory grows with n alone
        as_large += bool(_ratios(rng.permutation(losses)[None, :]).max() >= ratios[found] - 1e-12)
    chance = (1 + as_large) / (ROUNDS + 1)
    return found + SHORTEST if ratios[found] > 0 and chance <= level else None


def _ratios(losses: Doubles) -> Doubles:
    """Log likelihood ratios of each split of each row (r, n), shape (r, n + 1 - 2 SHORTEST); 0 where the rate falls."""
    n = losses.shape[1]
    left = np.arange(SHORTEST, n + 1 - SHORTEST)
    sums = np.cumsum(losses, axis=1)
    before, total = sums[:, left - 1], sums[:, -1:]
    after, right = total - before, n - left
    gain = _fit(before, left) + _fit(after, right) - _fit(total, np.array([n]))
    return np.where(after / right > before / left, gain, 0.0)


def _fit(errors: Doubles, n: NDArray[np.int64]) -> Doubles:
    """The log likelihood of so many errors of n at their own rate."""
    rate = np.clip(errors / n, 1e-12, 1 - 1e-12)
    return np.asarray(errors * np.log(rate) + (n - errors) * np.log1p(-rate))
