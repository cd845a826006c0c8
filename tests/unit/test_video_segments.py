"""Segments of a video: where an alarm began and ended, how sure, where in the picture; and the files that say so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from keepfit.errors import BackendError, InvalidInput
from keepfit.tasks.video.frame_files import write_frames
from keepfit.tasks.video.segments import SCHEMA, find, report, truth_of, written_at_once
from keepfit.tasks.video.thresholding import label
from keepfit.tasks.video.timeline import Threshold, Timeline

LEVELS = Threshold(enter=2.0, exit=1.0, min_frames=3, merge_gap=2, blocks=45, note="made by hand")
ALARM = (0, 0, 3, 4, 5, 1, 0, 0)
"""Labels 0 0 0 0 1 1 0 0."""


def timeline(scores: Sequence[float], cuts: tuple[int, ...] = (), fps: float = 10.0) -> Timeline:
    n = len(scores)
    starts = np.zeros(n, bool)
    starts[[0, *cuts]] = True
    values = np.array(scores, np.float32)
    return Timeline(np.arange(n), np.arange(n) / fps, values, label(values, starts, LEVELS), starts)


def spans(line: Timeline) -> list[tuple[int, int]]:
    return [(segment.first, segment.last) for segment in find(line, LEVELS, 10.0)]


def test_a_segment_begins_at_the_first_score_that_raised_the_alarm() -> None:
    (segment,) = find(timeline(ALARM), LEVELS, 10.0)
    assert (segment.first, segment.last) == (2, 5)
    assert segment.start_s == pytest.approx(0.2)
    assert segment.end_s == pytest.approx(0.6), "when the last frame ends"
    assert (segment.peak_frame, segment.peak_score, segment.mean_score) == (4, 5.0, 3.25)
    assert (segment.p_value, segment.box) == (None, None)


def test_segments_count_frames_as_the_timeline_does() -> None:
    line = timeline(ALARM)
    (segment,) = find(replace(line, frames=line.frames + 100, times=line.times + 10), LEVELS, 10.0)
    assert (segment.first, segment.last, segment.peak_frame) == (102, 105, 104)
    assert segment.start_s == pytest.approx(10.2)


def test_a_quiet_video_has_no_segments_and_a_loud_one_has_one() -> None:
    assert spans(timeline([0.0] * 9)) == []
    assert spans(timeline([3.0] * 9)) == [(0, 8)]


def test_segments_with_a_short_gap_are_one() -> None:
    assert spans(timeline([3, 3, 3, 0, 3, 3, 3])) == [(0, 6)], "one normal frame between them"
    assert spans(timeline([3, 3, 3, 0, 0, 3, 3, 3])) == [(0, 2), (5, 7)], "two are as many as the gap"


def test_nothing_is_joined_or_begun_over_a_cut() -> None:
    assert spans(timeline([3] * 6, cuts=(3,))) == [(0, 2), (3, 5)]
    assert spans(timeline([3, 3, 3, 0, 3, 3, 3], cuts=(3,))) == [(0, 2), (4, 6)]
    assert spans(timeline([0, 3, 3, 3, 3, 0], cuts=(3,))) == [], "two scores in a row before the cut and two after it"


def test_the_p_value_of_a_segment_is_that_of_its_peak() -> None:
    (segment,) = find(timeline(ALARM), LEVELS, 10.0, maxima=np.array([1.0, 2.0, 5.0]))
    assert segment.p_value == 0.5


def test_the_box_surrounds_the_cells_that_join_the_hottest_one() -> None:
    line = timeline(ALARM)
    heat = np.zeros((8, 4, 6), np.float16)
    heat[4] = [
        [0, 0, 0, 0, 0, 9],
        [0, 0, 4, 2, 0, 0],
        [0, 9.5, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
    (segment,) = find(replace(line, heat=heat), LEVELS, 10.0, size=(360, 240))
    assert segment.box == (60, 120, 120, 180), "4 is less than half of the way from exit to 9.5"
    heat[4, 1, 2] = 6
    (segment,) = find(replace(line, heat=heat), LEVELS, 10.0, size=(360, 240))
    assert segment.box == (60, 60, 180, 180), "corners join; the other hot cell does not"
    (unsized,) = find(replace(line, heat=heat), LEVELS, 10.0)
    assert unsized.box is None


def test_a_box_stays_inside_a_picture_that_the_grid_does_not_divide() -> None:
    heat = np.zeros((8, 3, 3), np.float16)
    heat[:, 2, 2] = 5
    (segment,) = find(replace(timeline(ALARM), heat=heat), LEVELS, 10.0, size=(100, 50))
    assert segment.box == (66, 33, 100, 50)
    (cold,) = find(replace(timeline(ALARM), heat=heat - 9), LEVELS, 10.0, size=(100, 50))
    assert cold.box == (66, 33, 100, 50), "where no cell is above exit, the hottest one is the box"


def test_a_report_is_plain_json_without_nan() -> None:
    line = timeline(ALARM)
    found = find(line, LEVELS, 10.0, maxima=np.arange(6.0))
    video = {"name": "a.mp4", "fps": np.float64(29.97), "frames": np.int64(8), "extra": [float("nan"), (1, None)]}
    made = report(line, found, LEVELS, video, {"id": "video/3", "auc": np.float32(0.5), "live": np.bool_(True)})
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["schema"] == SCHEMA == "keepfit.video.segments/1"
    assert made["video"] == {"name": "a.mp4", "fps": 29.97, "frames": 8, "extra": [None, [1, None]]}
    assert made["model"] == {"id": "video/3", "auc": 0.5, "live": True}
    assert made["threshold"]["enter"] == 2.0
    assert made["threshold"]["note"] == "made by hand"
    assert made["segments"] == [
        {"first": 2, "last": 5, "start_s": 0.2, "end_s": 0.6, "label": 1, "peak_frame": 4, "peak_score": 5.0,
         "mean_score": 3.25, "p_value": 0.285714, "box": None}
    ]  # fmt: skip
    assert (made["frames"], made["alarm_share"]) == (8, 0.25)


def test_the_levels_in_a_report_are_those_of_the_labels_to_the_last_bit() -> None:
    enter = float(np.nextafter(np.float32(3.1), np.float32(9)))
    made = report(timeline(ALARM), (), replace(LEVELS, enter=enter), {}, {})
    assert np.float32(made["threshold"]["enter"]) == np.float32(enter)


def test_a_report_refuses_what_json_cannot_say() -> None:
    with pytest.raises(InvalidInput, match="set does not fit into JSON"):
        report(timeline(ALARM), (), LEVELS, {"name": {1}}, {})


def test_frames_are_written_as_csv_that_gives_the_scores_back(tmp_path: Path) -> None:
    line = timeline(np.random.default_rng(0).normal(size=50).tolist(), fps=29.97)
    write_frames(tmp_path / "new" / "frames.csv", line)
    text = (tmp_path / "new" / "frames.csv").read_bytes().decode()
    header, *rows = text.splitlines()
    assert header == "frame,time_s,score,label"
    assert "\r" not in text
    table = np.array([row.split(",") for row in rows])
    assert table[:, 0].tolist() == [str(n) for n in range(50)]
    assert table[:, 1].astype(float) == pytest.approx(line.times, abs=1e-6)
    assert (table[:, 2].astype(np.float32) == line.scores).all()
    assert (table[:, 3].astype(int) == line.labels).all()


def test_frames_are_written_as_parquet_where_the_suffix_says_so(tmp_path: Path) -> None:
    line = timeline(ALARM)
    write_frames(tmp_path / "frames.parquet", line)
    table = pq.read_table(tmp_path / "frames.parquet")
    assert table.column_names == ["frame", "time_s", "score", "label"]
    assert table["score"].to_pylist() == list(ALARM)
    assert table["label"].to_pylist() == line.labels.tolist()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "frames.csv"
    path.write_text("old")

    def fail() -> None:
        with written_at_once(path) as part:
            part.write_text("half")
            raise OSError("disk full")

    with pytest.raises(BackendError, match="cannot be written"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_a_failure_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="cannot be written"):
        write_frames(tmp_path / "file" / "frames.csv", timeline(ALARM))


def broken(**changes: object) -> Timeline:
    return replace(timeline(ALARM), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (broken(scores=np.full(8, np.nan, np.float32)), "scores must hold finite"),
        (broken(scores=np.full(8, -np.inf, np.float32)), "scores must hold finite"),
        (broken(times=np.full(8, np.inf)), "times must hold finite"),
        (broken(heat=np.full((8, 2, 2), np.nan, np.float16)), "heat must hold finite"),
        (broken(heat=np.zeros((8, 4), np.float16)), "rows, columns"),
        (broken(heat=np.zeros((7, 2, 2), np.float16)), "rows, columns"),
        (broken(labels=np.zeros(7, np.uint8)), "other labels"),
        (broken(frames=np.zeros(0, np.int64)), "no frames"),
    ],
)
def test_a_timeline_that_is_empty_ragged_or_not_finite_is_refused(line: Timeline, words: str, tmp_path: Path) -> None:
    refusals: list[Callable[[], object]] = [
        lambda: find(line, LEVELS, 10.0),
        lambda: report(line, (), LEVELS, {}, {}),
        lambda: write_frames(tmp_path / "frames.csv", line),
    ]
    for refuse in refusals:
        with pytest.raises(InvalidInput, match=words):
            refuse()
    assert not list(tmp_path.iterdir())


def test_a_frame_rate_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="frame rate"):
        find(timeline(ALARM), LEVELS, 0.0)


def test_truth_holds_from_the_begin_of_an_interval_up_to_its_end() -> None:
    times = np.arange(10) / 10
    assert truth_of([(0.2, 0.4), (0.3, 0.5), (0.9, 3.0)], times).tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 1]
    assert truth_of([], times).tolist() == [0] * 10
    assert truth_of([(0.1 + 0.2, 0.7)], times).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 0], "0.1 + 0.2 is above 0.3"


def test_an_interval_that_ends_before_it_begins_is_refused() -> None:
    for interval in ((2.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(InvalidInput, match="ends before it begins"):
            truth_of([interval], np.arange(3.0))
