"""A generated plaza under a fixed camera: people on their usual ways and, on request, things that do not belong."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from keepfit.app.demo.scenery import (
    FIXTURES,
    Picture,
    Stencil,
    Strokes,
    View,
    extent,
    ground,
    lamps,
    stencil,
)
from keepfit.app.demo.walkers import (
    ACROSS,
    USUAL_SPEED,
    Actor,
    Figure,
    Track,
    a_look,
    cart,
    crowd,
    cyclist,
    runner,
    suitcase,
    tracks,
    walker,
)
from keepfit.errors import BackendError, InvalidInput

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""
SMALLEST = 48
EARLY = 1e-6
"""Seconds by which everything comes and goes early, so that rounding does not move it by a frame."""
PARTLY = 0.25
"""Share of a thing's box that has to be in the picture before it counts as visible."""


@dataclass(frozen=True)
class Event:
    """An anomaly: a `rider`, `runner`, `cart` or `wrong_way` crosses, or a suitcase is `dropped`.

    What moves comes into view at `start_s`; when it has crossed, another follows if there is time for it before the
    duration is over. One crossing always happens, even if it takes longer. A suitcase stays for the whole duration.
    """

    kind: str
    start_s: float
    duration_s: float


@dataclass(frozen=True, eq=False)
class Plaza:
    """A rendered video and what is in it."""

    path: Path
    fps: int
    frames: int
    truth: NDArray[np.uint8]
    """Shape (frames,): 1 where an anomalous thing is visible."""
    boxes: tuple[tuple[Box, ...], ...]
    """Where, for every frame."""
    events: tuple[Event, ...]


@dataclass(frozen=True)
class _Part:
    figure: Figure
    speed: float
    stride: float
    against: bool = False


_PARTS = {
    "rider": _Part(cyclist, 3.0 * USUAL_SPEED, 5.0),
    "runner": _Part(runner, 2.5 * USUAL_SPEED, 2.4),
    "cart": _Part(cart, 1.3 * USUAL_SPEED, 1.0),
    "wrong_way": _Part(walker, USUAL_SPEED, 1.4, against=True),
}
KINDS = (*_PARTS, "dropped")


def render_plaza(
    path: Path, seconds: float, events: Sequence[Event], rng: np.random.Generator,
    *, size: tuple[int, int] = (192, 144), fps: int = 10, dusk: float = 0.0,
) -> Plaza:  # fmt: skip
    """Writes `path` as H.264 and says what is in it; all is normal but for the events.

    The place, its one-way lanes and the camera are always the same; `rng` decides who walks there and how the light
    changes, and the events change neither. `dusk` from 0 to 1: darker, longer shadows, more noise. `size` is (width,
    height). Raises InvalidInput for an unknown or badly timed event, BackendError when the video cannot be written.
    """
    _check(seconds, events, size, fps, dusk)
    view, count = View(*size), round(seconds * fps)
    crowd_rng, event_rng, light_rng, noise_rng = rng.spawn(4)
    odd = [actor for event in events for actor in _staged(event, view, event_rng)]
    boxes = tuple(_visible(odd, i / fps, view) for i in range(count))
    actors = [*crowd(view, seconds, crowd_rng), *odd]
    pictures = _pictures(_scene(view, dusk), actors, np.arange(count) / fps, light_rng, noise_rng)
    _write(path, pictures, size, fps)
    return Plaza(path, fps, count, np.array([bool(b) for b in boxes], np.uint8), boxes, tuple(events))


