"""Sidecar: what lies beside a video and says which clips it is made of and which moments are anomalies."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import InvalidInput, NotFound
from keepfit.tasks.video.decoding import Frame

COLUMNS = ("video", "start", "end", "label")
WORDS = {"anomaly": 1.0, "normal": 0.0}
WHOLE = (0.0, math.inf)


@dataclass(frozen=True)
class Marked:
    """A stretch of a video that does not follow what lies before it."""

    name: str
    first: int
    """Frame number in the video, counted from 0."""
    frames: int
    anomalies: tuple[tuple[int, int], ...] | None = None
    """Frames from and to, both inside, counted from 0 in the clip; None when nobody has labelled it."""


@dataclass(frozen=True)
class Sidecar:
    """The clips of a video in order, without overlaps."""

    clips: tuple[Marked, ...]
    fps: float | None = None
    """As the file says it; the video's own times count more."""

    def check(self, n: int) -> None:
        """Raises InvalidInput when a clip reaches beyond the n frames of the video."""
        for clip in self.clips:
            if clip.first + clip.frames > n:
                raise InvalidInput(
                    f"clip {clip.name} ends at frame {clip.first + clip.frames - 1} and the video has {n} frames; "
                    "correct the sidecar",
                    "video",
                )

    def starts(self, n: int) -> NDArray[np.bool_]:
        """Shape (n,): true where a clip begins, where frames of none begin again, and at frame 0."""
        self.check(n)
        flags = np.zeros(n, np.bool_)
        flags[:1] = True
        for clip in self.clips:
            flags[[edge for edge in (clip.first, clip.first + clip.frames) if edge < n]] = True
        return flags

    def begins(self, frame: Frame) -> bool:
        """Whether a frame follows nothing: the first of a video, of a clip, or after a clip's end."""
        edges = (edge for clip in self.clips for edge in (clip.first, clip.first + clip.frames))
        return frame.start or any(frame.number == edge for edge in edges)

    def truth(self, n: int) -> NDArray[np.uint8] | None:
        """Shape (n,): 1 where an anomaly is marked, else 0; None unless every frame lies in a labelled clip."""
        self.check(n)
        if any(clip.anomalies is None for clip in self.clips) or sum(clip.frames for clip in self.clips) < n:
            return None
        marks = np.zeros(n, np.uint8)
        for clip in self.clips:
            for begin, end in clip.anomalies or ():
                marks[clip.first + begin : clip.first + end + 1] = 1
        return marks


@dataclass(frozen=True)
class Labels:
    """What a person has said of one video. Without anomalies it is normal throughout."""

    anomalies: tuple[tuple[float, float], ...] = ()
    """Seconds from and to, in order; (0, infinity) marks the whole video."""


def read_sidecar(video: Path) -> Sidecar | None:
    """The JSON file of the video's name, or None without one.

    Raises InvalidInput with what does not fit: unreadable JSON, missing or negative numbers, overlaps.
    """
    path = video.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text("utf-8-sig"))
    except ValueError as error:
        raise InvalidInput(f"{path.name} is not readable as JSON ({error}); correct or remove it", "video") from error
    if not isinstance(stated, dict) or not isinstance(stated.get("clips"), list) or not stated["clips"]:
        raise InvalidInput(f'{path.name} must be an object with a list "clips"; correct or remove it', "video")
    rate = stated.get("fps")
    if rate is not None and not (_is_number(rate) and 0 < rate < math.inf):
        raise InvalidInput(f"{path.name}: fps must be a number above 0; correct it or leave it out", "video")
    clips = sorted((_clip(path.name, place, said) for place, said in enumerate(stated["clips"])), key=lambda c: c.first)
    for before, after in pairwise(clips):
        if before.first + before.frames > after.first:
            raise InvalidInput(f"{path.name}: clips {before.name} and {after.name} overlap; correct them", "video")
    return Sidecar(tuple(clips), None if rate is None else float(rate))


