"""Score videos: for each one frames, segments, a timeline and an overlay in the output folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.decoding import USUAL_FPS, Frame
from keepfit.tasks.video.frame_files import write_frames
from keepfit.tasks.video.frames import VideoFacts, facts, read_frames, video_hash
from keepfit.tasks.video.model import VideoModel
from keepfit.tasks.video.overlay import write_overlay
from keepfit.tasks.video.pictures import draw_timeline
from keepfit.tasks.video.scene import CameraWatch
from keepfit.tasks.video.segments import SCHEMA, find, report, written_at_once
from keepfit.tasks.video.sidecar import read_sidecar
from keepfit.tasks.video.stored import named_camera, video_files
from keepfit.tasks.video.timeline import Segment, Timeline
from keepfit.telling import Progress


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

    Where there is a folder for each camera the outputs have one, too. For NAME: NAME.frames.csv, NAME.timeline.png,
    NAME.overlay.mp4, and last NAME.segments.json, which also says why a video could not be scored. Raises NotFound
    without a source, BackendError when the folder cannot be written.
    """
    files = video_files(source)
    if source.is_dir() and source.resolve() == target.resolve():
        raise InvalidInput(f"the outputs would lie among the videos of {source}; choose another folder", "output")
    stems = Counter((file.parent, file.stem) for file in files)
    if (twice := next((stem for (_, stem), n in stems.items() if n > 1), None)) is not None:
        raise InvalidInput(
            f"two videos are called {twice!r}, so their outputs would be one; rename one of them", "input"
        )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"the folder {target} cannot be made ({error.strerror}); choose another one") from error
    done = []
    for number, file in enumerate(files):
        camera = named_camera(file, source)
        place = target / camera
        done.append(_finished(file, place, version) or _score(model, file, camera, place, version))
        progress(number + 1, len(files))
    good = [one for one in done if "error" not in one]
    return VideosScored(
        len(done), len(done) - len(good), sum(one["frames"] for one in good), sum(len(one["segments"]) for one in good)
    )


def _finished(file: Path, target: Path, version: int) -> dict[str, Any] | None:
    """The report of an earlier run on the same bytes by the same version."""
    path = target / names_of(file)[-1]
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError:
        return None
    same = found.get("model", {}).get("version") == version and "error" not in found
    return found if same and found["video"]["sha256"] == video_hash(file) else None


def _score(model: VideoModel, file: Path, camera: str, target: Path, version: int) -> dict[str, Any]:
    target.mkdir(exist_ok=True)
    try:
        model.facts.check_camera(camera)
        return write_outputs(model, scored(model, file, camera=camera), target, version)
    except InvalidInput as error:
        found = {"schema": SCHEMA, "video": {"name": file.name}, "model": {"version": version}, "error": str(error)}
        _write_report(target / names_of(file)[-1], found)
        return found


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model says of one video."""

    file: Path
    camera: str
    about: VideoFacts
    timeline: Timeline
    segments: tuple[Segment, ...]
    truth: NDArray[np.uint8] | None
    """As the JSON beside it says, shape (n,); None where nobody knows."""
    moved_s: float | None
    """When the camera was first seen to look elsewhere; None: never."""


def scored(
    model: VideoModel, file: Path, through: Callable[[Iterator[Frame]], Iterator[Frame]] = iter, camera: str = ""
) -> Scored:
    """Every frame of a video; `through` sees the frames pass. Raises InvalidInput where the video does not fit."""
    sidecar = read_sidecar(file)
    rate = (sidecar.fps if sidecar is not None else None) or USUAL_FPS
    about = facts(file, rate)
    model.facts.check_rate(about.fps)
    view = model.facts.view(camera)
    watch = Watched(CameraWatch(view.background), about.fps)
    frames = through(watch(read_frames(file, model.facts.long_side, fps=rate)))
    timeline = model.score(frames, None if sidecar is None else sidecar.begins, camera)
    segments = find(timeline, view.threshold, about.fps, view.maxima, (about.width, about.height))
    truth = None if sidecar is None else sidecar.truth(len(timeline))
    return Scored(file, camera, about, timeline, segments, truth, watch.moved_s)


class Watched:
    """Looks once a second whether the camera still shows what it was trained on."""

    def __init__(self, watch: CameraWatch, fps: float) -> None:
        self._watch, self._every = watch, max(1, round(fps))
        self.moved_s: float | None = None

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, as they come."""
        for frame in frames:
            if frame.number % self._every == 0 and self.moved_s is None and self._watch.check(frame.image):
                self.moved_s = frame.time_s
            yield frame


def names_of(file: Path) -> tuple[str, str, str, str]:
    """The files that are written for a video; the last says that the others are whole."""
    stem = file.stem
    return f"{stem}.frames.csv", f"{stem}.timeline.png", f"{stem}.overlay.mp4", f"{stem}.segments.json"


def write_outputs(model: VideoModel, one: Scored, target: Path, version: int) -> dict[str, Any]:
    """Frames, timeline, overlay and, last, segments; the values of the last are returned."""
    frames, picture, overlay, segments = (target / name for name in names_of(one.file))
    threshold = model.facts.view(one.camera).threshold
    write_frames(frames, one.timeline)
    draw_timeline(picture, one.timeline, threshold, one.segments, one.truth, one.file.name)
    images = (frame.image for frame in read_frames(one.file, model.facts.long_side))
    write_overlay(overlay, images, one.timeline, threshold, one.about.fps)
    moved = {} if one.moved_s is None else {"camera_moved_s": round(one.moved_s, 2)}
    named = {"camera": one.camera} if one.camera else {}
    video = {"name": one.file.name, "sha256": video_hash(one.file), **named, **one.about.to_json(), **moved}
    found = report(one.timeline, one.segments, threshold, video, {"version": version, **model.describe()})
    _write_report(segments, found)
    return found


def _write_report(path: Path, found: dict[str, Any]) -> None:
    with written_at_once(path) as part:
        part.write_text(json.dumps(found, indent=1), "utf-8")
