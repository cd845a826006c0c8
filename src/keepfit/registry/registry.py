"""Registry: what we know of every model version: its files, what it was made from, how good it is, who is champion.

`tests/contracts/test_registry.py` holds every implementation to this; `local.py` keeps files only, `mlflow.py` MLflow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput, NotFound
from keepfit.evaluation.evaluator import Evaluation
from keepfit.tasks.task import Report
from keepfit.training.recipe import Recipe

if TYPE_CHECKING:  # the answering half must not load a search
    from keepfit.training.trials import Tuned

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Model names become folders and addresses."""


class Alias(StrEnum):
    """The two roles of a version; a version may have none. Other tools see them as MLflow aliases."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@dataclass(frozen=True)
class Lineage:
    """Everything needed to make the same model again, and why and by which job it was made."""

    snapshot_id: str
    recipe: Recipe
    reason: str
    job_id: str
    """One job makes one version; registering twice for the same job gives the same version."""
    parent: int | None = None
    """The champion at that time."""
    code: str = ""
    """keepfit's version and, where there is one, the git revision."""

    @property
    def seed(self) -> int:
        """The seed of everything random in training; part of the recipe."""
        return self.recipe.seed

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "snapshot_id": self.snapshot_id,
            "recipe": self.recipe.to_json(),
            "reason": self.reason,
            "job_id": self.job_id,
            "parent": self.parent,
            "code": self.code,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Lineage:
        """What `to_json` gave."""
        return cls(**{**values, "recipe": Recipe.from_json(values["recipe"])})


@dataclass(frozen=True)
class ModelVersion:
    """One registered model. Everything but the verdict and `removed` is fixed when it is registered."""

    name: str
    number: int
    lineage: Lineage
    evaluation: Evaluation
    at: datetime
    verdict: Decision | None = None
    """The gate's; None until it has judged."""
    run_id: str = ""
    """Where its metrics and pictures are: the MLflow run, or the job."""
    removed: datetime | None = None
    """When its files were deleted; None while they are there. What is known of it stays."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "name": self.name,
            "number": self.number,
            "lineage": self.lineage.to_json(),
            "evaluation": self.evaluation.to_json(),
            "at": self.at.isoformat(),
            "verdict": None if self.verdict is None else verdict_to_json(self.verdict),
            "run_id": self.run_id,
            "removed": None if self.removed is None else self.removed.isoformat(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelVersion:
        """What `to_json` gave."""
        return cls(
            values["name"],
            int(values["number"]),
            Lineage.from_json(values["lineage"]),
            Evaluation.from_json(values["evaluation"]),
            datetime.fromisoformat(values["at"]),
            None if values["verdict"] is None else verdict_from_json(values["verdict"]),
            values["run_id"],
            None if values.get("removed") is None else datetime.fromisoformat(values["removed"]),
        )


@dataclass(frozen=True)
class RunInfo:
    """A training or a search that no version came from, as the registry keeps it."""

    id: str
    at: datetime
    kind: str
    """training, search or trial."""
    size: int = 0
    """Bytes of its files, as far as they can be seen."""
    job_id: str = ""
    """Of a training."""


def verdict_to_json(verdict: Decision) -> dict[str, Any]:
    """A decision as plain values."""
    return {"outcome": str(verdict.outcome), "because": list(verdict.because), "evidence": dict(verdict.evidence)}


def verdict_from_json(values: Mapping[str, Any]) -> Decision:
    """What `verdict_to_json` gave."""
    return Decision(Outcome(values["outcome"]), tuple(values["because"]), dict(values["evidence"]))


class Registry(Protocol):
    """All versions of all models. Every method may be called from several threads and processes at once.

    Every method raises BackendError when the registry cannot be reached or is damaged, and InvalidInput
    for a name that is no model name. What is returned is frozen and does not change later.
    """

    def register(self, name: str, folder: Path, lineage: Lineage, evaluation: Evaluation, at: datetime) -> ModelVersion:
        """Keep a copy of the folder as the next version (numbers start at 1 and only grow).

        Idempotent by `lineage.job_id`: called again, also after a kill half-way, it returns the one version of
        that job. Raises InvalidInput when the folder holds no model.json.
        """
        ...

    def record_verdict(self, name: str, number: int, verdict: Decision) -> None:
        """What the gate said; the last one counts. Raises NotFound."""
        ...

    def version(self, name: str, number: int) -> ModelVersion:
        """Raises NotFound."""
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """All of them, newest first; empty for an unknown model."""
        ...

    def latest(self, name: str) -> ModelVersion | None:
        """The newest version; None when there is none."""
        ...

    def fetch(self, name: str, number: int) -> Path:
        """The version's folder on this machine, `model_folder(models_dir, name, number)`, every file verified.

        When it is there and whole the registry is not asked; else it is downloaded, all of it or nothing.
        Raises NotFound, also when its files were removed, and BackendError when what the registry holds is damaged.
        """
        ...

    def size(self, name: str, number: int) -> int:
        """Bytes of the version's files, here and where the registry keeps them. Raises NotFound."""
        ...

    def remove(self, name: str, number: int, at: datetime) -> None:
        """Delete the version's files, here and where the registry keeps them; what is known of it stays.

        `version` says `removed`, and `fetch` raises NotFound. Again it only finishes what a kill left half-done; the
        first time holds. The caller has made sure that nothing needs the files. Raises NotFound for an unknown version.
        """
        ...

    def revise(self, name: str, number: int, change: Callable[[Path], bool]) -> bool:
        """Let `change` alter a copy of the version's files, which then take their place; false when it altered none.

        For what must be taken out of them, such as a row about a person. Raises NotFound.
        """
        ...

    def runs(self, name: str) -> list[RunInfo]:
        """Trainings and searches of which no version came, newest first."""
        ...

    def remove_run(self, name: str, id: str) -> None:
        """Delete one of `runs`; nothing happens when it is gone."""
        ...

    def alias(self, name: str, alias: Alias) -> int | None:
        """The version that has this role, if any."""
        ...

    def set_alias(self, name: str, alias: Alias, number: int | None) -> None:
        """Give the role to a version, or to none. Raises NotFound for an unknown version."""
        ...

    def progress(self, job_id: str, name: str, lineage: Lineage) -> Report:
        """Where a training reports its metrics; they belong to the version that the job will register."""
        ...

    def log_window(self, name: str, at: datetime, values: Mapping[str, float]) -> None:
        """What was measured in a watched window that ended at `at`."""
        ...

    def log_search(self, name: str, search_id: str, found: Tuned) -> None:
        """The trials of a search; given again under the same id, trials are added and nothing is there twice."""
        ...


