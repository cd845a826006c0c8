"""Overlay: a video drawn over with its heat map, a red border while there is an alarm, and a bar for the score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec import Codec
from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.segments import checked, written_at_once
from keepfit.tasks.video.thresholding import usual_score
from keepfit.tasks.video.timeline import Threshold, Timeline

ENCODERS = ("libx264", "mpeg4")
"""The first that the installed FFmpeg has is used."""
OPTIONS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qmin": "2", "qmax": "5"}}
RED, AMBER, DARK, WHITE = (220, 20, 20), (255, 190, 0), (25, 25, 25), (255, 255, 255)
MOST_OPACITY = 0.65
"""Of the heat map, from `enter` on: what raised the alarm must stay visible."""
MARK = 2 / 3
"""Where on the width of the bar `enter` stands."""


@dataclass(frozen=True)
class _Scale:
    """Fixed for a whole video: a scale of its own would make every frame look alarming."""

    usual: float
    exit: float
    enter: float

    def opacity(self, heat: NDArray[np.float32]) -> NDArray[np.float32]:
        """0 up to `exit`, MOST_OPACITY from `enter` on."""
        share = (heat - self.exit) / max(self.enter - self.exit, 1e-6)
        return np.asarray(np.clip(share, 0, 1) * MOST_OPACITY, np.float32)

    def bar(self, score: float) -> float:
        """Share of the width: 0 at the usual score of normal video, MARK at `enter`, 1 at most."""
        return min(max((score - self.usual) / max(self.enter - self.usual, 1e-6) * MARK, 0.0), 1.0)


def write_overlay(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    timeline: Timeline,
    threshold: Threshold,
    fps: float,
    encoders: Sequence[str] = ENCODERS,
) -> None:
    """Write an MP4 of the frames, (h, w) grey or (h, w, 3) RGB, one for each of the timeline; one is held at a time.

    Sizes become even by repeating the last row or column. Raises InvalidInput when the frames are no pictures of one
    size, or more or fewer than the timeline's; BackendError when no encoder is there or the disk or the encoder
    fails. A file that was there then stays.
    """
    checked(timeline)
    if not (math.isfinite(fps) and fps > 0):
        raise InvalidInput(f"{fps} frames per second are no frame rate; give a number above 0", "fps")
    codec = _encoder(encoders)
    scale = _Scale(usual_score(threshold), threshold.exit, threshold.enter)
    pictures = _drawn(frames, timeline, scale)
    first = next(pictures)
    with written_at_once(path) as part:
        try:
            with av.open(str(part), "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
                stream = _stream(container, codec, Fraction(fps).limit_denominator(1001), first)
                _encode(container, stream, first)
                for picture in pictures:
                    _encode(container, stream, picture)
                container.mux(stream.encode())
        except FFmpegError as error:
            raise BackendError(f"{path} cannot be encoded ({error}); check the disk and the picture size") from error


def _drawn(frames: Iterable[NDArray[np.uint8]], timeline: Timeline, scale: _Scale) -> Iterator[NDArray[np.uint8]]:
    """The finished pictures, RGB; exactly one for each frame of the timeline."""
    source, shape = iter(frames), None
    for row in range(len(timeline)):
        if (frame := next(source, None)) is None:
            raise InvalidInput(f"the video ends after {row} of {len(timeline)} frames; give the one scored", "frames")
        picture = _rgb(frame)
        shape = shape or picture.shape
        if picture.shape != shape:
            raise InvalidInput(f"frame {row} has another size than the first; give a video of one size", "frames")
        if timeline.heat is not None:
            _tint(picture, scale.opacity(timeline.heat[row].astype(np.float32)))
        if timeline.labels[row] == 1:
            _border(picture)
        _bar(picture, scale.bar(float(timeline.scores[row])))
        yield picture
    if next(source, None) is not None:
        raise InvalidInput(
            f"the video has more than the timeline's {len(timeline)} frames; give the one scored", "frames"
        )


def _rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy in RGB of even height and width, as yuv420p wants it."""
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or not frame.size or frame.shape[2:] not in ((), (3,)):
        raise InvalidInput(
            f"a frame of shape {frame.shape} and type {frame.dtype} is no picture; give (h, w) or (h, w, 3) in uint8",
            "frames",
        )
    colour = frame if frame.ndim == 3 else np.repeat(frame[:, :, None], 3, axis=2)
    height, width = frame.shape[:2]
    return np.pad(colour, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _tint(picture: NDArray[np.uint8], opacity: NDArray[np.float32]) -> None:
    """Lay red over the picture, in place; `opacity` (rows, columns) covers it evenly, each cell a rectangle."""
    if not opacity.any():  # most frames are normal
        return
    height, width = picture.shape[:2]
    rows, columns = opacity.shape
    spread = opacity[np.arange(height) * rows // height][:, np.arange(width) * columns // width, None]
    picture[:] = np.rint(picture + spread * (np.array(RED, np.float32) - picture)).astype(np.uint8)


def _border(picture: NDArray[np.uint8]) -> None:
    edge = _thickness(picture)
    for side in (picture[:edge], picture[-edge:], picture[:, :edge], picture[:, -edge:]):
        side[:] = RED


def _bar(picture: NDArray[np.uint8], share: float) -> None:
    """The score, just above the lower border, with a white mark at `enter`."""
    edge = _thickness(picture)
    inner = picture[edge:-edge, edge:-edge][-edge:]
    width = inner.shape[1]
    inner[:] = DARK
    inner[:, : round(share * width)] = AMBER
    mark = round(MARK * width)
    inner[:, mark : mark + 2] = WHITE


def _thickness(picture: NDArray[np.uint8]) -> int:
    """Of the border and the bar: pixels, even, for colours have half the resolution."""
    height, width = picture.shape[:2]
    return 2 * max(1, min(int(height), int(width)) // 120)


def _encoder(names: Sequence[str]) -> str:
    for name in names:
        with suppress(UnknownCodecError):
            if Codec(name, "w").type == "video":
                return name
    raise BackendError(
        f"FFmpeg has no encoder {' or '.join(names)}; install the av package from PyPI, which brings them"
    )


def _stream(container: OutputContainer, codec: str, rate: Fraction, picture: NDArray[np.uint8]) -> VideoStream:
    options = OPTIONS.get(codec, {})
    stream = cast(VideoStream, container.add_stream(codec, rate=max(rate, Fraction(1, 1001)), options=options))
    stream.height, stream.width = picture.shape[:2]
    stream.pix_fmt = "yuv420p"
    return stream


def _encode(container: OutputContainer, stream: VideoStream, picture: NDArray[np.uint8]) -> None:
    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
