"""One cross-validation, told from top to bottom: part the data, learn and judge each fold, remember the spread."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.folds import Fold, Folds, folds, snapshot_of, unlearnt, without_test
from keepfit.data.snapshot import Rows, Snapshot, Split
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError
from keepfit.evaluation.evaluator import judge
from keepfit.evaluation.spread import Spread
from keepfit.metrics import METRICS, Metric
from keepfit.pipelines.alone import SEARCHING, alone
from keepfit.tasks.task import Report, Task
from keepfit.tasks.text.hidden import FOLDER as HIDDEN
from keepfit.training.recipe import Recipe


@dataclass(frozen=True)
class CrossValidation:
    """Bound to one model's rooms."""

    model: str
    task: Task
    store: RecordStore
    metrics: Callable[[Sequence[str]], Mapping[str, Metric]]
    """A user's own metrics for some classes, besides the standard ones."""
    workdir: Path
    clock: Clock

    def run(self, snapshot: Snapshot, recipe: Recipe, wanted: Folds, report: Report) -> Spread:
        """Learn each fold with the recipe and judge it on what it has not seen; the decision is stored.

        The test part of the snapshot is neither learnt from nor judged on: it stays the gate's. Killed and called
        again with the same arguments it goes on. Raises Refused while another search runs for this model, and
        InvalidInput when the data cannot be parted or learnt from so.
        """
        with alone(self.workdir, SEARCHING):
            rows = without_test(snapshot.rows(), snapshot.rows(Split.TEST))
            parted = folds(rows, wanted)
            place = self.workdir / name_of(snapshot, recipe, wanted)
            self.forget_others(place)
            found = []
            for number, fold in enumerate(parted):
                told = partial(tell, report, {"fold": number + 1.0, "folds": float(len(parted))})
                told({"progress": 0.0}, 0)
                found.append(self.judged(place, number, (snapshot, rows, fold), recipe, told))
            shutil.rmtree(place / HIDDEN, ignore_errors=True)
        spread = Spread(wanted.kind, found, [(len(f.learn) + len(f.stop), len(f.held)) for f in parted])
        evidence = {"snapshot": snapshot.id, "recipe": recipe.to_json(), **spread.to_json()}
        because = (
            f"{len(parted)} folds ({wanted.kind}) of {len(rows)} rows: "
            + ", ".join(spread.told(name) for name in ("accuracy", "macro_f1", "log_loss")),
            *rare(rows, wanted),
            *late(rows, parted),
        )
        self.store.add_decision(
            self.model, "cross-validation", Decision(Outcome.PASS, because, evidence), self.clock.now()
        )
        return spread

    def judged(
        self, place: Path, number: int, data: tuple[Snapshot, Rows, Fold], recipe: Recipe, report: Report
    ) -> dict[str, float]:
        """The metrics of one fold; kept, while its model and its data are not."""
        kept, folder = place / f"{number}.json", place / str(number)
        if kept.is_file():
            done: dict[str, float] = json.loads(kept.read_text("utf-8"))
            return done
        try:
            fold = snapshot_of(place / "snapshots", *data)
            model = self.task.load(self.task.fit(fold, recipe, report, folder))
            answered = judge(model, fold.rows(Split.TEST))
            known = {**METRICS, **self.metrics(answered.labels)}
            found = {name: float(metric.fn(answered.truth, answered.output.scores)) for name, metric in known.items()}
            partial = kept.with_suffix(".partial")
            partial.write_text(json.dumps(found), "utf-8")
            partial.replace(kept)
            shutil.rmtree(folder, ignore_errors=True)
            for file in (fold.path, fold.path.with_suffix(".json")):
                file.unlink(missing_ok=True)
        except OSError as error:
            raise BackendError(
                f"{place} cannot be written ({error}); make room on the disk, then start again"
            ) from error
        return found

    def forget_others(self, place: Path) -> None:
        """What an earlier cross-validation of other data, or with another recipe, has left."""
        for left in self.workdir.iterdir():
            if left.is_dir() and left != place:
                shutil.rmtree(left, ignore_errors=True)
        place.mkdir(exist_ok=True)


def tell(report: Report, known: Mapping[str, float], metrics: Mapping[str, float], step: int) -> None:
    """Report what a fold's training reports, with the number of the fold."""
    report({**metrics, **known}, step)


def name_of(snapshot: Snapshot, recipe: Recipe, wanted: Folds) -> str:
    """Names a cross-validation by all that its numbers depend on."""
    told: list[Any] = [snapshot.id, recipe.hash, wanted.count, wanted.kind, wanted.seed]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


def rare(rows: Rows, wanted: Folds) -> list[str]:
    """A word on classes that cannot be in every fold."""
    groups: dict[str, set[str]] = {}
    for label, group in zip(rows.truth, rows.groups, strict=True):
        groups.setdefault(label, set()).add(group)
    few = sorted(label for label, of in groups.items() if len(of) < wanted.count)
    return [f"too rare to be held out in each fold: {', '.join(few)}"] if few else []


def late(rows: Rows, parted: Sequence[Fold]) -> list[str]:
    """A word on classes that a fold is judged on and does not learn from: they can only be answered wrongly there."""
    found = [(number, unlearnt(rows, fold)) for number, fold in enumerate(parted, 1)]
    return [
        f"fold {number} learns nothing of {', '.join(labels)}, and is judged on it"
        for number, labels in found
        if labels
    ]
