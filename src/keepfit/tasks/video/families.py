"""Families: the ways in which a copy of something that moves in normal video is made abnormal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keepfit.errors import InvalidInput
from keepfit.tasks.video.blobs import (
    CORE,
    FEWEST,
    FOREGROUND,
    LONGEST,
    MARGIN,
    PICTURE,
    RESIDUE,
    SHORTEST,
    Blob,
    Canvas,
    Floats,
    moving_blob,
    patch,
    with_edge,
)


def _path(
    canvas: Canvas, size: tuple[int, int], frames: int, speed: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Corners of a smooth, slightly bent path inside the picture, shape (frames, 2); `speed` in pixels a frame."""
    room = np.array(canvas.background.shape) - size
    for shrink in np.linspace(1, 0, 12):
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(np.full(frames, rng.uniform(-0.1, 0.1)))
        steps = shrink * speed * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        path = np.rint(rng.uniform(0, room) + np.cumsum(steps, axis=0))
        if (path >= 0).all() and (path <= room).all():
            break
    return np.asarray(np.clip(path, 0, room), np.int64)


def _thing(canvas: Canvas, rng: np.random.Generator) -> Blob:
    """A moving thing of the clip; where there is none, a patch of the picture on a path of its own."""
    blob = moving_blob(canvas.original, canvas.background, rng)
    if blob is not None:
        return blob
    size = _patch_size(canvas, rng)
    sprite = patch(canvas.original, size, rng)
    frames = min(LONGEST, len(canvas.original) - 1)
    corners = _path(canvas, size, frames, rng.uniform(1, 2.5), rng)
    first = int(rng.integers(1, len(canvas.original) - frames + 1))
    return Blob(first, corners, np.repeat(sprite[None], frames, axis=0), found=False)


def _patch_size(canvas: Canvas, rng: np.random.Generator) -> tuple[int, int]:
    height, width = np.maximum(6, rng.uniform(0.06, 0.2, 2) * min(canvas.background.shape)).astype(int)
    return int(height), int(width)


def event(begin: int, end: int, rng: np.random.Generator) -> range:
    """The frames of an event between `begin` and `end`, with normal frames before it; half of them last to the end."""
    begin = max(begin, 1, min(4, end - SHORTEST))
    if end - begin < FEWEST:
        raise InvalidInput("The clip is too short for an event; give at least 24 frames.", "images")
    length = min(int(rng.integers(SHORTEST, LONGEST + 1)), end - begin)
    onset = end - length if rng.random() < 0.5 else int(rng.integers(begin, end - length + 1))
    return range(onset, onset + length)


def own_event(blob: Blob, rng: np.random.Generator) -> range:
    """An event while the thing is seen."""
    return event(blob.first, blob.first + len(blob), rng)


def _replay(canvas: Canvas, span: range, blob: Blob, times: Iterable[float]) -> None:
    """The thing as it is at other times, where it is at those times, in place of itself."""
    for frame, time in zip(span, times, strict=True):
        if blob.found:
            canvas.erase(frame, blob)
        canvas.paste(frame, blob.sprite(time), blob.at(time))


