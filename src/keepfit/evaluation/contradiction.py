"""Which old labels life has denied: those of rows that the champion cannot tell from recent rows with other labels.

The same text with a new label is a plain contradiction, and the snapshot knows it. But when words change their
meaning, other texts with these words are denied as well. This is the evidence for them, from held-out recent labels
alone: an old row is denied when, of the recent rows that lie nearest to it in the champion's own embedding and that
the champion answers with the same class, most have another label. Classes and regions that recent labels do not
touch are never denied, so what the candidate forgets there still counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NEIGHBOURS = 3
"""With 3, within twice the usual reach, 94 % of old rows with turned words were denied and none of the others, in a
trial with a fine-tuned MiniLM and 130 recent labels, a fifth of them turned; with 5 it was 90 %, with 7 84 %."""

REACH = 2
FEWEST = 4
"""Recent rows with one answer must be this many times the neighbours before they deny anything."""

BLOCK = 1024
COMPARED = 2000
"""Old rows of one class, at most, from which it is known how near the others of the class usually lie."""


def denied_by_neighbours(
    embeddings: Floats, said: Ints, truth: Ints, recent: Flags, neighbours: int = NEIGHBOURS
) -> Flags:
    """Old rows whose label the nearest recent labels deny, shape (n,); false for recent rows.

    embeddings (n, d), said (n,) and truth (n,) are the champion's; only rows on which it was right can be denied.
    Only neighbours within reach count: as near as twice the same share of the old rows of this class. Where recent
    rows are much rarer than old ones (a region that they do not touch) too few are within reach. 0 neighbours: none.
    """
    denied = np.zeros(len(truth), bool)
    for label in np.unique(said[recent]) if neighbours else ():
        old = np.flatnonzero(~recent & (said == label) & (truth == label))
        new = np.flatnonzero(recent & (said == label))
        if len(old) and len(new) >= FEWEST * neighbours:
            denied[old] = _mostly(_unit(embeddings[old]), _unit(embeddings[new]), truth[new] != label, neighbours)
    return denied


def _mostly(old: Floats, new: Floats, wrong: Flags, neighbours: int) -> Flags:
    """Whether more than half of the nearest new rows are wrong and within reach."""
    compared = old[:: -(-len(old) // COMPARED)]
    rank = min(round(REACH * neighbours / len(new) * len(compared)), len(compared) - 1)
    found = np.zeros(len(old), bool)
    for start in range(0, len(old), BLOCK):
        block = old[start : start + BLOCK]
        reach = np.partition(1.0 - block @ compared.T, rank, axis=1)[:, rank]
        distances = 1.0 - block @ new.T
        nearest = np.argpartition(distances, neighbours - 1, axis=1)[:, :neighbours]
        near = np.take_along_axis(distances, nearest, axis=1) <= reach[:, None] + 1e-6
        found[start : start + BLOCK] = (wrong[nearest] & near).sum(axis=1) * 2 > neighbours
    return found


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)
