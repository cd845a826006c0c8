"""Cascade: what a version's first stage is sure of is answered at once; a random part of all is always asked in full.

That random part, the control, is drawn before anybody looks at the content: so among what the first stage is sure of
its disagreement with the full model is measured without bias, and what the control says of scores and embeddings
stands for all the traffic, which neither the sure nor the unsure answers do alone.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.data.records import CONTROL, FIRST, FIRST_AGREED, FIRST_SURE
from keepfit.data.store import RecordStore
from keepfit.errors import KeepfitError
from keepfit.serving.cache import Cached
from keepfit.serving.versions import Served
from keepfit.tasks.task import FirstStage, first_of
from keepfit.tasks.trade import Terms, accept

log = logging.getLogger(__name__)
CASCADE = "cascade"
"""The name of the value in the store: how the watch has judged the first stage of a version."""
NOTHING: NDArray[np.float32] = np.zeros(0, np.float32)
"""The embedding of an answer that no network gave."""


@dataclass(frozen=True)
class CascadePlan:
    """What the settings say of one model's first stage."""

    terms: Terms = field(default_factory=Terms)
    control: float = 0.02
    """The share of all contents that is asked in full, whatever they are."""
    least_share: float = 0.05
    """Answering less than this share it does not pay."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, to see whether what was judged is what is asked for now."""
        return {"terms": self.terms.to_json(), "control": self.control, "least_share": self.least_share}


@dataclass(frozen=True, eq=False)
class Opinion:
    """What a cascade has to do with one content: nothing, an answer, or a mark on the full model's answer."""

    answer: Cached | None = None
    """What the first stage says where it is to be heard."""
    scores: NDArray[np.float32] | None = None
    """Of a control: what the first stage says, shape (k,)."""
    control: bool | None = None
    """Whether it was drawn; None while every answer is the full model's, so that no mark is needed."""

    def marks(self, scores: NDArray[np.float32]) -> dict[str, float]:
        """Measures for the record of an answer with these scores (k,)."""
        found = {} if self.control is None else {CONTROL: float(self.control)}
        if self.scores is not None:
            found[FIRST_SURE] = float(self.scores.max())
            found[FIRST_AGREED] = float(self.scores.argmax() == scores.argmax())
        return found


SILENT = Opinion()


class Cascade:
    """Of one model name. `refresh` reads the store, `opinion` only looks up; from any thread."""

    def __init__(
        self, store: RecordStore, model: str, plan: CascadePlan | None = None,
        lot: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        """`plan` of None: off. `lot` gives numbers uniform in [0, 1)."""
        self._store, self._model, self._plan, self._lot = store, model, plan, lot
        self._kept: Mapping[str, Any] | None = None
        self._held: dict[int, float | None] = {}
        """By version, what follows from it."""

    def refresh(self) -> None:
        """Read how the watch judges now; while the store is away what was known goes on holding."""
        if self._plan is None:
            return
        try:
            kept = self._store.get(self._model, CASCADE)
        except KeepfitError as error:
            log.warning("how the first stage of %s is judged could not be read: %s", self._model, error)
            return
        if kept != self._kept:
            self._kept, self._held = kept, {}

    def threshold(self, served: Served) -> float | None:
        """From which score on the first stage of a version answers; None where it does not."""
        held = self._held
        if served.version not in held:
            found = threshold_of(first_of(served.model), self._kept, served.version, self._plan)
            floor = served.model.abstain_below
            held[served.version] = found if found is None or floor is None else max(found, floor)
        return held[served.version]

    def status(self, version: int | None) -> dict[str, Any]:
        """See `standing`; as of the last look into the store."""
        return standing(self._kept, self._plan, version)

    def opinion(self, served: Served, content: Any, known: bool) -> Opinion:
        """What is to be done with a content that a version is to answer; `known`: the cache has its answer."""
        first = first_of(served.model)
        if self._plan is None or first is None:
            return SILENT
        threshold, drawn = self.threshold(served), self._lot() < self._plan.control
        if drawn:
            return Opinion(None, first.scores([content])[0], None if threshold is None else True)
        if threshold is None:
            return SILENT
        scores = NOTHING if known else first.scores([content])[0]
        if not known and scores.max() >= np.float32(threshold):
            return Opinion(Cached(scores, NOTHING, {}))
        return Opinion(control=False)


def stage_of(opinion: Opinion, cached: Cached | None) -> str:
    """Who answers: the first stage, the cache or the model."""
    if opinion.answer is not None:
        return FIRST
    return "model" if cached is None else "cache"


def threshold_of(
    first: FirstStage | None, kept: Mapping[str, Any] | None, version: int, plan: CascadePlan | None
) -> float | None:
    """From which score on a version's first stage answers: as the watch has judged under this plan, else by its curve.

    `kept` is what the store has under CASCADE. None: it does not answer.
    """
    if plan is None or first is None:
        return None
    same = kept is not None and kept["plan"]["terms"] == plan.terms.to_json()
    if kept is not None and same and kept["version"] != version and version in kept.get("off", ()):
        return None  # it no longer kept these terms when it answered before
    if kept is None or not same or kept["version"] != version:
        return accept(first.trade, plan.terms).threshold
    return float(kept["threshold"]) if kept["on"] else None


def standing(kept: Mapping[str, Any] | None, plan: CascadePlan | None, version: int | None) -> dict[str, Any]:
    """For the status: whether the first stage of a version answers, from which score on, its share, and why."""
    if plan is None:
        return {"keeps": "off", "on": False, "threshold": None, "share": None, "because": 'cascade.keeps is "off"'}
    if kept is None or kept["version"] != version or kept["plan"]["terms"] != plan.terms.to_json():
        words = "the watch has not looked at it yet; until then what was measured at the training decides"
        return {"keeps": plan.terms.keeps, "on": None, "threshold": None, "share": None, "because": words}
    share = kept["first"] / kept["answers"] if kept["answers"] else None
    return {
        "keeps": plan.terms.keeps, "on": kept["on"], "threshold": kept["threshold"], "share": share,
        "because": kept["because"],
    }  # fmt: skip
