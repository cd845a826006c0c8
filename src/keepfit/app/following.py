"""`keepfit stream`: the frames of a camera to a running server, and what is said of them as it is said."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from keepfit.app.alarms import Said, Tell
from keepfit.app.project import Project
from keepfit.app.settings import ServerSettings
from keepfit.app.wiring import version_folder
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound, Overloaded, Refused, SettingsError
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frames import read_frames
from keepfit.tasks.video.model import Facts

TOGETHER_S, MOST_TOGETHER = 0.5, 16
"""Frames of so many seconds, and at most so many, are sent in one call: what an alarm may come later for it."""
WAIT_S = 120.0
CONNECTS = 6
"""Attempts to reach a server that may be starting, with doubling pauses: 15 seconds in all."""
TRIES, LONGEST_PAUSE_S, LOST_S = 6, 10.0, 1.0
"""Attempts while the server is busy or away, seconds between two of them at most, and where it does not name any."""
LATE_S, CAUGHT_UP_S = 5.0, 0.5
"""Seconds by which an answer may come late, and how near the present frames are taken up again."""
RATED = 50
"""Frames by whose times a camera's rate is judged."""


class Server(Protocol):
    """The server's side of /streams."""

    def open(self, key: str | None) -> str:
        """A session's id."""
        ...

    def push(self, session: str, pictures: Sequence[bytes]) -> list[tuple[float, int]]:
        """Score and label of each picture. Raises NotFound when the server does not know the session (any more)."""
        ...

    def close(self, session: str) -> None:
        """End the session."""
        ...


class HttpServer:
    """The routes of one model of a server at `url`, called with a token where one is given."""

    def __init__(self, url: str, model: str, token: str | None = None, connects: int = CONNECTS) -> None:
        self._shown, self._base = url, f"{url.rstrip('/')}/models/{quote(model, safe='')}"
        self._session = requests.Session()
        retry = Retry(
            total=None, connect=connects, read=0, status=0, other=0, backoff_factor=0.25, allowed_methods=None
        )
        self._session.mount("http", HTTPAdapter(max_retries=retry))
        if token:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def open(self, key: str | None) -> str:
        return str(self._call("POST", "/streams", json={} if key is None else {"key": key})["id"])

    def push(self, session: str, pictures: Sequence[bytes]) -> list[tuple[float, int]]:
        files = [("file", (f"{number}.png", picture, "image/png")) for number, picture in enumerate(pictures)]
        body = self._call("POST", f"/streams/{session}/frames", files=files)
        return [(float(frame["score"]), int(frame["label"])) for frame in body["frames"]]

    def close(self, session: str) -> None:
        self._call("DELETE", f"/streams/{session}")

    def _call(self, method: str, path: str, **more: Any) -> Mapping[str, Any]:
        try:
            answer = self._session.request(method, self._base + path, timeout=WAIT_S, **more)
            body = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise BackendError(
                f"no keepfit server answers at {self._shown}; start one with `keepfit up`, or give its --url"
            ) from error
        if answer.ok and isinstance(body, dict):
            return body
        words = str(body.get("detail", answer.reason)) if isinstance(body, dict) else answer.reason
        if answer.status_code in (401, 403):
            raise Refused(f"{words}; give a token of the role predict in KEEPFIT_TOKEN")
        if answer.status_code == 429:
            raise Overloaded(words, float(answer.headers.get("Retry-After", "1")))
        kind = {404: NotFound, 409: Refused, 413: InvalidInput, 415: InvalidInput, 422: InvalidInput}
        raise kind.get(answer.status_code, BackendError)(words)


class Session:
    """A session with the server; begun anew where the server has lost it or was started again."""

    def __init__(self, server: Server, key: str | None, pause: Callable[[float], None]) -> None:
        self._server, self._key, self._pause = server, key, pause
        self._id: str | None = server.open(key)

    def push(self, pictures: Sequence[bytes]) -> list[tuple[float, int]]:
        """Score and label of each picture. A server that is busy or away is tried for some time."""
        for _ in range(TRIES - 1):
            try:
                return self._pushed(pictures)
            except Overloaded as busy:
                self._pause(min(busy.retry_after, LONGEST_PAUSE_S))
            except (NotFound, BackendError):
                self._id = None  # what it had seen of these pictures, nobody knows
                self._pause(LOST_S)
        return self._pushed(pictures)

    def _pushed(self, pictures: Sequence[bytes]) -> list[tuple[float, int]]:
        self._id = self._id or self._server.open(self._key)
        return self._server.push(self._id, pictures)

    def end(self) -> None:
        """The next picture begins another one; a session that the server does not hear the end of drops out there."""
        ended, self._id = self._id, None
        if ended is not None:
            with contextlib.suppress(KeepfitError):
                self._server.close(ended)


