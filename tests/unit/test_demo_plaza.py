"""The demo's plaza: what it says is what one sees, and all is normal but for the events."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.app.demo.plaza import KINDS, Event, Plaza, render_plaza, write_sidecar
from keepfit.errors import BackendError, InvalidInput

SIZE, SECONDS, FRAMES = (96, 72), 6.0, 60


def rendered(path: Path, *events: Event, seed: int = 1, dusk: float = 0.0) -> Plaza:
    return render_plaza(path, SECONDS, events, np.random.default_rng(seed), size=SIZE, dusk=dusk)


def read(path: Path) -> NDArray[np.float64]:
    """Grey frames, shape (n, height, width)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)]).astype(float)


def test_the_video_has_the_frames_and_the_rate_that_were_asked_for(tmp_path: Path) -> None:
    plaza = rendered(tmp_path / "a.mp4")
    with av.open(str(plaza.path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate or 0) == 10
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    assert read(plaza.path).shape == (FRAMES, 72, 96)
    assert (plaza.frames, plaza.fps, len(plaza.boxes)) == (FRAMES, 10, FRAMES)


def test_a_video_without_events_has_nothing_anomalous(tmp_path: Path) -> None:
    plaza = rendered(tmp_path / "a.mp4")
    assert not plaza.truth.any()
    assert not any(plaza.boxes)


def test_a_suitcase_is_there_exactly_as_long_as_its_event(tmp_path: Path) -> None:
    plaza = rendered(tmp_path / "a.mp4", Event("dropped", 2.0, 3.0))
    assert np.flatnonzero(plaza.truth).tolist() == list(range(20, 50))
    assert len(set(plaza.boxes[20:50])) == 1, "it does not move"


@pytest.mark.parametrize("kind", ["rider", "runner", "cart", "wrong_way"])
def test_what_moves_comes_into_view_when_its_event_begins(tmp_path: Path, kind: str) -> None:
    plaza = rendered(tmp_path / "a.mp4", Event(kind, 1.0, 5.0))
    assert np.flatnonzero(plaza.truth)[0] == 10
    (early_left, _, early_right, _), (late_left, _, late_right, _) = plaza.boxes[12][0], plaza.boxes[32][0]
    assert abs(late_left + late_right - early_left - early_right) > 12


def test_a_rider_has_crossed_within_the_time_of_its_event(tmp_path: Path) -> None:
    plaza = rendered(tmp_path / "a.mp4", Event("rider", 0.0, 5.5))
    assert 30 < plaza.truth.sum() <= 55
    assert not plaza.truth[55:].any()


def test_the_picture_changes_where_the_truth_says_so(tmp_path: Path) -> None:
    """The crowd and the noise of a seed are the same with and without an event."""
    without = read(rendered(tmp_path / "a.mp4").path)
    plaza = rendered(tmp_path / "b.mp4", Event("cart", 2.0, 4.0))
    apart = np.abs(read(plaza.path) - without)
    left, top, right, bottom = plaza.boxes[40][0]
    assert apart[:18].mean() < 1.5
    assert apart[40, top:bottom, left:right].mean() > 10 * apart[:18].mean()


def test_a_seed_always_gives_the_same_pixels_and_another_seed_other_people(tmp_path: Path) -> None:
    event = Event("dropped", 2.0, 3.0)
    first, again = rendered(tmp_path / "a.mp4", event), rendered(tmp_path / "b.mp4", event)
    assert np.array_equal(read(first.path), read(again.path))
    assert first.boxes == again.boxes
    assert not np.array_equal(read(first.path), read(rendered(tmp_path / "c.mp4", event, seed=2).path))


def test_people_move_over_a_ground_that_stays(tmp_path: Path) -> None:
    frames = read(rendered(tmp_path / "a.mp4").path)
    changed = np.abs(frames[30] - frames[10]) > 25
    assert 20 < changed.sum() < 0.2 * changed.size


def test_dusk_is_darker_and_noisier(tmp_path: Path) -> None:
    day, dusk = (read(rendered(tmp_path / f"{d}.mp4", dusk=d).path) for d in (0.0, 1.0))
    assert dusk.mean() < 0.6 * day.mean()
    flicker = [float(np.median(np.abs(np.diff(frames, axis=0)))) / frames.mean() for frames in (day, dusk)]
    assert flicker[1] > 1.5 * flicker[0]


def test_the_sidecar_counts_from_zero_and_its_spans_are_inclusive(tmp_path: Path) -> None:
    plaza = rendered(tmp_path / "a.mp4", Event("dropped", 1.0, 1.0), Event("dropped", 4.0, 2.0))
    path = write_sidecar(plaza)
    assert path == tmp_path / "a.json"
    clip = {"name": "plaza", "first": 0, "frames": FRAMES, "anomaly_frames": [[10, 19], [40, 59]]}
    assert json.loads(path.read_text("utf-8")) == {"fps": 10, "clips": [clip]}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event("ufo", 1.0, 1.0), "no event is called 'ufo'; choose from " + ", ".join(KINDS)),
        (Event("rider", 4.0, 2.5), "lies outside"),
        (Event("rider", -1.0, 2.0), "lies outside"),
        (Event("rider", 1.0, float("nan")), "lies outside"),
    ],
)
def test_an_event_that_cannot_be_is_refused(tmp_path: Path, event: Event, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        rendered(tmp_path / "a.mp4", event)
    assert refused.value.field == "events"
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize(
    ("seconds", "size", "fps", "dusk", "field"),
    [(0.0, SIZE, 10, 0.0, "seconds"), (6.0, (96, 71), 10, 0.0, "size"), (6.0, (32, 24), 10, 0.0, "size"),
     (6.0, SIZE, 0, 0.0, "seconds"), (6.0, SIZE, 10, 1.5, "dusk")],
)  # fmt: skip
def test_a_video_that_cannot_be_is_refused(
    tmp_path: Path, seconds: float, size: tuple[int, int], fps: int, dusk: float, field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        render_plaza(tmp_path / "a.mp4", seconds, [], np.random.default_rng(0), size=size, fps=fps, dusk=dusk)
    assert refused.value.field == field


def test_a_folder_that_is_not_there_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be written"):
        rendered(tmp_path / "nowhere" / "a.mp4")
