"""Dividing: which windows of a snapshot teach the denoiser, which the head, and which set the threshold."""

from __future__ import annotations

from dataclasses import dataclass

from keepfit.data.snapshot import Rows
from keepfit.errors import InvalidInput
from keepfit.tasks.video.clips import Clip
from keepfit.tasks.video.timeline import NORMAL

HEAD_SHARE = 0.27
"""Share of the training windows, the last ones, that the denoiser never sees: the head learns from them."""
FEWEST_WINDOWS = 6


@dataclass(frozen=True, eq=False)
class Divided:
    """The windows of one camera by what they are for."""

    fit: list[Clip]
    head: list[Clip]
    calibrate: list[Clip]
    events: list[Clip]
    """Train windows that are labelled as anomalies: the head learns from them, too."""


def divide(train: Rows, validation: Rows) -> dict[str, Divided]:
    """The windows of each camera by its name: normal train windows in order of file and time, the last for the head.

    Windows from life of a camera that nothing was imported of are left out: a few do not show what is usual there.
    Raises InvalidInput where a camera has too few.
    """
    life = {content for content, new in zip(train.contents, train.fresh, strict=True) if new}
    plain = [clip for clip in _clips(train, anomalous=False) if clip.family is None]
    plain.sort(key=lambda clip: str(clip) not in life)  # the end stays that of the video it began with
    events = [clip for clip in _clips(train, anomalous=True) if clip.family is None]
    held = [clip for clip in _clips(validation, anomalous=False) if clip.family is None]
    old = [c for rows in (train, validation) for c, new in zip(rows.contents, rows.fresh, strict=True) if not new]
    cameras = sorted({Clip.parse(content).camera for content in old}) or [""]

    def of(camera: str, clips: list[Clip]) -> list[Clip]:
        return [clip for clip in clips if clip.camera == camera]

    return {name: _divided(name, of(name, plain), of(name, held), of(name, events)) for name in cameras}


def _divided(camera: str, plain: list[Clip], held: list[Clip], events: list[Clip]) -> Divided:
    of_it = f" of camera {camera}" if camera else ""
    count = max(2, round(HEAD_SHARE * len(plain)))
    if len(plain) < FEWEST_WINDOWS:
        raise InvalidInput(
            f"there are {len(plain)} windows of normal video{of_it} to learn from and {FEWEST_WINDOWS} are needed; "
            "give a longer video",
            "video",
        )
    if not held:
        raise InvalidInput(f"no normal video{of_it} is left to choose a threshold from; give a longer video", "video")
    return Divided(plain[:-count], plain[-count:], held, events)


def _clips(rows: Rows, anomalous: bool) -> list[Clip]:
    chosen = [
        Clip.parse(content) for content, said in zip(rows.contents, rows.truth, strict=True)
        if (said != NORMAL) == anomalous
    ]  # fmt: skip
    return sorted(chosen, key=lambda clip: (clip.name, clip.first))
