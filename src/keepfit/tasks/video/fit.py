"""VideoTask: the learning half of the video task, told in its phases; each is remembered in case of a kill."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from keepfit.data.snapshot import Snapshot
from keepfit.engine.openvino import OpenVinoEngine, has_bf16
from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.task import Report, parent_of
from keepfit.tasks.video import diffusion, head_training, network, sequences, weights
from keepfit.tasks.video import head as heads
from keepfit.tasks.video import model as answering
from keepfit.tasks.video.cameras import Camera, cameras_of, last_frames, spread
from keepfit.tasks.video.card import card
from keepfit.tasks.video.clips import FOLDER, Clip, names_clip, videos_near
from keepfit.tasks.video.draws import FRAMES, Draws, Source
from keepfit.tasks.video.exporting import export_denoiser, export_head
from keepfit.tasks.video.features import ErrorMaps
from keepfit.tasks.video.finishing import Terms, finish, write_arrays, write_json
from keepfit.tasks.video.injecting import injecting_render
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.normality import WIDTH, Normal, usual
from keepfit.tasks.video.parent import Parent
from keepfit.tasks.video.preparation import foreground_rms
from keepfit.tasks.video.refusing import refuse_all
from keepfit.tasks.video.stream import Parts
from keepfit.training.recipe import Recipe, Start

DIFFUSION_SHARE, SEQUENCE_SHARE = 0.5, 0.25
"""Shares of the time; the rest is for the features of whole parts, the head and its judgement."""
SEQUENCES = (48, 320)
BLOCK, MOST_BLOCKS, FEW_BLOCKS = 64, 32, 6
"""Frames that are in memory together, and at most so many such blocks, spread evenly, tell what errors are usual: few
where nothing but that is learnt, so that it stays much shorter than a training."""
WARM_SHARE, WARM_RATE = 0.3, 0.3
"""Of the time and of the learning rate, for a denoiser that goes on from another's weights."""

Settings = dict[str, Any]
Seen = tuple[ErrorMaps, Normal]
"""How a camera's pictures are seen: their errors, and which of them are usual."""


class VideoTask:
    """Learns a camera's normal life from clips of it; see tasks.task.Task."""

    name = "video"
    starts: tuple[Start, ...] = ("new", "warm", "recalibrate")
    reweights = False

    def learns_from(self, content: Any, snapshots: Path) -> bool:
        """Windows of stored videos that are there; those of live streams have no frames any more."""
        if not isinstance(content, str) or not names_clip(content):
            return False
        return (snapshots.parent / FOLDER / Clip.parse(content).name).exists()

    def fit(
        self, snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Path | None = None
    ) -> Path:
        """Denoiser, normal errors, head, threshold; the finished folder is workdir/model.

        With `recipe.start` "warm" the denoiser goes on from the parent's for three tenths of the budget; with
        "recalibrate" both networks stay the parent's. Raises InvalidInput when there is too little video, no normal
        part to choose a threshold from, or a parent that does not fit; BackendError when the disk fails.
        """
        before = parent_of(recipe, parent, self.starts)
        try:
            return _Fit(snapshot, recipe, report, workdir, before).run()
        except (OSError, SafetensorError) as error:
            raise BackendError(
                f"cannot write the model in {workdir} ({error}); make room on the disk and start again: it will go on"
            ) from error

    def load(self, folder: Path, precision: str | None = None) -> answering.VideoModel:
        """The fitted model; it also answers clips with synthetic events, which its evaluation is made of."""
        facts = answering.Facts.read(folder)
        return answering.load(folder, precision, render=injecting_render(folder, facts))


