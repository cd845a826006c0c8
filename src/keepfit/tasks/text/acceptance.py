"""Which arithmetic may answer: the fastest that keeps the accuracy of fp32 (docs/adr/0002-engine.md).

With many labelled texts a paired interval tells. With few, agreement over unlabelled text does: where int8 gives a
text another label than fp32, the accuracy falls by the difference of the two labels' chances. fp32's calibrated
probabilities say how large that is; mostly it is small, since it is the undecided texts that change sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import Precision
from keepfit.intervals import normal_quantile, paired_interval
from keepfit.tasks.text.calibration import fit_temperature, tempered

MARGIN = 0.003
"""Accuracy may fall by this much, by the lower end of a paired 95 % interval."""

DOUBT = 0.5
"""Agreement is judged as if one text more had changed sides with this difference, so that few texts prove little."""

ORDER: tuple[Precision, ...] = ("int8", "bf16", "fp32")

Scores = NDArray[np.float32]
Answers = Callable[[Precision], tuple[Scores, Scores]]
"""Precision -> scores on the labelled texts (n, k) and on the unlabelled ones (m, k)."""


@dataclass(frozen=True)
class Comparison:
    """One arithmetic beside fp32."""

    precision: str
    kept: bool
    difference: float
    """Accuracy on the labelled texts, less that of fp32."""
    low: float
    high: float
    n: int
    agreement: float
    """Share of all texts, labelled or not, that get the same label as from fp32."""
    expected_loss: float
    """Accuracy that the differing labels are expected to cost, by the probabilities of fp32: the upper 95 % bound."""
    texts: int
    because: str


@dataclass(frozen=True)
class Acceptance:
    """The arithmetic that was taken, and every comparison that led there."""

    chosen: Precision
    reference_accuracy: float
    comparisons: tuple[Comparison, ...]
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor time of the same texts, by arithmetic, of those that were tried."""

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return asdict(self)


def accept(answers: Answers, truth: NDArray[np.int64], wanted: str, available: Sequence[Precision]) -> Acceptance:
    """The first of int8, bf16, fp32 that keeps the accuracy; a `wanted` one other than "auto" is taken and measured.

    truth: shape (n,), class numbers of the labelled texts.
    """
    reference = answers("fp32")
    accuracy = float(np.mean(reference[0].argmax(axis=1) == truth)) if len(truth) else 0.0
    candidates = [p for p in ORDER if p != "fp32" and (p == wanted or (wanted == "auto" and p in available))]
    tried: list[Comparison] = []
    for precision in candidates:
        tried.append(compare(precision, answers(precision), reference, truth))
        if tried[-1].kept or wanted != "auto":
            return Acceptance(precision, accuracy, tuple(tried))
    return Acceptance("fp32", accuracy, tuple(tried))


def compare(
    precision: str,
    found: tuple[Scores, Scores],
    reference: tuple[Scores, Scores],
    truth: NDArray[np.int64],
    margin: float = MARGIN,
) -> Comparison:
    """One arithmetic beside fp32, by the paired interval, else by agreement; accuracy may fall by `margin`."""
    said, was = found[0].argmax(axis=1), reference[0].argmax(axis=1)
    wins = int(np.sum((said == truth) & (was != truth)))
    losses = int(np.sum((said != truth) & (was == truth)))
    difference = paired_interval(wins, losses, len(truth))
    chances = tempered(np.concatenate(reference), fit_temperature(reference[0], truth))
    labels = np.concatenate(found).argmax(axis=1)
    agreement = float(np.mean(labels == chances.argmax(axis=1)))
    loss = expected_loss(chances, labels)
    proven, agreed = difference.low >= -margin, loss <= margin and difference.high >= 0
    return Comparison(
        precision,
        proven or agreed,
        difference.value,
        difference.low,
        difference.high,
        difference.n,
        agreement,
        loss,
        len(labels),
        _because(proven, agreed, agreement, loss, margin),
    )


def expected_loss(chances: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The upper 95 % bound of the accuracy lost by answering `labels` (n,) where the `chances` (n, k) are true."""
    rows = np.arange(len(labels))
    gaps = np.append(chances.max(axis=1) - chances[rows, labels], DOUBT)
    return float(gaps.mean() + normal_quantile(0.9) * gaps.std() / np.sqrt(len(gaps)))


def _because(proven: bool, agreed: bool, agreement: float, loss: float, margin: float) -> str:
    if proven:
        return f"the paired interval shows no loss beyond {100 * margin:.1f} points"
    doubt = f"{agreement:.2%} of the texts get the label of fp32; that costs {100 * loss:.2f} points at most"
    return doubt if agreed else f"{doubt}, or the labels show a loss; {100 * margin:.1f} are allowed"
