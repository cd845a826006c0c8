"""Task and Model: the seam where a new kind of classification plugs in.

The answering half is a `Model` (reads a request, prepares on any thread, infers on the engine's thread); it
never imports torch. The learning half is a `Task` (fits a model from a snapshot, saves it in a folder). Both
halves are named in the table of `app/wiring.py`. `tests/contracts/test_task.py` holds every task to this.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.trade import Trade
from keepfit.training.recipe import Recipe, Start

if TYPE_CHECKING:  # the answering half must not read Parquet
    from keepfit.data.snapshot import Snapshot

Floats = NDArray[np.float32]

Report = Callable[[Mapping[str, float], int], None]
"""Called while fitting: (metrics, step).

Besides losses the metrics may hold `progress` (0 to 1), `trial` and `trials` of a search, and `stage` of a retraining.
"""


@dataclass(frozen=True, eq=False)
class Output:
    """Answers for n contents."""

    scores: Floats
    """Probabilities, shape (n, k), rows sum to one, columns in the order of `Model.labels`."""
    embeddings: Floats
    """Shape (n, d)."""
    details: Sequence[Any] | None = None
    """Per content whatever else the task has to say (for video: the frames); None where there is nothing."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """n contents made ready for the engine (for text: token ids), with their cost and cheap measures."""

    items: Sequence[Any]
    costs: Sequence[int]
    """What each one costs the engine (for text: tokens); batches are formed by it."""
    measures: Sequence[Mapping[str, float]]
    """Per item: `length`, `unknown`; whatever monitoring should watch besides scores and embeddings."""


class Model(Protocol):
    """A fitted model, ready to answer. Methods may be called from several threads; `infer` serialises itself."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted; columns of the scores."""
        ...

    @property
    def abstain_below(self) -> float | None:
        """A top score below this is answered with the label `None` ("abstained"); None: never abstains."""
        ...

    def read(self, raw: Any) -> Any:
        """One request's content, checked. For text: str, or a mapping of column to str for several columns.

        Raises InvalidInput (with a sentence) when it cannot be understood, TooLarge when it is over the limit.
        """
        ...

    def knows(self, content: Any) -> bool:
        """Whether it has learnt what is needed to judge a content of its task: for video, of which camera it is."""

    def prepare(self, contents: Sequence[Any]) -> Prepared:
        """Clean and encode contents that `read` returned. Any thread; needs no engine."""
        ...

    def infer(self, prepared: Prepared) -> Output:
        """Answers in the order of the items, whatever their lengths; an empty input gives shape (0, k)."""
        ...


class FirstStage(Protocol):
    """A tiny model in front of a Model, for what it is sure of; a Model that has one holds it as `first`.

    It is called in the callers' threads, so it must be quick: some ten microseconds for ten words. It uses no engine.
    """

    @property
    def trade(self) -> Trade:
        """What it would change, measured on held-out rows that it did not learn from."""
        ...

    def scores(self, contents: Sequence[Any]) -> Floats:
        """Probabilities (n, k) of contents that `Model.read` returned, columns in the order of `Model.labels`."""
        ...


@runtime_checkable
class SideBySide(Model, Protocol):
    """A model that answers several calls at once, and knows whom it answers best together."""

    @property
    def lanes(self) -> int:
        """So many calls of `infer` may run side by side without waiting for each other."""
        ...

    def together(self, costs: Sequence[int]) -> Sequence[int]:
        """Of contents that wait (at least one, the oldest first): the places of those for the next call, with 0."""
        ...


def first_of(model: Model) -> FirstStage | None:
    """The model's first stage; None where it has none."""
    first: FirstStage | None = getattr(model, "first", None)
    return first


def predict(model: Model, contents: Sequence[Any]) -> Output:
    """Prepare and infer in one call."""
    return model.infer(model.prepare(contents))


def parent_of(recipe: Recipe, parent: Path | None, starts: Collection[Start]) -> Path | None:
    """The folder that a training builds on, None for one that begins anew. Raises InvalidInput as `Task.fit`."""
    if recipe.start not in starts:
        raise InvalidInput(f"there is no start {recipe.start!r} here; take {' or '.join(starts)}", "recipe.start")
    if recipe.start == "new":
        return None
    if parent is None:
        raise InvalidInput(f"start {recipe.start!r} needs a version to build on; take new", "recipe.start")
    return parent


def refusals_of(task: Task, base: Recipe) -> Callable[[Recipe], str | None] | None:
    """What tells why a recipe like this one (with its backbone) is refused whatever the data; None: nothing is.

    A task that has such recipes has a method `refusals(base)`.
    """
    method = getattr(task, "refusals", None)
    found: Callable[[Recipe], str | None] | None = None if method is None else method(base)
    return found


class Task(Protocol):
    """The learning half."""

    name: str
    starts: tuple[Start, ...]
    """What a training may build on; see `Recipe.start`."""
    reweights: bool
    """Whether its models heed a prior in their folder (see `tasks.prior`)."""

    def learns_from(self, content: Any, snapshots: Path) -> bool:
        """Whether a content from life can (still) be learnt from; `snapshots` is the folder of the project's snapshots.

        For video: not from a stream, nor from a stored video that is gone.
        """
        ...

    def fit(
        self, snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Path | None = None
    ) -> Path:
        """Learn from the train part, stop and calibrate by the validation part, never look at the test part.

        `parent` is the folder of the version that a recipe builds on whose `start` is not "new".
        Returns the folder (inside `workdir`) that holds the finished model; the answering half loads it.
        Called again with the same arguments after a kill it goes on from its last checkpoint.
        Raises InvalidInput when the snapshot cannot be learnt from (one class only, no validation part, ...) or the
        recipe cannot be followed (a start that the task has not, or without a parent).
        """
        ...

    def load(self, folder: Path, precision: str | None = None) -> Model:
        """The fitted model; `precision` overrides the one that was chosen at fit (fp32 for comparisons)."""
        ...