def follow(
    frames: Iterable[Frame], server: Server, key: str | None, tell: Tell, pause: Callable[[float], None] = time.sleep
) -> int:
    """Send the frames in order and tell what is said of each; returns how many.

    A gap in the frames ends the session, and so does whatever ends the call. Raises what the frames and the server
    raise.
    """
    session, count = Session(server, key, pause), 0
    try:
        for batch in together(frames):
            if batch[0].start and count:  # nothing is known of what was in between
                session.end()
            answers = session.push([png(frame.image) for frame in batch])
            for frame, (score, label) in zip(batch, answers, strict=True):
                tell(Said(frame.number, frame.time_s, score, label))
            count += len(batch)
    finally:
        session.end()
    return count


def in_time(
    frames: Iterable[Frame], say: Callable[[str], None], now: Callable[[], float] = time.monotonic
) -> Iterator[Frame]:
    """The frames of a camera without those that are too old by the time they could be sent; after a gap, a start.

    A server that is slower than its camera would fall behind without end, and its alarms with it.
    """
    began, dropped = None, 0
    for frame in frames:
        if began is None or frame.start:
            began = now() - frame.time_s
        late = now() - began - frame.time_s
        if late > LATE_S or (dropped and late > CAUGHT_UP_S):
            dropped += 1
        elif dropped:
            say(f"the server is slower than the camera: {dropped} frames were left out to catch up")
            dropped = 0
            yield replace(frame, start=True)
        else:
            yield frame


def at_rate(frames: Iterable[Frame], facts: Facts) -> Iterator[Frame]:
    """As many frames a second as the model has learnt, of a camera that gives more.

    Raises InvalidInput for one that gives fewer than the model can do with.
    """
    step, due, kept, began = 1 / facts.fps, 0.0, 0, 0.0
    for frame in frames:
        if frame.start:
            due, kept, began = frame.time_s, 0, frame.time_s
        if frame.time_s < due - step / 4:
            continue
        yield frame
        due = max(due + step, frame.time_s + step / 2)
        kept += 1
        if kept == RATED:
            facts.check_rate((RATED - 1) / max(frame.time_s - began, step))


def together(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """Frames in batches of half a second, as they come; a gap lies between two batches."""
    batch: list[Frame] = []
    for frame in frames:
        if frame.start and batch:
            yield batch
            batch = []
        batch.append(frame)
        if len(batch) == MOST_TOGETHER or frame.time_s - batch[0].time_s >= TOGETHER_S:
            yield batch
            batch = []
    if batch:
        yield batch


def png(image: NDArray[np.uint8]) -> bytes:
    """A grey picture (h, w) without loss, so that a stream says what a file says."""
    written = io.BytesIO()
    Image.fromarray(image).save(written, "PNG", compress_level=1)
    return written.getvalue()


def run(
    project: Project, address: str, key: str | None, place: tuple[str | None, str | None], tell: Tell,
    say: Callable[[str], None] = lambda words: None,
) -> int:  # fmt: skip
    """Follow an address, or play a file, with the model of a project; `place` is the server's URL and a token.

    `say` hears what people should know besides. Returns how many frames were answered. Raises SettingsError for a
    model of another task, NotFound for a file that is not there or before a version is deployed, BackendError when the
    camera or the server is gone.
    """
    if project.settings.task != "video":
        raise SettingsError(
            f"{project.model!r} is of the task {project.settings.task}; streams are for models of video"
        )
    url, token = place
    facts = Facts.read(version_folder(project.home, project.model, project.champion()))
    server = HttpServer(url or address_of(project.home.settings.server), project.model, token)
    if "://" not in address:
        return follow(at_rate(read_frames(Path(address), facts.long_side), facts), server, key, tell)
    frames = read_frames(address, facts.long_side)
    return follow(at_rate(in_time(frames, say), facts), server, key, tell)


def address_of(settings: ServerSettings) -> str:
    """Where the project's own server answers."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
