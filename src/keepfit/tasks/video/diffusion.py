"""Training the denoiser on crops of normal video: a scout finds suspicious clips, the training leaves them out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keepfit.tasks.task import Report
from keepfit.tasks.video.finishing import write_json
from keepfit.tasks.video.material import Take
from keepfit.tasks.video.network import Averaged, Denoiser, log_uniform, weighted_huber
from keepfit.tasks.video.preparation import PAST, Preparation, moved, tiles_moved
from keepfit.training.precision import choose
from keepfit.training.trainer import Outcome, TrainSettings, train

CROP, BATCH = 64, 32
TILE = 8
ON_MOTION = 0.8
"""Share of the crops that are centred on something that moves."""
HIDDEN = 0.4
"""Share of the crops whose past is hidden, so that one network answers with and without it."""
MOVING_WEIGHT = 4.0
SIGMAS = (0.1, 4.0)
"""Noise levels, log-uniform: no capacity is spent on pure noise (AnoDDPM trains truncated, too)."""
LEARNING_RATE = 6e-4
SCOUT = 0.2
"""Share of the steps that the scout takes."""
LOOK_BATCHES = 8
PROBE = 6
"""Steps that are timed to set the number of steps."""
FEWEST = 100
"""Steps that a budget gives at least."""


@dataclass(frozen=True)
class Profile:
    """How large a network, and how long at most."""

    channels: tuple[int, ...]
    layers: int
    most_steps: int


PROFILES: Mapping[str, Profile] = {
    "demo": Profile((24, 48, 72), 1, 1_500),
    "cpu": Profile((32, 64, 96), 1, 6_000),
    "gpu": Profile((64, 128, 192), 2, 40_000),
}


@dataclass(frozen=True)
class DiffusionSettings:
    """What the training of the denoiser needs besides its frames."""

    profile: str
    seconds: float
    """Time for it; together with a short probe it gives the number of steps."""
    steps: int = 0
    """0: from the time."""
    drop: float = 0.03
    """Share of the clips with the highest loss after the scout that are not learnt from any more."""
    precision: str = "auto"
    seed: int = 17
    learning_rate: float = LEARNING_RATE


@dataclass(frozen=True, eq=False)
class Trained:
    """A denoiser and how it came about."""

    network: Denoiser
    outcome: Outcome
    steps: int
    dropped: tuple[int, ...]
    """Numbers of the windows that were left out of the main training."""


class Crops:
    """Batches of crops by number; the same number gives the same batch. See training.trainer.Batches."""

    def __init__(
        self,
        takes: Sequence[Take],
        count: int,
        seed: int,
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        """Frames, and windows (`left_out`), are numbered through all takes, whose pictures have one size."""
        self._takes, self._count, self._seed = takes, count, seed
        self._begins = _begins(takes)
        past = [history(take.material.starts) for take in takes]
        self._history = np.concatenate([rows + begin for rows, begin in zip(past, self._begins, strict=False)])
        self._moving = np.concatenate([_moving_tiles(take, rows) for take, rows in zip(takes, past, strict=True)])
        usable = np.ones(self._begins[-1], np.bool_)
        for first, stop in (windows_of(takes)[number] for number in left_out):
            usable[first:stop] = False
        self._usable = np.flatnonzero(usable)

    @property
    def _size(self) -> tuple[int, int]:
        return self._takes[0].preparation.size

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Mapping[str, Tensor]:
        rng = np.random.default_rng((self._seed, number))
        return self.of(rng.choice(self._usable, BATCH), rng)

    def of(self, frames: NDArray[np.int64], rng: np.random.Generator) -> Mapping[str, Tensor]:
        """One crop of each of these frames, with fresh noise."""
        n = len(frames)
        clean = np.empty((n, 1, CROP, CROP), np.float32)
        past = np.empty((n, len(PAST), CROP, CROP), np.float32)
        place = np.empty((n, 4), np.float32)
        height, width = self._size
        for i, frame in enumerate(frames):
            top, left = self._corner(int(frame), rng)
            rows = self._history[frame]
            cut = self._cut(np.concatenate([[frame], rows]), top, left)
            clean[i, 0], past[i] = cut[0], cut[1:]
            place[i] = (top / height, left / width, CROP / height, CROP / width)
        sigma = log_uniform(torch.from_numpy(rng.random(n, np.float32)), *SIGMAS)
        noise = torch.from_numpy(rng.standard_normal(clean.shape, np.float32))
        target = torch.from_numpy(clean)
        return {
            "noisy": target + noise * sigma.reshape(-1, 1, 1, 1),
            "past": torch.from_numpy(past),
            "known": torch.from_numpy((rng.random(n) >= HIDDEN).astype(np.float32)),
            "sigma": sigma,
            "place": torch.from_numpy(place),
            "labels": target,
            "weights": torch.from_numpy(1 + MOVING_WEIGHT * moved(clean, past[:, :1]).astype(np.float32)),
        }

    def _corner(self, frame: int, rng: np.random.Generator) -> tuple[int, int]:
        """Top left of a crop, on a multiple of four, mostly around something that moves."""
        height, width = self._size
        tiles = np.argwhere(self._moving[frame])
        if len(tiles) and rng.random() < ON_MOTION:
            row, column = tiles[rng.integers(len(tiles))] * TILE + TILE // 2 - CROP // 2
            row, column = row + rng.integers(-CROP // 4, CROP // 4), column + rng.integers(-CROP // 4, CROP // 4)
        else:
            row, column = rng.integers(0, height), rng.integers(0, width)
        return (
            int(np.clip(row, 0, max(0, height - CROP))) // 4 * 4,
            int(np.clip(column, 0, max(0, width - CROP))) // 4 * 4,
        )

    def _cut(self, frames: NDArray[np.int64], top: int, left: int) -> NDArray[np.float32]:
        """The same place in some frames of one take."""
        number = int(np.searchsorted(self._begins, frames[0], "right")) - 1
        take, begin = self._takes[number], self._begins[number]
        background = take.preparation.background[top : top + CROP, left : left + CROP]
        images = np.stack([take.material.images[f - begin, top : top + CROP, left : left + CROP] for f in frames])
        cut = Preparation(background).pictures(images)
        return np.pad(cut, ((0, 0), (0, CROP - cut.shape[1]), (0, CROP - cut.shape[2])), mode="edge")


def history(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each frame the numbers of the frames that its past shows, (n, 4); never beyond the start of its clip."""
    numbers = np.arange(len(starts))
    begun = np.maximum.accumulate(np.where(starts, numbers, 0))
    return np.stack([np.maximum(numbers - back, begun) for back in PAST], axis=1)


