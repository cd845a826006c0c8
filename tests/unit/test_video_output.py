"""Pictures and overlays of a video: what a person sees of scores, levels, alarms and heat maps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.overlay import MOST_OPACITY, write_overlay
from keepfit.tasks.video.pictures import MOST_POINTS, draw_heat, draw_timeline
from keepfit.tasks.video.segments import find
from keepfit.tasks.video.thresholding import label
from keepfit.tasks.video.timeline import Threshold, Timeline

LEVELS = Threshold(enter=3.0, exit=2.1, min_frames=3)


def timeline(n: int, alarm: slice, heat: bool = True) -> Timeline:
    """Scores 0 but 4 in the alarm; there the lower right cell is as hot."""
    scores, starts = np.zeros(n, np.float32), np.zeros(n, bool)
    scores[alarm] = 4.0
    starts[[0, n // 2]] = True
    cells = np.zeros((n, 4, 4), np.float16)
    cells[:, 2, 2] = scores
    labels = label(scores, starts, LEVELS)
    return Timeline(np.arange(n), np.arange(n) / 10, scores, labels, starts, cells if heat else None)


def grey(n: int, height: int = 48, width: int = 64) -> Iterator[NDArray[np.uint8]]:
    return (np.full((height, width), 100, np.uint8) for _ in range(n))


def decoded(path: Path) -> tuple[str, str | None, list[NDArray[np.float64]]]:
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        frames = [frame.to_ndarray(format="rgb24").astype(np.float64) for frame in container.decode(video=0)]
        return context.name, context.pix_fmt, frames


def redness(pixels: NDArray[np.float64]) -> float:
    return float((pixels[..., 0] - pixels[..., 1:].mean(axis=-1)).mean())


def test_an_overlay_is_an_h264_video_of_as_many_frames_with_a_red_border_during_the_alarm(tmp_path: Path) -> None:
    line = timeline(24, slice(4, 11))
    write_overlay(tmp_path / "new" / "overlay.mp4", grey(24), line, LEVELS, 10.0)
    codec, pixels, frames = decoded(tmp_path / "new" / "overlay.mp4")
    assert (codec, pixels, len(frames)) == ("h264", "yuv420p", 24)
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    border = np.array([redness(frame[:2, 8:-8]) for frame in frames])
    assert ((border > 120) == (line.labels == 1)).all(), border
    assert line.labels.sum() == 5
    assert (abs(border[line.labels == 0]) < 30).all(), border
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["overlay.mp4"]


def test_the_heat_map_is_red_where_it_is_hot_and_nowhere_else_and_hides_nothing(tmp_path: Path) -> None:
    line = timeline(12, slice(0, 6))
    write_overlay(tmp_path / "overlay.mp4", grey(12), line, LEVELS, 10.0)
    _, _, frames = decoded(tmp_path / "overlay.mp4")
    hot, cold = (slice(27, 33), slice(35, 45)), (slice(8, 16), slice(8, 24))
    assert redness(frames[4][hot]) > 0.7 * MOST_OPACITY * 200
    assert frames[4][hot][..., 1:].mean() > 35, "the picture shines through"
    for picture in (frames[4][cold], frames[10][hot], frames[10][cold]):
        assert abs(redness(picture)) < 15
        assert picture.mean() == pytest.approx(100, abs=6)


def test_the_colours_of_a_heat_map_do_not_depend_on_what_else_is_in_the_frame(tmp_path: Path) -> None:
    """Below exit nothing is coloured, though it is the hottest of its frame."""
    line = timeline(6, slice(0, 0))
    heat = np.zeros((6, 4, 4), np.float16)
    heat[:, 2, 2] = 2.0
    write_overlay(tmp_path / "overlay.mp4", grey(6), replace(line, heat=heat), LEVELS, 10.0)
    _, _, frames = decoded(tmp_path / "overlay.mp4")
    assert abs(redness(frames[3][26:34, 34:46])) < 6


def test_the_bar_is_empty_at_the_usual_score_and_passes_its_mark_at_enter(tmp_path: Path) -> None:
    line = timeline(20, slice(4, 8), heat=False)
    write_overlay(tmp_path / "overlay.mp4", grey(20, 240, 360), line, LEVELS, 10.0)
    _, _, frames = decoded(tmp_path / "overlay.mp4")
    bar = [frame[-7:-5, 4:-4].mean(axis=0) for frame in frames]
    mark = round(352 * 2 / 3)
    assert bar[1][: mark - 4].mean() < 60
    assert bar[1][mark : mark + 2].mean() > 150
    assert bar[6][: mark - 4, 0].mean() > 200
    assert bar[6][mark + 8 : mark + 50, 0].mean() > 200, "4 is above enter"


@pytest.mark.parametrize(("height", "width", "fps"), [(49, 63, 29.97), (17, 16, 1.0), (16, 17, 59.94), (2, 2, 10.0)])
def test_odd_and_tiny_pictures_become_even(tmp_path: Path, height: int, width: int, fps: float) -> None:
    frames = [np.full((height, width, 3), (20, 200, 20), np.uint8)] * 5
    write_overlay(tmp_path / "overlay.mp4", frames, timeline(5, slice(0, 0)), LEVELS, fps)
    _, pixels, shown = decoded(tmp_path / "overlay.mp4")
    assert (pixels, len(shown)) == ("yuv420p", 5)
    assert shown[0].shape == (height + height % 2, width + width % 2, 3)
    assert frames[0].max() == 200, "the frames of the caller stay as they are"


def test_without_libx264_an_overlay_is_mpeg4_and_without_that_it_is_refused(tmp_path: Path) -> None:
    line = timeline(6, slice(0, 6))
    write_overlay(tmp_path / "overlay.mp4", grey(6), line, LEVELS, 10.0, encoders=("no-such-encoder", "mpeg4"))
    assert decoded(tmp_path / "overlay.mp4")[:2] == ("mpeg4", "yuv420p")
    for none in (("no-such-encoder",), ("aac",)):
        with pytest.raises(BackendError, match="encode"):
            write_overlay(tmp_path / "none.mp4", grey(6), line, LEVELS, 10.0, encoders=none)
    assert not (tmp_path / "none.mp4").exists()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([np.zeros((16, 16), np.uint8)] * 5, "ends after 5 of 6 frames"),
        ([], "ends after 0 of 6 frames"),
        ([np.zeros((16, 16), np.uint8)] * 7, "more than the timeline's 6"),
        ([np.zeros((16, 16), np.uint8)] * 5 + [np.zeros((16, 18), np.uint8)], "another size"),
        ([np.zeros((16, 16), np.float32)] * 6, "is no picture"),
        ([np.zeros((16, 16, 4), np.uint8)] * 6, "is no picture"),
        ([np.zeros((0, 16), np.uint8)] * 6, "is no picture"),
    ],
)
def test_frames_that_are_not_the_scored_ones_are_refused_and_leave_the_old_file(
    tmp_path: Path, frames: list[NDArray[np.uint8]], words: str
) -> None:
    path = tmp_path / "overlay.mp4"
    path.write_text("old")
    with pytest.raises(InvalidInput, match=words):
        write_overlay(path, frames, timeline(6, slice(0, 3)), LEVELS, 10.0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_timeline_and_one_that_is_not_finite_are_refused(tmp_path: Path) -> None:
    line = timeline(6, slice(0, 3))
    empty = Timeline(line.frames[:0], line.times[:0], line.scores[:0], line.labels[:0], line.starts[:0])
    for bad in (empty, replace(line, scores=np.full(6, -np.inf, np.float32))):
        with pytest.raises(InvalidInput, match=r"score (a|the) video"):
            write_overlay(tmp_path / "overlay.mp4", grey(6), bad, LEVELS, 10.0)
        with pytest.raises(InvalidInput, match=r"score (a|the) video"):
            draw_timeline(tmp_path / "timeline.png", bad, LEVELS, ())
    with pytest.raises(InvalidInput, match="frame rate"):
        write_overlay(tmp_path / "overlay.mp4", grey(6), line, LEVELS, 0.0)
    assert not list(tmp_path.iterdir())


def test_a_timeline_picture_has_its_size_and_shows_alarms_and_truth(tmp_path: Path) -> None:
    line = timeline(200, slice(20, 60))
    truth = np.zeros(200, np.uint8)
    truth[120:160] = 1
    draw_timeline(tmp_path / "plain.png", line, LEVELS, ())
    draw_timeline(tmp_path / "full.png", line, LEVELS, find(line, LEVELS, 10.0), truth, "cost $5 and $6")
    plain, full = imread(tmp_path / "plain.png")[..., :3], imread(tmp_path / "full.png")[..., :3]
    assert plain.shape == full.shape == (360, 1200, 3)
    pink, green = np.array([0.96, 0.86, 0.86]), np.array([0.125, 0.5, 0.25])
    for colour, columns in ((pink, slice(100, 500)), (green, slice(600, 1000))):
        seen = [(abs(picture - colour) < 0.06).all(axis=2).sum(axis=0) for picture in (plain, full)]
        more = np.maximum(seen[1] - seen[0], 0)  # dashes and letters have such edges, too
        assert more[columns].sum() > 1000
        assert more[columns].sum() > 0.9 * more.sum()


def test_a_long_timeline_keeps_a_single_high_frame_in_its_envelope(tmp_path: Path) -> None:
    n = 5 * MOST_POINTS
    quiet = timeline(n, slice(0, 0), heat=False)
    peak = quiet.scores.copy()
    peak[n // 4] = 8.0
    draw_timeline(tmp_path / "quiet.png", replace(quiet, starts=quiet.frames % 10 == 0), LEVELS, ())
    draw_timeline(tmp_path / "peak.png", replace(quiet, scores=peak), LEVELS, ())
    blue = abs(imread(tmp_path / "peak.png")[60:200, :, :3] - [0.12, 0.37, 0.66]).max(axis=2) < 0.2
    columns = np.nonzero(blue.any(axis=0))[0]
    assert 0 < len(columns) < 6
    assert 250 < columns.mean() < 400


def test_one_frame_makes_a_picture(tmp_path: Path) -> None:
    draw_timeline(tmp_path / "one.png", timeline(1, slice(0, 0)), LEVELS, (), np.ones(1, np.uint8))
    assert imread(tmp_path / "one.png").shape[:2] == (360, 1200)


def test_a_truth_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the truth has 3 frames"):
        draw_timeline(tmp_path / "timeline.png", timeline(6, slice(0, 3)), LEVELS, (), np.ones(3, np.uint8))


def test_a_heat_picture_colours_by_its_fixed_scale(tmp_path: Path) -> None:
    image, heat = np.full((60, 80), 120, np.uint8), np.full((3, 4), 2.0)
    draw_heat(tmp_path / "below.png", image, heat, (2.1, 3.0))
    heat[1, 1] = 4.0
    draw_heat(tmp_path / "hot.png", np.repeat(image[..., None], 3, axis=2), heat, (2.1, 3.0))
    below, hot = imread(tmp_path / "below.png"), imread(tmp_path / "hot.png")
    middle = (slice(100, -100), slice(100, 550))  # without the colour bar
    reddish = [(picture[middle][..., 0] - picture[middle][..., 1] > 0.3).mean() for picture in (below, hot)]
    assert reddish[0] == 0
    assert reddish[1] > 0.03


def test_a_heat_picture_refuses_a_scale_that_does_not_rise_and_other_shapes(tmp_path: Path) -> None:
    image, heat = np.zeros((6, 8), np.uint8), np.zeros((3, 4))
    with pytest.raises(InvalidInput, match="does not rise"):
        draw_heat(tmp_path / "heat.png", image, heat, (2.0, 2.0))
    for picture, cells in ((image[0], heat), (image, heat[0]), (image, heat * np.nan), (image, heat[:0])):
        with pytest.raises(InvalidInput, match="rows and columns"):
            draw_heat(tmp_path / "heat.png", picture, cells, (1.0, 2.0))


def test_two_threads_draw_at_once(tmp_path: Path) -> None:
    line = timeline(100, slice(10, 20))
    threads = [
        threading.Thread(target=draw_timeline, args=(tmp_path / f"{name}.png", line, LEVELS, ())) for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
