"""Who moves over the demo's plaza: figures made of strokes, and their ways."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from keepfit.app.demo.scenery import Strokes, View

USUAL_SPEED = 1.35
"""Metres per second."""
MOST = 10
"""Walkers on the plaza at a time."""
BEFORE_S = 60.0
"""The plaza is peopled for this long before the first frame."""
NEVER = (math.inf, math.inf)


@dataclass(frozen=True)
class Track:
    """A straight way over the ground; everybody on it goes from its beginning to its end."""

    x: float
    z: float
    dx: float
    dz: float
    length: float
    """Metres; (dx, dz) is the direction, of length 1."""

    def at(self, along: float, side: float) -> tuple[float, float]:
        """Ground coordinates, `along` metres from the beginning and `side` metres right of the middle."""
        return self.x + self.dx * along + self.dz * side, self.z + self.dz * along - self.dx * side

    def reversed(self) -> Track:
        """The same way from its end to its beginning."""
        x, z = self.at(self.length, 0.0)
        return Track(x, z, -self.dx, -self.dz, self.length)


ACROSS = (
    (-0.12, 0.915, 1.12, 0.895),
    (1.12, 0.70, -0.12, 0.73),
    (-0.12, 0.50, 1.12, 0.48),
    (1.12, 0.34, -0.12, 0.36),
)
UPRIGHT = ((0.13, 1.18, 0.33, -0.02), (0.66, -0.02, 0.90, 1.18))
"""The one-way lanes, from (column, row) to (column, row), in shares of the picture."""


def tracks(view: View, lanes: tuple[tuple[float, float, float, float], ...] = ACROSS + UPRIGHT) -> list[Track]:
    """The lanes on the ground."""
    found = []
    for u0, v0, u1, v1 in lanes:
        xs, zs = view.spot(np.array([u0, u1]) * view.width, np.array([v0, v1]) * view.height)
        dx, dz = float(xs[1] - xs[0]), float(zs[1] - zs[0])
        length = math.hypot(dx, dz)
        found.append(Track(float(xs[0]), float(zs[0]), dx / length, dz / length, length))
    return found


@dataclass(frozen=True)
class Look:
    """What tells one person from another: tones on 0..255, metres, and where in the step the first frame finds them."""

    coat: float
    trousers: float
    skin: float
    hair: float
    height: float
    girth: float
    phase: float


def a_look(rng: np.random.Generator) -> Look:
    """Somebody; dark coats are common, light ones less so."""
    coat = rng.choice([rng.uniform(25, 70), rng.uniform(75, 115), rng.uniform(185, 235)], p=[0.5, 0.25, 0.25])
    skin, hair = rng.uniform(120, 195), rng.uniform(20, 110)
    trousers, girth = rng.uniform(25, 105), rng.uniform(0.9, 1.2)
    return Look(float(coat), trousers, skin, hair, rng.uniform(1.58, 1.92), girth, rng.uniform(0, 2 * math.pi))


@dataclass(frozen=True)
class Stance:
    """How a figure holds itself at one moment."""

    phase: float
    """Of the step, radians."""
    swing: float
    """1 on the move, 0 at rest."""
    facing: float
    """1 to the right of the picture, -1 to the left, 0 up or down."""
    carries: bool
    """A suitcase in hand."""


Figure = Callable[[Look, Stance], Strokes]


def _strokes(*rows: tuple[float, ...]) -> Strokes:
    return np.array(rows, np.float32)


def walker(look: Look, stance: Stance, reach: float = 0.36, lean: float = 0.03) -> Strokes:
    """A person on foot; `reach` is how far the feet swing, metres."""
    c, g = stance.facing, look.girth
    step = reach * stance.swing * math.sin(stance.phase)
    lift = 0.5 * reach * stance.swing * math.cos(stance.phase)
    apart, bent = 0.1 * math.sqrt(max(1 - c * c, 0)) + 0.02, lean * c
    left, right = (c * step + apart, 0.06 + max(lift, 0)), (-c * step - apart, 0.06 + max(-lift, 0))
    knee = 0.5 * c * abs(lift)
    hand = 0.8 * c * step
    body = _strokes(
        (bent, 1.36, bent + hand - 0.17 * apart, 0.92, 0.075, 0, 0.8 * look.coat),
        (0, 0.86, right[0] / 2 + knee, 0.46 + right[1] / 2, 0.1 * g, 0, 0.85 * look.trousers),
        (right[0] / 2 + knee, 0.46 + right[1] / 2, *right, 0.08, 0, 0.85 * look.trousers),
        (0, 0.86, left[0] / 2 + knee, 0.46 + left[1] / 2, 0.1 * g, 0, look.trousers),
        (left[0] / 2 + knee, 0.46 + left[1] / 2, *left, 0.08, 0, look.trousers),
        (0, 0.95, bent, 1.36, 0.2 * g, 0, look.coat),
        (2.2 * bent, 1.63, 2.2 * bent, 1.65, 0.12, 0, look.skin),
        (2.2 * bent - 0.03 * c, 1.71, 2.2 * bent - 0.03 * c, 1.71, 0.11, 0, look.hair),
        (bent, 1.36, bent - hand + 0.1 * c, 0.92, 0.075, 0, 0.9 * look.coat),
    )
    body[:, :5] *= look.height / 1.75
    return np.concatenate([body, _case(bent - hand + 0.1 * c, 0.2)]) if stance.carries else body


def runner(look: Look, stance: Stance) -> Strokes:
    """A person who runs: long steps, bent forward."""
    return walker(look, stance, reach=0.62, lean=0.14)


def _case(x: float, y: float) -> Strokes:
    return _strokes(
        (x - 0.12, y + 0.6, x - 0.12, y + 0.9, 0.03, 0, 40),
        (x + 0.12, y + 0.6, x + 0.12, y + 0.9, 0.03, 0, 40),
        (x - 0.12, y + 0.9, x + 0.12, y + 0.9, 0.04, 0, 30),
        (x - 0.17, y + 0.15, x + 0.17, y + 0.15, 0.15, 0, 38),
        (x - 0.17, y + 0.45, x + 0.17, y + 0.45, 0.15, 0, 48),
        (x - 0.27, y + 0.3, x + 0.27, y + 0.3, 0.03, 0, 105),
    )


def suitcase(look: Look, stance: Stance) -> Strokes:
    """A suitcase that stands alone."""
    return _case(0.0, 0.0)


def cyclist(look: Look, stance: Stance) -> Strokes:
    """A person on a bicycle, seen from its side."""
    c, frame = math.copysign(1.0, stance.facing), 30
    pedal, other = ((0.17 * math.cos(stance.phase + a), 0.32 + 0.17 * math.sin(stance.phase + a)) for a in (0, math.pi))
    bike = _strokes(
        (-0.2, 0.95, other[0] + 0.02, other[1], 0.09, 0, 0.8 * look.trousers),
        (-0.55, 0.34, -0.55, 0.34, 0.045, 0.31, 22), (0.55, 0.34, 0.55, 0.34, 0.045, 0.31, 22),
        (-0.55, 0.34, 0, 0.34, 0.04, 0, frame), (0, 0.34, 0.42, 0.8, 0.04, 0, frame),
        (-0.2, 0.85, 0.42, 0.8, 0.04, 0, frame), (0.42, 1.05, 0.55, 0.34, 0.04, 0, frame),
        (-0.2, 0.95, 0.14, 0.66 + pedal[1] / 4, 0.1, 0, look.trousers),
        (0.14, 0.66 + pedal[1] / 4, *pedal, 0.08, 0, look.trousers),
        (-0.18, 1.02, 0.16, 1.42, 0.19 * look.girth, 0, look.coat), (0.18, 1.4, 0.45, 1.08, 0.07, 0, 0.9 * look.coat),
        (0.32, 1.68, 0.32, 1.68, 0.12, 0, look.skin), (0.3, 1.76, 0.3, 1.76, 0.11, 0, look.hair),
    )  # fmt: skip
    bike[:, [0, 2]] *= c
    return bike


def cart(look: Look, stance: Stance) -> Strokes:
    """An electric cart with a driver and a load bed, 3.2 m long."""
    c = math.copysign(1.0, stance.facing)
    vehicle = _strokes(
        (-1.2, 1.0, 1.1, 1.0, 0.3, 0, 150), (0.15, 1.0, 0.15, 1.5, 0.2, 0, look.coat),
        (0.2, 1.72, 0.2, 1.72, 0.13, 0, look.skin), (0.15, 1.4, 0.7, 1.15, 0.07, 0, look.coat),
        (-1.25, 0.62, 1.15, 0.62, 0.32, 0, 205), (-1.5, 0.95, -0.35, 0.95, 0.07, 0, 120),
        (-1.2, 1.12, -0.6, 1.12, 0.2, 0, 95), (1.0, 0.75, 1.35, 0.72, 0.16, 0, 225),
        (-0.25, 1.0, -0.3, 2.05, 0.05, 0, 60), (0.85, 1.0, 0.65, 2.05, 0.05, 0, 60),
        (-0.45, 2.1, 0.8, 2.1, 0.09, 0, 215),
        (-0.95, 0.28, -0.95, 0.28, 0.27, 0, 25), (0.9, 0.28, 0.9, 0.28, 0.27, 0, 25),
        (-0.95, 0.28, -0.95, 0.28, 0.1, 0, 130), (0.9, 0.28, 0.9, 0.28, 0.1, 0, 130),
    )  # fmt: skip
    vehicle[:, [0, 2]] *= c
    return vehicle


@dataclass(frozen=True)
class Actor:
    """Somebody or something on a track; where it is at a moment follows from this alone."""

    figure: Figure
    track: Track
    look: Look
    born: float
    """When it is at `ahead` metres from the beginning of the track, seconds of the video."""
    speed: float = USUAL_SPEED
    side: float = 0.0
    ahead: float = 0.0
    stride: float = 1.4
    """Metres of a double step."""
    pause: tuple[float, float] = NEVER
    """Seconds after `born`, and for how long."""
    carries: tuple[float, float] = NEVER
    """From and until when it has a suitcase in hand."""
    gone: float = math.inf
    odd: bool = False
    """An anomaly."""

    @property
    def until(self) -> float:
        """When it has left."""
        pause = self.pause[1] if self.pause[0] < math.inf else 0.0
        walked = (self.track.length - self.ahead) / self.speed if self.speed else math.inf
        return min(self.gone, self.born + walked + pause)

    def spot(self, t: float) -> tuple[float, float]:
        """Ground coordinates at t seconds."""
        along = self._along(t)
        return self.track.at(along, self.side + 0.1 * self.swing(t) * math.sin(0.9 * along + self.look.phase))

    def swing(self, t: float) -> float:
        """1 on the move, 0 at rest."""
        return float(self.speed > 0 and not 0 <= t - self.born - self.pause[0] < self.pause[1])

    def strokes(self, t: float) -> Strokes:
        """The figure at t seconds."""
        phase = self.look.phase + 2 * math.pi * self._along(t) / self.stride
        carries = self.carries[0] <= t < self.carries[1]
        return self.figure(self.look, Stance(phase, self.swing(t), self.track.dx, carries))

    def _along(self, t: float) -> float:
        since, (begin, length) = t - self.born, self.pause
        return self.ahead + self.speed * (since if since < begin else max(begin, since - length))


def crowd(view: View, seconds: float, rng: np.random.Generator) -> list[Actor]:
    """Everybody who crosses the plaza in the usual way within these seconds, at most MOST at a time."""
    lanes, people, here, t = tracks(view), list[Actor](), list[Actor](), -BEFORE_S
    while t < seconds:
        t += rng.exponential(1.7)
        someone = _someone(lanes[rng.choice(len(lanes), p=[0.26, 0.22, 0.16, 0.14, 0.11, 0.11])], t, rng)
        party = [someone, *([_beside(someone, rng)] if rng.random() < 0.25 else [])]
        here = [other for other in here if other.until > t]
        if len(here) + len(party) <= MOST:
            people += party
            here += party
    return people


def _someone(track: Track, born: float, rng: np.random.Generator) -> Actor:
    speed = float(np.clip(rng.normal(USUAL_SPEED, 0.16), 0.95, 1.7))
    pause = (rng.uniform(0.2, 0.8) * track.length / speed, rng.uniform(1.5, 5.0)) if rng.random() < 0.15 else NEVER
    carries = (-math.inf, math.inf) if rng.random() < 0.15 else NEVER
    look = a_look(rng)
    return Actor(walker, track, look, born, speed, rng.normal(0, 0.45), 0.0, 0.8 * look.height, pause, carries)


def _beside(friend: Actor, rng: np.random.Generator) -> Actor:
    return replace(friend, look=a_look(rng), side=friend.side + 0.75, born=friend.born + 0.1, carries=NEVER)
