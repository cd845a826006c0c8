"""What of an answered text may be stored: all of it, a masked form, or nothing but its hash; and which embeddings.

It is applied before anything is written, by whoever writes. A mask that fails lets nothing through: the text is then
not kept, and it is counted.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from keepfit.data.records import EMBEDDED, Example, Prediction, withheld
from keepfit.data.store import RecordStore

log = logging.getLogger(__name__)
MASK_FAILED = "mask_failed"
"""Under this name the store keeps how often a mask has failed: {"count", "at", "error"}."""

Mask = Callable[[str], str]


@dataclass
class Discretion:
    """Of one model."""

    texts: Literal["all", "none"] = "all"
    mask: Mask | None = None
    embeddings: float = 1.0
    """The share of answers whose embedding is kept, drawn by the answer's id."""
    failed: int = 0
    """How often the mask has failed since the last look."""
    error: str = ""
    """The kind of the last failure; never its words, which may quote the text."""

    @property
    def keeps_texts(self) -> bool:
        """Whether texts may be stored as they came."""
        return self.texts == "all" and self.mask is None

    def kept(self, example: Example, prediction: Prediction) -> tuple[Example, Prediction]:
        """What may be stored of them."""
        return self.example(example), self.prediction(prediction)

    def example(self, example: Example) -> Example:
        """With the text as it may be stored; its group stays that of the text as it came."""
        if example.content is None or self.keeps_texts:
            return example
        group = example.group_or_default()  # of the text as it came, so that a label that names it is matched
        content = withheld(group) if self.texts == "none" else self._masked(example.content, group)
        return replace(example, content=content, group=group)

    def _masked(self, content: Any, group: str) -> Any:
        assert self.mask is not None
        parts = content if isinstance(content, tuple) else (content,)
        try:
            masked = tuple(checked(self.mask(part)) for part in parts)
        except Exception as error:  # a hook is anybody's code
            self.failed, self.error = self.failed + 1, type(error).__name__
            log.error("the mask failed (%s); the text is not kept", self.error)
            return withheld(group)
        return masked if isinstance(content, tuple) else masked[0]

    def prediction(self, prediction: Prediction) -> Prediction:
        """With its embedding, or without."""
        if self.embeddings >= 1 or drawn(prediction.id) < self.embeddings:
            return prediction
        measures = {**prediction.measures, EMBEDDED: 0.0}
        return replace(prediction, embedding=np.zeros(0, np.float32), measures=measures)


def tell_of_masks(store: RecordStore, model: str, discretion: Discretion) -> None:
    """Count in the store how often the mask has failed since the last look."""
    if discretion.failed:
        before = store.get(model, MASK_FAILED) or {"count": 0}
        count, discretion.failed = before["count"] + discretion.failed, 0
        store.put(model, MASK_FAILED, {"count": count, "at": store.now().isoformat(), "error": discretion.error})


def drawn(id_: str) -> float:
    """A number in [0, 1) that depends on nothing but the answer's id."""
    return int(hashlib.sha256(f"embedding {id_}".encode()).hexdigest()[:12], 16) / 16**12


def checked(masked: Any) -> str:
    """Raises TypeError unless a mask gave a text."""
    if not isinstance(masked, str):
        raise TypeError("a mask gives a text")
    return masked


ALL = Discretion()
