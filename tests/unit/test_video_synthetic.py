"""Synthetic anomalies: local, visible, after some normal frames, and as they claim; hard negatives are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from keepfit.errors import InvalidInput
from keepfit.tasks.video.blobs import Canvas, moving_blob
from keepfit.tasks.video.families import WAYS
from keepfit.tasks.video.synthetic import FAMILIES, HARD_NEGATIVES, Injected, inject, sample

Clip = NDArray[np.uint8]
FRAMES, HEIGHT, WIDTH, RADIUS, PACE = 40, 96, 128, 7, 1.5
SEEDS = range(4)


def textured(seed: int = 0, low: float = 90, high: float = 150) -> NDArray[np.float64]:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)), 3)
    return np.asarray(low + (high - low) * (noise - noise.min()) / np.ptp(noise))


def scene(
    frames: int = FRAMES, pace: float = PACE, shade: float = 225, ground: NDArray[np.float64] | None = None
) -> Clip:
    """A bright disc with stripes walks to the right over a textured ground, with a little sensor noise."""
    ground = textured() if ground is None else ground
    rng, (rows, columns) = np.random.default_rng(1), np.mgrid[:HEIGHT, :WIDTH]
    images = np.repeat(ground[None], frames, axis=0) + rng.normal(0, 1, (frames, HEIGHT, WIDTH))
    for frame in range(frames):
        centre = 20 + pace * frame
        disc = (rows - 45) ** 2 + (columns - centre) ** 2 <= RADIUS**2
        images[frame][disc] = shade + 15 * np.sin(rows[disc] * 1.1)
    return np.clip(images, 0, 255).astype(np.uint8)


IMAGES, BACKGROUND = scene(), textured().astype(np.uint8)


def place(frame: int, reach: int = 0) -> NDArray[np.bool_]:
    """Where the disc is in the original, and `reach` pixels around."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((rows - 45) ** 2 + (columns - 20 - PACE * frame) ** 2 <= (RADIUS + reach) ** 2)


def event(found: Injected) -> NDArray[np.int64]:
    return np.flatnonzero(found.mask.any(axis=(1, 2)))


def pace_of(found: Injected, frames: int = 5) -> NDArray[np.float64]:
    """Median move of the marked thing from frame to frame at the beginning of the event: down, right."""
    centres = [ndimage.center_of_mass(found.mask[frame]) for frame in event(found)[1 : frames + 1]]
    return np.asarray(np.median(np.diff(centres, axis=0), axis=0), np.float64)


def test_every_family_has_a_way() -> None:
    assert tuple(WAYS) == FAMILIES


@pytest.mark.parametrize("family", FAMILIES + HARD_NEGATIVES)
def test_the_answer_is_a_fresh_clip_of_the_same_shape_and_the_same_for_the_same_seed(family: str) -> None:
    before = IMAGES.copy()
    first, again = (inject(IMAGES, BACKGROUND, family, np.random.default_rng(3), scene(200, 0.4)) for _ in range(2))
    np.testing.assert_array_equal(IMAGES, before)
    assert not np.shares_memory(first.images, IMAGES)
    assert first.images.shape == first.mask.shape == IMAGES.shape
    assert (first.images.dtype.name, first.mask.dtype.name, first.family) == ("uint8", "bool", family)
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.images != IMAGES).any()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_an_event_begins_after_normal_frames_lasts_a_while_and_is_visible_where_it_is_marked(
    family: str, seed: int
) -> None:
    found = inject(IMAGES, BACKGROUND, family, np.random.default_rng(seed))
    frames = event(found)
    assert frames[0] > 0
    assert len(frames) >= 4
    assert frames[-1] - frames[0] < 16
    changed = np.abs(found.images.astype(int) - IMAGES) >= 5
    for frame in frames:
        assert (ndimage.binary_dilation(changed[frame], iterations=4) | ~found.mask[frame]).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_changed_but_the_marked_place_and_the_place_that_the_thing_has_left(family: str, seed: int) -> None:
    found = inject(IMAGES, BACKGROUND, family, np.random.default_rng(seed))
    frames = event(found)
    for frame in range(FRAMES):
        changed = found.images[frame] != IMAGES[frame]
        if not frames[0] - 1 <= frame < frames[0] + 16:
            assert not changed.any()
        near = ndimage.binary_dilation(found.mask[frame], iterations=8)
        assert not (changed & ~near & ~place(frame, 10)).any()


