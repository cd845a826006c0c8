"""Decoding: grey pictures of one size and their times, out of what PyAV opens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from keepfit.errors import InvalidInput, TooLarge

MOST_PIXELS = 100_000_000
SMALLEST = 16
"""Fewest pixels of a side; a smaller picture is enlarged to it."""
USUAL_FPS = 25.0

LIMIT = {"max_pixels": str(MOST_PIXELS)}
"""Options of a decoder."""
# these formats name other files and addresses, which an uploaded file must not make us open
_REFERRING = {"concat", "dash", "hls", "image2", "imf", "rtsp", "sdp"}
FILE = {
    **LIMIT,
    "format_whitelist": ",".join(sorted(av.formats_available - _REFERRING)),
    "protocol_whitelist": "file",
}
"""Options for a file of the disk."""

Lost = Callable[[int], None]
"""Is told, each time a frame could not be decoded, how many there have been."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture."""

    number: int
    """Counted from 0 over the frames that could be decoded."""
    time_s: float
    """Seconds since the first frame; greater than that of the frame before."""
    image: NDArray[np.uint8]
    """Grey, shape (h, w), both even and of one size through the whole video."""
    start: bool = False
    """True for the first frame that is read and after a reconnection: nothing is known of what was before."""


def fitted(width: int, height: int, long_side: int) -> tuple[int, int]:
    """Width and height when the longer is at most `long_side`: never enlarged, but even and at least 16.

    >>> fitted(1920, 1080, 384), fitted(361, 241, 384), fitted(8, 6, 384)
    ((384, 216), (360, 240), (16, 16))
    """
    longest = max(width, height)
    wanted = min(long_side, longest)
    across, down = (max(SMALLEST, side * wanted // longest // 2 * 2) for side in (width, height))
    return across, down


def quarter_turns(degrees: float) -> int:
    """Turns of 90 degrees counter-clockwise, 0 to 3; what lies between goes to the nearest.

    >>> [quarter_turns(degrees) for degrees in (0, 90, -90, 180, -180, 358)]
    [0, 1, 3, 2, 2, 0]
    """
    return round(degrees / 90) % 4


def turned(width: int, height: int, turns: int) -> tuple[int, int]:
    """Width and height after quarter turns."""
    return (height, width) if turns % 2 else (width, height)


class Grey:
    """Makes pictures of one size, that of the first one."""

    def __init__(self, long_side: int) -> None:
        self._long_side = long_side
        self._size: tuple[int, int] | None = None
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        turns = quarter_turns(frame.rotation)
        self._size = self._size or fitted(*turned(frame.width, frame.height, turns), self._long_side)
        width, height = turned(*self._size, turns)
        small = self._reformatter.reformat(frame, width, height, "gray", interpolation="AREA")
        return np.ascontiguousarray(np.rot90(small.to_ndarray(), turns), np.uint8)


class Times:
    """Seconds since the first frame, strictly increasing whatever the stamps say."""

    def __init__(self, step: float) -> None:
        self.step = step
        self._last: float | None = None
        self._origin: float | None = None

    def __call__(self, stamp: float | None) -> float:
        expected = 0.0 if self._last is None else self._last + self.step
        if stamp is not None and self._origin is None:
            self._origin = stamp - expected
        found = expected if stamp is None or self._origin is None else stamp - self._origin
        self._last = found if self._last is None or found > self._last else expected
        return self._last

    def rebase(self) -> None:
        """The next stamp, whatever it is, follows the last frame."""
        self._origin = None


def decoded(
    stream: VideoStream, packets: Iterable[Packet[VideoStream] | None], lost: Lost | None
) -> Generator[VideoFrame, None, None]:
    """The frames that are whole; what is missing in a damaged one would look like an anomaly."""
    missed = 0
    for packet in packets:
        try:
            frames = stream.decode(packet)
        except av.FFmpegError:
            frames, bad = [], 1
        else:
            bad = sum(frame.is_corrupt for frame in frames)
        if bad:
            missed += bad
            if lost is not None:
                lost(missed)
        yield from (frame for frame in frames if not frame.is_corrupt)


def until_broken(container: InputContainer, stream: VideoStream) -> Generator[Packet[VideoStream] | None, None, None]:
    """The packets before the place where the file breaks off; None asks the decoder for what it holds back."""
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        yield None


def open_file(path: Path) -> InputContainer:
    """Open a video file. Raises InvalidInput when it is none."""
    try:
        return av.open(f"file:{path}", mode="r", options=FILE)
    except av.FFmpegError as error:
        raise InvalidInput(
            f"{path.name} is no video or is broken ({error.strerror}); send a file that a player can open", "video"
        ) from error


def video_stream(container: InputContainer, name: str) -> VideoStream:
    """The first video stream; `name` is for messages. Raises InvalidInput when there is none, and TooLarge."""
    # the cover of a piece of music is a video stream, too
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kind = "sound but no moving picture" if container.streams.audio else "no moving picture"
        raise InvalidInput(f"{name} has {kind}; send a video", "video")
    stream = streams[0]
    if stream.width * stream.height > MOST_PIXELS:
        raise too_large(name)
    stream.codec_context.options = LIMIT
    return stream


def too_large(name: str) -> TooLarge:
    """What to raise for pictures over the limit."""
    return TooLarge(f"{name} has pictures of more than {MOST_PIXELS // 10**6} million pixels; shrink them", "video")
