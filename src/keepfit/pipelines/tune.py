"""One search for a better recipe, told from top to bottom: try recipes, remember why one was taken, log the trials."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from keepfit.clock import Clock
from keepfit.data.snapshot import Snapshot, Split
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound, Refused
from keepfit.evaluation.evaluator import judge
from keepfit.metrics import log_loss
from keepfit.pipelines.alone import SEARCHING, alone
from keepfit.registry.registry import Registry
from keepfit.tasks.task import Report, Task, refusals_of
from keepfit.training.recipe import Recipe
from keepfit.training.space import DOUBTFUL, Space
from keepfit.training.trials import Tuned, changes
from keepfit.training.tuning import Search, tune


@dataclass(frozen=True)
class Trials:
    """Where a search works, and what may vary."""

    workdir: Path
    storage: str
    """The URL of the database of the trials."""
    fields: Sequence[str]
    """The fields of the recipe that the task heeds."""
    passes: float | None = None
    """What `epochs = 0` means for this data; None: not known, and epochs vary only where the recipe sets them."""


@dataclass(frozen=True)
class Tuning:
    """A search, bound to one model's rooms."""

    model: str
    task: Task
    store: RecordStore
    registry: Registry
    trials: Trials
    clock: Clock

    def run(self, snapshot: Snapshot, base: Recipe, search: Search, report: Report) -> Tuned:
        """Search, keep the decision, and tell the registry; killed and called again it goes on.

        Raises Refused while another process searches for this model, unless the search is shared.
        """
        trials = self.trials
        if search.share:  # each has a folder of its own, beside that of a search that is not shared
            together = f"{trials.workdir.name}-shared"
            forget_dead(trials.workdir.parent, together)
            trials = replace(trials, workdir=trials.workdir.with_name(f"{together}-{search.share}"))
        with alone(trials.workdir, SEARCHING):
            space = space_of(self.task, base, search, trials)
            found = tune_recipe(space, self.task, snapshot, search, trials, report)
        if search.share:
            shutil.rmtree(trials.workdir, ignore_errors=True)
        name = study_name(self.task, snapshot, space, search)
        # of a shared search there is one decision and one log, whoever comes to it first
        id_ = f"tune-{self.model}-{name}-{len(found.trials)}" if search.share else None
        if id_ is not None and self.told(id_):
            return found
        found = replace(found, because=(*found.because, *self.logged(name, found)))
        outcome = Outcome.ADVANCE if changes(found.best, base) else Outcome.HOLD
        evidence = {"study": name, "snapshot": snapshot.id, "search": search.kind, **found.to_json()}
        decision = Decision(outcome, found.because, {k: v for k, v in evidence.items() if k != "because"})
        self.store.add_decision(self.model, "tune", decision, self.clock.now(), id=id_)
        return found

    def told(self, id_: str) -> bool:
        """Whether another process of a shared search has kept its decision."""
        try:
            self.store.decision(id_)
        except NotFound:
            return False
        return True

    def logged(self, name: str, found: Tuned) -> tuple[str, ...]:
        """Give the trials to the registry; nothing depends on it, so one that is away costs a sentence."""
        try:
            self.registry.log_search(self.model, name, found)
        except KeepfitError as error:
            return (f"the trials were not logged: {error}",)
        return ()


def tune_recipe(
    space: Space, task: Task, snapshot: Snapshot, search: Search, trials: Trials, report: Report
) -> Tuned:  # fmt: skip
    """Fit each trial's recipe, and judge it by its log loss on the validation part; the test part is never read.

    `space`: see `space_of`. What the base recipe raises is raised; another recipe that fails is a failed trial. A trial
    that was killed goes on from its checkpoint; the others leave no files behind.
    """
    validation = snapshot.rows(Split.VALIDATION)
    if not len(validation):
        raise InvalidInput("the validation part is empty, and tuning needs it; add rows, or give it a share")

    def objective(recipe: Recipe, heard: Report) -> float:
        folder = trials.workdir / recipe.hash
        _clear(trials.workdir, folder)
        judged = judge(task.load(task.fit(snapshot, recipe, heard, folder)), validation)
        return log_loss(judged.truth, judged.output.scores)

    try:
        found = tune(objective, space, search, trials.storage, study_name(task, snapshot, space, search), report)
    except KeepfitError:
        _clear(trials.workdir)
        raise
    _clear(trials.workdir)
    return replace(found, because=(*found.because, *space.left_out))


def study_name(task: Task, snapshot: Snapshot, space: Space, search: Search) -> str:
    """Names a search by all that its trials depend on, but not by how many there are: more may follow."""
    pruner = "" if search.pruner == "median" else f"-{search.pruner}"
    return f"{task.name}-{snapshot.id[:16]}-{space.hash}-{search.kind}-{search.seed}{pruner}"


def space_of(task: Task, base: Recipe, search: Search, trials: Trials) -> Space:
    """What is searched: the ranges around the recipe as set, without what the task would refuse."""
    doubtful = any(name in DOUBTFUL for name in trials.fields) and search.kind != "grid"
    return Space.around(base, search.kind, trials.fields, trials.passes, refusals_of(task, base) if doubtful else None)


def forget_dead(work: Path, together: str) -> None:
    """Remove the folders of processes of shared searches that ended without a word."""
    for left in work.glob(f"{together}-*"):
        try:
            with alone(left, SEARCHING):
                shutil.rmtree(left, ignore_errors=True)
        except Refused:
            continue


def _clear(workdir: Path, but: Path | None = None) -> None:
    """Remove what trials have left, also those that were killed, and make the folder of the next."""
    try:
        for left in workdir.iterdir() if workdir.is_dir() else ():
            if left.is_dir() and left != but:
                shutil.rmtree(left)
        if but is not None:
            but.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"{workdir} cannot be written ({error}); make room on the disk") from error