@pytest.mark.parametrize("family", HARD_NEGATIVES)
def test_a_hard_negative_marks_nothing(family: str) -> None:
    for seed in SEEDS:
        assert not inject(IMAGES, BACKGROUND, family, np.random.default_rng(seed)).mask.any()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("longer", [None, scene(200, 0.4)], ids=["alone", "longer"])
def test_the_faster_thing_is_faster(seed: int, longer: Clip | None) -> None:
    found = inject(IMAGES, BACKGROUND, "speed", np.random.default_rng(seed), longer)
    slowest = PACE if longer is None else 0.4
    assert pace_of(found)[1] >= 1.6 * slowest
    assert abs(pace_of(found)[0]) < 1


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reversed_thing_goes_the_other_way_at_its_pace(seed: int) -> None:
    found = inject(IMAGES, BACKGROUND, "reverse", np.random.default_rng(seed))
    assert pace_of(found)[1] == pytest.approx(-PACE, abs=0.6)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_frozen_thing_stands_where_it_was_and_is_gone_from_where_it_should_be(seed: int) -> None:
    found = inject(IMAGES, BACKGROUND, "freeze", np.random.default_rng(seed))
    last = int(event(found)[-1])
    assert np.abs(pace_of(found, 12)).max() < 0.5
    left = place(last) & ~ndimage.binary_dilation(found.mask[last], iterations=2)
    assert left.any()
    assert np.abs(found.images[last].astype(int) - BACKGROUND)[left].max() < 12


def test_the_enlarged_thing_is_larger_and_keeps_its_foot() -> None:
    factors = []
    for seed in range(12):
        found = inject(IMAGES, BACKGROUND, "scale", np.random.default_rng(seed))
        frame = int(event(found)[0])
        bright = (found.images[frame] > 190) & found.mask[frame]
        factors.append(bright.sum() / place(frame).sum())
        assert np.flatnonzero(bright.any(axis=1))[-1] == pytest.approx(45 + RADIUS, abs=3)
    assert sorted(factors)[2] > 1.8, "all but the merged ones"
    assert max(factors) < 8


def test_the_other_trajectory_is_elsewhere() -> None:
    for seed in SEEDS:
        found = inject(IMAGES, BACKGROUND, "trajectory", np.random.default_rng(seed))
        last = int(event(found)[-1])
        assert not (found.mask[last] & place(last)).sum() > 0.5 * place(last).sum()
        assert (found.images[last][found.mask[last]] > 190).sum() > 0.5 * place(last).sum()


def test_a_pasted_piece_moves_smoothly() -> None:
    for seed in SEEDS:
        found = inject(IMAGES, BACKGROUND, "cutpaste", np.random.default_rng(seed))
        centres = np.array([ndimage.center_of_mass(found.mask[frame]) for frame in event(found)])
        assert np.hypot(*np.diff(centres, axis=0).T).max() < 14


def test_a_thing_pasted_back_changes_a_few_grey_levels_at_most() -> None:
    for seed in SEEDS:
        found = inject(IMAGES, BACKGROUND, "paste_back", np.random.default_rng(seed))
        assert 0 < np.abs(found.images.astype(int) - IMAGES).max() <= 6


def test_a_shift_is_at_most_one_pixel_and_noise_at_most_four_grey_levels() -> None:
    for seed in SEEDS:
        shifted = inject(IMAGES, BACKGROUND, "shift", np.random.default_rng(seed)).images
        assert (shifted >= ndimage.minimum_filter(IMAGES, (1, 3, 3))).all()
        assert (shifted <= ndimage.maximum_filter(IMAGES, (1, 3, 3))).all()
        noisy = inject(IMAGES, BACKGROUND, "noise", np.random.default_rng(seed)).images
        assert 0.9 < (noisy.astype(float) - IMAGES).std() < 4.2


def test_a_moving_thing_is_found_with_its_box_and_its_velocity() -> None:
    blob = moving_blob(IMAGES, BACKGROUND, np.random.default_rng(0))
    assert blob is not None
    assert len(blob) >= 16
    np.testing.assert_allclose(blob.velocity, [0, PACE], atol=0.1)
    centres = blob.corners + np.array(blob.sprites.shape[2:]) / 2
    np.testing.assert_allclose(centres[:, 1], 20.5 + PACE * (blob.first + np.arange(len(blob))), atol=1.5)


