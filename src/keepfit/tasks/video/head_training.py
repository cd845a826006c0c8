"""Training the head, and whether it has earned its place beside the plain error detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from keepfit.metrics import area
from keepfit.tasks.task import Report
from keepfit.tasks.video.head import Head, HeadShape, head_loss
from keepfit.tasks.video.sequences import REAL, SequenceBatches, Sequences, is_event
from keepfit.training.trainer import Outcome, TrainSettings, train

HELD_OUT = 4
"""Every so many sequences one is held out: to stop by, and to judge by."""
LEARNING_RATE = 2e-3
EPOCHS = 12.0
LEAVE_OUT_EPOCHS = 5.0
PATIENCE = 4
CHANCE = 0.05
"""How often a head that is no better than the plain errors may be taken for better."""


@dataclass(frozen=True)
class Scores:
    """Areas under the ROC curve of frames on sequences that were held out."""

    every: float
    """All families together."""
    families: dict[str, float]
    """Each family against all that is no event."""

    @property
    def mean(self) -> float:
        """Over the families."""
        return float(np.mean(list(self.families.values()))) if self.families else 0.5

    @property
    def worst(self) -> float:
        """Of the families."""
        return min(self.families.values(), default=0.5)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "all": round(self.every, 4),
            "mean": round(self.mean, 4),
            "worst": round(self.worst, 4),
            "families": {name: round(value, 4) for name, value in self.families.items()},
        }


def earned(unseen: Scores, plain: Scores) -> tuple[bool, str]:
    """Whether a head is to be taken in place of the plain errors, by their areas on families it had not seen; and why.

    The gains of the families are its sample: a one-sided paired t-test must say that their mean lies above zero.
    """
    gains = np.array([area - plain.families.get(name, 0.5) for name, area in unseen.families.items()])
    # equal gains have no spread to judge by
    p = (
        float(stats.ttest_1samp(gains, 0.0, alternative="greater").pvalue)
        if gains.size > 1 and np.ptp(gains) > 1e-9
        else 1.0
    )
    better = p < CHANCE
    said = "finds more" if better else "has not been shown to find more"
    return better, (
        f"on {len(gains)} families that it had not seen the CNN+LSTM {said} than the plain errors "
        f"(gain in area {float(gains.mean()) if len(gains) else 0.0:+.3f}, p {p:.2g})"
    )


def fit_head(
    sequences: Sequences, shape: HeadShape, epochs: float, seed: int, report: Report, workdir: Path,
    left_out: str | None = None, precision: str = "auto",
) -> tuple[Head, Outcome]:  # fmt: skip
    """A head of this shape, learnt from all sequences that are not held out, without those of one family."""
    torch.manual_seed(seed)
    head = Head(shape)
    learn, look = parted(sequences, left_out)
    batches = SequenceBatches(sequences, learn, epochs, seed)
    settings = TrainSettings(
        learning_rate=LEARNING_RATE,
        warmup=0.1,
        weight_decay=0.01,
        patience=PATIENCE,
        evaluate_every=max(10, len(batches) // 8),
        precision=precision,
        seed=seed,
    )
    looks = SequenceBatches(sequences, look, 1.0, None)
    outcome = train(head, (batches, looks), head_loss, settings, report, workdir)
    return head, outcome


def parted(sequences: Sequences, left_out: str | None = None) -> tuple[list[int], list[int]]:
    """Numbers of the sequences to learn from and of those held out; a family that is left out is in neither."""
    usable = [i for i, family in enumerate(sequences.families) if family != left_out]
    return [i for i in usable if i % HELD_OUT], [i for i in usable if i % HELD_OUT == 0]


def judged(head: Head, sequences: Sequences, chosen: Sequence[int]) -> Scores:
    """The head on these sequences, by frames."""
    return areas(answers(head, sequences, chosen), sequences, chosen)


def answers(head: Head, sequences: Sequences, chosen: Sequence[int]) -> NDArray[np.float32]:
    """Frame logits, shape (chosen, LENGTH)."""
    batches = SequenceBatches(sequences, chosen, 1.0, None)
    head.eval()
    with torch.inference_mode():
        return np.concatenate([head(batches[i]["maps"])["frames"].numpy() for i in range(len(batches))])


def areas(said: NDArray[np.float32], sequences: Sequences, chosen: Sequence[int]) -> Scores:
    """Areas from frame logits (chosen, LENGTH)."""
    truth = sequences.truth[list(chosen)].astype(np.bool_)
    known = np.array([sequences.families[i] != REAL for i in chosen])
    normal = said[known][~truth[known]]
    families = {}
    for family in sorted({sequences.families[i] for i in chosen if is_event(sequences.families[i])}):
        rows = np.array([sequences.families[i] == family for i in chosen])
        events = said[rows][truth[rows]]
        if len(events):
            families[family] = area(events, normal)
    return Scores(area(said[truth], normal), families)


def leave_one_out(
    sequences: Sequences, shape: HeadShape, seed: int, report: Report, workdir: Path, precision: str = "auto"
) -> Scores:
    """Each family as it is found by a head that has never seen it: the only estimate there is without real labels."""
    found, everything = {}, []
    for family in sorted({f for f in sequences.families if is_event(f)}):
        head, _ = fit_head(
            sequences, shape, LEAVE_OUT_EPOCHS, seed, report, workdir / family, left_out=family, precision=precision
        )
        chosen = [
            i
            for i, name in enumerate(sequences.families)
            if name == family or (not is_event(name) and name != REAL and i % HELD_OUT == 0)
        ]
        scores = judged(head, sequences, chosen)
        found[family] = scores.families.get(family, 0.5)
        everything.append(scores.every)
    return Scores(float(np.mean(everything)) if everything else 0.5, found)