def checked_name(name: str) -> str:
    """The name itself. Raises InvalidInput unless it is a model name.

    >>> checked_name("reviews")
    'reviews'
    """
    if not NAME.fullmatch(name):
        raise InvalidInput(f"{name!r} is no model name: use letters, digits, - and _", "model")
    return name


def gone(name: str, number: int, removed: datetime) -> NotFound:
    """What `fetch` raises for a version whose files were removed."""
    return NotFound(
        f"the files of version {number} of {name!r} were removed on {removed:%Y-%m-%d} to make room; what is known of "
        "it is still in `keepfit models`; train it again, or choose a version that is there"
    )


def model_folder(root: Path, name: str, number: int) -> Path:
    """Where a fetched version lies; serving reads it without a registry.

    >>> model_folder(Path("models"), "reviews", 3).as_posix()
    'models/reviews/3'
    """
    return root / checked_name(name) / str(int(number))


@dataclass(frozen=True)
class Difference:
    """One number that is not the same in two evaluations."""

    what: str
    was: float | int | str
    now: float | int | str
    explained: bool
    """True when the new value lies within the interval of the old one: other hardware, not another model."""

    def __str__(self) -> str:
        note = "within its interval" if self.explained else "beyond its interval"
        return f"{self.what}: was {_shown(self.was)}, now {_shown(self.now)} ({note})"


def _shown(value: float | int | str) -> str:
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def compare(was: Evaluation, now: Evaluation) -> list[Difference]:
    """What differs between a version's evaluation and that of the same training done again; empty when nothing does."""
    facts = (
        ("snapshot", was.snapshot_id, now.snapshot_id),
        ("split", str(was.split), str(now.split)),
        ("rows", was.n, now.n),
        ("classes", ", ".join(was.labels), ", ".join(now.labels)),
        ("metrics", ", ".join(sorted(was.metrics)), ", ".join(sorted(now.metrics))),
    )
    found = [Difference(what, before, after, False) for what, before, after in facts if before != after]
    for name in sorted(was.metrics.keys() & now.metrics.keys()):
        before, value = was.metrics[name], now.metrics[name].value
        if before.value != value and not (math.isnan(before.value) and math.isnan(value)):
            found.append(Difference(name, before.value, value, before.low <= value <= before.high))
    moved = sum(
        abs(a - b) for x, y in zip(was.confusion, now.confusion, strict=False) for a, b in zip(x, y, strict=False)
    )
    if moved and was.labels == now.labels:
        found.append(Difference("answers in the confusion matrix", 0, moved, moved / 2 <= _slack(was)))
    return found


def _slack(was: Evaluation) -> float:
    """The number of answers by which the accuracy may move within its interval; 0 without one."""
    accuracy = was.metrics.get("accuracy")
    return 0.0 if accuracy is None else (accuracy.high - accuracy.low) / 2 * was.n
