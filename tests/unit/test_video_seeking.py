"""Frames from the middle of a stored video are those that reading from the beginning gives."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.frames import read_frames
from keepfit.tasks.video.seeking import NEAR, from_key_frame, read_between
from keepfit.tasks.video.stored import keep_times

FRAMES = 700
SIDE = 64


def write(path: Path, codec: str = "libx264", stamps: list[int] | None = None) -> Path:
    """A square on its way, a key frame each 60 frames; stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIDE, 48, "yuv420p", 60
        if codec == "libx264":
            stream.options = {"bf": "3"}
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(FRAMES):
            image = np.full((48, SIDE), 40, np.uint8)
            image[number % 40 : number % 40 + 8, number % 56 : number % 56 + 8] = 60 + number % 190
            frame = av.VideoFrame.from_ndarray(image, "gray").reformat(format="yuv420p")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, 10) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remembered(path: Path) -> list[Frame]:
    whole = list(read_frames(path, SIDE))
    keep_times(path.parent, path.name, np.array([frame.time_s for frame in whole]))
    return whole


def same(found: list[Frame], wanted: list[Frame]) -> None:
    assert [f.number for f in found] == [f.number for f in wanted]
    assert [f.time_s for f in found] == pytest.approx([f.time_s for f in wanted], abs=1e-5)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, wanted, strict=True))
    assert [f.start for f in found] == [True, *[False] * (len(found) - 1)]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mov", "mpeg4")]
)
def test_the_middle_of_a_video_is_read_exactly(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, codec)
    whole = remembered(path)
    for first, stop in ((NEAR, NEAR + 1), (299, 361), (300, 330), (650, FRAMES), (10, 20)):
        same(list(read_between(path, SIDE, first, stop)), whole[first:stop])


def test_a_transport_stream_is_read_exactly(tmp_path: Path) -> None:
    """A jump in it lands on pictures that need earlier ones, which are not to be had; they are no place to begin."""
    path = write(tmp_path / "a.ts", "mpeg4")
    whole = remembered(path)
    for first in (252, 290, 400):
        same(list(read_between(path, SIDE, first, first + 20)), whole[first : first + 20])


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mov", "mpeg4")])
def test_the_usual_files_are_read_from_a_key_frame(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, codec)
    whole = remembered(path)
    times = np.array([frame.time_s for frame in whole])
    same(list(from_key_frame(path, SIDE, (330, 350), times)), whole[330:350])


def test_a_variable_rate_is_no_hindrance(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).integers(20, 200, FRAMES)
    path = write(tmp_path / "a.mkv", stamps=np.cumsum(steps).tolist())
    whole = remembered(path)
    same(list(read_between(path, SIDE, 400, 450)), whole[400:450])


def test_what_lies_before_is_not_read(tmp_path: Path) -> None:
    """Damage before the window shifts the numbers of whoever counts from the beginning."""
    path = write(tmp_path / "a.avi", "mpeg4")
    whole = remembered(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 5 : len(data) // 4] = bytes(len(data) // 4 - len(data) // 5)
    path.write_bytes(data)
    assert not np.array_equal(next(read_frames(path, SIDE, 500, 501)).image, whole[500].image)
    same(list(read_between(path, SIDE, 500, 520)), whole[500:520])


@pytest.mark.parametrize("wrong", [0.03, -0.04])
def test_times_that_do_not_fit_lead_back_to_counting(tmp_path: Path, wrong: float) -> None:
    path = write(tmp_path / "a.mp4")
    whole = list(read_frames(path, SIDE))
    times = np.array([frame.time_s for frame in whole])
    times[1:] += wrong
    keep_times(path.parent, path.name, times)
    same(list(read_between(path, SIDE, 400, 420)), whole[400:420])


def test_without_remembered_times_everything_is_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    same(list(read_between(path, SIDE, 400, 420)), list(read_frames(path, SIDE, 400, 420)))
