"""Live: the frames of a camera, followed over its network address for as long as it lives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from urllib.parse import urlsplit

import av
from av.container import InputContainer

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.decoding import LIMIT, USUAL_FPS, Frame, Grey, Lost, Times, decoded, video_stream

STREAMS = ("rtsp://", "http://", "https://")
LONGEST_PAUSE_S = 60.0
WAIT_S = 10.0
"""Seconds that a camera may be silent before it counts as gone."""
_NETWORK = {
    **LIMIT,
    "rtsp_transport": "tcp",
    "protocol_whitelist": "http,https,httpproxy,tcp,tls,crypto,rtp,rtsp,srtp,udp",
}
Opener = Callable[[str], InputContainer]


def open_stream(url: str) -> InputContainer:
    """Open a camera's address; a silence of ten seconds is an error."""
    return av.open(url, mode="r", options=_NETWORK, timeout=(WAIT_S, WAIT_S))


def follow_stream(
    url: str,
    long_side: int = 384,
    open_: Opener = open_stream,
    pause: Callable[[float], None] = time.sleep,
    retries: int = 5,
    lost: Lost | None = None,
) -> Iterator[Frame]:
    """Frames of a camera for as long as it lives; numbers go on over reconnections, before which `pause` is called.

    Times go on as if no time had passed. A recording, which says how long it is, ends at its end and is resumed where
    it broke. Raises BackendError after `retries` failures in a row, InvalidInput when there is no picture.
    """
    shown, grey, times = _shown(url), Grey(long_side), Times(1 / USUAL_FPS)
    number = failures = 0
    while True:
        reason = "it ended"
        try:
            with closing(open_(url)) as container:
                stream, recording = video_stream(container, shown), bool(container.duration)
                times.step = 1 / float(stream.average_rate or USUAL_FPS)
                # a recording comes from its beginning again
                behind = number if recording else 0
                if start := not behind:
                    times.rebase()
                for frame in islice(decoded(stream, container.demux(stream), lost), behind, None):
                    yield Frame(number, times(frame.time), grey(frame), start)
                    number, failures, start = number + 1, 0, False
                if recording:
                    return
        except av.FFmpegError as error:
            # its text holds the address, which may hold a password
            reason = error.strerror or type(error).__name__
        failures += 1
        if failures >= retries:
            raise BackendError(f"{shown} cannot be followed ({reason}); see that the camera is on and start again")
        pause(min(2.0 ** (failures - 1), LONGEST_PAUSE_S))


def _shown(url: str) -> str:
    """The address without user, password and query."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise InvalidInput("the address names no host; write it like rtsp://camera/stream", "video")
    return f"{parts.scheme}://{parts.hostname}{parts.path}"