def write_sidecar(plaza: Plaza) -> Path:
    """Writes the truth as JSON beside the video and returns its path; spans are inclusive, frames count from 0."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], plaza.truth, [0]]).astype(np.int8))).reshape(-1, 2)
    spans = [[int(first), int(stop) - 1] for first, stop in edges]
    clip = {"name": "plaza", "first": 0, "frames": plaza.frames, "anomaly_frames": spans}
    path = plaza.path.with_suffix(".json")
    try:
        path.write_text(json.dumps({"fps": plaza.fps, "clips": [clip]}, indent=1) + "\n", "utf-8")
    except OSError as error:
        raise BackendError(f"{path} cannot be written ({error}); choose another folder") from error
    return path


def _check(seconds: float, events: Sequence[Event], size: tuple[int, int], fps: int, dusk: float) -> None:
    if min(size) < SMALLEST or size[0] % 2 or size[1] % 2:
        raise InvalidInput(f"a plaza of {size[0]}x{size[1]} is none; give even sides of {SMALLEST} or more", "size")
    if fps < 1 or not 1 <= seconds * fps < math.inf:
        raise InvalidInput("a video needs a frame at least; give seconds and fps above zero", "seconds")
    if not 0 <= dusk <= 1:
        raise InvalidInput(f"dusk is {dusk:g}; give 0 for day up to 1 for dusk", "dusk")
    for event in events:
        if event.kind not in KINDS:
            raise InvalidInput(f"no event is called {event.kind!r}; choose from {', '.join(KINDS)}", "events")
        if not (event.start_s >= 0 and event.duration_s > 0 and event.start_s + event.duration_s <= seconds):
            raise InvalidInput(f"the {event.kind} at {event.start_s:g} s for {event.duration_s:g} s lies outside the "
                               f"{seconds:g} s of the video; move or shorten it", "events")  # fmt: skip


def _staged(event: Event, view: View, rng: np.random.Generator) -> list[Actor]:
    """Who acts in an event."""
    lanes, end = tracks(view, ACROSS), event.start_s + event.duration_s
    if event.kind == "dropped":
        return _dropped(event.start_s, end, lanes[rng.integers(2)], rng)
    actors, t = list[Actor](), event.start_s
    while True:
        entering = [_enters(_PARTS[event.kind], lane, t, view, rng) for lane in lanes]
        fitting = [pair for pair in entering if pair[1] <= end]
        if actors and not fitting:
            return actors
        actor, left = fitting[rng.integers(len(fitting))] if fitting else min(entering, key=lambda pair: pair[1])
        actors.append(actor)
        t = left + 0.5


def _enters(part: _Part, lane: Track, t: float, view: View, rng: np.random.Generator) -> tuple[Actor, float]:
    """Somebody who comes into view at t, and when they have left it."""
    track = lane.reversed() if part.against else lane
    actor = Actor(part.figure, track, a_look(rng), 0.0, part.speed, rng.normal(0, 0.2), 0.0, part.stride, odd=True)
    seen = [s for s in np.arange(0.0, actor.until, 0.05).tolist() if _visible([actor], s, view)]
    return replace(actor, born=t - seen[0]), t + seen[-1] - seen[0]


def _dropped(start: float, end: float, lane: Track, rng: np.random.Generator) -> list[Actor]:
    """One walker leaves a suitcase at `start`, another takes it at `end`; both stand there for two seconds."""
    # on the near edge of the lane, where few would walk through it
    place, side, speed = float(rng.uniform(0.35, 0.65)) * lane.length, math.copysign(1.1, lane.dx), USUAL_SPEED
    walk = place / speed
    owner = Actor(
        walker, lane, a_look(rng), start - 1 - walk, speed, side, pause=(walk, 2.0), carries=(-math.inf, start)
    )
    taker = replace(owner, look=a_look(rng), born=end - 1 - walk, carries=(end, math.inf))
    left = Actor(suitcase, lane, a_look(rng), start, 0.0, 1.15 * side, place + 0.4, gone=end, odd=True)
    return [owner, taker, left]


def _visible(actors: Sequence[Actor], t: float, view: View) -> tuple[Box, ...]:
    """Boxes of the anomalous ones that are in the picture at t."""
    odd = [a for a in actors if a.odd and a.born - EARLY <= t < a.until - EARLY]
    return tuple(box for actor in odd if (box := _box(view.draw(actor.strokes(t), actor.spot(t)), view)))


def _box(drawn: Strokes, view: View) -> Box | None:
    left, top, right, bottom = extent(drawn, 0.0)
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(view.width)), min(bottom, float(view.height)))
    seen = max(inside[2] - inside[0], 0) * max(inside[3] - inside[1], 0)
    if seen < PARTLY * (right - left) * (bottom - top):
        return None
    return math.floor(inside[0]), math.floor(inside[1]), math.ceil(inside[2]), math.ceil(inside[3])


@dataclass(frozen=True, eq=False)
class _Scene:
    """All that does not move."""

    view: View
    ground: Picture
    lamps: Picture
    """Share of the day's light that reaches each pixel."""
    sun: tuple[float, float]
    """Where the shadow of what is 1 m high falls, metres right and away."""
    noise: float
    fixtures: list[tuple[float, Stencil]]
    """Lamp, benches and planters with their distance."""

    def place(self, canvas: Picture, strokes: Strokes, spot: tuple[float, float]) -> list[tuple[float, Stencil]]:
        """Draws the shadow onto the canvas; the figure, with its distance, is for later."""
        if shadow := stencil(self.view.shadow(strokes, spot, *self.sun), self.view, soft=2.5):
            shadow.shade(canvas)
        figure = stencil(self.view.draw(strokes, spot), self.view)
        return [] if figure is None else [(spot[1], figure)]

    def picture(self, actors: Sequence[Actor], t: float, light: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """What the camera sees at t seconds; the sensor's noise grows with the light."""
        canvas, standing = self.ground.copy(), list(self.fixtures)
        for actor in actors:
            standing += self.place(canvas, actor.strokes(t), actor.spot(t))
        for _, figure in sorted(standing, key=lambda pair: -pair[0]):
            figure.paint(canvas)
        canvas *= self.lamps * light
        canvas += rng.standard_normal(canvas.shape, np.float32) * (self.noise * np.sqrt(canvas + 40) / 13)
        return np.asarray(np.clip(canvas + 0.5, 0, 255), np.uint8)


def _pictures(
    scene: _Scene, actors: Sequence[Actor], times: NDArray[np.float64],
    light_rng: np.random.Generator, noise_rng: np.random.Generator,
) -> Iterator[NDArray[np.uint8]]:  # fmt: skip
    light = _light(times, light_rng)
    born, until = np.array([(a.born, a.until) for a in actors]).reshape(-1, 2).T
    for t, brightness in zip(times.tolist(), light.tolist(), strict=True):
        here = [actors[i] for i in np.flatnonzero((born - EARLY <= t) & (t < until - EARLY)).tolist()]
        yield scene.picture(here, t, brightness, noise_rng)


def _scene(view: View, dusk: float) -> _Scene:
    sun = (0.55 + 0.9 * dusk, -0.35 - 0.4 * dusk)
    scene = _Scene(view, ground(view), lamps(view, dusk), sun, 2.2 * (1 + 1.6 * dusk), [])
    for strokes, u, v in FIXTURES:
        right, away = view.spot(np.array([u * view.width]), np.array([v * view.height]))
        scene.fixtures.extend(scene.place(scene.ground, strokes, (float(right[0]), float(away[0]))))
    return scene


def _light(times: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Thin clouds: shape (n,), about 1."""
    begin = rng.uniform(0, 2 * math.pi, 2)
    slow, fast = np.sin(times * 2 * math.pi / 53 + begin[0]), np.sin(times * 2 * math.pi / 19 + begin[1])
    return np.asarray(1 + 0.018 * slow + 0.012 * fast, np.float64)


def _write(path: Path, pictures: Iterator[NDArray[np.uint8]], size: tuple[int, int], fps: int) -> None:
    """Encodes the pictures as they come, with one thread; the same pictures give the same bytes on one machine."""
    width, height = size
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    # with the macroblock tree the bytes varied between runs on CPUs with AVX-512
    options = {"crf": "16", "preset": "veryfast", "x264-params": "mbtree=0"}
    squeeze = np.round(16 + np.arange(256) * 219 / 255).astype(np.uint8)
    try:
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
            for picture in pictures:
                planes[:height] = squeeze[picture]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
            container.mux(stream.encode())
    except (OSError, av.FFmpegError) as error:
        raise BackendError(f"{path} cannot be written ({error}); check the folder and the disk") from error
