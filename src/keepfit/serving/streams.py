"""Streams: one session for each camera that sends its frames as they come; all state is in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from keepfit.clock import Clock, SystemClock
from keepfit.data.records import STREAM, Example, Prediction, new_id
from keepfit.errors import InvalidInput, NotFound, Overloaded
from keepfit.serving.predictor import Predictor
from keepfit.serving.refined import LEVEL, Refined
from keepfit.serving.versions import Served
from keepfit.tasks.video.clips import window_frames
from keepfit.tasks.video.stream import LEAD, Moments, Stream
from keepfit.tasks.video.thresholding import Hysteresis, sustained
from keepfit.tasks.video.timeline import Threshold

if TYPE_CHECKING:  # they bring the video decoder, which a server of texts does not need
    from keepfit.tasks.video.decoding import Frame
    from keepfit.tasks.video.model import VideoModel

CHUNK = 16
"""Frames that are answered together."""

Pieces = Sequence[Sequence["Frame"]]
"""What came in one call: for each picture or piece of video its frames."""


@dataclass(frozen=True)
class Moment:
    """What is said of one frame."""

    frame: int
    """Counted from 0 over the session."""
    time_s: float
    """Seconds since the session's first frame: a piece of video has its own clock and begins one frame after what was
    before, a picture is one frame at the rate of the model's training video."""
    score: float
    label: int


@dataclass(frozen=True)
class Filled:
    """A full window of a stream, as it is recorded."""

    first: int
    """Its first frame, counted over the session."""
    stop: int
    """The frame after its last."""
    example: Example
    prediction: Prediction


@dataclass(frozen=True)
class Pushed:
    """The answer to some frames."""

    moments: tuple[Moment, ...]
    version: int
    threshold: Threshold
    """By which the labels were given."""
    windows: tuple[Filled, ...] = ()
    """What was recorded of the windows that these frames have filled."""


