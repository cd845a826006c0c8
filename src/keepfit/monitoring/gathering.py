"""Gathering: repeats of one content, and answers to one user, are one observation within a block of time."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

MANY_KEYS = 20
"""So many different keys in a block are users; fewer are queues, customers or cameras, each with many contents."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """m observations out of n answers, in the order in which each began."""

    values: Doubles
    """Shape (m, c)."""
    counts: Doubles
    """For how many answers each stands, shape (m,)."""
    places: Ints
    """The first answer of each, shape (m,)."""


def gathered(values: Doubles, contents: Sequence[Hashable], keys: Sequence[str | None]) -> Gathered:
    """What one block of time says, shape (n, c), without weight for who or what repeats itself.

    Of equal contents the first counts. Then the mean over the contents of one key counts once, where there are
    MANY_KEYS at least; answers without a key stand for themselves.
    """
    first, content = grouped(contents)
    named = [keys[place] for place in first]
    users = [key if key is not None else place for key, place in zip(named, first.tolist(), strict=True)]
    if len({key for key in named if key is not None}) < MANY_KEYS:
        users = list(first.tolist())
    begins, user = grouped(users)
    sizes = np.bincount(user, minlength=len(begins))
    means = np.zeros((len(begins), values.shape[1]))
    np.add.at(means, user, values[first])
    counts = np.bincount(user[content], minlength=len(begins)).astype(np.float64)
    return Gathered(means / sizes[:, None], counts, first[begins])


def grouped(names: Sequence[Hashable]) -> tuple[Ints, Ints]:
    """The place of the first of each different name, and the group of each place, groups by their first places."""
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)
    first = np.full(len(numbers), len(names), np.int64)
    np.minimum.at(first, group, np.arange(len(names)))
    return first, group
