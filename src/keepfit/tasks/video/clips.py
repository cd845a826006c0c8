"""Clip: a stretch of a stored video by name, the content of a video example; and where stored videos lie."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from keepfit.errors import InvalidInput, NotFound

FOLDER = "videos"
"""The folder in a project's state that holds every stored video, named by the hash of its bytes."""
WINDOW_S = 3.2
"""Length of one example in seconds: long enough for an event, short enough to say when."""
SHORTEST_WINDOW, LONGEST_WINDOW = 16, 64
LONGEST = 10_000_000

_FORM = re.compile(
    r"([A-Za-z0-9_-]{1,80}(?:\.[A-Za-z0-9]{1,8})?)#(\d{1,9})-(\d{1,9})"
    r"(?:\+([a-z_]+)@(\d{1,9}))?(?:~(.{1,80}))?"
)


@dataclass(frozen=True)
class Clip:
    """Frames `first` to `stop` (exclusive) of a stored video, as text `NAME#FIRST-STOP`.

    With `+FAMILY@SEED` a synthetic anomaly of this family is put into it; the same text always gives the same frames.
    `~CAMERA` says by whose measure they are judged, where there are several cameras.

    >>> str(Clip("3f2a.mp4", 0, 32)), Clip.parse("3f2a.mp4#0-32+speed@7~door").family
    ('3f2a.mp4#0-32', 'speed')
    """

    name: str
    first: int
    stop: int
    family: str | None = None
    seed: int = 0
    camera: str = ""

    def __str__(self) -> str:
        event = "" if self.family is None else f"+{self.family}@{self.seed}"
        return f"{self.name}#{self.first}-{self.stop}{event}" + (f"~{self.camera}" if self.camera else "")

    def __len__(self) -> int:
        return self.stop - self.first

    @classmethod
    def parse(cls, text: str) -> Clip:
        """Raises InvalidInput when the text is none of this form."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise InvalidInput(f"{text[:80]!r} names no clip; write NAME#FIRST-STOP, such as lobby.mp4#0-32", "video")
        clip = cls(found[1], int(found[2]), int(found[3]), found[4], int(found[5] or 0), found[6] or "")
        if not 0 <= clip.first < clip.stop <= LONGEST:
            raise InvalidInput(f"{text!r} has no frames: its end must lie after its beginning", "video")
        return clip

    def follows(self, other: Clip) -> bool:
        """Whether this goes on exactly where `other` ends, with nothing put into either."""
        plain = self.family is None and other.family is None
        same = (self.name, self.camera) == (other.name, other.camera)
        return plain and same and self.first == other.stop

    def with_anomaly(self, family: str, seed: int) -> Clip:
        """The same frames with a synthetic anomaly."""
        return replace(self, family=family, seed=seed)


def check_name(camera: str) -> None:
    """Raises InvalidInput for a camera whose name no clip could carry."""
    if camera and _FORM.fullmatch(f"a#0-1~{camera}") is None:
        raise InvalidInput(f"the camera {camera[:80]!r} has too long or too odd a name; rename its folder", "video")


def names_clip(text: str) -> bool:
    """Whether a text is of the form of a clip.

    >>> names_clip("3f2a.mp4#0-32"), names_clip("stream/7#0-32")
    (True, False)
    """
    return _FORM.fullmatch(text) is not None


def windows(name: str, first: int, stop: int, length: int) -> list[Clip]:
    """Clips of this length side by side; the last may be up to half longer or shorter.

    >>> [str(clip) for clip in windows("a.mp4", 0, 76, 32)]
    ['a.mp4#0-32', 'a.mp4#32-76']
    """
    count = max(1, (stop - first + length // 2) // length)
    edges = [first + length * i for i in range(count)] + [stop]
    if count > 1 and edges[-1] - edges[-2] < length // 2:
        del edges[-2]
    return [Clip(name, a, b) for a, b in pairwise(edges) if b > a]


def window_frames(fps: float) -> int:
    """Frames of one window at this rate: about WINDOW_S, but 16 to 64 for slow and fast cameras.

    >>> window_frames(10.0), window_frames(60.0)
    (32, 64)
    """
    return min(max(round(WINDOW_S * fps), SHORTEST_WINDOW), LONGEST_WINDOW)


def runs(clips: Sequence[Clip]) -> list[list[int]]:
    """Places of clips that go on where the one before ended, together.

    >>> runs([Clip("a", 0, 8), Clip("a", 8, 16), Clip("b", 0, 8)])
    [[0, 1], [2]]
    """
    found: list[list[int]] = []
    for place, clip in enumerate(clips):
        if found and clip.follows(clips[found[-1][-1]]):
            found[-1].append(place)
        else:
            found.append([place])
    return found


def videos_near(folder: Path) -> Path:
    """The project's folder of videos, seen from a model's folder: the first `videos` on the way up.

    Raises NotFound when there is none: then clips of stored videos cannot be answered, whole files still can.
    """
    for parent in folder.absolute().parents:
        if (parent / FOLDER).is_dir():
            return parent / FOLDER
    raise NotFound(f"no folder of videos lies above {folder}; keep the model in its project's .keepfit folder")
