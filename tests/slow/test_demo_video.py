"""The video demo, shortened: it plays to its end over real HTTP and writes what it promises."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from keepfit.app.demo.plaza import Event, render_plaza
from keepfit.app.demo.video_report import area, one_line
from keepfit.app.demo.video_stage import Phases
from keepfit.app.demo.video_story import Plan, rendered, run
from keepfit.errors import NotFound
from keepfit.tasks.video.frames import read_frames
from keepfit.tasks.video.sidecar import read_sidecar

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries that convert
]

SHORT = Plan(
    seconds=120.0,
    size=(96, 72),
    events=(Event("dropped", 113.5, 1.5), Event("rider", 115.5, 3.0)),
    steps=12,
    sequences=16,
    floor=0.1,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def result(out: Path) -> Mapping[str, Any]:
    return run(out, None, True, SHORT)


def test_the_story_ends_with_a_version_that_answers(result: Mapping[str, Any], out: Path) -> None:
    assert result["versions"] == [1]
    assert result["deployed_version"] == result["served"]["version"] == 1
    assert result["events"] == 2
    assert result["delay_s"].keys() == {"dropped", "rider"}
    assert result["events_found"] == sum(delay is not None for delay in result["delay_s"].values())
    assert 0 <= result["frame_auc"] <= 1
    assert 0 <= result["frame_auc_one_line"] <= 1
    assert result["ok"] == (result["events_found"] > result["false_alarm_segments"])
    assert json.loads((out / "result.json").read_text("utf-8")) == result


def test_the_server_says_of_the_last_minute_what_the_file_says(result: Mapping[str, Any], out: Path) -> None:
    assert result["served"]["same_labels"] > 0.9
    with av.open(str(out / "last_minute.mp4")) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 600


def test_everything_is_written_and_the_page_holds_its_pictures(result: Mapping[str, Any], out: Path) -> None:
    assert len((out / "plaza.frames.csv").read_text("utf-8").splitlines()) == result["frames"] + 1 == 1201
    segments = json.loads((out / "plaza.segments.json").read_text("utf-8"))
    assert len(segments["segments"]) == result["segments"]
    with av.open(str(out / "plaza.overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == 1200
    page = (out / "report.html").read_text("utf-8")
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 4  # the timeline, one for each event, and the errors by noise level
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    assert "http" not in re.sub(r"HTTP", "", page)


def test_a_video_without_truth_is_told_without_areas(tmp_path: Path) -> None:
    video = render_plaza(tmp_path / "lobby.mp4", 80, (), np.random.default_rng(0), size=(64, 48)).path
    result = run(tmp_path / "out", video, True, replace(SHORT, steps=8))
    assert result["ok"]
    unknown = ("frame_auc", "frame_auc_one_line", "events", "events_found", "false_alarm_segments")
    assert all(result[name] is None for name in unknown)
    assert "Nobody has said what is in this video" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_video_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"there is no file .*lobby\.mp4"):
        run(tmp_path / "out", tmp_path / "lobby.mp4", True, SHORT)
    assert not (tmp_path / "out").exists()


def test_in_the_whole_story_each_event_is_one_and_nothing_happens_in_what_is_learnt(tmp_path: Path) -> None:
    plan = Plan()
    with Phases(True) as phases:
        sidecar = read_sidecar(rendered(tmp_path, plan, phases))
    assert sidecar is not None
    truth = sidecar.truth(round(10 * plan.seconds))
    assert truth is not None
    assert int(np.sum(np.diff(truth.astype(int)) == 1)) == len(plan.events) == 3
    assert not truth[: round(0.8 * len(truth))].any()
    assert not truth[-1]


def test_the_one_line_score_sees_what_is_fast_and_nothing_in_a_still_picture(tmp_path: Path) -> None:
    plaza = render_plaza(tmp_path / "a.mp4", 12, (Event("rider", 9.5, 2.0),), np.random.default_rng(0), size=(96, 72))
    starts = np.arange(plaza.frames) == 0
    fast = area(plaza.truth, one_line((frame.image for frame in read_frames(plaza.path)), starts))
    still = one_line([np.full((72, 96), 120, np.uint8)] * plaza.frames, starts)
    assert fast is not None
    assert fast > 0.9
    assert not still.any()
