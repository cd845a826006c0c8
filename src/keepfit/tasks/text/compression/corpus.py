"""The texts of a compression: what it is made from, and what is held out of it to judge it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from keepfit.data.snapshot import Rows, Snapshot, Split
from keepfit.tasks.text.compression.judging import HeldOut
from keepfit.tasks.text.compression.vocabulary import Ints
from keepfit.tasks.text.fit import JUDGED_TEXTS, UNLABELLED_TEXTS, pieces, spread
from keepfit.tasks.text.preprocessing import Content, Preprocessor

HELD_SHARE = 5
"""One text in so many is held back, until there are enough."""
AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class Corpus:
    """n texts without a look at their labels, and what is held out."""

    seen: Sequence[Content]
    """What a compression is judged as made from."""
    held_back: Sequence[Content]
    """Whole texts that the judging has not seen; what is registered knows them, too."""
    held_out: HeldOut

    @classmethod
    def of(cls, snapshot: Snapshot, recorded: Sequence[Content], labels: Sequence[str]) -> Corpus:
        """The train part and recorded texts; the validation part and a fifth of the others are held out."""
        train, validation = snapshot.rows(Split.TRAIN), snapshot.rows(Split.VALIDATION)
        chosen = spread(len(validation), JUDGED_TEXTS)
        wanted = max(0, UNLABELLED_TEXTS - len(chosen))
        heard, rest = divided(recorded, wanted)
        learnt, others = divided(train.contents, wanted - len(heard))
        parts = pieces(learnt, wanted - len(heard)) if learnt else []
        held_out = HeldOut(
            [validation.contents[i] for i in chosen], numbers(validation, chosen, labels), [*heard, *parts]
        )
        return cls([*others, *rest], [*learnt, *heard], held_out)

    @property
    def all(self) -> Sequence[Content]:
        """Every text but those of the validation part."""
        return [*self.seen, *self.held_back]


def numbers(rows: Rows, chosen: Ints, labels: Sequence[str]) -> Ints:
    """Class numbers (n,) of the chosen rows; -1 for a class that the model does not know."""
    number = {label: i for i, label in enumerate(labels)}
    return np.array([number.get(rows.truth[i], -1) for i in chosen], np.int64)


def divided(contents: Sequence[Content], wanted: int) -> tuple[list[Content], list[Content]]:
    """At most `wanted` of them, no more than a fifth and evenly spread; and the others.

    >>> divided(list("abcdefghij"), 5)
    (['a', 'f'], ['b', 'c', 'd', 'e', 'g', 'h', 'i', 'j'])
    """
    held = {int(i) for i in spread(len(contents), max(0, min(wanted, len(contents) // HELD_SHARE)))}
    return [contents[i] for i in sorted(held)], [one for i, one in enumerate(contents) if i not in held]


def counted(preprocessor: Preprocessor, contents: Sequence[Content], size: int) -> Ints:
    """How often each id occurs in the texts before they are truncated, shape (size,)."""
    found = np.zeros(size, np.int64)
    for part in parts(contents):
        for ids in preprocessor.pieces(part):
            found += np.bincount(np.asarray(ids, np.int64), minlength=size)
    return found


def parts(contents: Sequence[Content]) -> Iterator[list[Content]]:
    """So many at once that memory stays small."""
    waiting = iter(contents)
    while part := list(islice(waiting, AT_ONCE)):
        yield part
