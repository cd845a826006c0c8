"""Score videos: for each one frames, segments, a timeline and an overlay in the output folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frame_files import write_frames
from keepfit.tasks.video.frames import facts, read_frames, video_hash
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.overlay import write_overlay
from keepfit.tasks.video.pictures import draw_timeline
from keepfit.tasks.video.segments import SCHEMA, find, report
from keepfit.tasks.video.sidecar import Sidecar, read_sidecar
from keepfit.tasks.video.stored import video_files
from keepfit.tasks.video.timeline import Timeline

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class VideosScored:
    """What was done, or lay there finished."""

    rows: int
    """Videos."""
    errors: int
    frames: int
    alarms: int
    """Segments."""


def score_videos(
    model: VideoModel, source: Path, target: Path, version: int, progress: Progress = lambda done, total: None
) -> VideosScored:
    """Score a video, or every video of a folder; killed and started again it goes on with the first unfinished one.

    For NAME: NAME.frames.csv, NAME.timeline.png, NAME.overlay.mp4, and last NAME.segments.json, which also says why a
    video could not be scored. Raises NotFound without a source, BackendError when the folder cannot be written.
    """
    files = video_files(source)
    if source.is_dir() and source.resolve() == target.resolve():
        raise InvalidInput(f"the outputs would lie among the videos of {source}; choose another folder", "output")
    stems = Counter(file.stem for file in files)
    if (twice := next((stem for stem, n in stems.items() if n > 1), None)) is not None:
        raise InvalidInput(
            f"two videos are called {twice!r}, so their outputs would be one; rename one of them", "input"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"the folder {target} cannot be made ({error.strerror}); choose another one") from error
    done = []
    for number, file in enumerate(files):
        done.append(_finished(file, target, version) or _score(model, file, target, version))
        progress(number + 1, len(files))
    good = [one for one in done if "error" not in one]
    return VideosScored(
        len(done), len(done) - len(good), sum(one["frames"] for one in good), sum(len(one["segments"]) for one in good)
    )


def _finished(file: Path, target: Path, version: int) -> dict[str, Any] | None:
    """The report of an earlier run on the same bytes by the same version."""
    path = target / f"{file.stem}.segments.json"
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError:
        return None
    same = found.get("model", {}).get("version") == version and "error" not in found
    return found if same and found["video"]["sha256"] == video_hash(file) else None


def _score(model: VideoModel, file: Path, target: Path, version: int) -> dict[str, Any]:
    try:
        found = _outputs(model, file, target, version)
    except InvalidInput as error:
        found = {"schema": SCHEMA, "video": {"name": file.name}, "model": {"version": version}, "error": str(error)}
    path = target / f"{file.stem}.segments.json"
    partial = path.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(found, indent=1), "utf-8")
        partial.replace(path)
    except OSError as error:
        raise BackendError(f"{path} cannot be written ({error.strerror}); make room and start again") from error
    return found


def _outputs(model: VideoModel, file: Path, target: Path, version: int) -> dict[str, Any]:
    about, side = facts(file), model.facts.long_side
    sidecar = read_sidecar(file)
    timeline = model.score(read_frames(file, side), _starts(sidecar))
    segments = find(timeline, model.threshold, about.fps, model.facts.maxima, (about.width, about.height))
    write_frames(target / f"{file.stem}.frames.csv", timeline)
    draw_timeline(
        target / f"{file.stem}.timeline.png", timeline, model.threshold, segments, _truth(sidecar, timeline), file.name
    )
    images = (frame.image for frame in read_frames(file, side))
    write_overlay(target / f"{file.stem}.overlay.mp4", images, timeline, model.threshold, about.fps)
    video = {"name": file.name, "sha256": video_hash(file), **about.to_json()}
    return report(timeline, segments, model.threshold, video, {"version": version, **model.describe()})


def _starts(sidecar: Sidecar | None) -> Callable[[Frame], bool] | None:
    """Cuts as the sidecar names them; None: they must be found."""
    if sidecar is None:
        return None
    firsts = {clip.first for clip in sidecar.clips} | {0}
    return lambda frame: frame.start or frame.number in firsts


def _truth(sidecar: Sidecar | None, timeline: Timeline) -> NDArray[np.uint8] | None:
    return None if sidecar is None else sidecar.truth(len(timeline))
