"""Tuning: better recipes are searched for by trials, remembered in a database, so that a killed search goes on."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import StorageInternalError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from keepfit.errors import BackendError, InvalidInput, KeepfitError, SettingsError
from keepfit.training.halving import Halving
from keepfit.training.recipe import Recipe
from keepfit.training.sharing import SHARE, Others, alive
from keepfit.training.space import Space
from keepfit.training.trials import Trial, Tuned, changes

Report = Callable[[Mapping[str, float], int], None]
Objective = Callable[[Recipe, Report], float]
"""Fits the recipe and gives its loss on the validation part; what the fit reports may end the trial by an exception,
which has to pass through. A KeepfitError means that this recipe has failed."""

KINDS = ("tpe", "random", "grid")
PRUNERS = ("median", "halving")
HOUR = 3600.0
POLL_S = 1.0
"""So often it is looked whether the last trials of others have ended."""
SETTLING = 50
CHOICES = 8
"""So often a sampler may come to what was tried; then there is most likely nothing else, and it is tried again."""
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
    pruner: str = "median"
    """median: a trial behind the median of the others is stopped early; halving: at three and at six tenths of its
    training one that is not in the better half (see `halving`)."""
    money: float = 0.0
    """No trial is begun once the trials' processor time has cost this much; 0 means no limit."""
    per_cpu_hour: float | None = None
    """The price of an hour of one core."""
    share: str = ""
    """The name of this process among several that search together; "": it searches alone."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise SettingsError(f"there is no search {self.kind!r}; known are {', '.join(KINDS)}")
        if self.trials < 1 or not 0 <= self.seconds < math.inf:
            raise SettingsError("a search needs one trial or more, and a time of zero (no limit) or more")
        if self.pruner not in PRUNERS:
            raise SettingsError(f"there is no pruner {self.pruner!r}; known are {', '.join(PRUNERS)}")
        if not 0 <= self.money < math.inf:
            raise SettingsError("a search may cost zero (no limit) or more")
        if self.money and self.per_cpu_hour is None:
            raise SettingsError(
                "a search cannot be limited in money while an hour has no price; set per_cpu_hour below [costs], or"
                " limit its minutes"
            )


def tune(
    objective: Objective, space: Space, search: Search, storage_url: str, study_name: str, report: Report
) -> Tuned:
    """Try recipes one after the other, and give the one with the lowest loss; the recipe as set wins a tie.

    Called again with the same arguments it goes on: trials that ended are not repeated, and one that was under way at
    a kill is tried again. The seed rules what is tried, whether the search was killed or not. A trial that does worse
    than the median of the others is stopped early. `report` gets what a trial's fit reports, with `trial`, `trials`
    and `best` (the lowest loss so far).

    No recipe is learnt twice, unless there seem to be no others. One process at a time may run a study, unless each has
    a `search.share` of its own: then all wait for the last trial, and come to the same; what is tried depends on who is
    faster, and a trial whose process has died is tried again by another. Raises the KeepfitError of the recipe as set
    when that fails, and BackendError when the database does.
    """
    with _study(storage_url, study_name, search) as study:
        for killed in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not (search.share or SHARE in killed.user_attrs):
                study.tell(killed.number, state=TrialState.FAIL)
        run = _Run(study, objective, space, search, report, Others(search.share))
        before = len(run.ended)
        while not run.done:
            others = run.others.running(study) if search.share else []
            if len(run.ended) + len(others) < run.wanted and not run.spent:
                run.attempt(others)
            elif others:
                time.sleep(POLL_S)
            else:
                break
        trials = tuple(_trial(found, number, space) for number, found in enumerate(run.ended[: run.wanted], 1))
        best = min((t for t in trials if t.loss is not None), key=lambda t: t.loss or 0.0)
        because = (*_outcome(best, trials), *_remarks(trials, before, run))
        return Tuned(best.recipe, trials, because, tuple(space.ranges), _importance(study))


@contextmanager
def _study(storage_url: str, name: str, search: Search) -> Iterator[optuna.Study]:
    """The study of this name, made when there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = _storage(storage_url)
        median = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_min_trials=WITNESSES)
        pruner = median if search.pruner == "median" else Halving(_APART)
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


def _storage(url: str) -> optuna.storages.RDBStorage:
    """Opened; of two processes that find no tables yet, one makes them and the other looks again."""
    patient = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None  # each waits for the others
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=patient)
    except (SQLAlchemyError, StorageInternalError):
        time.sleep(POLL_S)
        return optuna.storages.RDBStorage(url, engine_kwargs=patient)


