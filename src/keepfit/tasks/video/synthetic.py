"""Synthetic anomalies: abnormal events and harmless changes, put into normal video before it is reconstructed."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from keepfit.errors import InvalidInput
from keepfit.tasks.video.blobs import FEWEST, Canvas, moving_blob
from keepfit.tasks.video.families import WAYS, own_event

Images = NDArray[np.uint8]

FAMILIES: tuple[str, ...] = ("speed", "freeze", "reverse", "trajectory", "scale", "cutpaste", "shuffle", "texture")
"""Kinds of abnormal events."""
HARD_NEGATIVES: tuple[str, ...] = ("brightness", "noise", "compression", "blur", "shift", "paste_back")
"""Changes of the picture that are no events; a head must learn to let them pass."""
NONE = "none"
"""The family of a clip in which nothing is changed."""
SMALLEST_MARK = 8
"""Pixels that the mask of a frame needs to count."""
TRIES = 8


@dataclass(frozen=True, eq=False)
class Injected:
    """A clip with an event, or a harmless change, in it."""

    images: Images
    """Shape (t, h, w); a fresh array."""
    mask: NDArray[np.bool_]
    """Shape (t, h, w): where and when the event is; all False for a hard negative."""
    family: str


def inject(
    images: Images, background: Images, family: str, rng: np.random.Generator, longer: Images | None = None
) -> Injected:
    """Put one event, or one hard negative, into a copy of consecutive normal frames of one clip.

    `images` (t, h, w); `background` (h, w) is their median picture; `longer` (t2, h, w) are other normal frames of
    the same camera, best five times as many, that faster replays and pasted pieces are taken from. Raises
    InvalidInput when the arrays do not fit, the family is unknown, or the clip shows nothing that it could use.
    """
    _check(images, background, longer)
    if family in NEGATIVES:
        return Injected(NEGATIVES[family](images, background, rng), np.zeros(images.shape, np.bool_), family)
    if family not in WAYS:
        raise InvalidInput(f"There is no family {family!r}; choose one of {', '.join((*WAYS, *NEGATIVES))}.", "family")
    for _ in range(TRIES):
        canvas = Canvas(images, background, longer)
        WAYS[family](canvas, rng)
        mask = canvas.marked()
        # an event that leaves the picture at once, or that cannot be seen, is none
        if (mask.sum(axis=(1, 2)) >= SMALLEST_MARK).sum() >= FEWEST:
            return Injected(canvas.images, mask, family)
    raise InvalidInput(f"No event of the family {family!r} can be seen in this clip; use another one.", "images")


def sample(
    clips: Sequence[Images],
    background: Images,
    length: int,
    families: Sequence[str],
    rng: np.random.Generator,
    positive: float = 0.6,
) -> Injected:
    """`length` frames of one of the clips, each (t, h, w): with an event at probability `positive`.

    Of the others two thirds have a hard negative and one third nothing (family `none`). Long clips are drawn more
    often. Raises InvalidInput when no clip is long enough, or when no draw leads to anything.
    """
    usable = [clip for clip in clips if len(clip) >= length]
    if not usable:
        raise InvalidInput(f"No clip has {length} frames; give longer clips or ask for fewer frames.", "length")
    if not families or not set(families) <= set(FAMILIES) or not 0 <= positive <= 1:
        raise InvalidInput(f"Give families out of {', '.join(FAMILIES)}, and `positive` from 0 to 1.", "families")
    starts = np.array([len(clip) - length + 1 for clip in usable])
    # decided once, so that a family that often finds nothing does not shift the balance
    kinds: Sequence[str] = families if rng.random() < positive else HARD_NEGATIVES if rng.random() < 2 / 3 else (NONE,)
    for _ in range(TRIES):
        clip = usable[rng.choice(len(usable), p=starts / starts.sum())]
        begin, family = int(rng.integers(len(clip) - length + 1)), kinds[int(rng.integers(len(kinds)))]
        images = clip[begin : begin + length]
        if family == NONE:
            return Injected(images.copy(), np.zeros(images.shape, np.bool_), NONE)
        try:
            return inject(images, background, family, rng, clip if len(clip) > length else None)
        except InvalidInput as reason:
            failure = reason
    raise InvalidInput(
        "No clip shows anything that an event can be made of; give clips that move.", "clips"
    ) from failure


def _check(images: Images, background: Images, longer: Images | None) -> None:
    arrays = [images, background] if longer is None else [images, background, longer]
    if any(array.dtype != np.uint8 for array in arrays):
        raise InvalidInput("Pictures must be 8-bit grey; convert them to uint8.", "images")
    if images.ndim != 3 or background.ndim != 2 or any(array.shape[-2:] != images.shape[1:] for array in arrays):
        raise InvalidInput("Frames must be (t, h, w) and the background (h, w), all of one size.", "images")
    if len(images) <= FEWEST or min(background.shape) < 16:
        raise InvalidInput("A clip needs at least 5 frames of 16 x 16 pixels; give more.", "images")


def _rounded(values: NDArray[np.float32]) -> Images:
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)


def _brightness(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """Exposure and gamma change, at once or slowly, from some frame on."""
    onset, fade = int(rng.integers(len(images))), int(rng.integers(2, len(images))) if rng.random() < 0.5 else 1
    levels = np.arange(256, dtype=np.float32) / 255
    gain, gamma, offset = rng.uniform(0.85, 1.15), np.exp(rng.uniform(-0.2, 0.2)), rng.uniform(-0.03, 0.03)
    target = gain * levels**gamma + offset
    changed = images.copy()
    for frame in range(onset, len(images)):
        share = min((frame - onset + 1) / fade, 1.0)
        changed[frame] = _rounded(255 * ((1 - share) * levels + share * target))[images[frame]]
    return changed


def _noise(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """Sensor noise of one to four grey levels, fresh in every frame."""
    noise = rng.standard_normal(images.shape, np.float32)
    noise *= np.float32(rng.uniform(1, 4))
    noise += images
    return _rounded(noise)


def _compression(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """Every frame goes through JPEG at one quality."""
    quality, changed = int(rng.integers(25, 75)), np.empty_like(images)
    for frame, image in enumerate(images):
        packed = io.BytesIO()
        Image.fromarray(image).save(packed, "JPEG", quality=quality)
        changed[frame] = np.asarray(Image.open(packed))
    return changed


def _blur(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """The lens is slightly out of focus, from some frame on."""
    onset, sigma = int(rng.integers(len(images) // 2)), float(rng.uniform(0.4, 0.9))
    soft = ndimage.gaussian_filter(images[onset:].astype(np.float32), (0, sigma, sigma), truncate=3)
    return np.concatenate([images[:onset], _rounded(soft)])


def _shift(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """The camera moves by at most one pixel each way for some frames: it shakes, or stays there."""
    changed, length = images.copy(), int(rng.integers(2, len(images)))
    onset, shakes = int(rng.integers(len(images) - length + 1)), rng.random() < 0.5
    moves = rng.uniform(-1, 1, (length if shakes else 1, 2))
    for frame in range(onset, onset + length):
        move = moves[(frame - onset) % len(moves)]
        changed[frame] = _rounded(ndimage.shift(images[frame].astype(np.float32), move, order=1, mode="nearest"))
    return changed


def _paste_back(images: Images, background: Images, rng: np.random.Generator) -> Images:
    """A normal thing is removed and pasted back in its place as events are, so that the seam is no hint."""
    blob = moving_blob(images, background, rng)
    if blob is None:
        raise InvalidInput("The clip shows no thing that moves; use a clip in which something happens.", "images")
    canvas = Canvas(images, background, None)
    for frame in own_event(blob, rng):
        canvas.erase(frame, blob)
        canvas.paste(frame, blob.sprite(frame - blob.first), blob.at(frame - blob.first))
    return canvas.images


NEGATIVES: Mapping[str, Callable[[Images, Images, np.random.Generator], Images]] = MappingProxyType(
    dict(zip(HARD_NEGATIVES, (_brightness, _noise, _compression, _blur, _shift, _paste_back), strict=True))
)
