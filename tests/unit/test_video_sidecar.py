"""Sidecar: clips and labels beside a video, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from keepfit.errors import InvalidInput, NotFound
from keepfit.tasks.video.sidecar import Labels, Marked, Sidecar, read_labels, read_sidecar

TWO: list[dict[str, Any]] = [
    {"name": "01", "first": 0, "frames": 4, "anomaly_frames": [[2, 3]]},
    {"name": "02", "first": 4, "frames": 3, "anomaly_frames": []},
]


def beside(folder: Path, stated: Any) -> Path:
    """The video that a sidecar with this content lies beside; there need be no video."""
    (folder / "a.json").write_text(stated if isinstance(stated, str) else json.dumps(stated))
    return folder / "a.mp4"


def test_a_video_without_a_sidecar_has_none(tmp_path: Path) -> None:
    assert read_sidecar(tmp_path / "a.mp4") is None


def test_clips_their_starts_and_their_truth_are_read(tmp_path: Path) -> None:
    found = read_sidecar(beside(tmp_path, {"fps": 10, "clips": TWO}))
    assert found == Sidecar((Marked("01", 0, 4, ((2, 3),)), Marked("02", 4, 3, ())), 10.0)
    assert found.starts(7).tolist() == [True, False, False, False, True, False, False]
    truth = found.truth(7)
    assert truth is not None
    assert truth.tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert found.starts(0 + 7).dtype == bool


def test_clips_may_be_listed_in_any_order(tmp_path: Path) -> None:
    found = read_sidecar(beside(tmp_path, {"clips": TWO[::-1]}))
    assert found is not None
    assert [clip.name for clip in found.clips] == ["01", "02"]
    assert found.fps is None


def test_frames_between_clips_are_a_stretch_of_their_own_without_truth() -> None:
    found = Sidecar((Marked("a", 2, 2, ()), Marked("b", 6, 1, ())))
    assert found.starts(8).tolist() == [True, False, True, False, True, False, True, True]
    assert found.truth(8) is None
    assert found.starts(7)[-1]


def test_unlabelled_clips_have_no_truth(tmp_path: Path) -> None:
    found = read_sidecar(beside(tmp_path, {"clips": [{"name": "01", "first": 0, "frames": 4}]}))
    assert found is not None
    assert found.clips[0].anomalies is None
    assert found.truth(4) is None


def test_a_clip_beyond_the_video_is_refused(tmp_path: Path) -> None:
    found = read_sidecar(beside(tmp_path, {"clips": TWO}))
    assert found is not None
    found.check(7)
    for asked in (found.check, found.starts, found.truth):
        with pytest.raises(InvalidInput, match="clip 02 ends at frame 6 and the video has 6 frames"):
            asked(6)


def clip(**changed: Any) -> dict[str, Any]:
    return {"clips": [{"name": "x", "first": 0, "frames": 5, **changed}]}


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("{no json", "not readable as JSON"),
        ([1], 'a list "clips"'),
        ({"clips": []}, 'a list "clips"'),
        ({"clips": [3]}, "clip 0 must be an object"),
        ({"fps": 0, "clips": TWO}, "fps must be"),
        ({"fps": "ten", "clips": TWO}, "fps must be"),
        ('{"fps": NaN, "clips": [{"first": 0, "frames": 1}]}', "fps must be"),
        ({"clips": [TWO[0], {**TWO[1], "first": 3}]}, "01 and 02 overlap"),
        (clip(first=-1), "clip x needs whole numbers"),
        (clip(first=True), "clip x needs whole numbers"),
        (clip(frames=0), "clip x needs whole numbers"),
        (clip(frames=2.5), "clip x needs whole numbers"),
        (clip(frames=None), "clip x needs whole numbers"),
        (clip(anomaly_frames=3), "must be a list"),
        (clip(anomaly_frames=[3]), "counted from 0 in the clip and below 5"),
        (clip(anomaly_frames=[[1, 5]]), "counted from 0 in the clip and below 5"),
        (clip(anomaly_frames=[[3, 2]]), "counted from 0 in the clip and below 5"),
        (clip(anomaly_frames=[[-1, 2]]), "counted from 0 in the clip and below 5"),
        (clip(anomaly_frames=[[1, 2, 3]]), "counted from 0 in the clip and below 5"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_reason(tmp_path: Path, stated: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read_sidecar(beside(tmp_path, stated))
    assert "a.json" in str(caught.value)


def test_a_sidecar_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\x80\x04\x95\xff")
    with pytest.raises(InvalidInput, match="not readable"):
        read_sidecar(tmp_path / "a.mp4")


def table(folder: Path, *rows: str, header: str = "video,start,end,label") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]))
    return path


def test_labels_are_read_by_video(tmp_path: Path) -> None:
    found = read_labels(
        table(
            tmp_path,
            "a.mp4,5,6.5,1",
            "b.mp4,,,0",
            "a.mp4, 1.5 ,2,anomaly",
            "c.mp4,,,Anomaly",
            "d.mp4,3,4,normal",
            "",
            "e,1,2,1.0",
        )
    )
    assert found == {
        "a.mp4": Labels(((1.5, 2.0), (5.0, 6.5))),
        "b.mp4": Labels(),
        "c.mp4": Labels(((0.0, math.inf),)),
        "d.mp4": Labels(),
        "e": Labels(((1.0, 2.0),)),
    }


def test_the_columns_may_stand_in_any_order_among_others(tmp_path: Path) -> None:
    path = table(tmp_path, "1,seen twice,a,2,1", header="\ufeffLabel,remark,Video,end,start")
    assert read_labels(path) == {"a": Labels(((1.0, 2.0),))}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a,1,2,0.7", "keepfit says 1 or 0 for each moment; it does not learn a number such as 0.7"),
        ("a,1,2,3", "does not learn a number"),
        ("a,1,2,nan", "does not learn a number"),
        ("a,1,2,strange", "label 'strange' must be 1 or 0"),
        ("a,1,2,", "must be 1 or 0"),
        ("a,1,2", "must be 1 or 0"),
        ("a,3,2,1", "start 3 is after end 2"),
        ("a,-1,2,1", "seconds from 0 on"),
        ("a,1,inf,1", "seconds from 0 on"),
        ("a,1,,1", "start and end in seconds, or neither"),
        ("a,one,2,1", "start and end in seconds, or neither"),
        (",1,2,1", "names no video"),
        ("ok,,,1", "normal throughout and to have an anomaly"),
    ],
)
def test_a_wrong_row_is_refused_with_its_number(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read_labels(table(tmp_path, "ok,,,0", row))
    assert "row 2" in str(caught.value)


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="lacks the column label"):
        read_labels(table(tmp_path, "a,1,2", header="video,start,end"))
    (tmp_path / "labels.csv").write_bytes(b"")
    with pytest.raises(InvalidInput, match="lacks the column video"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.csv").write_bytes(b"video,start,end,label\n\xff\xfe,1,2,1")
    with pytest.raises(InvalidInput, match="not readable as a CSV"):
        read_labels(tmp_path / "labels.csv")
    with pytest.raises(NotFound):
        read_labels(tmp_path / "nowhere.csv")
