"""Frame files: a timeline frame by frame, as CSV or Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from keepfit.tasks.video.segments import checked, written_at_once
from keepfit.tasks.video.timeline import Timeline

HEADER = ("frame", "time_s", "score", "label")


def write_frames(path: Path, timeline: Timeline) -> None:
    """One row per frame: frame, time_s, score, label; as Parquet when the suffix says so, else as CSV.

    Raises InvalidInput as `checked` does, and BackendError when the disk fails; a file that was there then stays.
    """
    checked(timeline)
    columns: tuple[NDArray[Any], ...] = (
        timeline.frames.astype(np.int64),
        timeline.times.astype(np.float64),
        timeline.scores.astype(np.float32),
        timeline.labels.astype(np.uint8),
    )
    with written_at_once(path) as part:
        if path.suffix == ".parquet":
            pq.write_table(pa.table(dict(zip(HEADER, columns, strict=True))), part)
        else:
            _write_csv(part, columns)


def _write_csv(path: Path, columns: Sequence[NDArray[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(",".join(HEADER) + "\n")
        file.writelines(f"{f},{round(float(t), 6)},{s},{y}\n" for f, t, s, y in zip(*columns, strict=True))