@dataclass(eq=False)
class Session:
    """One camera's state between two calls; changed as a whole when a call has succeeded."""

    id: str
    model: str
    key: str
    used: datetime
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held for a whole call: frames have an order."""
    served: Served | None = None
    """Who answered last."""
    stream: Stream | None = None
    """None: to be made anew from `recent`."""
    alarm: dict[str, int] | None = None
    """State of the hysteresis; None before the first frame."""
    frames: int = 0
    time_s: float = 0.0
    """When the next frame comes, if nothing else says so."""
    recent: list[NDArray[np.uint8]] = field(default_factory=list)
    """The last LEAD pictures."""
    open: Moments | None = None
    """Frames of the window that is not full yet."""


class Streams:
    """The sessions of this process, at most `most`; one that nobody uses for `idle` is dropped at the next call.

    When another version answers the session's key, the last LEAD pictures are shown to a fresh stream of it, which
    brings it where a long one would be; an alarm that is on stays on. Each full window (about 3.2 s) is recorded for
    the watch. Its pictures are not kept: it is measured, but cannot be learnt from. No cuts are looked for: a camera
    that is turned is an alarm, not a new video. Sessions do not outlive the process.
    """

    def __init__(
        self, most: int = 64, idle: timedelta = timedelta(minutes=10), clock: Clock | None = None,
        refined: Mapping[str, Refined] | None = None,
    ) -> None:  # fmt: skip
        """`refined`: for each model the thresholds of cameras that were judged anew; else those of the versions."""
        self._most, self._idle, self._clock = most, idle, clock or SystemClock()
        self._refined = dict(refined or {})
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def has(self, model: str) -> bool:
        """Whether a camera of this model has an open session."""
        with self._lock:
            self._drop_idle(self._clock.now())
            return any(session.model == model for session in self._sessions.values())

    def open(self, predictor: Predictor, key: str | None = None) -> tuple[Session, int]:
        """A new session and the version that will answer it; without a key its id is the key.

        Raises Overloaded when too many are open, BackendError when nothing is deployed, InvalidInput for a camera that
        the version does not know where it knows several.
        """
        id_ = new_id()
        served = predictor.version_for(key or id_)
        _video(served).facts.check_camera(key)
        now = self._clock.now()
        with self._lock:
            self._drop_idle(now)
            if len(self._sessions) >= self._most:
                oldest = min(session.used for session in self._sessions.values())
                raise Overloaded(
                    f"{self._most} open streams are the limit; close one, or raise server.max_streams",
                    max(1.0, (oldest + self._idle - now).total_seconds()),
                )
            session = self._sessions[id_] = Session(id_, predictor.name, key or id_, now)
        return session, served.version

    def push(
        self, predictor: Predictor, id_: str, read: Callable[[VideoModel], Pieces], request: str | None = None
    ) -> Pushed:
        """What the version of now says of the next frames, which `read` decodes in the size that it has learnt.

        A call that fails has changed nothing. Raises NotFound for an unknown session, InvalidInput for a camera that
        the version of now does not know, and what `read` raises; it may be called twice, when a challenger fails.
        """
        session = self._session(predictor, id_)
        with session.lock:
            served = predictor.version_for(session.key)
            try:
                pushed = self._answered(session, served, read)
            except InvalidInput:
                raise
            except Exception as error:
                predictor.failed(served, error)  # raises it, unless another version is the main one
                served = predictor.main_version()
                pushed = self._answered(session, served, read)
            windows = tuple(_windows(session, pushed.threshold, self._clock.now()))
            predictor.record([(window.example, replace(window.prediction, request=request)) for window in windows])
            session.used = self._clock.now()
        return replace(pushed, windows=windows)

    def _answered(self, session: Session, served: Served, read: Callable[[VideoModel], Pieces]) -> Pushed:
        model = _video(served)
        model.facts.check_camera(session.key)
        return _answer(session, served, self._threshold(session, served), read(model))

    def close(self, predictor: Predictor, id_: str) -> Session:
        """End a session. Raises NotFound."""
        session = self._session(predictor, id_)
        with self._lock:
            self._sessions.pop(id_, None)
        return session

    def _threshold(self, session: Session, served: Served) -> Threshold:
        known = self._refined.get(session.model)
        return (known and known.of(served.version, session.key)) or _video(served).facts.view(session.key).threshold

    def _session(self, predictor: Predictor, id_: str) -> Session:
        now = self._clock.now()
        with self._lock:
            self._drop_idle(now)
            session = self._sessions.get(id_)
            if session is None or session.model != predictor.name:
                raise NotFound(f"there is no stream {id_!r} (any more); open one with POST /streams")
            session.used = now
            return session

    def _drop_idle(self, now: datetime) -> None:
        old = [s.id for s in self._sessions.values() if now - s.used >= self._idle and not s.lock.locked()]
        for id_ in old:
            del self._sessions[id_]


def _video(served: Served) -> VideoModel:
    return cast("VideoModel", served.model)


def _answer(session: Session, served: Served, threshold: Threshold, pieces: Pieces) -> Pushed:
    images = [frame.image for piece in pieces for frame in piece]
    if not images:
        return Pushed((), served.version, threshold)
    # a version that sees the camera in another size cannot be shown the old pictures
    session.recent = [image for image in session.recent if image.shape == images[0].shape]
    stream = _stream_of(session, served)
    session.stream = None  # should the engine fail half-way, the next call begins with a fresh one
    said = _joined([stream.push(np.stack(some), np.zeros(len(some), np.bool_)) for some in _chunks(images)])
    alarm = Hysteresis(threshold)
    if session.alarm is not None:
        alarm.restore(session.alarm)
    labels = [alarm.step(score) for score in said.scores.tolist()]
    times, session.time_s = _times(session.time_s, pieces, 1 / _video(served).facts.fps)
    moments = tuple(
        Moment(session.frames + i, *values)
        for i, values in enumerate(zip(times, said.scores.tolist(), labels, strict=True))
    )
    same = session.served is not None and session.served.version == served.version
    session.open = _joined([session.open, said]) if same and session.open is not None else said
    session.served, session.stream, session.alarm = served, stream, alarm.state()
    session.recent = [*session.recent, *images][-LEAD:]
    session.frames += len(images)
    return Pushed(moments, served.version, threshold)


def _stream_of(session: Session, served: Served) -> Stream:
    """The session's own stream, or a fresh one that has seen its last pictures."""
    if session.stream is not None and session.served is served:
        return session.stream
    stream = _video(served).stream(session.key)
    if session.recent:
        stream.push(np.stack(session.recent), np.zeros(len(session.recent), np.bool_))
    return stream


def _windows(session: Session, threshold: Threshold, now: datetime) -> Iterator[Filled]:
    """The full windows, as they are recorded; what is left stays open."""
    served, said = session.served, session.open
    if served is None or said is None:
        return
    model = _video(served)
    length = window_frames(model.facts.fps)
    while len(said.scores) >= length:
        first = session.frames - len(said.scores)
        full, said = _part(said, slice(length)), _part(said, slice(length, None))
        chance = model.chance(full.scores, threshold, session.key)
        context = {"stream": session.id}
        example = Example(f"stream/{session.id}#{first}-{first + length}", now, key=session.key, context=context)
        prediction = Prediction(
            example_id=example.id,
            model_version=served.version,
            labels=model.labels,
            scores=np.array([1 - chance, chance], np.float32),
            embedding=full.facts.mean(axis=0),
            time=now,
            key=session.key,
            context=context,
            measures={"length": float(length), "unknown": 0.0, LEVEL: sustained(full.scores, threshold.min_frames)},
            stage=STREAM,
        )
        yield Filled(first, first + length, example, prediction)
    session.open = said


def _joined(parts: Sequence[Moments]) -> Moments:
    return Moments(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Moments)))


def _part(said: Moments, rows: slice) -> Moments:
    return Moments(*(getattr(said, one.name)[rows] for one in fields(Moments)))


def _chunks(images: Sequence[NDArray[np.uint8]]) -> Iterator[Sequence[NDArray[np.uint8]]]:
    return (images[i : i + CHUNK] for i in range(0, len(images), CHUNK))


def _times(begin: float, pieces: Pieces, step: float) -> tuple[list[float], float]:
    """The time of each frame, and when the next one comes."""
    times: list[float] = []
    for piece in pieces:
        times += [begin + frame.time_s for frame in piece]
        begin = times[-1] + step if piece else begin
    return times, begin