def _clip(file: str, place: int, said: Any) -> Marked:
    if not isinstance(said, dict):
        raise InvalidInput(f'{file}: clip {place} must be an object like {{"first": 0, "frames": 100}}', "video")
    name, first, frames = str(said.get("name", place)), said.get("first"), said.get("frames")
    if not (_is_count(first) and _is_count(frames) and frames > 0):
        raise InvalidInput(f"{file}: clip {name} needs whole numbers first (from 0) and frames (from 1)", "video")
    marked = said.get("anomaly_frames")
    return Marked(name, first, frames, None if marked is None else _intervals(f"{file}: clip {name}", marked, frames))


def _intervals(where: str, marked: Any, frames: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(marked, list):
        raise InvalidInput(f"{where}: anomaly_frames must be a list like [[60, 179]]", "video")
    for pair in marked:
        if not (
            isinstance(pair, list) and len(pair) == 2 and all(map(_is_count, pair)) and pair[0] <= pair[1] < frames
        ):
            raise InvalidInput(
                f"{where}: anomaly_frames has {json.dumps(pair)[:60]}; give the first and the last frame, "
                f"counted from 0 in the clip and below {frames}",
                "video",
            )
    return tuple(sorted((begin, end) for begin, end in marked))


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_labels(table: Path) -> Mapping[str, Labels]:
    """Labels by video from a CSV with the columns video, start, end (seconds) and label (1 or 0, anomaly or normal).

    A row with neither start nor end speaks of the whole video. A row with times and label 0 says only that the video
    was looked at. Raises NotFound, and InvalidInput with the number of the row.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    normal: set[str] = set()
    for number, row in _rows(table):
        where = f"{table.name}, row {number}"
        video = row["video"]
        if not video:
            raise InvalidInput(f"{where} names no video; fill it in or remove the row", "video")
        span = _span(where, row["start"], row["end"])
        marks = found.setdefault(video, [])
        if _is_anomaly(where, row["label"]):
            marks.append(span)
        elif span == WHOLE:
            normal.add(video)
        if marks and video in normal:
            raise InvalidInput(
                f"{where}: {video} is said to be normal throughout and to have an anomaly; remove one", "label"
            )
    return {video: Labels(tuple(sorted(marks))) for video, marks in found.items()}


def _rows(table: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows with their numbers, counted from 1 after the header; the cells stripped."""
    if not table.is_file():
        raise NotFound(f"there is no {table}; see that the name is right")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            header = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            if missing := [column for column in COLUMNS if column not in header]:
                raise InvalidInput(
                    f"{table.name} lacks the column {missing[0]}; it needs {', '.join(COLUMNS)}", "label"
                )
            reader.fieldnames = header
            for number, row in enumerate(reader, 1):
                yield number, {column: (row[column] or "").strip() for column in COLUMNS}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(
            f"{table.name} is not readable as a CSV in UTF-8 ({error}); save it anew", "label"
        ) from error


def _span(where: str, start: str, end: str) -> tuple[float, float]:
    if not start and not end:
        return WHOLE
    try:
        begin, until = float(start), float(end)
    except ValueError as error:
        raise InvalidInput(f"{where}: give start and end in seconds, or neither of them", "start") from error
    if not (math.isfinite(begin) and math.isfinite(until)) or begin < 0:
        raise InvalidInput(f"{where}: start and end must be seconds from 0 on; correct them", "start")
    if begin > until:
        raise InvalidInput(f"{where}: start {start} is after end {end}; swap them", "start")
    return begin, until


def _is_anomaly(where: str, label: str) -> bool:
    try:
        number = WORDS[label.lower()] if label.lower() in WORDS else float(label)
    except ValueError as error:
        raise InvalidInput(f"{where}: label {label[:40]!r} must be 1 or 0, or anomaly or normal", "label") from error
    if number not in (0.0, 1.0):
        raise InvalidInput(
            f"{where}: keepfit says 1 or 0 for each moment; it does not learn a number such as {label[:40]}", "label"
        )
    return number == 1.0
