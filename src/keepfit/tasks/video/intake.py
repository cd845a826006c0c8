"""Intake: videos and pictures that callers send, stored, looked through, and what was said of them as one answer."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput, TooLarge
from keepfit.tasks.video.clips import Clip
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frames import VideoFacts, facts, read_frames, video_hash
from keepfit.tasks.video.model import Facts
from keepfit.tasks.video.scene import cut_finder
from keepfit.tasks.video.segments import find, report
from keepfit.tasks.video.stored import SUFFIXES, keep_starts, windows_of
from keepfit.tasks.video.thresholding import label
from keepfit.tasks.video.timeline import Said, Timeline

FASTEST = 240
"""Frames a second on average; a video that claims more is taken for one that is too long."""
MOST_AT_ONCE = 256
"""Frames of a stream in one call: they are in memory together."""
DIGITS = 6
MAGIC = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}
"""How pictures begin; cameras often send them without a name."""


class Part(Protocol):
    """A file in a request."""

    filename: str | None

    def save(self, dst: Path, /) -> None:
        """Write it to the disk."""
        ...


@dataclass(frozen=True, eq=False)
class Footage:
    """One stored video that was looked through."""

    name: str
    facts: VideoFacts
    times: NDArray[np.float64]
    """Seconds, shape (n,)."""
    starts: NDArray[np.bool_]
    """True at the first frame and after every cut, shape (n,)."""

    camera: str
    """By whose measure it is judged."""

    def windows(self) -> list[Clip]:
        """What is asked about, one after the other: about three seconds each, none over a cut."""
        return [replace(clip, camera=self.camera) for clip in windows_of(self.name, self.starts, self.facts.fps)]

    def answer(self, said: Sequence[Said]) -> dict[str, Any]:
        """`video`, `threshold`, `segments` and `frames`, from what one version said of the windows, in their order."""
        threshold, numbers = said[0].threshold, np.arange(len(self.times))
        scores = np.concatenate([window.scores for window in said])
        labels = label(scores, self.starts, threshold)  # an alarm may go on over the end of a window
        heat = np.concatenate([window.heat for window in said])
        timeline = Timeline(numbers, self.times, scores, labels, self.starts, heat)
        size = (self.facts.width, self.facts.height)
        found = find(timeline, threshold, self.facts.fps, said[0].maxima, size)
        video = {"name": self.name, **self.facts.to_json(), "frames": len(timeline)}
        full = report(timeline, found, threshold, video, {})
        return {part: full[part] for part in ("video", "threshold", "segments")} | {"frames": rows(timeline)}


def rows(timeline: Timeline) -> list[dict[str, Any]]:
    """Frame by frame, as the CSV of a scored file says it."""
    columns = (timeline.frames, timeline.times.round(DIGITS), timeline.scores, timeline.labels)
    return [
        {"frame": frame, "time_s": time, "score": round(score, DIGITS), "label": said}
        for frame, time, score, said in zip(*(column.tolist() for column in columns), strict=True)
    ]


class Intake:
    """Takes in what is sent; `store` is the folder of stored videos, `longest_s` what one of them may last."""

    def __init__(self, store: Path, longest_s: float) -> None:
        self._store, self._longest_s = store, longest_s

    def video(self, part: Part, camera: Facts, key: str | None = None) -> Footage:
        """Store a video of a model's camera under the hash of its bytes; one pass finds its cuts and counts its frames.

        `key` names the camera, as far as the model knows it. Raises InvalidInput for what
        is no video, or one of another size or of a camera that a model of several does not know, TooLarge for one that
        lasts too long (none of these is stored), BackendError when the disk fails.
        """
        camera.check_camera(key)
        name = file_name(part, "video")
        if Path(name).suffix.lower() not in SUFFIXES:
            raise InvalidInput(f"{name!r} is no video by its name; send one of {', '.join(sorted(SUFFIXES))}", "file")
        with disk(f"{name} could not be kept"), names_the_part("file"):
            self._store.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".incoming-", dir=self._store) as folder:
                file = Path(folder) / name
                part.save(file)
                stored = f"{video_hash(file)[:32]}{file.suffix.lower()}"
                footage = self._look_through(file, stored, camera, camera.name_of(key))
                if not (self._store / stored).exists():
                    os.replace(file, self._store / stored)
                keep_starts(self._store, stored, footage.starts)
        return footage

    def _look_through(self, file: Path, stored: str, camera: Facts, name: str) -> Footage:
        about, is_start = facts(file), cut_finder()
        camera.check_rate(about.fps)
        times: list[float] = []
        starts: list[bool] = []
        for frame in of_camera(read_frames(file, camera.long_side), camera):
            if frame.time_s >= self._longest_s or len(times) >= FASTEST * self._longest_s:
                raise TooLarge(
                    f"{file.name} is longer than {self._longest_s:g} s; score it with `keepfit batch {file.name} OUT`, "
                    "send a shorter one, or raise server.max_clip_s",
                    "file",
                )
            times.append(frame.time_s)
            starts.append(is_start(frame))
        return Footage(stored, about, np.array(times, np.float64), np.array(starts, np.bool_), name)

    def pieces(self, parts: Sequence[Part], camera: Facts) -> list[list[Frame]]:
        """The frames of each part of a stream: a picture (JPEG or PNG) or a piece of video. Nothing is stored.

        Raises InvalidInput, with the place, for a part that is neither or of another size than the model's camera,
        TooLarge for more than 256 frames together.
        """
        found: list[list[Frame]] = []
        with tempfile.TemporaryDirectory(prefix="keepfit-") as folder:
            for place, part in enumerate(parts):
                with disk("the frames could not be read"), names_the_part(f"file.{place}"):
                    file = saved(part, Path(folder))
                    left = MOST_AT_ONCE - sum(map(len, found))
                    found.append(list(of_camera(read_frames(file, camera.long_side, stop=left + 1), camera)))
                    file.unlink()
                    if len(found[-1]) > left:
                        raise TooLarge(f"more than {MOST_AT_ONCE} frames in one call are too many; send fewer")
        return found


def of_camera(frames: Iterable[Frame], camera: Facts) -> Iterator[Frame]:
    """The frames themselves. Raises InvalidInput when they have not the size that the model has learnt."""
    height, width = camera.background.shape
    for frame in frames:
        if frame.image.shape != (height, width):
            raise InvalidInput(
                f"the pictures are {frame.image.shape[1]} x {frame.image.shape[0]} and the model has learnt {width} x "
                f"{height} (after shrinking); send what the camera shows that it was trained on"
            )
        yield frame


def file_name(part: Part, instead: str) -> str:
    """The name that the caller gave the file, made harmless.

    >>> class Sent: filename = "../my lobby.MP4"
    >>> file_name(Sent(), "video")
    'my_lobby.MP4'
    """
    last = re.split(r"[/\\]", part.filename or "")[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", last)[-80:].lstrip("._-") or instead


def saved(part: Part, folder: Path) -> Path:
    """The file of a part, named so that the decoder knows a picture. Raises InvalidInput when it is neither kind."""
    name = file_name(part, "piece")
    file = folder / name
    part.save(file)
    with file.open("rb") as opened:
        begin = opened.read(8)
    suffix = next((suffix for magic, suffix in MAGIC.items() if begin.startswith(magic)), file.suffix.lower())
    if suffix not in SUFFIXES | set(MAGIC.values()):
        known = ", ".join(sorted(SUFFIXES))
        raise InvalidInput(f"{name!r} is neither a JPEG or PNG picture nor a piece of video ({known})", "file")
    return file.rename(file.with_suffix(suffix))


@contextmanager
def disk(what: str) -> Iterator[None]:
    """Raises BackendError when the disk fails."""
    try:
        yield
    except OSError as error:
        raise BackendError(f"{what} ({error.strerror or error}); free some disk space and try again") from error


@contextmanager
def names_the_part(field: str) -> Iterator[None]:
    """What is wrong with a video is wrong with this part of the request."""
    try:
        yield
    except InvalidInput as error:
        error.field = field
        raise