def speed(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing goes two to five times as fast along its own track."""
    factor = rng.uniform(2, 5)
    if canvas.longer is not None and rng.random() < 0.5:
        blob = moving_blob(canvas.longer, canvas.background, rng, int(SHORTEST * factor))
        if blob is not None and len(blob) >= SHORTEST * 2:
            factor = min(factor, len(blob) / SHORTEST)
            span = event(1, len(canvas.original), rng)[: int(len(blob) / factor)]
            for count, frame in enumerate(span):
                canvas.paste(frame, blob.sprite(factor * count), blob.at(factor * count))
            return
    blob = _thing(canvas, rng)
    span = own_event(blob, rng)
    _replay(canvas, span, blob, span.start - blob.first - 1 + factor * np.arange(1.0, len(span) + 1))


def freeze(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing stands still where it was just before."""
    blob = _thing(canvas, rng)
    span = own_event(blob, rng)
    _replay(canvas, span, blob, np.full(len(span), max(span.start - blob.first - 1.0, 0.0)))


def reverse(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing goes back the way it came, and beyond that straight on."""
    blob = _thing(canvas, rng)
    span = own_event(blob, rng)
    _replay(canvas, span, blob, span.start - blob.first - 1 - np.arange(1.0, len(span) + 1))


def trajectory(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing leaves its way sideways, or its double goes where nothing else does."""
    blob = _thing(canvas, rng)
    span = own_event(blob, rng)
    times = [frame - blob.first for frame in span]
    across = rng.random() < 0.5
    start = blob.at(times[0]) if across else _unused_place(canvas, blob, times, rng)
    moved = _sideways(blob, len(span), rng) if across else [blob.at(time) - blob.at(times[0]) for time in times]
    for frame, time, move in zip(span, times, moved, strict=True):
        if across and blob.found:
            canvas.erase(frame, blob)
        canvas.paste(frame, blob.sprite(time), start + move)


def _sideways(blob: Blob, frames: int, rng: np.random.Generator) -> list[NDArray[np.float64]]:
    """Moves of (2,) at about a right angle to its way, at one to two times its pace, at least one pixel a frame."""
    down, right = blob.velocity
    angle = np.arctan2(down, right) + rng.choice([-1, 1]) * rng.uniform(1.2, 1.9)
    pace = max(float(np.hypot(down, right)) * rng.uniform(1, 2), 1.0)
    return [pace * count * np.array([np.sin(angle), np.cos(angle)]) for count in range(1, frames + 1)]


def _unused_place(canvas: Canvas, blob: Blob, times: list[int], rng: np.random.Generator) -> NDArray[np.float64]:
    """The corner, of twelve drawn, where the way from it has had the least foreground."""
    source = canvas.original if canvas.longer is None else canvas.longer
    some = source[:: max(len(source) // 24, 1)].astype(np.int16)
    used = (np.abs(some - canvas.background) > FOREGROUND).mean(axis=0)
    height, width = blob.sprites.shape[2:]
    moves = np.array([blob.at(time) - blob.at(times[0]) for time in times[:: max(len(times) // 4, 1)]])
    room = np.maximum(np.array(used.shape) - (height, width), 1)
    best, least = blob.at(times[0]), np.inf
    for corner in rng.uniform(np.maximum(-moves.min(axis=0), 0), np.maximum(room - moves.max(axis=0), 1), (12, 2)):
        ways = np.clip(corner + moves, 0, room).astype(int)
        crowd = sum(used[top : top + height, left : left + width].mean() for top, left in ways)
        if crowd < least and np.abs(corner - blob.at(times[0])).max() > max(height, width) / 2:
            best, least = corner, crowd
    return best


def scale(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing is half as large again to two and a half times as large about its foot, or two of it in one."""
    blob = _thing(canvas, rng)
    span, factor, merged = own_event(blob, rng), rng.uniform(1.5, 2.5), rng.random() < 0.15
    factor = min(factor, max(0.4 * len(canvas.background) / blob.sprites.shape[2], 1.5))
    shift = np.array([0.0, rng.choice([-0.4, 0.4]) * (blob.sprites.shape[3] - 2 * MARGIN)])
    for frame in span:
        time = frame - blob.first
        if merged:
            canvas.paste(frame, blob.sprite(time + 3), blob.at(time) + shift)
            continue
        sprite = blob.sprite(time)
        foot = np.array([np.flatnonzero(sprite[CORE].max(axis=1) > 0.5)[-1] + 1, sprite.shape[2] / 2])
        if blob.found:
            canvas.erase(frame, blob)
        larger = np.asarray(ndimage.zoom(sprite, (1, factor, factor), order=1), np.float32)
        canvas.paste(frame, larger, blob.at(time) + foot * (1 - factor))


def cutpaste(canvas: Canvas, rng: np.random.Generator) -> None:
    """A piece of the video itself, from elsewhere or another time, drifts through the picture (CutPaste, CVPR 2021)."""
    size = _patch_size(canvas, rng)
    sprite = patch(canvas.original if canvas.longer is None else canvas.longer, size, rng)
    sprite = np.ascontiguousarray(sprite[:, :, ::-1]) if rng.random() < 0.5 else sprite
    span = event(1, len(canvas.original), rng)
    for frame, corner in zip(span, _path(canvas, size, len(span), rng.uniform(0.5, 9), rng), strict=True):
        canvas.paste(frame, sprite, corner.astype(np.float64))


def shuffle(canvas: Canvas, rng: np.random.Generator) -> None:
    """The tiles of the thing's box change places."""
    blob = _thing(canvas, rng)
    edge = MARGIN - 1 if blob.found else 0
    height, width = (side - 2 * edge for side in blob.sprites.shape[2:])
    side = max(3, min(height, width) // int(rng.integers(2, 4)))
    rows, columns = height // side, width // side
    order, drawn = np.zeros(rows * columns, np.int64), rng.permutation(rows * columns)
    # one ring through all tiles, so that none stays where it was
    order[drawn] = np.roll(drawn, 1)
    for frame in own_event(blob, rng):
        box = blob.sprite(frame - blob.first)[PICTURE, edge:, edge:][: rows * side, : columns * side]
        tiles = box.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)[order]
        mixed = tiles.reshape(rows, columns, side, side).swapaxes(1, 2).reshape(rows * side, columns * side)
        canvas.paste(frame, with_edge(mixed), blob.at(frame - blob.first) + edge)


def texture(canvas: Canvas, rng: np.random.Generator) -> None:
    """The thing is overlaid with a cloudy texture, or its contrast is inverted or strongly changed."""
    blob = _thing(canvas, rng)
    gain = float(rng.choice([1.0, 1.0, -1.0, 0.2, 2.2]))
    cloud = _cloud(blob.sprites.shape[2], blob.sprites.shape[3], rng) * rng.uniform(35, 60) * (gain == 1)
    for frame in own_event(blob, rng):
        sprite = blob.sprite(frame - blob.first).copy()
        sprite[PICTURE] += (gain - 1) * sprite[RESIDUE] + cloud
        # the rim is already in the picture
        sprite[RESIDUE] *= gain - 1
        canvas.paste(frame, sprite, blob.at(frame - blob.first))


def _cloud(height: int, width: int, rng: np.random.Generator) -> Floats:
    """Smooth noise of unit variance: a sum of enlarged noise of three sizes, like Perlin's (SIGGRAPH 1985)."""
    total = np.zeros((height, width), np.float32)
    for cell, weight in ((12, 1.0), (6, 0.7), (3, 0.5)):
        coarse = rng.standard_normal((height // cell + 3, width // cell + 3), np.float32)
        total += weight * ndimage.zoom(coarse, cell, order=1)[:height, :width]
    return np.asarray((total - total.mean()) / max(float(total.std()), 1e-6), np.float32)


WAYS: Mapping[str, Callable[[Canvas, np.random.Generator], None]] = MappingProxyType(
    {way.__name__: way for way in (speed, freeze, reverse, trajectory, scale, cutpaste, shuffle, texture)}
)
"""Each draws one event into the canvas; raises InvalidInput when the clip shows nothing that could be used."""
