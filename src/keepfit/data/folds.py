"""Folds: the same data learnt from several times, each time with another part held out; groups are never split."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, TimeSeriesSplit

from keepfit.data.snapshot import Rows, Snapshot, write_snapshot
from keepfit.data.splits import UNKNOWN_TIME, SnapshotRow, Split, hash_point
from keepfit.errors import InvalidInput, SettingsError

KINDS = ("grouped", "time")
STOP = 0.1
"""Of what a fold learns from, so much says when to stop and calibrates."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """How often, and how, data is held out."""

    count: int
    kind: str = "grouped"
    """grouped: every row once, the classes in their shares in each fold (stratified k-fold); time: always what comes
    next after all that came before (rolling origin, Tashman 2000)."""
    seed: int = 17

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"there is no cross-validation {self.kind!r}; known are {', '.join(KINDS)}")
        if self.count < 2:
            raise SettingsError("a cross-validation needs two folds or more")


@dataclass(frozen=True, eq=False)
class Fold:
    """Places of rows; no group is in two of the parts."""

    learn: Places
    stop: Places
    held: Places


def folds(rows: Rows, wanted: Folds) -> list[Fold]:
    """The folds of some rows, the same for the same arguments.

    In order of time, what is learnt from is older than what is held out, and a group that goes on is left out before.
    Raises InvalidInput where there are too few groups or no times, or a fold would learn from one class only.
    """
    groups = np.unique(np.array(rows.groups), return_inverse=True)[1]
    if len(set(groups.tolist())) < 2 * wanted.count:
        raise InvalidInput(
            f"{wanted.count} folds need at least {2 * wanted.count} groups of rows, and there are "
            f"{len(set(groups.tolist()))}; take fewer folds"
        )
    made = _grouped(rows, groups, wanted) if wanted.kind == "grouped" else _rolling(rows, groups, wanted)
    for fold in made:
        if not (len(fold.learn) and len(fold.stop) and len(fold.held)):
            raise InvalidInput(f"there is too little data for {wanted.count} folds; take fewer")
    _check_classes(rows, made, wanted)
    return made


def unlearnt(rows: Rows, fold: Fold) -> list[str]:
    """The classes that are held out in a fold and that it does not learn from."""
    learnt = {rows.truth[place] for place in fold.learn}
    return sorted({rows.truth[place] for place in fold.held} - learnt)


def _check_classes(rows: Rows, made: list[Fold], wanted: Folds) -> None:
    """Said before the first fold is learnt: the one that fails may be the last."""
    known = set(rows.truth)
    for number, fold in enumerate(made, 1):
        learnt = {rows.truth[place] for place in fold.learn}
        if len(learnt) < 2 <= len(known):
            missing = ", ".join(repr(label) for label in sorted(known - learnt)[:5])
            earlier = "; take fewer folds, so that the first one learns from more, or --cv-kind grouped"
            raise InvalidInput(
                f"fold {number} of {wanted.count} would learn from one class only ({min(learnt)!r}): of its"
                f" {len(fold.learn)} rows to learn from none is of {missing}"
                + (earlier if wanted.kind == "time" else "; take fewer folds, or add rows of it")
            )


def snapshot_of(folder: Path, whole: Snapshot, rows: Rows, fold: Fold) -> Snapshot:
    """A fold as a snapshot in the folder: what is held out is its test part."""
    parts = ((Split.TRAIN, fold.learn), (Split.VALIDATION, fold.stop), (Split.TEST, fold.held))
    split = {rows.ids[place]: part for part, places in parts for place in places}

    def chosen() -> Iterator[SnapshotRow]:
        for row in whole.stored():
            if row.id in split:
                yield replace(row, split=split[row.id])

    return write_snapshot(folder, chosen(), whole.columns, {"kind": "fold", "parents": [whole.id]})


def without_test(rows: Rows, test: Rows) -> Rows:
    """The rows of no test part: what is cross-validated must leave that to the gate."""
    tested = set(test.ids)
    return rows.only([place for place, id_ in enumerate(rows.ids) if id_ not in tested])


def _grouped(rows: Rows, groups: NDArray[np.intp], wanted: Folds) -> list[Fold]:
    truth = np.unique(np.array(rows.truth), return_inverse=True)[1]
    seed = wanted.seed % 2**32
    splitter = StratifiedGroupKFold(wanted.count, shuffle=True, random_state=seed)
    points = np.array([hash_point(f"{seed}:{group}") for group in rows.groups])
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class with fewer rows than folds: `Spread` says so
        try:
            pairs = list(splitter.split(truth, truth, groups))
        except ValueError as error:
            raise InvalidInput(f"the data cannot be parted in {wanted.count} folds ({error}); take fewer") from error
    for learn, held in pairs:
        stops = points[learn] < STOP
        found.append(Fold(learn[~stops], learn[stops], held))
    return found


def _rolling(rows: Rows, groups: NDArray[np.intp], wanted: Folds) -> list[Fold]:
    unknown = sum(time == UNKNOWN_TIME for time in rows.times)
    if unknown:
        raise InvalidInput(
            f"{unknown} of {len(rows)} rows have no time, which a cross-validation in order of time needs; name the "
            "column in [models.NAME.columns] time, or take --cv-kind grouped"
        )
    times = np.array([time.timestamp() for time in rows.times])
    order = np.lexsort((np.array(rows.ids), times))
    found = []
    for before, after in TimeSeriesSplit(wanted.count).split(order):
        held, past = order[after], order[before]
        past = past[(times[past] < times[held].min()) & ~np.isin(groups[past], groups[held])]
        last = past[round((1 - STOP) * len(past)) :]
        learn = past[: len(past) - len(last)]
        found.append(Fold(learn[~np.isin(groups[learn], groups[last])], last, held))
    return found
