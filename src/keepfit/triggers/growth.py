"""The trigger on more data: the champion errs no more than before, but a version with all labels would err less."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from keepfit.decision import Decision
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait, within
from keepfit.triggers.worth import recovers


@dataclass(frozen=True)
class Growth(NoObjection):
    """More data would have paid for a retraining: the champion errs no more than before, but a new one would err less.

    Errors fall with the number of rows n like n to the power of -a (Hestness et al., arXiv 1712.00409). It fires when
    the mistakes that a version trained on all labels so far would have spared come to the price. The power begins at
    0.1 and follows what earlier routine retrainings gained: where more data does not help, attempts become rare.
    """

    power: float = 0.1
    """What is believed of a before the first retraining of life; it counts as much as one doubling of the data."""
    kind: ClassVar[str] = "growth"

    def __post_init__(self) -> None:
        within(self.kind, "power", self.power, 0, 0.9)

    def decide(self, situation: Situation) -> Decision:
        reference, losses, price = situation.reference_accuracy, situation.losses, situation.price
        if reference is None or losses is None or price is None or not situation.learnt:
            return wait(self.kind, "how many rows the champion has learnt from, or how it errs, is not known")
        power, chance = self.learned(situation), recovers(situation)
        growth, error = situation.new_labels / situation.learnt, 1 - reference.value
        spared = losses.predictions * error * missed(growth, power)
        facts = {
            "power": power, "growth": growth, "spared": spared, "chance_to_recover": chance, "price": price.to_json(),
        }  # fmt: skip
        words = (
            f"{situation.new_labels} labels came to {situation.learnt} learnt ones; a version with all of them "
            f"would have spared about {spared:.4g} of the mistakes in {losses.predictions} answers (the error falls by "
            f"{1 - 2**-power:.1%} with each doubling), and a retraining costs {price.mistakes:.4g} mistakes "
            f"({price.words})"
        )
        if spared * chance > price.mistakes:
            return fire(self.kind, Reason.ROUTINE, words, facts)
        return wait(self.kind, f"not worth it yet: {words}", facts)

    def learned(self, situation: Situation) -> float:
        """The power, by what earlier routine retrainings gained: least squares with the prior as one doubling."""
        error = 1 - situation.reference_accuracy.value if situation.reference_accuracy is not None else 0.0
        prior = np.log(2) ** 2
        above, below = prior * self.power, prior
        for one in situation.attempts:
            if one.routine and one.gain is not None and one.grown is not None and one.grown > 1:
                x = float(np.log(one.grown))
                above, below = above + x * one.gain / max(error, 0.01), below + x * x
        return float(np.clip(above / below, 0.0, 0.9))


def missed(growth: float, power: float) -> float:
    """The mean share of the error that a version with all labels would spare while they come in evenly.

    >>> missed(0.0, 0.1), round(missed(1.0, 0.5), 3)
    (0.0, 0.172)
    """
    if growth <= 0 or power <= 0:
        return 0.0
    return float(1 - ((1 + growth) ** (1 - power) - 1) / ((1 - power) * growth))
