"""Following a camera: as many frames as the model has learnt, in small batches, and words for alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from keepfit.app.alarms import Alarms, Said
from keepfit.app.following import (
    LATE_S,
    LONGEST_PAUSE_S,
    MOST_TOGETHER,
    address_of,
    at_rate,
    follow,
    in_time,
    run,
    together,
)
from keepfit.app.project import Project
from keepfit.app.settings import ServerSettings
from keepfit.errors import BackendError, InvalidInput, KeepfitError, NotFound, Overloaded, SettingsError
from keepfit.tasks.video.decoding import Frame
from keepfit.tasks.video.model import Facts

BLACK = np.zeros((48, 64), np.uint8)


def camera(fps: float, n: int, jitter: float = 0.0, restarts: tuple[int, ...] = (0,)) -> Iterator[Frame]:
    rng = np.random.default_rng(0)
    for number in range(n):
        yield Frame(number, number / fps + jitter * rng.uniform(-1, 1), BLACK, number in restarts)


@pytest.fixture(scope="module")
def facts(tiny_video_model: Path) -> Facts:
    """Of a model that has learnt ten frames a second."""
    found = Facts.read(tiny_video_model)
    assert found.fps == 10.0
    return found


@pytest.mark.parametrize(("fps", "kept"), [(10.0, 300), (9.0, 300), (20.0, 150), (25.0, 120), (30.0, 100)])
def test_a_camera_is_thinned_to_the_rate_that_the_model_has_learnt(fps: float, kept: int, facts: Facts) -> None:
    found = list(at_rate(camera(fps, 300, jitter=0.005), facts))
    assert len(found) == pytest.approx(kept, rel=0.03)
    assert all(0.05 < after.time_s - before.time_s < 0.16 for before, after in pairwise(found))


def test_a_camera_that_is_too_slow_for_the_model_is_refused_once_that_is_known(facts: Facts) -> None:
    found = at_rate(camera(5.0, 300), facts)
    with pytest.raises(InvalidInput, match="5 frames a second and the model has learnt 10"):
        list(found)


def test_after_a_reconnection_the_next_frame_is_taken(facts: Facts) -> None:
    found = list(at_rate(camera(40.0, 80, restarts=(0, 41)), facts))
    assert 41 in [frame.number for frame in found]


def test_frames_go_in_batches_of_half_a_second_and_none_is_left_behind() -> None:
    slow = [len(batch) for batch in together(camera(8.0, 32))]
    assert slow == [5, 5, 5, 5, 5, 5, 2]
    fast = [len(batch) for batch in together(camera(100.0, 40))]
    assert fast == [MOST_TOGETHER, MOST_TOGETHER, 8]


BUSY = Overloaded("busy", 99.0)


class Busy:
    """A server that is busy so many times, and knows one session at a time."""

    def __init__(self, times: int, error: KeepfitError = BUSY) -> None:
        self.left, self.error, self.sessions, self.pushed = times, error, 0, 0

    def open(self, key: str | None) -> str:
        self.sessions += 1
        return str(self.sessions)

    def push(self, session: str, pictures: Sequence[bytes]) -> list[tuple[float, int]]:
        if self.left:
            self.left -= 1
            raise self.error
        self.pushed += len(pictures)
        return [(0.0, 0)] * len(pictures)

    def close(self, session: str) -> None:
        assert session == str(self.sessions)
        raise NotFound("it was idle for too long")


def test_a_busy_server_is_given_time_and_no_frame_is_lost() -> None:
    server, pauses = Busy(3), list[float]()
    assert follow(camera(8.0, 20), server, "gate", lambda said: None, pauses.append) == 20
    assert (server.pushed, pauses) == (20, [LONGEST_PAUSE_S] * 3)


def test_a_server_that_stays_busy_ends_it_with_its_own_words() -> None:
    with pytest.raises(Overloaded, match="busy"):
        follow(camera(8.0, 20), Busy(99), "gate", lambda said: None, lambda seconds: None)


def test_a_server_that_was_started_again_gets_a_new_session() -> None:
    server = Busy(2, BackendError("away"))
    assert follow(camera(8.0, 20), server, "gate", lambda said: None, lambda seconds: None) == 20
    assert server.sessions == 3


def test_a_server_that_is_slower_than_the_camera_is_spared_old_frames() -> None:
    at, said = [0.0], list[str]()

    def slow(frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield frame
            at[0] += 0.5  # of each frame of an eighth of a second

    found = list(slow(in_time(waiting(camera(8.0, 400), at), said.append, lambda: at[0])))
    late = [at_ - frame.time_s for at_, frame in zip(np.arange(len(found)) * 0.5, found, strict=True)]
    assert max(late) < LATE_S + 1
    assert any(frame.start for frame in found[1:])
    assert "slower than the camera" in said[0]


def waiting(frames: Iterator[Frame], at: list[float]) -> Iterator[Frame]:
    """A camera gives no frame before its time."""
    for frame in frames:
        at[0] = max(at[0], frame.time_s)
        yield frame


def test_a_gap_in_the_frames_begins_a_new_session() -> None:
    server = Busy(0)
    assert follow(camera(8.0, 20, restarts=(0, 13)), server, "gate", lambda said: None) == 20
    assert server.sessions == 2


def test_an_alarm_is_told_when_it_begins_and_when_it_is_over() -> None:
    lines: list[str] = []
    alarms = Alarms(lines.append)
    for number, label in enumerate([0, 1, 1, 1, 0, 0, 1]):
        alarms(Said(number, 60.0 + number / 2, number + 0.25, label))
    assert lines == [
        "0:01:00.5  alarm: score 1.25 at frame 1",
        "0:01:02.0  over after 1.5 s; its peak was 3.25",
        "0:01:03.0  alarm: score 6.25 at frame 6",
    ]
    assert (alarms.frames, alarms.count) == (7, 2)


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8080"), ("0.0.0.0", "http://127.0.0.1:8080"), ("::1", "http://[::1]:8080")],
)
def test_the_projects_own_server_is_found_where_it_listens(host: str, url: str) -> None:
    assert address_of(ServerSettings(host=host)) == url


def test_a_model_of_texts_has_no_cameras(tmp_path: Path) -> None:
    Project.init(tmp_path)
    with pytest.raises(SettingsError, match="streams are for models of video"):
        run(Project(tmp_path), "rtsp://camera", None, (None, None), lambda said: None)
