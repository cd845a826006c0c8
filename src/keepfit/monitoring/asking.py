"""Asking for labels: which predictions a person should check, drawn so that the answers measure without bias."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from keepfit.data.records import STREAM, Prediction
from keepfit.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Drawn:
    """A prediction whose label is to be asked for, and the chance that it had; the chance is stored for ever."""

    prediction: Prediction
    propensity: float


def lot(prediction_id: str, salt: str) -> float:
    """A number in [0, 1), uniform over ids, that never changes for one id and salt."""
    digest = hashlib.sha256(f"{salt}\x1f{prediction_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def draw(predictions: Iterable[Prediction], rate: float, salt: str) -> list[Drawn]:
    """Each prediction with the chance `rate`, independently of the others and of what was answered.

    Drawing again gives the same, so a stretch may be repeated after a crash. Answers of shadow versions are left out,
    and those to live streams, whose frames nobody can look at any more.
    `salt` is any constant text, such as the model's name. Raises InvalidInput unless `rate` is in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise InvalidInput(f"the share of labels to ask for is {rate}; it must be between 0 and 1", "label_rate")
    return [Drawn(p, rate) for p in predictions if not p.shadow and p.stage != STREAM and lot(p.id, salt) < rate]


def rate_within(wanted: float, budget_left: int, expected: float) -> float:
    """The rate for the next stretch, so that about `expected` predictions stay within what is left of the budget.

    Choose it before looking at the stretch (by the size of the one before): dropping labels that were drawn would
    change the chances that are stored with them. A burst may therefore go over the budget a little.

    >>> rate_within(0.05, 10, 1000)
    0.01
    """
    return min(wanted, max(0, budget_left) / max(expected, 1.0))
