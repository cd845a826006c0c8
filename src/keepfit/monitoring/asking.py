"""Asking for labels: which predictions a person should check, drawn so that the answers measure without bias.

The queue has parts. `uniform` draws from all answers alike: it alone measures in every corner, so it is never empty.
`disagreement` draws where the two versions of a rollout disagree, for only there a label says which is better (some 360
labels in the place of 4,500). `uncertain` draws where the model is unsure, spread over kinds of input: what is learnt
from. Each part throws its own lot for each answer, so the chance of being asked at all is 1 - prod(1 - chance of part);
it is stored for ever, and the label weighs one over it (Horvitz & Thompson 1952, as a ratio: Hájek 1971). The uniform
part bounds it from below, so that no weight explodes (Zrnic & Candès, arXiv 2403.03208, mix for the same reason).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keepfit.data.records import AUDIT, DISAGREEMENT, STREAM, UNCERTAIN, UNIFORM, Prediction
from keepfit.errors import InvalidInput
from keepfit.monitoring.unsure import Unsure

REASONS = {
    UNIFORM: "drawn at random",
    DISAGREEMENT: "the two versions of the rollout disagree",
    UNCERTAIN: "the model is unsure",
    AUDIT: "an audit: say what it is, whatever was answered",
}
"""What a labeller is told."""


@dataclass(frozen=True)
class Parts:
    """How the label rate is shared out. Raises InvalidInput unless they add up to 1 and something is uniform."""

    uniform: float = 1.0
    disagreement: float = 0.0
    uncertain: float = 0.0

    def __post_init__(self) -> None:
        shares = (self.uniform, self.disagreement, self.uncertain)
        if not (all(share >= 0 for share in shares) and math.isclose(sum(shares), 1.0, abs_tol=1e-6)):
            raise InvalidInput(f"the parts of the label rate must add up to 1, not {sum(shares):g}", "label_parts")
        if not self.uniform > 0:
            raise InvalidInput("without a uniform part nothing can be measured without bias", "label_parts")

    def during(self, rollout: bool) -> Parts:
        """The shares now: while a rollout compares, what is not uniform goes to disagreements; else those are uniform.

        A rollout waits for its labels; what is learnt from can wait until it is over.
        """
        if self.disagreement and rollout:
            return Parts(self.uniform, self.disagreement + self.uncertain, 0.0)
        return Parts(self.uniform + self.disagreement, 0.0, self.uncertain)


ALIKE = Parts()
"""Every answer has the same chance."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A prediction whose label is to be asked for, and the chance that it had; the chance is stored for ever."""

    prediction: Prediction
    propensity: float
    parts: Mapping[str, float] = field(default_factory=dict)
    """The parts that drew it, each with its chance."""

    @property
    def reason(self) -> str:
        """For people."""
        return "; ".join(words for part, words in REASONS.items() if part in self.parts)


def lot(prediction_id: str, salt: str) -> float:
    """A number in [0, 1), uniform over ids, that never changes for one id and salt."""
    digest = hashlib.sha256(f"{salt}\x1f{prediction_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def draw(
    predictions: Iterable[Prediction],
    rate: float,
    salt: str,
    parts: Parts = ALIKE,
    differing: Collection[str] = (),
    unsure: Unsure | None = None,
    version: int | None = None,
) -> list[Drawn]:
    """Each prediction with its chances, which know its answer and never a label; `rate` of them are expected at most.

    Drawing again gives the same, so a stretch may be repeated after a crash. Answers of shadow versions are left out,
    and those to live streams, whose frames nobody can look at any more.
    `salt` is any constant text, such as the model's name. `differing`: ids of the answers on which two versions
    disagree. `unsure` says how much each answer of `version` (None: of any) would teach; for others, and without it,
    that part is uniform, too.
    Raises InvalidInput unless `rate` is in [0, 1].
    """
    if not 0 <= rate <= 1:
        raise InvalidInput(f"the share of labels to ask for is {rate}; it must be between 0 and 1", "label_rate")
    asked = [p for p in predictions if not p.shadow and p.stage != STREAM]
    return throw(asked, chances(asked, rate, parts, differing, unsure, version), salt)


def throw(predictions: Sequence[Prediction], chances: Sequence[Mapping[str, float]], salt: str) -> list[Drawn]:
    """A lot for each prediction and part; kept is what any part draws, with the chance of all parts together."""
    found = []
    for prediction, of in zip(predictions, chances, strict=True):
        hit = {part: p for part, p in of.items() if lot(prediction.id, salted(salt, part)) < p}
        if hit:
            found.append(Drawn(prediction, of_any(of), hit))
    return found


def expected(chances: Iterable[Mapping[str, float]]) -> float:
    """How many are drawn on average."""
    return sum(of_any(one) for one in chances)


def of_any(chances: Mapping[str, float]) -> float:
    """The chance that any of the parts draws it; exactly that of one that is alone.

    >>> of_any({"uniform": 0.02}), round(of_any({"uniform": 0.02, "uncertain": 0.5}), 12)
    (0.02, 0.51)
    """
    some = [p for p in chances.values() if p > 0]
    return some[0] if len(some) == 1 else 1.0 - math.prod(1.0 - p for p in some)


def salted(salt: str, part: str) -> str:
    """Lots of different parts know nothing of each other; the uniform one is that of earlier releases."""
    return salt if part == UNIFORM else f"{salt}\x1f{part}"


def chances(
    predictions: Sequence[Prediction],
    rate: float,
    parts: Parts,
    differing: Collection[str],
    unsure: Unsure | None,
    version: int | None = None,
) -> list[dict[str, float]]:
    """Of each prediction the chance with each part; together they are `rate` for each at most, on average.

    What `unsure` knows nothing of, such as the answers of the version before with their own classes, has the same
    share drawn alike.
    """
    n = len(predictions)
    if rate >= 1:
        parts = ALIKE
    known = [
        place for place, p in enumerate(predictions)
        if unsure is not None and parts.uncertain > 0 and version in (None, p.model_version) and unsure.knows(p)
    ]  # fmt: skip
    found = [{UNIFORM: (parts.uniform + parts.uncertain) * rate} for _ in range(n)]
    apart = [place for place, prediction in enumerate(predictions) if prediction.id in differing]
    for place in apart:
        found[place][DISAGREEMENT] = min(1.0, parts.disagreement * rate * n / len(apart))
    if unsure is not None and known:
        weights = unsure.weights(
            np.stack([predictions[place].scores for place in known]),
            np.stack([predictions[place].embedding for place in known]),
        )
        # scaled down, never up: a stretch that is unsure all over must not break the budget
        each = np.minimum(1.0, parts.uncertain * rate * weights / max(1.0, float(weights.mean())))
        for place, one in zip(known, each, strict=True):
            found[place] |= {UNIFORM: parts.uniform * rate, UNCERTAIN: float(one)}
    return [{part: p for part, p in one.items() if p > 0} for one in found]


def rate_within(wanted: float, budget_left: float, expected: float) -> float:
    """The rate for the next stretch, so that about `expected` predictions stay within what is left of the budget.

    It may look at how many there are and at nothing else of them: dropping labels that were drawn would change the
    chances that are stored with them. What is left is counted by chances, too, and not by what the lots drew.

    >>> rate_within(0.05, 10, 1000)
    0.01
    """
    return min(wanted, max(0.0, budget_left) / max(expected, 1.0))
