"""Scene: the background, cuts, a moved camera and measures of a picture, on drawn scenes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from keepfit.errors import InvalidInput
from keepfit.tasks.video.scene import (
    CameraWatch,
    CutDetector,
    median_background,
    shift_between,
)

Image = NDArray[np.uint8]
HEIGHT, WIDTH = 96, 128


def place(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Image:
    """A scene with structure: boxes of all sizes and grey levels, one over the other."""
    rng, scene = np.random.default_rng(seed), np.full((height, width), 120, np.uint8)
    for _ in range(height * width // 60):
        top, left, tall, wide = rng.integers(0, (height, width, 20, 20))
        scene[top : top + tall + 2, left : left + wide + 2] = rng.integers(40, 215)
    return scene


def walk(n: int, seed: int = 1, speed: int = 2, size: int = 24, noise: float = 2.0) -> list[Image]:
    """A dark square that crosses a scene, with noise of a camera."""
    rng = np.random.default_rng(seed)
    scene, frames = place(seed), []
    for number in range(n):
        frame = scene.astype(float)
        left = number * speed % (WIDTH - size)
        frame[30 : 30 + size, left : left + size] = 10
        frames.append(np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8))
    return frames


def cuts(frames: list[Image]) -> list[int]:
    detector = CutDetector()
    return [number for number, frame in enumerate(frames) if detector.is_cut(frame)]


@pytest.mark.parametrize("n", [1, 7, 100, 333])
def test_the_median_of_a_stream_is_the_empty_scene(n: int) -> None:
    frames = walk(n, size=0) if n < 8 else walk(n)
    background = median_background(iter(frames), 12)
    assert background.dtype == np.uint8
    assert np.abs(background.astype(int) - place(1)).mean() < 3


def test_a_stream_of_any_length_is_sampled_evenly_and_never_held() -> None:
    alive = 0

    class Counted(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    most = 0

    def stream() -> Iterator[Image]:
        nonlocal alive, most
        for number in range(1000):
            alive += 1
            most = max(most, alive)
            yield np.full((4, 4), number // 4, np.uint8).view(Counted)

    middle = int(median_background(stream(), 10)[0, 0])
    assert middle == pytest.approx(125, abs=13)
    assert most <= 25
    assert middle == int(median_background(stream(), 10)[0, 0])


def test_a_background_of_nothing_or_of_two_sizes_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no picture"):
        median_background([])
    with pytest.raises(InvalidInput, match="one size"):
        median_background([place(1), place(1)[:50]])


@pytest.mark.parametrize(("speed", "size"), [(1, 24), (4, 24), (15, 40)])
def test_a_moving_scene_has_no_cut(speed: int, size: int) -> None:
    assert cuts(walk(80, speed=speed, size=size)) == [0]


def test_a_cut_is_found_where_the_picture_changes_at_once() -> None:
    frames = walk(40, 1) + walk(30, 2) + walk(3, 3) + walk(20, 4)
    assert cuts(frames) == [0, 40, 70, 73]


def test_a_lamp_that_is_switched_on_gradually_is_no_cut() -> None:
    frames = walk(60)
    lit = [np.clip(f.astype(int) + min(max(n - 20, 0) * 3, 50), 0, 255).astype(np.uint8) for n, f in enumerate(frames)]
    assert cuts(lit) == [0]


def test_plain_pictures_of_two_levels_and_other_sizes_are_cuts() -> None:
    black, white = np.zeros((HEIGHT, WIDTH), np.uint8), np.full((HEIGHT, WIDTH), 255, np.uint8)
    assert cuts([black] * 3 + [white] * 3 + [black]) == [0, 3, 6]
    assert cuts([black, black[:64], black[:64]]) == [0, 1]
    assert cuts([black[:16, :16]] * 3) == [0]


def test_a_clean_video_in_which_someone_appears_has_no_cut() -> None:
    empty = [place(1)] * 20
    assert cuts([*empty, *walk(20, noise=0, size=48)]) == [0]


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -5), (-7, 2), (12, 20)])
def test_the_shift_between_two_pictures_is_measured(down: int, right: int) -> None:
    scene = place(5, HEIGHT + 40, WIDTH + 40)
    a = scene[20 : 20 + HEIGHT, 20 : 20 + WIDTH]
    b = scene[20 - down : 20 - down + HEIGHT, 20 - right : 20 - right + WIDTH]
    found = shift_between(a, b)
    assert found[:2] == pytest.approx((down, right), abs=0.3)
    assert 0.2 < found[2] <= 1


def test_a_shift_of_a_fraction_of_a_pixel_is_seen() -> None:
    fine = place(5, HEIGHT * 4, WIDTH * 4).astype(float)

    def shrunk(left: int) -> Image:
        moved = np.roll(fine, left, axis=1)
        return moved.reshape(HEIGHT, 4, WIDTH, 4).mean((1, 3)).astype(np.uint8)

    assert shift_between(shrunk(0), shrunk(6))[1] == pytest.approx(1.5, abs=0.35)


def test_nothing_to_compare_gives_no_confidence() -> None:
    black = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert shift_between(black, black)[2] == 0
    assert shift_between(place(1), black)[2] < 0.1
    assert shift_between(place(1), place(2))[2] < 0.15
    with pytest.raises(InvalidInput, match="two sizes"):
        shift_between(black, black[:50])


def test_a_camera_that_was_pushed_is_noticed_after_three_checks_and_not_by_a_jolt() -> None:
    scene = place(5, HEIGHT + 8, WIDTH + 8)
    here, pushed = scene[4:-4, 4:-4], scene[:-8, 1:-7]
    watch = CameraWatch(here)
    assert [watch.check(frame) for frame in (here, pushed, pushed, here, pushed, pushed, pushed, pushed)] == (
        [False] * 6 + [True] * 2
    )
    assert watch.shift == pytest.approx((4, 3), abs=0.3)
    assert not watch.unrecognised


def test_people_light_and_a_shift_of_a_pixel_are_no_moved_camera() -> None:
    scene = place(1, HEIGHT + 2, WIDTH + 2)
    watch = CameraWatch(scene[1:-1, 1:-1])
    rng = np.random.default_rng(0)
    for number in range(12):
        frame = scene[:-2, 1:-1] * rng.uniform(0.5, 1.1)
        frame[20:70, number * 6 : number * 6 + 40] = 20
        assert not watch.check(np.clip(frame, 0, 255).astype(np.uint8))
        assert not watch.unrecognised


def test_another_view_and_darkness_are_not_recognised() -> None:
    for strange in (place(2), np.zeros((HEIGHT, WIDTH), np.uint8)):
        watch = CameraWatch(place(1))
        assert [watch.check(strange) for _ in range(5)] == [False] * 5, "a shift cannot be told"
        assert watch.unrecognised
        watch.check(place(1))
        assert not watch.unrecognised
