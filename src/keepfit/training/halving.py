"""Halving: of the trials that have come so far, only the better half goes on (asynchronous successive halving).

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning": nobody waits for a rung to be full, so it works
for one process as for many. Optuna's own counts steps, and ours also hold which losses may be compared (see
`tuning._place`), so the few lines are here.
"""

from __future__ import annotations

import optuna
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial

RUNGS = (3, 6)
"""Tenths of a training: a half goes on at three tenths, and of these a half at six."""
LEAST = 4
"""So many trials must have come to a rung, this one included, before it is judged there."""


class Halving(BasePruner):
    """`apart`: steps of losses that cannot be compared lie so far from each other."""

    def __init__(self, apart: int) -> None:
        self._apart = apart

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether it is not in the better half at a rung that it has come to."""
        if trial.last_step is None:
            return False
        place, tenth = divmod(trial.last_step, self._apart)
        peers = study.get_trials(deepcopy=False)
        for rung in (rung for rung in RUNGS if rung <= tenth):
            step = place * self._apart + rung
            losses = sorted(peer.intermediate_values[step] for peer in peers if step in peer.intermediate_values)
            own = trial.intermediate_values.get(step)
            if own is not None and len(losses) >= LEAST and own > losses[(len(losses) + 1) // 2 - 1]:
                return True
        return False