def _moving_tiles(take: Take, past: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where something moves, (n, rows, columns) of tiles; a few frames are in memory at a time."""
    images, pictures, found = take.material.images, take.preparation.pictures, []
    for start in range(0, len(images), 64):
        rows = np.arange(start, min(start + 64, len(images)))
        found.append(tiles_moved(pictures(images[rows]), pictures(images[past[rows, 0]]), TILE))
    return np.concatenate(found)


def _begins(takes: Sequence[Take]) -> NDArray[np.int64]:
    """The number of the first frame of each take, and of all frames."""
    return np.cumsum([0, *(len(take.material) for take in takes)])


def windows_of(takes: Sequence[Take]) -> list[tuple[int, int]]:
    """The first frame and the end of every window, numbered through all takes."""
    pairs = zip(takes, _begins(takes), strict=False)
    return [(first + int(begin), stop + int(begin)) for take, begin in pairs for first, stop in take.material.windows]


def learn(
    parts: tuple[Sequence[Take], Sequence[Take]],
    begun: Denoiser,
    settings: DiffusionSettings,
    report: Report,
    workdir: Path,
) -> Trained:
    """Train `begun` on `parts[0]`, a take for each camera, look at `parts[1]`; called again after a kill it goes on.

    A fifth of the steps is a scout's: the windows that it finds hardest are left out of the training, because an
    unlabelled video holds anomalies, too (LBR-SPR, Yu et al. 2022, drops suspicious samples likewise).
    """
    torch.manual_seed(settings.seed)
    network = Averaged(begun)
    steps = _steps(network, Crops(parts[0], PROBE, settings.seed), settings, workdir)
    scouting = max(1, round(SCOUT * steps))
    _stage(network, parts, settings, scouting, report, workdir / "scout")
    dropped = _suspicious(network, parts[0], settings, workdir)
    main = Averaged(network.average)
    outcome = _stage(main, parts, settings, max(1, steps - scouting), report, workdir / "main", dropped)
    return Trained(main.average, outcome, steps, tuple(sorted(dropped)))


def _stage(
    network: Averaged,
    parts: tuple[Sequence[Take], Sequence[Take]],
    settings: DiffusionSettings,
    steps: int,
    report: Report,
    workdir: Path,
    left_out: frozenset[int] = frozenset(),
) -> Outcome:
    crops = Crops(parts[0], steps, settings.seed, left_out)
    looks = Crops(parts[1], LOOK_BATCHES, settings.seed + 1)
    return train(network, (crops, looks), weighted_huber, _train_settings(settings, steps), report, workdir)


def _train_settings(settings: DiffusionSettings, steps: int) -> TrainSettings:
    return TrainSettings(
        learning_rate=settings.learning_rate,
        warmup=min(0.1, 200 / steps),
        weight_decay=0.01,
        patience=1_000,  # the loss of one noise draw says little; the schedule ends the training
        evaluate_every=max(50, steps // 8),
        precision=settings.precision,
        seed=settings.seed,
    )


def _steps(network: Averaged, crops: Crops, settings: DiffusionSettings, workdir: Path) -> int:
    """As set, or as many as fit the time; measured once and kept, so that a resumed training is the same."""
    if settings.steps:
        return settings.steps
    note = workdir / "steps.json"
    if note.is_file():
        return int(json.loads(note.read_text("utf-8"))["steps"])
    seconds = _seconds_per_step(network, crops, settings.precision)
    most = PROFILES[settings.profile].most_steps
    steps = int(min(most, max(FEWEST, settings.seconds / seconds)))
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(note, {"steps": steps, "seconds_per_step": seconds})
    return steps


def _seconds_per_step(network: Averaged, crops: Crops, precision: str) -> float:
    """The median of a few steps, data included; the weights do not change."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device).train()

    def loss() -> Tensor:
        batch = {name: value.to(device) for name, value in crops[0].items()}
        labels, weights = batch.pop("labels"), batch.pop("weights")
        return weighted_huber(network(**batch), labels, weights)

    chosen = choose(network, loss, precision, device)
    times = []
    for _ in range(PROBE):
        began = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=chosen.chosen == "bf16"):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        times.append(time.perf_counter() - began)
    network.zero_grad(set_to_none=True)
    network.to("cpu")
    return float(np.median(times[1:]))


def _suspicious(network: Averaged, takes: Sequence[Take], settings: DiffusionSettings, workdir: Path) -> frozenset[int]:
    """The windows with the highest loss, by the share that the settings name."""
    note = workdir / "dropped.json"
    if note.is_file():
        return frozenset(json.loads(note.read_text("utf-8")))
    count = int(settings.drop * len(windows_of(takes)))
    dropped: list[int] = []
    if count:
        losses = window_losses(network, Crops(takes, 1, settings.seed + 2), windows_of(takes))
        dropped = [int(i) for i in np.argsort(losses)[-count:]]
    write_json(note, sorted(dropped))
    return frozenset(dropped)


def window_losses(network: Averaged, crops: Crops, windows: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """The mean loss of each window over some crops of it; shape (windows,)."""
    network.eval()
    losses = []
    with torch.inference_mode():
        for number, (first, stop) in enumerate(windows):
            rng = np.random.default_rng(number)
            batch: dict[str, Any] = dict(crops.of(rng.integers(first, stop, BATCH), rng))
            labels, weights = batch.pop("labels"), batch.pop("weights")
            losses.append(float(weighted_huber(network(**batch), labels, weights)))
    return np.array(losses)
