"""The rules that protect what used to work: no class falls on the old data, few answers turn from right to wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.evaluation.behaviour import shorten
from keepfit.evaluation.contradiction import NEIGHBOURS
from keepfit.evaluation.gate import Finding, Flags, Trial
from keepfit.evaluation.pairs import Kept, Pairs, pairs
from keepfit.intervals import paired_interval, sign_test, wilson

SHOWN = 20
"""Classes and negative flips that are listed for people."""

COLLAPSE = 5
"""Rows that a class needs before "the candidate never recognises it" counts without a test."""


@dataclass(frozen=True)
class Guard:
    """On the old held-out data no class may be recognised less often by more than `margin`.

    A class objects when its recall fell by more than the margin and the fall is beyond chance: exact one-sided sign
    test at `level` divided by the number of classes, so that a tiny class does not block by one unlucky example and
    150 classes do not block by their number. A class of 5 rows or more of which the champion knew half and the
    candidate none objects without a test. Rows that life has denied are left out and reported: those with the same
    content, and (unless `neighbours` is 0) those whose nearest recent labels say otherwise.
    """

    margin: float = 0.05
    level: float = 0.05
    neighbours: int = NEIGHBOURS
    name: str = "guard"

    def find(self, trial: Trial) -> Finding | None:
        """Applies when there is a champion and old rows."""
        kept = Kept.of(trial, self.neighbours)
        if trial.champion is None or not kept.old.any():
            return None
        classes = self._classes(trial, kept.old)
        fallen = {name: row for name, row in classes.items() if self._falls(row, len(classes))}
        worst = sorted(classes, key=lambda name: classes[name].after - classes[name].before)
        evidence = {
            "margin": self.margin,
            "fallen": sorted(fallen),
            "classes": {name: classes[name].to_json() for name in worst[:SHOWN]},
            "denied": kept.to_json(trial),
            **pairs(trial, kept.old).to_json(),
        }
        if fallen:
            return Finding(False, self._objection(fallen) + str(kept), evidence)
        most = _recall(worst[0], classes)
        says = f"old data: no class falls by more than {self.margin:g} beyond chance; the largest change: {most}"
        return Finding(True, says + str(kept), evidence)

    @staticmethod
    def _classes(trial: Trial, old: Flags) -> dict[str, Pairs]:
        truth: NDArray[Any] = np.array(trial.candidate.rows.truth, object)
        return {str(name): pairs(trial, old & (truth == name)) for name in sorted(set(truth[old]))}

    def _falls(self, row: Pairs, classes: int) -> bool:
        proven = row.before - row.after > self.margin and sign_test(row.losses, row.wins) <= self.level / classes
        return proven or (row.n >= COLLAPSE and row.before >= 0.5 and row.after == 0)

    def _objection(self, fallen: Mapping[str, Pairs]) -> str:
        first = sorted(fallen, key=lambda name: fallen[name].after - fallen[name].before)
        more = f" and {len(first) - 3} more classes" if len(first) > 3 else ""
        return (
            "on old held-out data the candidate recognises "
            + ", ".join(_recall(name, fallen) for name in first[:3])
            + f"{more}, more than the margin {self.margin:g}: if the old labels no longer hold, take them out of the "
            "data or allow more [guard_margin]"
        )


def _recall(name: str, classes: Mapping[str, Pairs]) -> str:
    row = classes[name]
    change = paired_interval(row.wins, row.losses, row.n)
    return (
        f"{name!r} less often ({row.before:.3f} → {row.after:.3f}, {change.value:+.3f}, "
        f"{change.low:+.3f} to {change.high:+.3f}, n = {row.n})"
    )


@dataclass(frozen=True)
class NegativeFlips:
    """The rows on which the champion is right and the candidate is wrong: counted, listed, capped on the old data.

    Users notice what used to work. The cap is on the share of old held-out rows that life has not denied, and objects
    only when the lower end of that share's interval is above it.
    """

    max_share: float = 0.10
    neighbours: int = NEIGHBOURS
    name: str = "negative_flips"

    def find(self, trial: Trial) -> Finding | None:
        """Applies when there is a champion."""
        if trial.champion is None:
            return None
        old = Kept.of(trial, self.neighbours).old
        share = wilson(int((trial.losses & old).sum()), int(old.sum()))
        evidence = {
            "total": int(trial.losses.sum()),
            "recent": int((trial.losses & trial.since_change).sum()),
            "old": share.to_json(),
            "max_share": self.max_share,
            "examples": self._examples(trial),
        }
        says = (
            f"{round(share.value * share.n) if share.n else 0} of {share.n} old rows turn from right to wrong, "
            f"{int(trial.losses.sum())} of all {len(trial.candidate)}"
        )
        if share.n and share.low > self.max_share:
            return Finding(False, f"{says}; at most {self.max_share:.0%} may [max_negative_flips]", evidence)
        return Finding(True, says, evidence)

    @staticmethod
    def _examples(trial: Trial) -> list[dict[str, str]]:
        rows, said = trial.candidate.rows, trial.candidate.said_labels
        return [
            {"id": rows.ids[i], "content": shorten(rows.contents[i]), "label": rows.truth[i], "says_now": said[i]}
            for i in np.flatnonzero(trial.losses)[:SHOWN]
        ]
