"""Frames: grey pictures and their times from a video, a folder of pictures or a camera, one at a time."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from keepfit.errors import InvalidInput, NotFound
from keepfit.tasks.video.decoding import (
    FILE,
    SMALLEST,
    USUAL_FPS,
    Frame,
    Grey,
    Lost,
    Times,
    decoded,
    open_file,
    quarter_turns,
    too_large,
    turned,
    until_broken,
    video_stream,
)
from keepfit.tasks.video.live import STREAMS, follow_stream

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
PROBED = 250
"""Packets whose time stamps tell whether the rate varies."""
Decoded = Generator[tuple[VideoFrame, float | None], None, None]
"""Pictures and when they are shown, seconds."""


@dataclass(frozen=True)
class VideoFacts:
    """What a video says of itself."""

    width: int
    height: int
    """As shown, that is after the rotation; pixels."""
    fps: float
    duration_s: float | None
    """None where the header does not say."""
    codec: str
    decoder: str
    """Decoders differ in which frames they give, so it belongs to every result."""
    variable_rate: bool
    """Of the first 250 frames; a gap later on is not looked for."""
    rotation: int
    """Degrees counter-clockwise by which reading turns the stored picture: 0, 90, 180 or 270."""

    def to_json(self) -> dict[str, Any]:
        """For reports and model cards."""
        return asdict(self)


def facts(path: Path, fps: float = USUAL_FPS) -> VideoFacts:
    """Read the header and the first frame; `fps` is the rate of a folder of pictures.

    Raises NotFound, and InvalidInput where there is no picture to read.
    """
    path = _found(path)
    files = _pictures(path)
    return _facts_of_file(path) if files is None else _facts_of_pictures(path, files, fps)


def read_frames(
    source: Path | str,
    long_side: int = 384,
    first: int = 0,
    stop: int | None = None,
    fps: float = USUAL_FPS,
    lost: Lost | None = None,
) -> Iterator[Frame]:
    """Frames `first` to `stop` (exclusive), streamed: grey, shrunk to `long_side`, turned as the video says.

    Everything before `first` is decoded too, so many short stretches of one file are best read in one pass. Damaged
    frames are left out (`lost` hears of them) and a cut-off file gives what it has. `fps` is the rate of a folder of
    pictures. Raises NotFound at once; InvalidInput while reading when there is no frame, or when the file has changed
    meanwhile; TooLarge. Addresses go to `follow_stream`.
    """
    if long_side < SMALLEST or first < 0 or fps <= 0:
        raise InvalidInput(f"long_side must be {SMALLEST} or more, first 0 or more and fps above 0", "video")
    if isinstance(source, str) and source.lower().startswith(STREAMS):
        return islice(follow_stream(source, long_side, lost=lost), first, stop)
    path = _found(Path(source))
    files = _pictures(path)
    times = Times(1 / fps)
    found = _video(path, times, lost) if files is None else _folder(files, fps, lost)
    return _read(path, found, Grey(long_side), times, (first, stop))


def video_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder's picture names and bytes in reading order. Raises NotFound."""
    path = _found(path)
    if not path.is_dir():
        return _digest(path)
    lines = (f"{_digest(file)} {file.name}\n" for file in _pictures(path) or ())
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _read(
    path: Path, found: Decoded, grey: Grey, times: Times, window: tuple[int, int | None]
) -> Generator[Frame, None, None]:
    first, stop = window
    before, count = _state(path), 0
    with closing(found):
        for picture, stamp in found:
            if stop is not None and count >= stop:
                break
            shown = times(stamp)
            if count >= first:
                yield Frame(count, shown, grey(picture), count == first)
            count += 1
        else:
            if not count:
                raise _no_frames(path)
    if _state(path) != before:
        raise InvalidInput(f"{path.name} changed while it was read; read it again when it is finished", "video")


def _video(path: Path, times: Times, lost: Lost | None) -> Decoded:
    with closing(open_file(path)) as container:
        stream = video_stream(container, path.name)
        times.step = 1 / float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
        for frame in decoded(stream, until_broken(container, stream), lost):
            yield frame, frame.time


def _folder(files: Sequence[Path], fps: float, lost: Lost | None) -> Decoded:
    count = 0
    for place, file in enumerate(files):
        if (frame := _picture(file)) is not None:
            yield frame, count / fps
            count += 1
        elif lost is not None:
            lost(place + 1 - count)


def _picture(file: Path) -> VideoFrame | None:
    """None when it is damaged. Raises TooLarge."""
    try:
        with closing(av.open(io.BytesIO(file.read_bytes()), mode="r", options=FILE)) as container:
            return next(container.decode(video_stream(container, file.name)), None)
    except av.ArgumentError as error:
        # the decoder's answer to a size over the limit
        raise too_large(file.name) from error
    except av.FFmpegError:
        return None


def _facts_of_file(path: Path) -> VideoFacts:
    with closing(open_file(path)) as container:
        stream = video_stream(container, path.name)
        stamps: list[float] = []
        first: VideoFrame | None = None
        for packet in islice(until_broken(container, stream), PROBED):
            if packet is not None and packet.pts is not None and packet.time_base is not None:
                stamps.append(float(packet.pts * packet.time_base))
            first = first or next(decoded(stream, [packet], None), None)
        if first is None:
            raise _no_frames(path)
        measured, varies = _rate(sorted(stamps), float(stream.time_base or 0))
        fps = float(stream.average_rate or 0) or measured or USUAL_FPS
        seconds = container.duration / 1e6 if container.duration else None
        return _facts(first, fps, seconds, stream.codec_context.name, varies)


def _facts_of_pictures(path: Path, files: Sequence[Path], fps: float) -> VideoFacts:
    first = next((frame for frame in map(_picture, files) if frame is not None), None)
    if first is None:
        raise _no_frames(path)
    return _facts(first, fps, len(files) / fps, files[0].suffix.lower().lstrip("."), False)


def _facts(frame: VideoFrame, fps: float, seconds: float | None, codec: str, varies: bool) -> VideoFacts:
    turns = quarter_turns(frame.rotation)
    width, height = turned(frame.width, frame.height, turns)
    return VideoFacts(width, height, fps, seconds, codec, f"PyAV {av.__version__}", varies, 90 * turns)


def _rate(stamps: Sequence[float], tick: float) -> tuple[float, bool]:
    """Frames a second (0 when nothing can be said), and whether the steps differ by more than rounding."""
    steps = np.diff(stamps)
    if not steps.size or (usual := float(np.median(steps))) <= 0:
        return 0.0, False
    return 1 / usual, bool(np.ptp(steps) > max(2.5 * tick, 0.25 * usual))


def _found(path: Path) -> Path:
    if not path.exists():
        raise NotFound(f"there is no {path}; see that the name is right")
    return path


def _pictures(path: Path) -> list[Path] | None:
    """The pictures of a folder in natural order (2 before 10), or the one picture; None for a video file."""
    if not path.is_dir():
        return [path] if path.suffix.lower() in PICTURES else None
    files = (file for file in path.iterdir() if file.suffix.lower() in PICTURES and not file.name.startswith("."))
    return sorted(files, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[str, int]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(text, int(digits or 0)) for text, digits in zip_longest(parts[::2], parts[1::2])], path.name


def _state(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of every file that is read; empty when it is gone."""
    try:
        files = _pictures(path)
        stats = [(file.name, file.stat()) for file in ([path] if files is None else files)]
    except FileNotFoundError:
        return []
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _no_frames(path: Path) -> InvalidInput:
    return InvalidInput(f"{path.name} has no frame that can be decoded; send another video", "video")
