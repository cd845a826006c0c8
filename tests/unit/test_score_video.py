"""Scoring videos: what is refused, and whether the camera still looks where it looked."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from keepfit.errors import InvalidInput
from keepfit.pipelines.score_video import Watched, score_videos
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.model import VideoModel, load
from keepfit.tasks.video.scene import CameraWatch

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the libraries that convert


@pytest.fixture(scope="module")
def model(tiny_video_model: Path) -> VideoModel:
    return load(tiny_video_model)


def test_a_pushed_camera_is_noticed_with_the_time() -> None:
    scene = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
    watch = Watched(CameraWatch(scene), fps=10.0)
    images = [scene] * 50 + [np.roll(scene, 9, axis=1)] * 60
    passed = list(watch(Frame(n, n / 10, image) for n, image in enumerate(images)))
    assert len(passed) == 110
    assert watch.moved_s == pytest.approx(7.0)


def test_a_video_of_another_rate_is_an_error_of_that_video_alone(
    model: VideoModel, tiny_video: ModuleType, tmp_path: Path
) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    tiny_video.write_video(folder / "good.mp4", tiny_video.plaza(40))
    tiny_video.write_video(folder / "hasty.mp4", tiny_video.plaza(40), fps=30)
    done = score_videos(model, folder, tmp_path / "out", 1)
    assert (done.rows, done.errors, done.frames) == (2, 1, 40)
    assert "30 frames a second" in json.loads((tmp_path / "out" / "hasty.segments.json").read_text("utf-8"))["error"]


def test_outputs_never_lie_among_the_videos(model: VideoModel, tiny_video: ModuleType, tmp_path: Path) -> None:
    tiny_video.write_video(tmp_path / "good.mp4", tiny_video.plaza(40))
    with pytest.raises(InvalidInput, match="choose another folder"):
        score_videos(model, tmp_path, tmp_path, 1)


def test_two_videos_of_one_name_are_refused(model: VideoModel, tiny_video: ModuleType, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv"):
        tiny_video.write_video(tmp_path / name, tiny_video.plaza(40))
    with pytest.raises(InvalidInput, match="two videos are called 'a'"):
        score_videos(model, tmp_path, tmp_path / "out", 1)
