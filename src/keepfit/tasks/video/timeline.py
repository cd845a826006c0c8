"""Timeline: what is said of every frame of a video, and the values that its makers and its writers share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NORMAL, ANOMALY = "0", "1"
LABELS = (NORMAL, ANOMALY)
"""The classes of a video model, in the order of its scores."""


@dataclass(frozen=True)
class Threshold:
    """When a score is an alarm; see `thresholding.py` for how the numbers come about."""

    enter: float
    """An alarm begins when `min_frames` scores in a row reach this."""
    exit: float
    """It ends when a score falls below this; at most `enter`."""
    min_frames: int = 3
    merge_gap: int = 5
    """Segments with fewer normal frames than this between them are one."""
    alarms_per_day: float = 1.0
    """The budget that `enter` was chosen for, per camera."""
    blocks: int = 0
    """One-second blocks of normal video that it was chosen from."""
    method: str = "conformal"
    """`conformal`, or `extrapolated` where the budget lies beyond what so many blocks can show."""
    note: str = ""
    """One sentence for people: what the calibration can and cannot show."""


@dataclass(frozen=True)
class Segment:
    """A stretch of alarm. Frames are counted from 0 in the video, `last` is inside."""

    first: int
    last: int
    start_s: float
    end_s: float
    """When the last frame ends, seconds."""
    peak_frame: int
    peak_score: float
    mean_score: float
    p_value: float | None = None
    """Of the peak, against the normal blocks; None without a calibration."""
    box: tuple[int, int, int, int] | None = None
    """Where, at the peak: left, top, right, bottom in pixels of the original video; None without a heat map."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """n frames of one video, in order."""

    frames: NDArray[np.int64]
    """Frame numbers from 0, shape (n,)."""
    times: NDArray[np.float64]
    """Seconds from the start of the video, shape (n,)."""
    scores: NDArray[np.float32]
    """Shape (n,); higher is more anomalous; no probability."""
    labels: NDArray[np.uint8]
    """1 or 0, shape (n,)."""
    starts: NDArray[np.bool_]
    """Shape (n,): true at the first frame and after every cut; nothing is carried over it."""
    heat: NDArray[np.float16] | None = None
    """Anomaly score of each cell of a grid over the picture, shape (n, rows, columns), on the scale of the scores."""

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True, eq=False)
class Said:
    """What a model says of each of n frames of one window: the details of its answer, see tasks.task.Output."""

    first: int
    """Number of the first frame in the video."""
    scores: NDArray[np.float32]
    """Shape (n,), as in Timeline."""
    labels: NDArray[np.uint8]
    """1 or 0, shape (n,)."""
    heat: NDArray[np.float16]
    """Shape (n, rows, columns), as in Timeline."""
    threshold: Threshold
    """Of the version that says it."""
    maxima: NDArray[np.float64]
    """Of its normal blocks, for p-values."""

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def nbytes(self) -> int:
        """Memory that is this window's alone."""
        return self.scores.nbytes + self.labels.nbytes + self.heat.nbytes
