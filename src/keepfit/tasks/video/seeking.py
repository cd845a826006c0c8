"""Seeking: frames from the middle of a stored video, without decoding all that lies before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from keepfit.tasks.video.decoding import Frame, Grey, decoded, open_file, until_broken, video_stream
from keepfit.tasks.video.frames import read_frames
from keepfit.tasks.video.stored import known_times

NEAR = 250
"""Frames that are rather decoded than jumped over."""
SAME = 1e-6
"""Seconds by which two readings of one time may differ."""


def read_between(video: Path, long_side: int, first: int, stop: int) -> Iterator[Frame]:
    """Frames `first` to `stop` (exclusive) of a stored video, as `read_frames` gives them.

    Where the times of its frames were remembered, decoding begins at the key frame before; each picture is numbered by
    its time. Whatever cannot be proved to be the same is read from the beginning instead: times that do not fit, a
    first picture that needs earlier ones (intra refresh, some transport streams). Raises as `read_frames`.
    """
    known = known_times(video)
    number = first
    if known is not None and video.is_file() and NEAR <= first < stop <= len(known):
        for frame in from_key_frame(video, long_side, (first, stop), known):
            number = frame.number + 1
            yield frame
    if number < stop:
        for frame in read_frames(video, long_side, number, stop):
            yield replace(frame, start=frame.number == first)


def from_key_frame(video: Path, long_side: int, window: tuple[int, int], known: NDArray[np.float64]) -> Iterator[Frame]:
    """The frames of the window up to the first that cannot be proved to be the next one."""
    first, stop = window
    with closing(open_file(video)) as container:
        stream, grey = video_stream(container, video.name), Grey(long_side)
        expected: int | None = None
        origin = _origin(container, stream)
        if origin is None or not _sought(container, stream, origin + float(known[first])):
            return
        for picture in decoded(stream, until_broken(container, stream), None):
            number = _number(picture, origin, known)
            fits = _begins(picture, number, first) if expected is None else number == expected
            if number is None or not fits:
                return
            expected = number + 1
            if number >= first:
                yield Frame(number, float(known[number]), grey(picture), number == first)
            if expected >= stop:
                return


def _begins(picture: VideoFrame, number: int | None, first: int) -> bool:
    """Whether decoding may begin with this picture: it needs no earlier one and does not lie beyond the window."""
    return number is not None and number <= first and picture.key_frame and picture.pict_type == PictureType.I


def _origin(container: InputContainer, stream: VideoStream) -> float | None:
    """The time of the first frame, seconds."""
    picture = next(decoded(stream, until_broken(container, stream), None), None)
    return None if picture is None else picture.time


def _sought(container: InputContainer, stream: VideoStream, seconds: float) -> bool:
    if not stream.time_base:
        return False
    try:
        container.seek(int(seconds / stream.time_base), stream=stream)
    except av.FFmpegError:
        return False
    return True


def _number(picture: VideoFrame, origin: float, known: NDArray[np.float64]) -> int | None:
    """Which frame this is, by its time; None when none was shown just then."""
    if picture.time is None:
        return None
    shown = picture.time - origin
    place = int(np.searchsorted(known, shown - SAME))
    return place if place < len(known) and abs(float(known[place]) - shown) <= SAME else None
