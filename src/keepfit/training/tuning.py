"""Tuning: better recipes are searched for by trials, remembered in a database, so that a killed search goes on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from keepfit.errors import BackendError, InvalidInput, KeepfitError, SettingsError
from keepfit.training.recipe import Recipe
from keepfit.training.space import Space
from keepfit.training.trials import Trial, Tuned, changes

Report = Callable[[Mapping[str, float], int], None]
Objective = Callable[[Recipe, Report], float]
"""Fits the recipe and gives its loss on the validation part; what the fit reports may end the trial by an exception,
which has to pass through. A KeepfitError means that this recipe has failed."""

KINDS = ("tpe", "random", "grid")
STARTUP = 4
"""So many trials are chosen at random before TPE models the losses, and finish before a trial is stopped early."""
WITNESSES = 3
"""So many finished trials must have been looked at in the same place before a trial is stopped early there."""
EARLIEST = 3
"""No trial is stopped before this many tenths of its training."""
ENOUGH = 12
"""Finished trials that are needed to say which field matters most."""
_APART = 100
"""Distance between the steps of trials with other label smoothing: their losses cannot be compared."""


@dataclass(frozen=True)
class Search:
    """How, and how much, is tried."""

    kind: str = "tpe"
    """tpe: where good recipes were found before (tree-structured Parzen estimator, Bergstra et al. 2011);
    random: anywhere in the ranges; grid: a small product around the recipe as set."""
    trials: int = 20
    """The recipe as set is the first of them."""
    seconds: float = 0.0
    """No trial is begun once the trials have taken this long together, also before a kill; 0 means no limit."""
    seed: int = 17

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"there is no search {self.kind!r}; known are {', '.join(KINDS)}")
        if self.trials < 1 or not 0 <= self.seconds < math.inf:
            raise SettingsError("a search needs one trial or more, and a time of zero (no limit) or more")


def tune(
    objective: Objective, space: Space, search: Search, storage_url: str, study_name: str, report: Report
) -> Tuned:
    """Try recipes one after the other, and give the one with the lowest loss; the recipe as set wins a tie.

    Called again with the same arguments it goes on: trials that ended are not repeated, and one that was under way at
    a kill is tried again. The seed rules what is tried, whether the search was killed or not. A trial that does worse
    than the median of the others is stopped early. `report` gets what a trial's fit reports, with `trial`, `trials`
    and `best` (the lowest loss so far).

    One process at a time may run a study. Raises the KeepfitError of the recipe as set when that fails, and
    BackendError when the database does.
    """
    with _study(storage_url, study_name) as study:
        for killed in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(killed.number, state=TrialState.FAIL)
        run = _Run(study, objective, space, search, report)
        before = len(run.ended)
        while len(run.ended) < run.wanted and not run.late:
            run.attempt()
        trials = tuple(_trial(found, number, space) for number, found in enumerate(run.ended[: run.wanted], 1))
        best = min((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0.0)
        because = (*_outcome(best, trials), *_remarks(trials, before, run))
        return Tuned(best.recipe, trials, because, tuple(space.ranges), _importance(study))


@contextmanager
def _study(storage_url: str, name: str) -> Iterator[optuna.Study]:
    """The study of this name, made when there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = optuna.storages.RDBStorage(storage_url)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_min_trials=WITNESSES)
        yield optuna.create_study(storage=storage, pruner=pruner, study_name=name, load_if_exists=True)
    except (SQLAlchemyError, StorageInternalError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendError(
            f"the database of the trials failed ({first[:200]}); check the disk and start again: it will go on"
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


@dataclass(frozen=True)
class _Run:
    """The arguments of `tune`, with the study open."""

    study: optuna.Study
    objective: Objective
    space: Space
    search: Search
    report: Report

    @cached_property
    def grid(self) -> list[dict[str, Any]] | None:
        return self.space.points(self.search.seed) if self.search.kind == "grid" else None

    @property
    def wanted(self) -> int:
        return self.search.trials if self.grid is None else min(self.search.trials, len(self.grid))

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that count, in their order: finished, stopped early, or failed by their recipe."""
        found = self.study.get_trials(deepcopy=False)
        return [t for t in found if t.state in (TrialState.COMPLETE, TrialState.PRUNED) or "error" in t.user_attrs]

    @property
    def late(self) -> bool:
        ended = self.ended
        return bool(self.search.seconds and ended) and sum(map(_seconds, ended)) >= self.search.seconds

    def attempt(self) -> None:
        """One trial. What is no KeepfitError leaves it under way, as a kill does, and the next start tries again."""
        number, study = len(self.ended), self.study
        trial = self.ask(number)
        place = _place(self.space, trial.params)
        watch = _Watch(study, trial, {"trial": number + 1.0, "trials": float(self.wanted)}, self.report, place)
        try:
            loss = self.objective(self.space.recipe(trial.params), watch)
            if not math.isfinite(loss):
                raise InvalidInput("the loss on the validation part is not a number; lower the learning rate")
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except KeepfitError as error:
            if number:
                trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.FAIL)
            if not number:
                raise
        else:
            watch.carry(10)
            study.tell(trial, loss)

    def ask(self, number: int) -> optuna.Trial:
        """The next point: the recipe as set, or the grid's next, or what the sampler chooses.

        The sampler is a new one for each number, so that a search that was killed chooses as if it had not been.
        """
        seed = int(np.random.default_rng((self.search.seed % 2**32, number)).integers(2**31))
        tpe = self.search.kind == "tpe"
        self.study.sampler = TPESampler(n_startup_trials=STARTUP, seed=seed) if tpe else RandomSampler(seed=seed)
        point = self.grid[number] if self.grid else self.space.start if number == 0 else None
        if point is not None and not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.study.enqueue_trial(point)
        return self.study.ask(dict(self.space.ranges))


class _Watch:
    """Hears what a trial's fit reports. The lowest validation loss so far is kept for each tenth of the training, and
    compared there with other trials."""

    def __init__(
        self, study: optuna.Study, trial: optuna.Trial, known: Mapping[str, float], report: Report, place: int
    ) -> None:
        self._trial, self._report, self._place = trial, report, place
        self._loss, self._tenth = math.inf, 0
        losses = _losses(study)
        self._known = {**known, "best": min(losses)} if losses else known
        report({**self._known, "progress": 0.0}, 0)

    def __call__(self, metrics: Mapping[str, float], step: int) -> None:
        self._report({**metrics, **self._known}, step)
        loss = metrics.get("eval_loss", math.nan)
        self._loss = loss if loss < self._loss else self._loss
        moved = self.carry(min(int(10 * metrics.get("progress", 0.0)), 9))
        if moved and self._known["trial"] > 1 and self._tenth >= EARLIEST and self._trial.should_prune():
            raise optuna.TrialPruned

    def carry(self, tenth: int) -> bool:
        """Keep the loss up to this tenth; False when there is nothing new to keep."""
        if not math.isfinite(self._loss) or tenth <= self._tenth:
            return False
        for missed in range(self._tenth + 1 if self._tenth else tenth, tenth + 1):
            self._trial.report(self._loss, self._place + missed)
        self._tenth = tenth
        return True


def _place(space: Space, point: Mapping[str, Any]) -> int:
    """Where a trial's losses are kept: those with other label smoothing are another function."""
    smoothing = space.ranges.get("label_smoothing")
    if not isinstance(smoothing, CategoricalDistribution):
        return 0
    return _APART * smoothing.choices.index(point["label_smoothing"])


def _losses(study: optuna.Study) -> list[float]:
    """Of the trials that finished."""
    found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [t.value for t in found if t.value is not None]


def _seconds(trial: FrozenTrial) -> float:
    return 0.0 if trial.duration is None else trial.duration.total_seconds()


def _trial(found: FrozenTrial, number: int, space: Space) -> Trial:
    recipe, error = space.recipe(found.params), str(found.user_attrs.get("error", ""))
    state = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early"}.get(found.state, "failed")
    return Trial(number, recipe, state, found.value if state == "finished" else None, _seconds(found), error)


def _importance(study: optuna.Study) -> dict[str, float]:
    losses = _losses(study)
    if len(losses) < ENOUGH or len(set(losses)) == 1:
        return {}
    return {name: round(float(share), 4) for name, share in optuna.importance.get_param_importances(study).items()}


def _outcome(best: Trial, trials: Sequence[Trial]) -> tuple[str, ...]:
    base, tried = trials[0], _count(len(trials))
    if best is base:
        return (f"the recipe as set is the best of {tried}: log loss {base.loss:.4f} on the validation part",)
    values = ", ".join(f"{name} {value}" for name, value in changes(best.recipe, base.recipe).items())
    return (
        f"best of {tried} by log loss on the validation part, {best.loss:.4f} "
        f"(the recipe as set: {base.loss:.4f}): {values}",
        f"{best.loss:.4f} is optimistic, since the validation part is where the search chose; "
        "the gate's numbers on the test part, which it never saw, are the honest ones",
    )


def _remarks(trials: Sequence[Trial], before: int, run: _Run) -> list[str]:
    said = []
    stopped, failed = (sum(t.state == state for t in trials) for state in ("stopped early", "failed"))
    if stopped:
        said.append(f"{_count(stopped)} ended early, behind the median of the others")
    if failed:
        said.append(f"{_count(failed)} failed")
    if before:
        said.append(f"{_count(min(before, run.wanted))} had been done by an earlier run of the same search")
    if len(trials) < run.wanted:
        said.append(f"the time was used up after {len(trials)} of {_count(run.wanted)}")
    if run.grid is not None:
        said.append(f"the grid has {len(run.grid)} points")
    return said


def _count(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"
