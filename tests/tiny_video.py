"""A video model without training, and a video for it: an untrained denoiser and the plain error detector."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from keepfit.engine.openvino import OpenVinoEngine
from keepfit.tasks.video import head as heads
from keepfit.tasks.video import network
from keepfit.tasks.video.exporting import export_denoiser, export_head
from keepfit.tasks.video.features import ErrorMaps
from keepfit.tasks.video.finishing import Terms, finish
from keepfit.tasks.video.material import Material
from keepfit.tasks.video.normality import WIDTH, Normal, usual
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.sequences import errors
from keepfit.tasks.video.stream import Parts

FPS = 10
ABOUT = {"snapshot": "none", "recipe": {}, "denoiser": {}, "head": {"kind": "none"}}
SIZE = (64, 48)
"""Width and height."""

Images = NDArray[np.uint8]


def plaza(frames: int, intruder: range = range(0)) -> Images:
    """A still scene in which a small thing walks; the intruder is large, bright and fast: (frames, 48, 64)."""
    width, height = SIZE
    down, right = np.mgrid[0:height, 0:width]
    images = np.repeat((90 + 20 * np.sin(down / 5) + right / 4).astype(np.uint8)[None], frames, axis=0)
    for number, image in enumerate(images):
        left = number % (width - 4)
        image[30:36, left : left + 4] = 40
        if number in intruder:
            place = 7 * number % (width - 20)
            image[6:26, place : place + 20] = 250 if number % 2 else 5
    return images


def write_video(path: Path, images: Images, fps: int = FPS) -> Path:
    """Encode pictures; the suffix of the path says in which container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "6"})
        stream.width, stream.height, stream.pix_fmt = images.shape[2], images.shape[1], "yuv420p"
        stream.time_base = Fraction(1, fps)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def picture(image: NDArray[np.uint8], kind: str = "png") -> bytes:
    """One picture as a camera sends it: png (lossless) or mjpeg."""
    codec = av.CodecContext.create(kind, "w")
    codec.width, codec.height = image.shape[1], image.shape[0]
    codec.pix_fmt = "gray" if kind == "png" else "yuvj420p"
    codec.time_base = Fraction(1, FPS)
    frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format=codec.pix_fmt)
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


def build(folder: Path, seed: int = 0) -> Path:
    """A folder as the learning half leaves it."""
    torch.manual_seed(seed)
    normal_video = plaza(80)
    preparation = Preparation(np.median(normal_video, axis=0).astype(np.uint8))
    denoiser = _denoiser(folder / "ir" / "denoiser.xml")
    maps = ErrorMaps(denoiser, preparation)
    normal = usual([errors(preparation, maps, normal_video)])
    shape = heads.HeadShape(WIDTH, maps.grid, "none", 8, 4)
    head = _head(folder / "ir" / "head.xml", shape)
    _finish(folder, Parts(preparation, maps, normal, head, (shape.places, shape.hidden)), normal_video)
    return folder


def other_version(base: Path, folder: Path, gain: float) -> Path:
    """The same model with another head, so with other scores (the threshold is that of its own scores)."""
    shutil.copytree(base, folder)
    with np.load(folder / "scene-0.npz") as scene:
        preparation, normal = Preparation(scene["background"], float(scene["still"])), Normal.of(scene)
    maps = ErrorMaps(OpenVinoEngine.load(folder / "ir" / "denoiser.xml", "fp32"), preparation)
    shape = heads.HeadShape(WIDTH, maps.grid, "none", 8, 4)
    head = _head(folder / "ir" / "head.xml", shape, gain)
    _finish(folder, Parts(preparation, maps, normal, head, (shape.places, shape.hidden)), plaza(80))
    return folder


def two_cameras(base: Path, folder: Path, darker: Mapping[str, int]) -> Path:
    """The same networks for several cameras, each of which sees the plaza so many grey levels darker."""
    shutil.copytree(base, folder)
    denoiser = OpenVinoEngine.load(folder / "ir" / "denoiser.xml", "fp32")
    head = OpenVinoEngine.load(folder / "ir" / "head.xml", "fp32")
    cameras = {}
    for name, levels in darker.items():
        images = plaza(80) - np.uint8(levels)
        preparation = Preparation(np.median(images, axis=0).astype(np.uint8))
        maps = ErrorMaps(denoiser, preparation)
        normal = usual([errors(preparation, maps, images)])
        shape = heads.HeadShape(WIDTH, maps.grid, "none", 8, 4)
        parts = Parts(preparation, maps, normal, head, (shape.places, shape.hidden))
        cameras[name] = (parts, Material(images, np.arange(len(images)) == 0, ()))
    finish(folder, cameras, Terms(float(FPS), 1.0, 384, "fp32"), ABOUT)
    return folder


def _denoiser(xml: Path) -> OpenVinoEngine:
    export_denoiser(network.Denoiser(network.DenoiserShape((8, 8), 1)).eval(), xml)
    return OpenVinoEngine.load(xml, "fp32")


def _head(xml: Path, shape: heads.HeadShape, gain: float | None = None) -> OpenVinoEngine:
    head = heads.Head(shape).eval()
    if gain is not None:
        head.gain.data.fill_(gain)
    export_head(head, xml)
    return OpenVinoEngine.load(xml, "fp32")


def _finish(folder: Path, parts: Parts, images: Images) -> None:
    starts = np.arange(len(images)) == 0
    finish(folder, {"": (parts, Material(images, starts, ()))}, Terms(float(FPS), 1.0, 384, "fp32"), ABOUT)
