from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest

from keepfit.data.snapshot import Split, open_snapshot, renewed, write_snapshot
from keepfit.data.splits import SnapshotRow
from keepfit.errors import InvalidInput, NotFound
from keepfit.tasks.video.cameras import PARTS, cameras_of
from keepfit.tasks.video.clips import Clip
from keepfit.tasks.video.diffusion import Crops, windows_of
from keepfit.tasks.video.dividing import divide
from keepfit.tasks.video.importing import import_video
from keepfit.tasks.video.material import gather
from keepfit.tasks.video.model import decoded
from keepfit.tasks.video.stored import keep, video_files
from keepfit.training.recipe import VideoRecipe


def video(path: Path, frames: int, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    """A disc that walks over a textured ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ground = rng.integers(90, 130, size, dtype=np.uint8)
    rows, columns = np.indices(size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        stream.options = {"crf": "10"}
        for i in range(frames):
            image = ground.copy()
            image[(rows - size[0] // 2) ** 2 + (columns - (i * 2) % size[1]) ** 2 < 30] = 230
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode())
    return path


def test_an_unlabelled_video_is_divided_in_time_with_gaps(tmp_path: Path) -> None:
    snapshot, report = import_video(tmp_path / "state" / "snapshots", video(tmp_path / "lobby.mp4", 640))
    clips = {split: sorted(c.first for c in map(Clip.parse, snapshot.rows(split).contents)) for split in Split}
    assert max(clips[Split.TRAIN]) + 64 <= min(clips[Split.VALIDATION])
    assert max(clips[Split.VALIDATION]) + 64 <= min(clips[Split.TEST])
    assert set(snapshot.rows(Split.TRAIN).truth) == {"0"}
    assert report.videos[0].frames == 640
    assert "nothing is labelled" in report.as_text()


def test_the_test_part_of_an_unlabelled_video_gets_synthetic_events(tmp_path: Path) -> None:
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", video(tmp_path / "lobby.mp4", 640))
    rows = snapshot.rows(Split.TEST)
    events = [clip for clip, said in zip(map(Clip.parse, rows.contents), rows.truth, strict=True) if said == "1"]
    assert len(events) >= 16
    assert all(clip.family for clip in events)
    assert all(Clip.parse(c).family is None for c, s in zip(rows.contents, rows.truth, strict=True) if s == "0")


def test_importing_again_gives_the_same_snapshot(tmp_path: Path) -> None:
    source = video(tmp_path / "lobby.mp4", 640)
    first, _ = import_video(tmp_path / "state" / "snapshots", source)
    again, _ = import_video(tmp_path / "state" / "snapshots", source)
    assert again.id == first.id == open_snapshot(tmp_path / "state" / "snapshots", first.id).id
    assert len(list((tmp_path / "state" / "videos").glob("*.mp4"))) == 1


def test_a_sidecar_names_clips_and_events(tmp_path: Path) -> None:
    source = video(tmp_path / "walk.mp4", 640)
    clips = [
        {"name": "a", "first": 0, "frames": 320, "anomaly_frames": []},
        {"name": "b", "first": 320, "frames": 320, "anomaly_frames": [[100, 110]]},
    ]
    source.with_suffix(".json").write_text(json.dumps({"fps": 10, "clips": clips}), "utf-8")
    snapshot, report = import_video(tmp_path / "state" / "snapshots", source)
    marked = [
        Clip.parse(content)
        for split in Split
        for content, said in zip(snapshot.rows(split).contents, snapshot.rows(split).truth, strict=True)
        if said == "1"
    ]
    real = [clip for clip in marked if clip.family is None]
    assert real
    assert all(clip.first <= 430 and clip.stop > 420 for clip in real)
    assert report.videos[0].anomalous == 11
    assert report.videos[0].cuts == 1


def test_a_test_part_without_a_labelled_event_gets_synthetic_ones(tmp_path: Path) -> None:
    source = video(tmp_path / "walk.mp4", 640)
    clips = [{"name": "a", "first": 0, "frames": 640, "anomaly_frames": [[100, 110]]}]
    source.with_suffix(".json").write_text(json.dumps({"fps": 10, "clips": clips}), "utf-8")
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", source)
    assert "1" in snapshot.rows(Split.TEST).truth


def test_everything_is_test_when_a_model_is_to_be_judged(tmp_path: Path) -> None:
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", video(tmp_path / "short.mp4", 64), judging=True)
    assert not len(snapshot.rows(Split.TRAIN))
    assert set(snapshot.rows(Split.TEST).truth) == {"0", "1"}


def test_a_folder_without_videos_or_pictures_is_refused_before_anything_is_copied(tmp_path: Path) -> None:
    (tmp_path / "project" / ".keepfit" / "videos").mkdir(parents=True)
    (tmp_path / "project" / "keepfit.toml").write_text("", "utf-8")
    with pytest.raises(InvalidInput, match="neither videos nor pictures"):
        import_video(tmp_path / "project" / ".keepfit" / "snapshots", tmp_path / "project")
    assert not list((tmp_path / "project" / ".keepfit" / "videos").iterdir())


def test_labelled_videos_are_divided_as_wholes(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(8):
        video(folder / f"c{number}.mp4", 96, seed=number)
    lines = ["video,start,end,label", *(f"c{n}.mp4,,,0" for n in range(6)), "c6.mp4,2,4,1", "c7.mp4,1,3,1"]
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(lines), "utf-8")
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", folder, labels)
    where = [{Clip.parse(c).name for c in snapshot.rows(split).contents} for split in Split]
    assert not where[0] & where[1]
    assert not where[0] & where[2]
    assert not where[1] & where[2]
    assert sum(snapshot.rows(split).truth.count("1") for split in Split) >= 2


def test_the_cuts_that_a_sidecar_names_hold_wherever_the_video_is_read_again(tmp_path: Path) -> None:
    source = video(tmp_path / "walk.mp4", 640)
    clips = [{"name": "a", "first": 0, "frames": 300}, {"name": "b", "first": 300, "frames": 340}]
    source.with_suffix(".json").write_text(json.dumps({"clips": clips}), "utf-8")
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", source)
    name = Clip.parse(snapshot.rows(Split.TRAIN).contents[0]).name
    videos = tmp_path / "state" / "videos"
    material = gather([Clip(name, 280, 320)], videos, 384, tmp_path / "part.raw")
    assert np.flatnonzero(material.starts).tolist() == [0, 20]
    assert np.flatnonzero(decoded(videos / name, 280, 320, 384)[1]).tolist() == [0, 20]


def test_one_more_video_moves_no_other_to_another_part(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(12):
        video(folder / f"c{number:02d}.mp4", 48, seed=number)
    labels = tmp_path / "labels.csv"

    def parts() -> dict[str, Split]:
        lines = ["video,start,end,label", *(f"{path.name},,,0" for path in sorted(folder.iterdir()))]
        labels.write_text("\n".join(lines), "utf-8")
        snapshot, _ = import_video(tmp_path / "state" / "snapshots", folder, labels)
        return {Clip.parse(c).name: split for split in Split for c in snapshot.rows(split).contents}

    before = parts()
    video(folder / "more.mp4", 48, seed=99)
    after = parts()
    assert len(after) == len(before) + 1
    assert all(after[name] is split for name, split in before.items())


def test_labels_of_a_video_that_is_not_there_are_refused(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,start,end,label\nother.mp4,1,2,1\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"other\.mp4"):
        import_video(tmp_path / "state" / "snapshots", video(tmp_path / "lobby.mp4", 40), labels)


def test_a_short_video_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="too short to learn from"):
        import_video(tmp_path / "state" / "snapshots", video(tmp_path / "lobby.mp4", 60))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        import_video(tmp_path / "state" / "snapshots", tmp_path / "none.mp4")


def test_neighbouring_windows_are_decoded_as_one_stretch(tmp_path: Path) -> None:
    name = keep(video(tmp_path / "lobby.mp4", 60), tmp_path / "videos")
    clips = [Clip(name, 0, 20), Clip(name, 20, 40), Clip(name, 45, 60)]
    material = gather(clips, tmp_path / "videos", 384, tmp_path / "work" / "part.raw")
    assert material.windows == ((0, 20), (20, 40), (40, 55))
    assert np.flatnonzero(material.starts).tolist() == [0, 40]
    assert material.images.shape == (55, 48, 64)
    alone = gather([Clip(name, 20, 40)], tmp_path / "videos", 384, tmp_path / "work" / "other.raw")
    assert np.array_equal(alone.images, material.images[20:40])


def test_a_clip_beyond_its_video_is_said(tmp_path: Path) -> None:
    name = keep(video(tmp_path / "lobby.mp4", 30), tmp_path / "videos")
    with pytest.raises(InvalidInput, match="fewer frames"):
        gather([Clip(name, 0, 40)], tmp_path / "videos", 384, tmp_path / "part.raw")


def test_videos_of_two_sizes_are_refused(tmp_path: Path) -> None:
    names = [
        keep(video(tmp_path / "a.mp4", 20), tmp_path / "videos"),
        keep(video(tmp_path / "b.mp4", 20, size=(64, 64)), tmp_path / "videos"),
    ]
    with pytest.raises(InvalidInput, match="one size"):
        gather([Clip(name, 0, 20) for name in names], tmp_path / "videos", 384, tmp_path / "part.raw")


# several cameras


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with a folder for each of two cameras."""
    for seed, name in enumerate(("door", "gate")):
        (tmp_path / "cameras" / name).mkdir(parents=True)
        video(tmp_path / "cameras" / name / "monday.mp4", 640, seed)
    return tmp_path / "cameras"


def test_each_camera_is_divided_by_itself_and_its_folder_names_it(two: Path, tmp_path: Path) -> None:
    snapshot, report = import_video(tmp_path / "state" / "snapshots", two)
    parts = {"door": Counter[Split](), "gate": Counter[Split]()}
    for stored in snapshot.stored():
        assert stored.key is not None
        parts[stored.key][stored.split] += 1
        assert Clip.parse(stored.content).camera == stored.key
    assert parts["door"] == parts["gate"]
    assert set(parts["door"]) == set(Split)
    assert [one.source for one in report.videos] == ["door/monday.mp4", "gate/monday.mp4"]


def test_labels_name_a_cameras_video_with_its_folder(two: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,start,end,label\ngate/monday,60,63,1\ndoor/monday.mp4,,,0\n", "utf-8")
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", two, labels)
    odd = {
        stored.key for stored in snapshot.stored() if stored.label == "1" and Clip.parse(stored.content).family is None
    }
    assert odd == {"gate"}
    labels.write_text("video,start,end,label\nmonday,60,63,1\n", "utf-8")
    with pytest.raises(InvalidInput, match="monday"):
        import_video(tmp_path / "state" / "snapshots", two, labels)


def test_what_a_camera_learns_from_is_its_own(two: Path, tmp_path: Path) -> None:
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", two)
    found = cameras_of(
        snapshot, tmp_path / "state" / "videos", VideoRecipe(), tmp_path / "work", lambda metrics, step: None
    )
    assert list(found) == ["door", "gate"]
    grounds = [camera.preparation.background.astype(int) for camera in found.values()]
    assert np.abs(grounds[0] - grounds[1]).mean() > 5
    for camera, ground in zip(found.values(), grounds, strict=True):
        for part in PARTS:
            assert np.abs(np.median(camera.parts[part].images, axis=0) - ground).mean() < 3


def test_a_camera_that_shows_too_little_is_named(tmp_path: Path) -> None:
    for name, frames in (("door", 640), ("gate", 200)):
        (tmp_path / "cameras" / name).mkdir(parents=True)
        video(tmp_path / "cameras" / name / "monday.mp4", frames)
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", tmp_path / "cameras")
    with pytest.raises(InvalidInput, match="of camera gate to learn from"):
        cameras_of(
            snapshot, tmp_path / "state" / "videos", VideoRecipe(), tmp_path / "work", lambda metrics, step: None
        )


@pytest.mark.parametrize("stray", ["intro.mp4", "plan.png", "yard"])
def test_what_is_no_camera_beside_cameras_is_refused_not_passed_over(two: Path, stray: str) -> None:
    (two / stray).mkdir() if stray == "yard" else (two / stray).write_bytes(b"x")
    with pytest.raises(InvalidInput, match=f"{stray} is none with videos in it"):
        video_files(two)


def test_one_file_in_two_cameras_is_of_both(two: Path, tmp_path: Path) -> None:
    shutil.copy(two / "door" / "monday.mp4", two / "gate" / "monday.mp4")
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", two)
    assert {row.key for row in snapshot.stored()} == {"door", "gate"}


def test_windows_from_life_of_a_camera_that_was_not_imported_are_left_out(two: Path, tmp_path: Path) -> None:
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", two)
    fresh = SnapshotRow("a#0-32~park", "a#0-32~park", "0", "a", Split.TRAIN, fresh=True)
    grown = write_snapshot(tmp_path / "state" / "snapshots", [*snapshot.stored(), fresh], ("video",), {"kind": "test"})
    assert list(divide(grown.rows(Split.TRAIN), grown.rows(Split.VALIDATION))) == ["door", "gate"]


def test_newer_data_of_a_camera_takes_the_place_of_its_own_only(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "snapshots"
    old, _ = import_video(folder, two)
    video(tmp_path / "newer" / "gate" / "tuesday.mp4", 640, 9)
    newer, _ = import_video(folder, tmp_path / "newer")
    both = renewed(folder, old, newer)
    names = {row.key: {Clip.parse(r.content).name for r in both.stored() if r.key == row.key} for row in both.stored()}
    assert names["gate"] == {Clip.parse(row.content).name for row in newer.stored()}
    assert names["door"] == {Clip.parse(row.content).name for row in old.stored() if row.key == "door"}
    assert both.lineage["parents"] == [old.id, newer.id]


def test_a_folder_of_folders_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cameras" / "door").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="neither videos nor pictures"):
        video_files(tmp_path / "cameras")


def test_crops_of_several_cameras_have_their_own_background_and_past(two: Path, tmp_path: Path) -> None:
    snapshot, _ = import_video(tmp_path / "state" / "snapshots", two)
    found = cameras_of(
        snapshot, tmp_path / "state" / "videos", VideoRecipe(), tmp_path / "work", lambda metrics, step: None
    )
    takes = [camera.take("head") for camera in found.values()]
    both, alone = Crops(takes, 1, 3), Crops(takes[1:], 1, 3)
    frames = np.array([20, 40])
    ours = both.of(frames + len(takes[0].material), np.random.default_rng(1))
    theirs = alone.of(frames, np.random.default_rng(1))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    first = both.of(frames, np.random.default_rng(1))
    assert not np.array_equal(first["labels"], ours["labels"])
    lengths = [stop - begin for begin, stop in windows_of(takes)]
    assert sum(lengths) == sum(len(take.material) for take in takes)
