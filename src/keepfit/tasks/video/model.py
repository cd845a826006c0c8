"""VideoModel: the answering half of the video task. No torch, no diffusers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.engine.engine import known_precision
from keepfit.engine.openvino import OpenVinoEngine
from keepfit.errors import BackendError, InvalidInput, NotFound, TooLarge
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.video.clips import Clip, runs, videos_near
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.features import ErrorMaps
from keepfit.tasks.video.normality import WIDTH, Normal
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.scene import cut_finder
from keepfit.tasks.video.seeking import read_between
from keepfit.tasks.video.stored import start_finder
from keepfit.tasks.video.stream import LEAD, Parts, Stream
from keepfit.tasks.video.thresholding import label, sustained
from keepfit.tasks.video.timeline import LABELS, Said, Threshold, Timeline

FORMAT = 4
"""1: errors z-scored by height, no surprises. 2: one camera only. 3: no place is still."""
OLDEST = 3
CHUNK = 16
"""Frames that are answered together."""
MOST_FASTER = 1.5
"""A video of so many times more, or fewer, frames a second is refused: the past is counted in frames."""
MOST_FRAMES = 1024
"""Of a clip that a request names: its pictures are in memory together."""

Images = NDArray[np.uint8]
Render = Callable[[Clip, int], tuple[Images, NDArray[np.bool_]]]
"""(clip, frames before it) -> its frames and those before it that there are (t, h, w), and their starts (t,)."""


@dataclass(frozen=True, eq=False)
class View:
    """What is usual for one camera."""

    preparation: Preparation
    normal: Normal
    threshold: Threshold
    scale: float
    """Score units per unit of the logit of the answer's probability."""
    maxima: NDArray[np.float64]
    """Block maxima of the normal video that the threshold was chosen from."""

    @property
    def background(self) -> Images:
        """The empty scene, shape (h, w)."""
        return self.preparation.background

    @classmethod
    def read(cls, folder: Path, said: Mapping[str, Any]) -> View:
        """From what model.json says of it, and the file that it names there."""
        with np.load(folder / said["scene"], allow_pickle=False) as scene:
            still = float(scene["still"]) if "still" in scene else 0.0  # of format 3
            return cls(
                Preparation(scene["background"], still), Normal.of(scene), Threshold(**said["threshold"]),
                float(said["scale"]), scene["maxima"],
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Facts:
    """What model.json and the scenes say, as far as answering needs it."""

    views: Mapping[str, View]
    """By camera, in the order of the training; all pictures have one size. A model of one camera may know it as ""."""
    fps: float
    long_side: int
    memory: tuple[int, int]
    precision: str
    about: Mapping[str, Any]

    @property
    def own(self) -> View:
        """Of the first camera, by whose measure one is judged that the model does not know."""
        return next(iter(self.views.values()))

    @property
    def background(self) -> Images:
        """Of the first camera, shape (h, w)."""
        return self.own.background

    def name_of(self, camera: str | None) -> str:
        """The name by which a camera is judged: its own where the model knows it, else that of the first."""
        return camera if camera is not None and camera in self.views else next(iter(self.views))

    def view(self, camera: str | None) -> View:
        """Of a camera by its name."""
        return self.views[self.name_of(camera)]

    def check_camera(self, camera: str | None) -> None:
        """Raises InvalidInput for a camera that nothing is known of, where the model knows several."""
        if len(self.views) > 1 and "" not in self.views and camera not in self.views:
            raise InvalidInput(
                f"the model has learnt the cameras {', '.join(sorted(self.views))}; name one of them as the key (of "
                "files: as the name of their folder), or train it on video of this one",
                "key",
            )

    def check_rate(self, fps: float) -> None:
        """Raises InvalidInput where things would seem to move at another speed than the model has learnt."""
        if not 1 / MOST_FASTER < fps / self.fps < MOST_FASTER:
            raise InvalidInput(
                f"the video has {fps:.3g} frames a second and the model has learnt {self.fps:.3g}; send video of about "
                "that rate, or train on video like this",
                "video",
            )

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Raises BackendError when a file is missing, damaged or of another keepfit."""
        try:
            values = json.loads((folder / "model.json").read_text("utf-8"))
            if values["format"] > FORMAT:
                raise BackendError(f"the model in {folder} was made by a newer keepfit; update this one")
            if values["format"] < OLDEST:
                raise BackendError(f"the model in {folder} was made by an older keepfit; train it again")
            views = {name: View.read(folder, said) for name, said in values["cameras"].items()}
            if not views:
                raise ValueError("it knows no camera")
            return cls(
                views,
                float(values["fps"]),
                int(values["long_side"]),
                (int(values["memory"][0]), int(values["memory"][1])),
                known_precision(values["precision"]),
                values,
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise BackendError(f"the model in {folder} cannot be read ({what}); fetch or register it again") from error


class VideoModel:
    """A fitted video model; see tasks.task.Model. Its contents are clips of stored videos, by name."""

    def __init__(self, facts: Facts, parts: Mapping[str, Parts], render: Render, videos: Path | None) -> None:
        """`parts` by camera, as the facts name them."""
        self._facts, self._parts, self._render, self._videos = facts, parts, render, videos

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS

    @property
    def abstain_below(self) -> float | None:
        return None

    @property
    def threshold(self) -> Threshold:
        """When a score of the first camera is an alarm."""
        return self._facts.own.threshold

    @property
    def facts(self) -> Facts:
        """What is known of the model."""
        return self._facts

    @property
    def parts(self) -> Parts:
        """What answers about a frame of the first camera."""
        return next(iter(self._parts.values()))

    @property
    def precision(self) -> str:
        """The arithmetic that answers."""
        return self._facts.precision

    def describe(self) -> dict[str, Any]:
        """For the status and the card."""
        facts = self._facts
        height, width = facts.background.shape
        return {
            "task": "video",
            "picture": [width, height],
            "fps": facts.fps,
            "head": facts.about.get("head", {}).get("kind"),
            "threshold": facts.own.threshold.enter,
            "calibration": facts.own.threshold.note,
            **({"cameras": sorted(facts.views)} if len(facts.views) > 1 else {}),
            "precision": facts.precision,
        }

    def read(self, raw: Any) -> str:
        """A clip by name, `NAME#FIRST-STOP`.

        Raises InvalidInput for anything else, or when the video is not there, TooLarge for too many frames.
        """
        if not isinstance(raw, str):
            raise InvalidInput(f"a clip must be named by a string, not {type(raw).__name__}", "video")
        clip = Clip.parse(raw)
        if self._videos is not None and not (self._videos / clip.name).exists():
            raise InvalidInput(f"there is no stored video {clip.name}; send the file, or train with it", "video")
        self._check_known(clip)
        if len(clip) > MOST_FRAMES:
            raise TooLarge(f"{clip} has more than {MOST_FRAMES} frames; name several shorter clips", "video")
        return str(clip)

    def knows(self, content: str) -> bool:
        """Whether a clip is of a camera that it has learnt; one without a name is where there is one to take it for."""
        camera, views = Clip.parse(content).camera, self._facts.views
        return camera in views or (not camera and len(views) == 1)

    def _check_known(self, clip: Clip) -> None:
        if not self.knows(str(clip)):
            self._facts.check_camera(clip.camera or None)  # of several it can name those that there are
            raise InvalidInput(f"the model has not learnt a camera {clip.camera}; train it on video of it", "key")

    def prepare(self, contents: Sequence[str]) -> Prepared:
        """Items are clips, costs their frames; decoding waits for `infer`, which knows what lies side by side."""
        clips = [Clip.parse(content) for content in contents]
        measures = [{"length": float(len(clip)), "unknown": 0.0} for clip in clips]
        return Prepared(clips, [len(clip) for clip in clips], measures)

    def infer(self, prepared: Prepared) -> Output:
        """Clips that follow one another are answered as one stretch, so that nothing is decoded or computed twice.

        The details of a clip are what is said of its frames. Raises InvalidInput when a clip is not there as named.
        """
        n = len(prepared.items)
        scores, embeddings = np.zeros((n, 2), np.float32), np.zeros((n, self.embedding_dim), np.float32)
        details: list[Any] = [None] * n
        for rows in runs(prepared.items):
            for row, found in zip(rows, self._stretch([prepared.items[i] for i in rows]), strict=True):
                chance, embeddings[row], details[row] = found
                scores[row] = (1 - chance, chance)
        return Output(scores, embeddings, details)

    @property
    def embedding_dim(self) -> int:
        """Brightness, contrast and motion, and two numbers for each error map and each surprise."""
        return 3 + 2 * WIDTH

    def _stretch(self, clips: Sequence[Clip]) -> Iterator[tuple[float, NDArray[np.float32], Said]]:
        whole = replace(clips[0], stop=clips[-1].stop)
        self._check_known(whole)
        images, starts = self._render(whole, min(LEAD, whole.first))
        lead = max(0, len(images) - len(whole))
        if not len(images):
            raise InvalidInput(f"{whole} has no frames any more; look at the stored video", "video")
        stream, view = self.stream(whole.camera), self._facts.view(whole.camera)
        done = [stream.push(images[i : i + CHUNK], starts[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        scores = np.concatenate([d.scores for d in done])
        facts, cells = np.concatenate([d.facts for d in done]), np.concatenate([d.cells for d in done])
        flags = label(scores, starts, view.threshold)
        for clip in clips:
            here = slice(clip.first - whole.first + lead, clip.stop - whole.first + lead)
            # copies: a cache that keeps one clip must not keep the whole stretch
            of_frames = (scores[here].copy(), flags[here].copy(), cells[here].copy())
            said = Said(clip.first, *of_frames, view.threshold, view.maxima)
            yield self.chance(said.scores, view.threshold, whole.camera), facts[here].mean(axis=0), said

    def chance(self, scores: NDArray[np.float32], threshold: Threshold, camera: str | None) -> float:
        """The answer for some frames: at least 0.5 just when enough in a row reach the threshold. No probability."""
        above = sustained(scores, threshold.min_frames) - threshold.enter
        return float(1 / (1 + np.exp(-np.clip(above / self._facts.view(camera).scale, -30, 30))))

    def stream(self, camera: str | None = None) -> Stream:
        """A fresh stream of frames of a camera."""
        return Stream(self._parts[self._facts.name_of(camera)])

    def score(
        self, frames: Iterable[Frame], starts: Callable[[Frame], bool] | None = None, camera: str | None = None
    ) -> Timeline:
        """Every frame of a video, streamed; at cuts (found, unless `starts` names them) nothing is carried over."""
        is_start = starts or cut_finder()
        stream, found = self.stream(camera), []
        for chunk in chunks(frames, CHUNK):
            flags = [is_start(frame) for frame in chunk]
            said = stream.push(np.stack([frame.image for frame in chunk]), flags)
            found.append(([f.number for f in chunk], [f.time_s for f in chunk], said.scores, flags, said.cells))
        if not found:
            raise InvalidInput("the video has no frames; send another one", "video")
        numbers, times, scores, begun, heat = (np.concatenate(part) for part in zip(*found, strict=True))
        marks = np.asarray(begun, np.bool_)
        return Timeline(
            np.asarray(numbers, np.int64), np.asarray(times, np.float64), scores,
            label(scores, marks, self._facts.view(camera).threshold), marks, heat,
        )  # fmt: skip

    def warm(self) -> None:
        """Run once, so that the first caller does not wait for the engine to prepare itself."""
        empty = self._facts.background
        self.stream().push(np.stack([empty, 255 - empty]), [True, False])  # nothing is asked of an empty scene


def load(
    folder: Path, precision: str | None = None, threads: int | None = None, render: Render | None = None
) -> VideoModel:
    """The model in a folder, compiled and warm. Raises BackendError when it cannot be read."""
    facts = Facts.read(folder)
    wanted = known_precision(precision or facts.precision)
    denoiser = OpenVinoEngine.load(folder / "ir" / "denoiser.xml", wanted, threads)
    head = OpenVinoEngine.load(folder / "ir" / "head.xml", "fp32", threads)
    parts = {}
    for name, view in facts.views.items():
        maps = ErrorMaps(denoiser, view.preparation)
        parts[name] = Parts(view.preparation, maps, view.normal, head, facts.memory)
    try:
        videos = videos_near(folder)
    except NotFound:
        videos = None
    model = VideoModel(facts, parts, render or plain_render(videos, facts.long_side), videos)
    model.warm()
    return model


def plain_render(videos: Path | None, long_side: int) -> Render:
    """Frames of stored videos as they are; a clip with a synthetic anomaly is refused (the learning half has them)."""

    def render(clip: Clip, lead: int) -> tuple[Images, NDArray[np.bool_]]:
        if clip.family is not None:
            raise InvalidInput(f"{clip} holds a synthetic anomaly, which only training and evaluation know", "video")
        if videos is None:
            raise BackendError(f"{clip} is not here: the model lies outside its project; score the file itself")
        return decoded(videos / clip.name, clip.first - lead, clip.stop, long_side)

    return render


def decoded(path: Path, first: int, stop: int, long_side: int) -> tuple[Images, NDArray[np.bool_]]:
    """Frames first to stop of a file, and which of them follow nothing: the first, and those after a cut.

    Raises InvalidInput when the file ends before.
    """
    is_start, images, starts = start_finder(path), [], []
    for frame in read_between(path, long_side, first, stop):
        images.append(frame.image)
        starts.append(is_start(frame))
    if len(images) < stop - first:
        raise InvalidInput(f"{path.name} has fewer than {stop} frames; name a clip that lies inside it", "video")
    return np.stack(images), np.array(starts, np.bool_)


def chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Lists of so many frames; the last may be shorter."""
    held: list[Frame] = []
    for frame in frames:
        held.append(frame)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
