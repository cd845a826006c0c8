"""Blobs: moving things found in normal video, cut out of it and put back into a copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keepfit.errors import InvalidInput

Floats = NDArray[np.float32]

FOREGROUND = 18.0
"""Grey levels (mean of 3x3 pixels) that a thing differs from the background by."""
DIFFERS = 5
"""Grey levels that a changed picture can be told from the original by."""
SHORTEST, LONGEST = 8, 16
"""Frames of an event, where the clip has room for them."""
FEWEST = 4
"""Frames of the shortest event of all."""
SMALLEST, LARGEST = 0.0004, 0.15
"""Area of a plausible thing, as a share of the picture."""
SEEDS, FOLLOWED = 8, 80
"""Frames that a thing is looked for in, and those that it is followed over."""
MARGIN = 5
"""Pixels around a thing that its soft edge needs."""
PICTURE, RESIDUE, CORE, HALO = range(4)
"""The planes of a sprite: grey levels, the same less the background, how much it covers, the thing with its rim."""


@dataclass(frozen=True, eq=False)
class Blob:
    """A tube: one thing over n frames in a row, cut out with a soft edge."""

    first: int
    """The frame of the clip that it begins in."""
    corners: NDArray[np.int64]
    """Top and left of its box in every frame, shape (n, 2); the box is the same size in all of them."""
    sprites: Floats
    """Shape (n, 4, height, width): picture, residue, core (0 to 1) and halo (0 to 1)."""
    found: bool = True
    """False when nothing moves, and a patch of the picture stands in."""

    def __len__(self) -> int:
        return len(self.corners)

    @property
    def velocity(self) -> NDArray[np.float64]:
        """Pixels a frame, down and right: the slope of a straight line through its places."""
        return np.asarray(np.polyfit(np.arange(len(self)), self.corners, 1)[0], np.float64)

    def at(self, time: float) -> NDArray[np.float64]:
        """Its corner `time` frames after its first, carried on in a straight line where it was not seen."""
        inside = min(max(time, 0.0), len(self) - 1.0)
        seen = [np.interp(inside, np.arange(len(self)), self.corners[:, axis]) for axis in (0, 1)]
        return np.asarray(seen, np.float64) + (time - inside) * self.velocity

    def sprite(self, time: float) -> Floats:
        """How it looks then; beyond its ends it is shown to and fro, which carries a gait on."""
        last = len(self) - 1
        return np.asarray(self.sprites[abs((round(time) + last) % (2 * last) - last)], np.float32)


@dataclass(frozen=True, eq=False)
class _Region:
    """A connected piece of foreground in one frame: its corner, and its shape as (height, width) bool."""

    top: int
    left: int
    shape: NDArray[np.bool_]

    @property
    def centre(self) -> NDArray[np.float64]:
        return np.array([self.top, self.left]) + np.array(self.shape.shape) / 2


class Canvas:
    """A copy of a clip that is being changed, and the mask of what becomes abnormal in it."""

    def __init__(
        self, original: NDArray[np.uint8], background: NDArray[np.uint8], longer: NDArray[np.uint8] | None
    ) -> None:
        self.original, self.background, self.longer = original, background, longer
        self.images = original.copy()
        self.mask = np.zeros(original.shape, np.bool_)

    def erase(self, frame: int, blob: Blob) -> None:
        """Remove a thing found in this clip from one frame: the nearest frame that is empty there, else the background.

        A real frame is preferred because its noise is real, too.
        """
        part, sprite = self._visible(blob.sprite(frame - blob.first), blob.at(frame - blob.first))
        rows, columns = part
        apart = np.abs(self.original[:, rows, columns].astype(np.int16) - self.background[part])
        empty = np.flatnonzero(~((apart > FOREGROUND) & (sprite[HALO] > 0.05)).any(axis=(1, 2)))
        clean = self.background[part]
        if len(empty):
            clean = self.original[empty[np.argmin(np.abs(empty - frame))]][part]
        image = self.images[frame][part]
        self._write(frame, part, image + sprite[HALO] * (clean.astype(np.float32) - image))

    def paste(self, frame: int, sprite: Floats, corner: NDArray[np.float64], odd: bool = True) -> None:
        """Put a sprite into one frame; what lies outside the picture is cut off. `odd` marks the place.

        Only the core covers what was there; the rim adds its difference from its own background, which is exact
        for mixed pixels, takes soft shadows along and leaves no seam.
        """
        part, sprite = self._visible(sprite, corner)
        image = self.images[frame][part].astype(np.float32)
        change = sprite[CORE] * (sprite[PICTURE] - image) + (1 - sprite[CORE]) * sprite[HALO] * sprite[RESIDUE]
        self._write(frame, part, image + change)
        if odd:
            self.mask[frame][part] |= np.maximum(sprite[CORE], sprite[HALO]) >= 0.25

    def marked(self) -> NDArray[np.bool_]:
        """The mask where the picture really differs from the original, shape (t, h, w)."""
        for frame in np.flatnonzero(self.mask.any(axis=(1, 2))):
            change = np.abs(self.images[frame].astype(np.int16) - self.original[frame])
            self.mask[frame] &= ndimage.maximum_filter(change, 5) >= DIFFERS
        return self.mask

    def _visible(self, sprite: Floats, corner: NDArray[np.float64]) -> tuple[tuple[slice, slice], Floats]:
        """The part of the picture under a sprite, and the part of the sprite over the picture."""
        height, width = self.background.shape
        top, left = (round(float(value)) for value in corner)
        bottom, right = top + sprite.shape[1], left + sprite.shape[2]
        rows = slice(min(max(top, 0), height), max(min(bottom, height), 0))
        columns = slice(min(max(left, 0), width), max(min(right, width), 0))
        inside = sprite[
            :, rows.start - top : max(rows.stop - top, 0), columns.start - left : max(columns.stop - left, 0)
        ]
        return (rows, columns), inside

    def _write(self, frame: int, part: tuple[slice, slice], values: Floats) -> None:
        self.images[frame][part] = np.clip(np.rint(values), 0, 255).astype(np.uint8)


def moving_blob(
    images: NDArray[np.uint8], background: NDArray[np.uint8], rng: np.random.Generator, frames: int = LONGEST
) -> Blob | None:
    """A thing that moves over the background, followed by overlap; None when there is none.

    `images` (t, h, w), `background` (h, w). Of the things in a few frames drawn by `rng`, the first one that
    can be followed over `frames` frames, else the longest one.
    """
    best: list[tuple[int, _Region]] = []
    for frame in rng.permutation(len(images))[:SEEDS]:
        regions = _regions(images[frame], background)
        for index in rng.permutation(len(regions))[:4]:
            tube = _followed(images, background, int(frame), regions[index])
            if _moves(tube) and len(tube) > len(best):
                best = tube
            if len(best) >= frames:
                return _cut_out(images, background, best)
    return _cut_out(images, background, best) if best else None


def _foreground(
    image: NDArray[np.uint8], background: NDArray[np.uint8], part: tuple[slice, slice] = (slice(None), slice(None))
) -> NDArray[np.bool_]:
    """Where a part of the picture differs; small gaps from top to bottom are closed, for a belt parts no person."""
    apart = np.abs(image[part].astype(np.float32) - background[part])
    found, gap = ndimage.uniform_filter(apart, 3) > FOREGROUND, 2 * (len(background) // 120) + 1
    closed = ndimage.minimum_filter1d(ndimage.maximum_filter1d(found.view(np.uint8), gap, axis=0), gap, axis=0)
    return np.asarray(closed, np.bool_)


def _regions(image: NDArray[np.uint8], background: NDArray[np.uint8]) -> list[_Region]:
    """The things of plausible size, off the edge of the picture; a crowd among single things is left out."""
    (height, width), regions = image.shape, []
    labels, _ = ndimage.label(_foreground(image, background))
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        if rows.start and columns.start and rows.stop < height and columns.stop < width:
            shape = ndimage.binary_fill_holes(labels[rows, columns] == label)
            if max(SMALLEST * image.size, 20) <= shape.sum() <= LARGEST * image.size:
                regions.append(_Region(rows.start, columns.start, shape))
    usual = np.median([region.shape.sum() for region in regions]) if regions else 0.0
    return [region for region in regions if region.shape.sum() <= 2 * usual]


def _followed(
    images: NDArray[np.uint8], background: NDArray[np.uint8], frame: int, region: _Region
) -> list[tuple[int, _Region]]:
    """The same thing in the frames before and after, in order."""
    tube = {frame: region}
    for step in (-1, 1):
        now, at = region, frame + step
        while 0 <= at < len(images) and len(tube) < FOLLOWED:
            found = _again(images[at], background, now)
            # a thing that grows or shrinks at once has met another one or left it
            if found is None or not 0.5 < found.shape.sum() / region.shape.sum() < 2:
                break
            tube[at] = now = found
            at += step
    return sorted(tube.items(), key=lambda item: item[0])


def _again(image: NDArray[np.uint8], background: NDArray[np.uint8], last: _Region) -> _Region | None:
    """The piece of foreground that overlaps `last` most; None when it is lost, or runs into something."""
    height, width = last.shape.shape
    reach = 4 + max(height, width) // 4
    top, left = max(last.top - reach, 0), max(last.left - reach, 0)
    part = (slice(top, last.top + height + reach), slice(left, last.left + width + reach))
    labels, count = ndimage.label(_foreground(image, background, part))
    before = labels[last.top - top :, last.left - left :][:height, :width]
    votes = np.bincount(before[last.shape], minlength=count + 1)[1:]
    if not votes.any():
        return None
    rows, columns = ndimage.find_objects(labels)[int(votes.argmax())]
    if not (rows.start and columns.start and rows.stop < labels.shape[0] and columns.stop < labels.shape[1]):
        return None
    shape = ndimage.binary_fill_holes(labels[rows, columns] == int(votes.argmax()) + 1)
    if not 0.6 < shape.sum() / last.shape.sum() < 1.67:
        return None
    return _Region(top + rows.start, left + columns.start, shape)


def _moves(tube: list[tuple[int, _Region]]) -> bool:
    """True for a thing seen long enough that goes somewhere; one that stands cannot be frozen or turned round."""
    travel = float(np.hypot(*(tube[-1][1].centre - tube[0][1].centre)))
    return len(tube) > FEWEST and travel >= max(3.0, 0.3 * len(tube))


def _cut_out(images: NDArray[np.uint8], background: NDArray[np.uint8], tube: list[tuple[int, _Region]]) -> Blob:
    size = np.max([region.shape.shape for _, region in tube], axis=0) + 2 * MARGIN
    corners = np.array([np.rint(region.centre - size / 2) for _, region in tube], np.int64)
    sprites = np.zeros((len(tube), 4, *size), np.float32)
    for (frame, region), (top, left), sprite in zip(tube, corners, sprites, strict=True):
        rows = np.clip(np.arange(top, top + size[0]), 0, images.shape[1] - 1)[:, None]
        columns = np.clip(np.arange(left, left + size[1]), 0, images.shape[2] - 1)
        sprite[PICTURE] = images[frame][rows, columns]
        sprite[RESIDUE] = sprite[PICTURE] - background[rows, columns]
        down, right = region.top - top, region.left - left
        sprite[CORE, down:, right:][: region.shape.shape[0], : region.shape.shape[1]] = region.shape
    sprites[:, HALO] = ndimage.gaussian_filter(ndimage.maximum_filter(sprites[:, CORE], (1, 5, 5)), (0, 1, 1))
    sprites[:, CORE] = _cover(sprites)
    return Blob(tube[0][0], corners, sprites)


def _cover(sprites: Floats) -> Floats:
    """How much each pixel of the shapes covers what is behind it, 0 to 1, shape (n, height, width).

    Judged by its difference from the background: pixels at the edge are a mixture, and one that covered fully would
    take an outline of the old background along.
    """
    apart = np.where(sprites[:, CORE] > 0, np.abs(sprites[:, RESIDUE]), np.nan)
    full = np.maximum(0.6 * np.nanmedian(apart, axis=(1, 2), keepdims=True), 12.0)
    cover = np.clip((np.nan_to_num(apart) - 8) / (full - 8), 0, 1)
    return np.asarray(ndimage.grey_closing(cover, (1, 3, 3)), np.float32)


def patch(source: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A piece of the video with texture, as a sprite with a soft round edge, shape (4, height, width).

    Raises InvalidInput when no piece that is drawn has texture.
    """
    height, width = size
    for _ in range(12):
        top, left = (int(rng.integers(0, room - side + 1)) for room, side in zip(source.shape[1:], size, strict=True))
        picture = source[rng.integers(len(source)), top : top + height, left : left + width].astype(np.float32)
        if picture.std() >= 8:
            return with_edge(picture, float(rng.choice([2.0, 4.0, 8.0])))
    raise InvalidInput(
        "The clip shows no thing that moves and no texture; use a clip in which something happens.", "images"
    )


def with_edge(picture: Floats, power: float = 8.0) -> Floats:
    """A sprite whose core is a superellipse with an edge of three pixels: power 2 is an ellipse, 8 nearly a box."""
    height, width = picture.shape
    down = np.abs(np.linspace(-1, 1, height, dtype=np.float32))[:, None]
    right = np.abs(np.linspace(-1, 1, width, dtype=np.float32))
    inside = 1 - (down**power + right**power) ** (1 / power)
    core = np.clip(inside * min(height, width) / 6, 0, 1)
    return np.stack([picture, picture - picture.mean(), core, np.zeros_like(core)]).astype(np.float32)