class _Fit:
    """One training: its arguments, and the phases in order."""

    def __init__(
        self, snapshot: Snapshot, recipe: Recipe, report: Report, workdir: Path, parent: Path | None = None
    ) -> None:
        self.snapshot, self.recipe, self.video, self.report = snapshot, recipe, recipe.video, report
        self.workdir, self.draft = workdir, workdir / "draft"
        self.before = None if parent is None else Parent.of(parent, recipe)
        self.minutes = recipe.video.budget_minutes * (WARM_SHARE if recipe.start == "warm" else 1.0)
        self.videos = videos_near(snapshot.path)

    def run(self) -> Path:
        """All phases; what is done already costs little."""
        _start(
            self.workdir,
            {
                "format": answering.FORMAT,
                "snapshot": self.snapshot.id,
                "recipe": self.recipe.to_json(),
                "parent": None if self.before is None else str(self.before.folder),
            },
        )
        folder = self.workdir / "model"
        if (folder / "model.json").is_file():
            return folder
        if (self.draft / "model.json").is_file():
            return self._hand_over(folder)
        if self.before is not None and self.recipe.start == "recalibrate":
            self.before.check_newer(self.snapshot)
        self._precision()  # an arithmetic that cannot be had is refused before anything is learnt
        cameras = self._named(cameras_of(self.snapshot, self.videos, self.video, self.draft, self.report))
        rate = self._rate(cameras)
        learns_events = self.video.head != "none" and self.recipe.start != "recalibrate"
        refuse_all(cameras, rate, self.video.alarms_per_day, FRAMES if learns_events else sequences.RUN_UP + 1)
        if self.before is not None:
            for camera in cameras.values():
                self.before.check(camera.preparation)
            if self.recipe.start == "recalibrate":
                self.before.hand_down(self.draft)  # the phases that make networks find theirs done
        trained = self._denoise(list(cameras.values()))
        engine = self._engine("denoiser")
        seen = {name: self._seen(camera, engine) for name, camera in cameras.items()}
        made = self._sequences(cameras, seen) if learns_events else None
        head = self._head(made, next(iter(seen.values()))[0].grid)
        about = {"snapshot": self.snapshot.id, "recipe": self.recipe.to_json(), "denoiser": trained, "head": head}
        finish(self.draft, self._answers(cameras, seen, head), self._terms(rate), about, self._kept())
        return self._hand_over(folder)

    def _hand_over(self, folder: Path) -> Path:
        """The finished draft under its name, with its card; model.json was the last file of the training."""
        values = json.loads((self.draft / "model.json").read_text("utf-8"))
        (self.draft / "card.md").write_text(card(values), "utf-8")
        self._clear()
        shutil.rmtree(folder, ignore_errors=True)
        self.draft.rename(folder)
        return folder

    def _answers(
        self, cameras: Mapping[str, Camera], seen: Mapping[str, Seen], head: Settings
    ) -> dict[str, tuple[Parts, Material]]:
        """For each camera what will answer, and the frames that its threshold is chosen from."""
        shape, engine = heads.HeadShape.from_json(head["shape"]), self._engine("head")
        memory = (shape.places, shape.hidden)
        return {
            name: (Parts(camera.preparation, *seen[name], engine, memory), camera.parts["calibrate"])
            for name, camera in cameras.items()
        }

    def _kept(self) -> Mapping[str, answering.View]:
        """What is usual for the parent's cameras, where its networks stay: they need not be shown again."""
        return self.before.facts.views if self.before is not None and self.recipe.start == "recalibrate" else {}

    def _denoise(self, cameras: Sequence[Camera]) -> Settings:
        """The denoiser as a network of the engine, and what is said of its training."""
        done = self.draft / "denoiser.json"
        if done.is_file():
            found: Settings = json.loads(done.read_text("utf-8"))
            return found
        settings = diffusion.DiffusionSettings(
            self._profile(), 60 * DIFFUSION_SHARE * self.minutes, self.video.steps, self.video.drop,
            self.recipe.precision, self.recipe.seed,
            diffusion.LEARNING_RATE if self.before is None else WARM_RATE * diffusion.LEARNING_RATE,
        )  # fmt: skip
        torch.manual_seed(self.recipe.seed)
        begun = self._begun(cameras) if self.before is None else self.before.denoiser()
        shape = begun.shape
        takes = ([camera.take("fit") for camera in cameras], [camera.take("head") for camera in cameras])
        trained = diffusion.learn(takes, begun, settings, self._part(0.0, 0.55), self.draft / "diffusion")
        weights.save(trained.network, self.draft / "weights" / "denoiser.safetensors")
        export_denoiser(trained.network, self.draft / "ir" / "denoiser.xml")
        about = {
            "shape": shape.to_json(),
            "steps": trained.steps,
            "dropped": list(trained.dropped),
            **trained.outcome.to_json(),
        }
        write_json(done, about)
        return about

    def _begun(self, cameras: Sequence[Camera]) -> network.Denoiser:
        """A denoiser that has learnt nothing yet."""
        profile = diffusion.PROFILES[self._profile()]
        shown = [camera.preparation.pictures(spread(camera.parts["fit"])) for camera in cameras]
        return network.Denoiser(
            network.DenoiserShape(profile.channels, profile.layers, foreground_rms(np.concatenate(shown)))
        )

    def _profile(self) -> str:
        if self.video.profile != "auto":
            return self.video.profile
        return "gpu" if torch.cuda.is_available() else "cpu"

    def _precision(self) -> str:
        """bf16 where the processor has it, unless told otherwise; what is usual is measured in the same arithmetic."""
        if self.recipe.inference == "int8":
            raise InvalidInput(
                "a video model answers in bf16 or fp32; leave recipe.inference at auto", "recipe.inference"
            )
        if self.before is not None and self.recipe.start == "recalibrate":
            return self.before.facts.precision  # other cameras' usual errors were measured in it
        if self.recipe.inference != "auto":
            return self.recipe.inference
        return "bf16" if has_bf16() else "fp32"

    def _engine(self, name: str) -> OpenVinoEngine:
        return OpenVinoEngine.load(
            self.draft / "ir" / f"{name}.xml", self._precision() if name == "denoiser" else "fp32"
        )

    def _seen(self, camera: Camera, denoiser: OpenVinoEngine) -> Seen:
        maps = ErrorMaps(denoiser, camera.preparation)
        return maps, self._normal(camera, denoiser)

    def _normal(self, camera: Camera, denoiser: OpenVinoEngine) -> Normal:
        """What errors are usual, from normal frames that the denoiser has not learnt; also of places that are still."""
        file = self.draft / f"normal-{camera.number}.npz"
        if not file.is_file():
            few = self.recipe.start == "recalibrate"
            maps = ErrorMaps(denoiser, replace(camera.preparation, still=0.0))
            found = usual(
                sequences.errors(camera.preparation, maps, block)[sequences.RUN_UP :]
                for block in blocks_of(camera.parts["head"].stretches(), FEW_BLOCKS if few else MOST_BLOCKS)
            )
            write_arrays(file, **vars(found))
        with np.load(file, allow_pickle=False) as kept:
            return Normal.of(kept)

    def _sequences(self, cameras: Mapping[str, Camera], seen: Mapping[str, Seen]) -> sequences.Sequences:
        """The labelled events, and clips of the held-out parts with synthetic events in them."""
        draws = Draws({name: self._source(camera, seen[name]) for name, camera in cameras.items()})
        progress = self._part(0.55, 0.8)
        count = draws.events + (self.video.sequences or self._affordable(draws))
        return sequences.make(
            draws.clip, draws.maps, count, self.recipe.seed, self.draft / "sequences",
            lambda share: progress({"progress": share}, round(share * count)),
        )  # fmt: skip

    def _source(self, camera: Camera, seen: Seen) -> Source:
        """Raises InvalidInput where the part for the head is broken into too short pieces."""
        stretches = [stretch for stretch in camera.parts["head"].stretches() if len(stretch) >= FRAMES]
        if not stretches:
            raise InvalidInput(
                f"no unbroken stretch of {FRAMES} frames is left for the head; give a longer video", "video"
            )
        events = last_frames(camera, FRAMES, self.videos, self.video.long_side, self.draft)
        return Source(stretches, events, camera.preparation, *seen)

    def _affordable(self, draws: Draws) -> int:
        """How many sequences fit the time, by one that is made; kept, so that a resumed training is the same."""
        note = self.draft / "count.json"
        if not note.is_file():
            began = time.perf_counter()
            draws.maps(0, draws.clip(0, np.random.default_rng(0)).images)
            seconds = time.perf_counter() - began
            affordable = 60 * SEQUENCE_SHARE * self.minutes / seconds
            write_json(note, int(min(SEQUENCES[1], max(SEQUENCES[0], affordable))))
        return int(json.loads(note.read_text("utf-8")))

    def _head(self, made: sequences.Sequences | None, grid: tuple[int, int]) -> Settings:
        """The head as a network of the engine: the CNN+LSTM where it has earned its place, else the plain errors.

        Without sequences to learn from (`head = "none"`) the plain errors.
        """
        done = self.draft / "head.json"
        if done.is_file():
            found: Settings = json.loads(done.read_text("utf-8"))
            return found
        shape = heads.HeadShape(WIDTH, grid, self.video.head)
        head, about = (_plain(shape), {}) if made is None else self._learnt(made, shape)
        weights.save(head, self.draft / "weights" / "head.safetensors")
        export_head(head, self.draft / "ir" / "head.xml")
        about |= {"shape": head.shape.to_json(), "asked": shape.kind, "kind": head.shape.kind}
        write_json(done, about)
        return about

    def _learnt(self, made: sequences.Sequences, shape: heads.HeadShape) -> tuple[heads.Head, Settings]:
        """A head, and its areas beside those of the plain errors on families that it had not seen."""
        folder, seed = self.draft / "heads", self.recipe.seed
        unseen = head_training.leave_one_out(made, shape, seed, self._part(0.8, 0.9), folder, self.recipe.precision)
        plain = _plain(shape)
        everything = range(len(made))
        bare = head_training.judged(plain, made, [i for i in everything if i % head_training.HELD_OUT == 0])
        families = head_training.judged(plain, made, everything)
        about: Settings = {"left_out": unseen.to_json(), "plain": families.to_json(), "plain_held_out": bare.to_json()}
        earned, about["because"] = head_training.earned(unseen, families)
        if not earned:
            return plain, about
        head, outcome = head_training.fit_head(
            made, shape, head_training.EPOCHS, seed, self._part(0.9, 0.98), folder / "final",
            precision=self.recipe.precision,
        )  # fmt: skip
        held = head_training.parted(made)[1]
        about |= {"held_out": head_training.judged(head, made, held).to_json(), "training": outcome.to_json()}
        return head, about

    def _terms(self, rate: float) -> Terms:
        video = self.video
        return Terms(rate, video.alarms_per_day, video.long_side, self._precision())

    def _rate(self, cameras: Mapping[str, Camera]) -> float:
        """Frames a second; where the networks stay so does their rate."""
        if self.before is not None:
            return self.before.facts.fps
        return float(np.median([camera.fps for camera in cameras.values()]))

    def _named(self, cameras: dict[str, Camera]) -> dict[str, Camera]:
        """Newer video of the only camera that the parent knows may be given without its name, where networks stay.

        Raises InvalidInput where it could be of any of several.
        """
        if self.before is None or self.recipe.start != "recalibrate" or list(cameras) != [""]:
            return cameras
        known = list(self.before.facts.views)
        if len(known) > 1 and "" not in known:
            raise InvalidInput(
                f"the version that answers knows the cameras {', '.join(known)}; put the newer video into a folder of "
                "its camera's name, and give the folder around that",
                "video",
            )
        return {known[0] if len(known) == 1 else "": cameras[""]}

    def _part(self, low: float, high: float) -> Report:
        """A report whose progress is a part of the whole."""

        def report(metrics: Mapping[str, float], step: int) -> None:
            self.report({**metrics, "progress": low + (high - low) * metrics.get("progress", 0.0)}, step)

        return report

    def _clear(self) -> None:
        """What answering does not need."""
        for name in ("diffusion", "heads", "sequences"):
            shutil.rmtree(self.draft / name, ignore_errors=True)
        for file in (*self.draft.glob("*.raw"), *self.draft.glob("*.json"), *self.draft.glob("normal-*.npz")):
            if file.name != "model.json":
                file.unlink(missing_ok=True)


def blocks_of(stretches: Iterable[NDArray[np.uint8]], most: int = MOST_BLOCKS) -> Iterator[NDArray[np.uint8]]:
    """Pieces of some frames with the run-up that their past needs, so that an hour of video fits the memory."""
    places = [(stretch, first) for stretch in stretches for first in range(sequences.RUN_UP, len(stretch), BLOCK)]
    chosen = np.linspace(0, len(places) - 1, min(len(places), most), dtype=np.int64)
    for stretch, first in (places[i] for i in chosen):
        yield stretch[first - sequences.RUN_UP : first + BLOCK]


def _plain(shape: heads.HeadShape) -> heads.Head:
    return heads.Head(replace(shape, kind="none")).eval()


def _start(workdir: Path, arguments: Settings) -> None:
    """What another training left in the folder is removed; what this one left is kept."""
    workdir.mkdir(parents=True, exist_ok=True)
    note, text = workdir / "arguments.json", json.dumps(arguments, sort_keys=True)
    if note.is_file() and note.read_text("utf-8") != text:
        for name in ("model", "draft"):
            shutil.rmtree(workdir / name, ignore_errors=True)
    note.write_text(text, "utf-8")
    (workdir / "draft").mkdir(exist_ok=True)
