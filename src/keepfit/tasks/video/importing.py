"""Importing: video files become stored videos, and a snapshot of windows of them, divided by time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keepfit.data.snapshot import Snapshot, SnapshotRow, Split, write_snapshot
from keepfit.data.splits import ASSUMED, UNKNOWN_TIME, hash_point
from keepfit.errors import InvalidInput
from keepfit.tasks.video.clips import FOLDER, Clip, check_name
from keepfit.tasks.video.decoding import USUAL_FPS
from keepfit.tasks.video.frames import VideoFacts, facts, read_frames
from keepfit.tasks.video.scene import cut_finder
from keepfit.tasks.video.segments import truth_of
from keepfit.tasks.video.sidecar import Labels, read_labels, read_sidecar
from keepfit.tasks.video.stored import keep, keep_starts, keep_times, named_camera, video_files, windows_of
from keepfit.tasks.video.survey import Surveyed, VideoReport
from keepfit.tasks.video.synthetic import FAMILIES
from keepfit.tasks.video.timeline import ANOMALY, NORMAL

SHARES = (0.15, 0.10)
"""Of calibration and test; the rest is learnt from."""
LABELLED_SHARES = (0.2, 0.2)
"""Of test and calibration among labelled videos."""
SHORTEST_EVENT = 16
"""Frames that a window needs for an event to be put into it."""
EVENTS = 16
"""Test windows with a synthetic event, at least, where nothing is labelled."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, eq=False)
class Stored:
    """One video in the folder of stored videos, as it was looked through."""

    name: str
    source: str
    facts: VideoFacts
    starts: NDArray[np.bool_]
    truth: NDArray[np.uint8] | None
    """1 for anomalous frames, shape (n,); None where nothing is labelled."""
    camera: str = ""
    """The name of its folder, where there is one for each camera."""

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.facts.fps

    def windows(self) -> list[Clip]:
        """What it is cut into, side by side."""
        return [replace(clip, camera=self.camera) for clip in windows_of(self.name, self.starts, self.fps)]


def import_video(
    snapshots: Path, source: Path, labels: Path | None = None, long_side: int = 384, judging: bool = False,
    progress: Progress = lambda done, total: None,
) -> tuple[Snapshot, VideoReport]:  # fmt: skip
    """Store the videos of a file or a folder and make them a snapshot; `labels` is a CSV (video, start, end, label).

    A folder may hold a folder for each camera: each is divided by itself, and its name is the rows' key.

    Without labels everything counts as normal, the parts follow one another in time with a window between them, and
    the test part gets windows with synthetic events. Labelled videos are divided as wholes. `judging`: everything is
    test. Raises InvalidInput when there is nothing to learn from, BackendError when a video cannot be stored.
    """
    files = video_files(source)
    for file in files:
        check_name(named_camera(file, source))
    known = {} if labels is None else read_labels(labels)
    _check_labels(known, {name for file in files for name in _names_of(file, named_camera(file, source))})
    store = snapshots.parent / FOLDER
    videos = [_look_through(file, store, named_camera(file, source), known, long_side, progress) for file in files]
    rows = [row for camera in sorted({v.camera for v in videos}) for row in _rows_of(camera, videos, judging)]
    report = _report(source, videos, rows)
    if report.problems and not judging:
        raise InvalidInput(f"{source.name} cannot be learnt from: {'; '.join(report.problems)}", "video")
    lineage = {
        "kind": "import",
        "source": source.name,
        "labels": None if labels is None else labels.name,
        "videos": {video.name: {"source": video.source, **video.facts.to_json()} for video in videos},
        "fps": float(np.median([video.fps for video in videos])),
        "long_side": long_side,
    }
    return write_snapshot(snapshots, rows, ("video",), lineage), report


def _rows_of(camera: str, every: Sequence[Stored], judging: bool) -> list[SnapshotRow]:
    """The windows of one camera, divided."""
    videos = [video for video in every if video.camera == camera]
    labelled = any(video.truth is not None for video in videos)
    if judging:
        return to_judge(videos, labelled)
    return by_video(videos) if labelled and len(videos) > 1 else by_time(videos, labelled)


def _look_through(
    file: Path, store: Path, camera: str, known: Mapping[str, Labels], side: int, progress: Progress
) -> Stored:
    """Every frame once: how many there are, where the cuts are, what is labelled; then the video is stored."""
    sidecar = read_sidecar(file)
    rate = (sidecar.fps if sidecar is not None else None) or USUAL_FPS
    about, is_start = facts(file, rate), cut_finder()
    found, times = [], []
    for frame in read_frames(file, side, fps=rate):
        found.append(is_start(frame))
        times.append(frame.time_s)
        progress(len(found), None)
    starts, truth = np.array(found, np.bool_), None
    if sidecar is not None:
        starts, truth = sidecar.starts(len(starts)), sidecar.truth(len(starts))
    labels = next((known[one] for one in _names_of(file, camera) if one in known), None)
    if labels is not None:
        truth = truth_of(labels.anomalies, np.array(times))
    name = keep(file, store)
    keep_starts(store, name, starts)
    keep_times(store, name, np.array(times))
    return Stored(name, f"{camera}/{file.name}" if camera else file.name, about, starts, truth, camera)


