"""Finishing: the threshold from normal video that nothing was learnt from, and the files that answering reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keepfit.tasks.video import model as answering
from keepfit.tasks.video.features import LEVELS
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.model import View
from keepfit.tasks.video.preparation import GREY_LEVELS
from keepfit.tasks.video.stream import Parts, Stream
from keepfit.tasks.video.thresholding import block_maxima, calibrate
from keepfit.tasks.video.timeline import LABELS


@dataclass(frozen=True)
class Terms:
    """What a finished model must say of itself besides what it has learnt."""

    fps: float
    alarms_per_day: float
    long_side: int
    precision: str
    """The arithmetic of the denoiser."""


def finish(
    folder: Path, cameras: Mapping[str, tuple[Parts, Material]], terms: Terms, about: Mapping[str, Any],
    kept: Mapping[str, View] = MappingProxyType({}),
) -> dict[str, Any]:  # fmt: skip
    """Choose each camera's threshold on its normal frames; write the scenes and, last, model.json (returned).

    Cameras that are `kept` are written as they are, unless they are among the others. `about` is added to model.json.
    Raises InvalidInput when the frames of a camera are too few for a threshold.
    """
    views = {**kept, **{name: judged(parts, normal, terms) for name, (parts, normal) in cameras.items()}}
    first = next(iter(cameras.values()))[0]
    values = {
        "format": answering.FORMAT,
        "task": "video",
        "load": "keepfit.tasks.video.model:load",
        "labels": list(LABELS),
        "columns": ["video"],
        "cameras": {name: write_view(folder, number, views[name]) for number, name in enumerate(sorted(views))},
        "fps": terms.fps,
        "long_side": terms.long_side,
        "memory": list(first.memory),
        "precision": terms.precision,
        "levels": [str(level) for level in LEVELS],
        **about,
    }
    write_json(folder / "model.json", values)
    return values


def judged(parts: Parts, normal: Material, terms: Terms) -> View:
    """What is usual for a camera, with the threshold that its normal frames give."""
    scores = scored(parts, normal)
    threshold = calibrate(scores, terms.fps, normal.starts, terms.alarms_per_day)
    scale = max(1e-3, (threshold.enter - float(np.median(scores))) / 4)
    maxima = block_maxima(scores, terms.fps, normal.starts)
    return View(parts.preparation, parts.normal, threshold, scale, maxima)


def write_view(folder: Path, number: int, view: View) -> dict[str, Any]:
    """Its arrays as a file of the folder; what model.json says of it, for View.read."""
    file = f"scene-{number}.npz"
    scene = {"background": view.background, "still": np.array(view.preparation.still)}
    write_arrays(folder / file, **scene, **vars(view.normal), maxima=view.maxima)
    threshold, levels = asdict(view.threshold), round(view.preparation.still * GREY_LEVELS, 1)
    return {"scene": file, "threshold": threshold, "scale": view.scale, "still_levels": levels}


def scored(parts: Parts, material: Material) -> NDArray[np.float32]:
    """The score of every frame, as a stream gives it."""
    stream, step = Stream(parts), answering.CHUNK
    places = range(0, len(material), step)
    return np.concatenate(
        [stream.push(material.images[i : i + step], material.starts[i : i + step]).scores for i in places]
    )


def write_arrays(file: Path, **arrays: NDArray[Any]) -> None:
    """At once or not at all."""
    partial = file.with_suffix(".partial")
    with partial.open("wb") as out:
        np.savez(out, allow_pickle=False, **arrays)
    partial.replace(file)


def write_json(file: Path, values: Any) -> None:
    """At once or not at all: a training that is killed reads only whole notes when it goes on."""
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(values, indent=1), "utf-8")
    partial.replace(file)