def test_a_thing_that_stands_is_not_a_moving_thing() -> None:
    standing = scene(pace=0)
    assert moving_blob(standing, BACKGROUND, np.random.default_rng(0)) is None


def test_a_dark_thing_from_a_bright_ground_takes_no_bright_outline_along() -> None:
    ground = np.full((HEIGHT, WIDTH), 180.0)
    ground[64:] = 60
    blob = moving_blob(scene(shade=30, ground=ground), ground.astype(np.uint8), np.random.default_rng(0))
    assert blob is not None
    empty = np.repeat(ground[None].astype(np.uint8), 8, axis=0)
    canvas = Canvas(empty, ground.astype(np.uint8), None)
    canvas.paste(1, blob.sprite(0), np.array([66.0, 40.0]))
    assert canvas.images[1, 66:].min() < 35
    assert canvas.images[1, 66:].max() < 75


@pytest.mark.parametrize("family", [*FAMILIES, "paste_back"])
def test_a_black_video_is_refused_with_advice(family: str) -> None:
    black = np.zeros((24, 48, 64), np.uint8)
    with pytest.raises(InvalidInput, match="use a clip in which something happens"):
        inject(black, black[0], family, np.random.default_rng(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_where_nothing_moves_a_piece_of_the_picture_stands_in(family: str) -> None:
    still = np.repeat(textured(2, 40, 220)[None].astype(np.uint8), 24, axis=0)
    found = inject(still, still[0], family, np.random.default_rng(1))
    assert len(event(found)) >= 4
    assert event(found)[0] > 0


def test_sampled_clips_hold_events_at_the_stated_rate_and_a_third_of_the_rest_is_untouched() -> None:
    rng, clips = np.random.default_rng(0), [IMAGES, scene(30), scene(10)]
    found = [sample(clips, BACKGROUND, 24, ("freeze", "cutpaste"), rng) for _ in range(120)]
    kinds = [one.family for one in found]
    assert 0.45 < np.mean([one.mask.any() for one in found]) < 0.75
    assert all(one.mask.any() == (one.family in ("freeze", "cutpaste")) for one in found)
    assert set(kinds) <= {"freeze", "cutpaste", "none", *HARD_NEGATIVES}
    assert 4 <= kinds.count("none") <= 32
    assert all(one.images.shape == (24, HEIGHT, WIDTH) for one in found)


def test_sampling_tries_again_where_a_family_finds_nothing() -> None:
    black, rng = np.zeros((40, HEIGHT, WIDTH), np.uint8), np.random.default_rng(0)
    families = {sample([black], BACKGROUND * 0, 24, FAMILIES, rng, 0.0).family for _ in range(40)}
    assert "paste_back" not in families
    assert "noise" in families
    with pytest.raises(InvalidInput, match="give clips that move"):
        sample([black], BACKGROUND * 0, 24, FAMILIES, rng, 1.0)


@pytest.mark.parametrize(
    ("length", "families", "positive"),
    [(100, FAMILIES, 0.5), (24, (), 0.5), (24, ("flood",), 0.5), (24, ("noise",), 0.5), (24, FAMILIES, 1.5)],
)
def test_a_sample_that_cannot_be_drawn_is_refused(length: int, families: tuple[str, ...], positive: float) -> None:
    with pytest.raises(InvalidInput):
        sample([IMAGES], BACKGROUND, length, families, np.random.default_rng(0), positive)


@pytest.mark.parametrize(
    ("images", "background", "family"),
    [
        (IMAGES.astype(np.float32), BACKGROUND, "speed"),
        (IMAGES[0], BACKGROUND, "speed"),
        (IMAGES, BACKGROUND[:50], "noise"),
        (IMAGES[:4], BACKGROUND, "speed"),
        (IMAGES, BACKGROUND, "flood"),
        (IMAGES, BACKGROUND, "none"),
    ],
)
def test_arrays_and_names_that_do_not_fit_are_refused(images: Clip, background: Clip, family: str) -> None:
    with pytest.raises(InvalidInput):
        inject(images, background, family, np.random.default_rng(0))