@dataclass(frozen=True)
class _Run:
    """The arguments of `tune`, with the study open."""

    study: optuna.Study
    objective: Objective
    space: Space
    search: Search
    report: Report
    others: Others

    @cached_property
    def grid(self) -> list[dict[str, Any]] | None:
        return self.space.points(self.search.seed) if self.search.kind == "grid" else None

    @property
    def wanted(self) -> int:
        return self.search.trials if self.grid is None else min(self.search.trials, len(self.grid))

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that count: finished, stopped early, or failed by their recipe; the recipe as set is the first."""
        found = self.study.get_trials(deepcopy=False)
        ended = [t for t in found if t.state in (TrialState.COMPLETE, TrialState.PRUNED) or "error" in t.user_attrs]
        base = next((place for place, t in enumerate(ended) if t.params == self.space.start), 0)
        return [*ended[base : base + 1], *ended[:base], *ended[base + 1 :]]

    @property
    def done(self) -> bool:
        return len(self.ended) >= self.wanted

    @property
    def spent(self) -> str | None:
        """What of the budget is used up; None while there is some left."""
        ended, search = self.ended, self.search
        if not ended:
            return None
        if search.seconds and sum(map(_seconds, ended)) >= search.seconds:
            return "the time was used up"
        cost = sum(map(_cpu_seconds, ended)) / HOUR * (search.per_cpu_hour or 0.0)
        if search.money and cost >= search.money:
            return f"the money was used up ({cost:.2f} of {search.money:.2f})"
        return None

    def attempt(self, others: Sequence[FrozenTrial]) -> None:
        """One trial. What is no KeepfitError leaves it under way, as a kill does, and the next start tries again.

        `others`: the trials that other processes have under way.
        """
        number = len(self.ended) + len(others)
        trial, new = self.ask(number, others)
        with alive(trial, self.search.share):
            if not (self.search.share and self.taken(trial, new)):
                self.judged(number, trial)

    def taken(self, trial: optuna.Trial, new: bool) -> bool:
        """Whether others were first, with the same or with the last that is wanted; then this trial is given up.

        `new`: the same is not wanted. There may be nothing new left to try.
        """
        for _ in range(SETTLING):  # what another process has just begun has no values for a moment
            running = self.others.running(self.study)
            if all(len(t.params) == len(self.space.ranges) for t in running):
                break
            time.sleep(POLL_S / 10)
        earlier = [t for t in (*running, *self.ended) if t.number < trial.number]
        same = self.space.recipe(trial.params) in [self.space.recipe(t.params) for t in earlier]
        if len(earlier) < self.wanted and not (new and same):
            return False
        self.study.tell(trial, state=TrialState.FAIL)
        return True

    def judged(self, number: int, trial: optuna.Trial) -> None:
        """Learn and judge what is asked for."""
        study, began = self.study, time.process_time()
        place = _place(self.space, trial.params)
        told = 1.0 if trial.params == self.space.start else max(number + 1.0, 2.0)
        watch = _Watch(study, trial, {"trial": told, "trials": float(self.wanted)}, self.report, place)
        try:
            try:
                loss = self.objective(self.space.recipe(trial.params), watch)
            finally:
                trial.set_user_attr(CPU, time.process_time() - began)
            if not math.isfinite(loss):
                raise InvalidInput("the loss on the validation part is not a number; lower the learning rate")
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except KeepfitError as error:
            base = trial.params == self.space.start
            if not base:
                trial.set_user_attr("error", str(error))
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            if base:
                raise
        else:
            watch.carry(10)
            study.tell(trial, loss, skip_if_finished=True)

    def ask(self, number: int, others: Sequence[FrozenTrial]) -> tuple[optuna.Trial, bool]:
        """The next point (the recipe as set, or the grid's next, or what the sampler chooses), and whether it is new.

        A recipe has numbers of two digits, so a sampler may come to one that was tried; then it chooses again.
        """
        tried = [trial.params for trial in (*self.ended, *others)]
        left = (point for point in self.grid or [self.space.start] if point not in tried)
        if (point := next(left, None)) is not None:
            self.study.sampler = _Given(point)
            return self.study.ask(dict(self.space.ranges)), True
        recipes = [self.space.recipe(params) for params in tried]
        for again in range(CHOICES):
            self.study.sampler = self.sampler(number, again)
            trial = self.study.ask(dict(self.space.ranges))
            if self.space.recipe(trial.params) not in recipes:
                return trial, True
            self.study.tell(trial, state=TrialState.FAIL)
        return self.study.ask(dict(self.space.ranges)), False

    def sampler(self, number: int, again: int) -> BaseSampler:
        """A new one for each choice, so that a search that was killed chooses as if it had not been."""
        told = hashlib.sha256(self.search.share.encode()).digest()[:4] if self.search.share else b""
        seed = int(np.random.default_rng((self.search.seed % 2**32, number, *told, again)).integers(2**31))
        if self.search.kind != "tpe":
            return RandomSampler(seed=seed)
        liar = bool(self.search.share)  # what others are trying is not tried again
        return TPESampler(n_startup_trials=STARTUP, seed=seed, constant_liar=liar)


class _Given(BaseSampler):
    """Gives one point. (Optuna's queue can hand the same trial to two processes where the database is SQLite.)"""

    def __init__(self, point: Mapping[str, Any]) -> None:
        self._point = point

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._point[param_name]


CPU = "cpu_seconds"
"""The processor time of a trial, as its process measured it."""


def _cpu_seconds(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get(CPU, 0.0))


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
        behind = "the median" if run.search.pruner == "median" else "the better half"
        said.append(f"{_count(stopped)} ended early, behind {behind} of the others")
    if failed:
        said.append(f"{_count(failed)} failed")
    if before:
        said.append(f"{_count(min(before, run.wanted))} had been done by an earlier run of the same search")
    if len(trials) < run.wanted:
        said.append(f"{run.spent} after {len(trials)} of {_count(run.wanted)}")
    if run.grid is not None:
        said.append(f"the grid has {len(run.grid)} points")
    return said


def _count(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"
