"""Survey: the report on the videos of a training, for people and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keepfit.tasks.video.frames import VideoFacts
from keepfit.tasks.video.timeline import NORMAL

FEWEST = 6
"""Normal windows that a training needs."""
SHORT_S = 120.0
SHOWN = 12


@dataclass(frozen=True)
class Surveyed:
    """One video."""

    source: str
    frames: int
    facts: VideoFacts
    cuts: int
    anomalous: int | None
    """Frames that are labelled as anomalous; None where nothing is labelled."""


@dataclass(frozen=True)
class VideoReport:
    """What there is to learn from; sentences in `problems` forbid training, those in `warnings` do not."""

    name: str
    videos: tuple[Surveyed, ...]
    parts: Mapping[str, Mapping[str, int]]
    """Windows by part and label."""

    @property
    def seconds(self) -> float:
        """Length of all videos."""
        return sum(video.frames / video.facts.fps for video in self.videos)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why nothing can be learnt."""
        found = []
        if self.parts["train"].get(NORMAL, 0) < FEWEST:
            found.append(
                f"{self.seconds:.0f} seconds are too short to learn from; give at least a minute of normal video"
            )
        if not self.parts["validation"].get(NORMAL, 0):
            found.append("no normal video is left to choose a threshold from; give a longer video")
        return tuple(found)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What limits the result."""
        found = []
        if self.seconds < SHORT_S:
            found.append(
                f"{self.seconds:.0f} s of video show little of what is normal; ten minutes and more are better"
            )
        if all(video.anomalous is None for video in self.videos):
            found.append("nothing is labelled, so everything counts as normal and events are synthetic")
        if any(video.facts.variable_rate for video in self.videos):
            found.append("the frame rate varies; frames are taken as they come, times are from the file")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"problems": list(self.problems), "warnings": list(self.warnings)}

    def as_text(self) -> str:
        """Lines for a terminal."""
        lines = [f"{self.name}: {len(self.videos)} video{'s' * (len(self.videos) != 1)}, {self.seconds:.0f} s"]
        for video in self.videos[:SHOWN]:
            facts = video.facts
            marked = "" if video.anomalous is None else f", {video.anomalous} anomalous frames"
            lines.append(
                f"  {video.source}: {video.frames} frames, {facts.width} x {facts.height}, {facts.fps:.3g} fps, "
                f"{facts.codec}, {video.cuts} cuts{marked}"
            )
        lines += [f"  ... and {len(self.videos) - SHOWN} more"] if len(self.videos) > SHOWN else []
        for part, counts in self.parts.items():
            lines.append(
                f"  {part}: " + ", ".join(f"{n} windows of label {label}" for label, n in sorted(counts.items()))
            )
        return "\n".join(lines + [f"  note: {text}" for text in self.warnings])
