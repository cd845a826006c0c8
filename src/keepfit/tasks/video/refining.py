"""Refining: the threshold of one camera, judged anew from the life that its stream has shown since."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput
from keepfit.tasks.video.thresholding import from_levels
from keepfit.tasks.video.timeline import Threshold

STEP = 0.02
"""Levels are counted in steps of this size, and each counts as the top of its step: a hundredth of what tells apart."""
FEWEST = 100
"""Windows that a threshold is judged from at least: about five minutes of life."""
GROWTH = 1.5
"""A camera is judged again when it has shown so many times more windows than at the last judgement."""


@dataclass(frozen=True)
class Levels:
    """How high the windows of one camera reached. Its size depends on how far they spread, not on how many they are."""

    counts: Mapping[int, int] = field(default_factory=dict)
    """Windows by the step that their level lies in."""

    @property
    def n(self) -> int:
        """Windows."""
        return sum(self.counts.values())

    def changed(self, more: Iterable[float] = (), fewer: Iterable[float] = ()) -> Levels:
        """With and without some windows.

        >>> Levels().changed([0.011, 0.015, 3.0]).changed(fewer=[3.0]).counts
        {0: 2}
        """
        counts = Counter(self.counts)
        counts.update(map(step_of, more))
        counts.subtract(Counter(map(step_of, fewer)))
        return Levels({step: count for step, count in sorted(counts.items()) if count > 0})

    @property
    def values(self) -> NDArray[np.float64]:
        """The tops of the steps, each as often as there are windows, rising; shape (n,)."""
        steps = np.array(list(self.counts), np.float64)
        return np.repeat((steps + 1) * STEP, list(self.counts.values()))


def step_of(level: float) -> int:
    """The step that a level lies in."""
    return math.floor(level / STEP)


def judge(camera: str, base: Threshold, levels: Levels, window_s: float, before: int) -> Decision | None:
    """What the threshold of a camera should be: PASS with it in the evidence, WAIT where little is known, FAIL
    where its budget makes none.

    `base` is that of the version, `levels` what the camera's windows reached, each `window_s` long; what a person has
    labelled as an anomaly is not among them. All else counts as normal, an alarm too: the budget is one of alarms, and
    a threshold that left them out would sink. `before` is `levels.n` at the last judgement: with too little more there
    is nothing to judge (None), and that there is too little at all is said once.
    """
    if levels.n < GROWTH * before:
        return None
    seen = {"camera": camera, "windows": levels.n, "window_s": window_s, "before": base.enter}
    needed = max(FEWEST, math.ceil(base.blocks / window_s))
    if levels.n < needed:
        words = f"camera {camera} has shown {levels.n} windows and {needed} are needed to judge its threshold anew"
        return Decision(Outcome.WAIT, (words,), seen) if not before else None
    try:
        found = from_levels(base, levels.values, window_s)
    except InvalidInput as error:
        return Decision(Outcome.FAIL, (f"the threshold of camera {camera} cannot be judged anew: {error}",), seen)
    words = (
        f"the threshold of camera {camera} is {found.enter:.3f} (the version's own is {base.enter:.3f}): {found.note}"
    )
    return Decision(Outcome.PASS, (words,), {**seen, "threshold": asdict(found)})