def _names_of(file: Path, camera: str) -> list[str]:
    """What labels may call a video: with its camera's folder where it lies in one, with or without its ending."""
    place = f"{camera}/" if camera else ""
    return [f"{place}{file.name}", f"{place}{file.stem}"]


def _check_labels(known: Mapping[str, Labels], names: Collection[str]) -> None:
    strange = sorted(set(known) - set(names))
    if strange:
        raise InvalidInput(f"the labels name a video {strange[0]!r} that is not there; correct the name", "video")


def to_judge(videos: Sequence[Stored], labelled: bool) -> list[SnapshotRow]:
    """Every window in the test part."""
    rows = [
        row(video, clip, Split.TEST)
        for video in videos
        for clip in video.windows()
    ]  # fmt: skip
    return rows if labelled and has_events(rows) else [*rows, *with_events(rows)]


def by_time(videos: Sequence[Stored], labelled: bool) -> list[SnapshotRow]:
    """Parts that follow one another: learn, calibrate, test; one window is left out between two of them."""
    every = [(video, clip) for video in videos for clip in video.windows()]
    held, tested = (round(share * len(every)) for share in SHARES)
    rows: list[SnapshotRow] = []
    for place, (video, clip) in enumerate(every):
        left = len(every) - place
        split = Split.TEST if left <= tested else Split.VALIDATION if left <= tested + held else Split.TRAIN
        if rows and split is not rows[-1].split and clip.follows(Clip.parse(rows[-1].content)):
            continue  # the gap: what lies beside a part must not have been learnt in it
        rows.append(row(video, clip, split))
    return rows if labelled and has_events(rows) else [*rows, *with_events(rows)]


def has_events(rows: Sequence[SnapshotRow]) -> bool:
    """Whether a labelled event lies in the test part; a model cannot be judged on normal life alone."""
    return any(one.split is Split.TEST and one.label == ANOMALY for one in rows)


def by_video(videos: Sequence[Stored]) -> list[SnapshotRow]:
    """Whole videos to each part, by the hash of their bytes alone, so that no clip ever moves between the parts.

    Those with an event and those without are divided alike, so that each part has some of both where it can.
    """
    rows: list[SnapshotRow] = []
    for eventful in (False, True):
        group = [v for v in videos if eventful == (v.truth is not None and bool(v.truth.any()))]
        for video, split in zip(group, _parts([v.name for v in group]), strict=True):
            clips = video.windows()
            rows += [row(video, clip, split, video.name) for clip in clips]
    return rows if has_events(rows) else [*rows, *with_events(rows)]


def _parts(names: Sequence[str]) -> list[Split]:
    """The part of each video. Where the hashes leave one without any, the lowest ones in no part alone go to it."""
    tested, held = LABELLED_SHARES
    points = [hash_point(name) for name in names]
    parts = [Split.TEST if p < tested else Split.VALIDATION if p < tested + held else Split.TRAIN for p in points]
    for wanted in (Split.TEST, Split.VALIDATION, Split.TRAIN):
        spare = [i for i in np.argsort(points).tolist() if parts.count(parts[i]) > 1]
        if wanted not in parts and spare:
            parts[spare[-1] if wanted is Split.TRAIN else spare[0]] = wanted
    return parts


def row(video: Stored, clip: Clip, split: Split, group: str | None = None) -> SnapshotRow:
    """One window with its label: anomalous when any frame of it is; its group is its own where parts share a video."""
    anomalous = video.truth is not None and bool(video.truth[clip.first : clip.stop].any())
    time = UNKNOWN_TIME + timedelta(seconds=clip.first / video.fps)
    label = ANOMALY if anomalous else NORMAL
    source = ASSUMED if video.truth is None else "imported"
    return SnapshotRow(
        str(clip), str(clip), label, group or str(clip), split, time, source=source, key=video.camera or None
    )


def with_events(rows: Sequence[SnapshotRow]) -> list[SnapshotRow]:
    """Copies of the test windows with a synthetic event, each family in turn."""
    tested = [one for one in rows if one.split is Split.TEST and len(Clip.parse(one.content)) >= SHORTEST_EVENT]
    count = max(EVENTS, len(tested)) if tested else 0
    made = []
    for number in range(count):
        base, family = tested[number % len(tested)], FAMILIES[number % len(FAMILIES)]
        content = str(Clip.parse(base.content).with_anomaly(family, number))
        made.append(replace(base, id=content, content=content, label=ANOMALY, context={"family": family}))
    return made


def _report(source: Path, videos: Sequence[Stored], rows: Sequence[SnapshotRow]) -> VideoReport:
    surveyed = tuple(
        Surveyed(
            video.source, len(video.starts), video.facts, int(video.starts.sum()) - 1,
            None if video.truth is None else int(video.truth.sum()),
        )
        for video in videos
    )  # fmt: skip
    parts: dict[str, dict[str, int]] = {split.value: {} for split in Split}
    for one in rows:
        parts[one.split.value][one.label] = parts[one.split.value].get(one.label, 0) + 1
    return VideoReport(source.name, surveyed, parts)
