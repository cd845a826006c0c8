from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.errors import InvalidInput, NotFound
from keepfit.tasks.video.clips import Clip, videos_near, windows

NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9]{1,8})?", fullmatch=True)


@settings(deadline=None)
@given(NAMES, st.integers(0, 10_000), st.integers(1, 500), st.sampled_from([None, "speed", "paste_back"]))
def test_a_clip_is_read_from_what_it_is_written_as(name: str, first: int, length: int, family: str | None) -> None:
    clip = Clip(name, first, first + length, family, 7 if family else 0)
    assert Clip.parse(str(clip)) == clip
    assert len(clip) == length


@pytest.mark.parametrize(
    "text", ["", "lobby.mp4", "lobby.mp4#5", "lobby.mp4#9-3", "../lobby.mp4#0-3", "a/b.mp4#0-3", "a.mp4#0-3+x", "a#0-0"]
)
def test_what_names_no_clip_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"clip|frames"):
        Clip.parse(text)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3000), st.integers(4, 64))
def test_windows_cover_a_stretch_without_gap_or_overlap(first: int, length: int, size: int) -> None:
    found = windows("a.mp4", first, first + length, size)
    assert found[0].first == first
    assert found[-1].stop == first + length
    assert all(b.follows(a) for a, b in pairwise(found))
    assert all(len(clip) == size for clip in found[:-1])
    assert len(found) == 1 or size / 2 <= len(found[-1]) < 1.5 * size


def test_only_untouched_neighbours_follow() -> None:
    clip = Clip("a.mp4", 0, 8)
    assert Clip("a.mp4", 8, 16).follows(clip)
    assert not Clip("b.mp4", 8, 16).follows(clip)
    assert not Clip("a.mp4", 9, 16).follows(clip)
    assert not Clip("a.mp4", 8, 16).follows(clip.with_anomaly("speed", 1))


def test_the_videos_of_a_project_are_found_from_a_models_folder(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    folder = tmp_path / "models" / "default" / "3"
    assert videos_near(folder) == tmp_path / "videos"


def test_a_model_outside_of_a_project_has_no_videos(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="videos"):
        videos_near(tmp_path / "models" / "default" / "3")
