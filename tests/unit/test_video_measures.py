"""The video benchmark's measures, against values by hand, and its data and one-line scores on tiny videos."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from benchmarks.video.data import coffee, ped2
from benchmarks.video.floors import box_means, conformal, differences, pooled, scored
from benchmarks.video.intervals import clip_bootstrap, paired_clip_bootstrap
from benchmarks.video.measures import (
    MEANING,
    at_threshold,
    auc,
    average_precision,
    causal_mean,
    eer,
    events,
    gaussian,
    macro,
    micro,
    oracle_f1,
    per_clip_minmax,
    summary,
    to_json,
)
from benchmarks.video.regions import Regions, rbdc_tbdc
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from keepfit.errors import InvalidInput, NotFound

Array = NDArray[Any]


def test_the_fast_auc_is_that_of_sklearn_with_ties_too() -> None:
    rng = np.random.default_rng(1)
    for kinds in (3, 1000):
        scores, truth = rng.integers(0, kinds, 200).astype(float), rng.integers(0, 2, 200)
        assert auc(scores, truth) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


def test_scaling_each_clip_hides_that_one_threshold_does_not_serve_both() -> None:
    scores, truth, clips = np.array([0.0, 1, 10, 11]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert micro(scores, truth) == 0.75
    assert per_clip_minmax(scores, truth, clips) == 1.0
    assert macro(scores, truth, clips) == 1.0


def test_a_flat_clip_scales_to_zero_and_a_clip_of_one_class_is_not_in_the_macro() -> None:
    scores, truth, clips = np.array([5.0, 5, 0, 1, 0, 0]), np.array([1, 1, 0, 1, 1, 0]), np.array([0, 0, 1, 1, 2, 2])
    # scaled: 0 0 | 0 1 | 0 0; four anomalies against two zeros: one wins, three tie
    assert per_clip_minmax(scores, truth, clips) == pytest.approx((1 + 3 * 0.5) / 4)
    assert macro(scores, truth, clips) == pytest.approx((1.0 + 0.5) / 2)


def test_the_equal_error_rate_lies_between_the_roc_points() -> None:
    scores, truth = np.array([0.13, 0.26, 0.08, 0.19, 0.34]), np.array([0, 0, 1, 1, 1])
    # from (1/2, 1/3) straight up to (1/2, 2/3): misses fall through 1/2 there
    assert eer(scores, truth) == pytest.approx(0.5)
    # one tie: the diagonal from (0, 0) to (1, 1)
    assert eer(np.zeros(4), np.array([0, 1, 1, 1])) == pytest.approx(0.5)
    assert eer(np.array([0.0, 1.0]), np.array([0, 1])) == 0.0


def test_average_precision_and_oracle_f1_by_hand() -> None:
    scores, truth = np.array([0.9, 0.8, 0.3]), np.array([1, 0, 1])
    assert average_precision(scores, truth) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert average_precision(scores, truth, of=0) == pytest.approx(0.5)
    assert oracle_f1(scores, truth) == pytest.approx(0.8)


def test_one_class_only_is_undefined_and_not_a_number_to_report() -> None:
    scores, truth, clips = np.array([0.1, 0.2]), np.array([0, 0]), np.array([0, 0])
    for value in (auc(scores, truth), macro(scores, truth, clips), eer(scores, truth), oracle_f1(scores, truth)):
        assert math.isnan(value)
    found = summary(scores, truth, clips, np.array([True, False]), np.random.default_rng(0))
    assert found["raw_micro"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_threshold_is_judged_beside_calling_everything_anomalous() -> None:
    labels = np.array([1, 1, 0, 0, 1, 1, 0, 0, 1, 1])
    truth = np.array([0, 0, 0, 0, 0, 1, 1, 0, 0, 0])
    clips = np.array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    found = at_threshold(labels, truth, clips, fps=2.0)
    assert (found.precision, found.recall) == (1 / 6, 1 / 2)
    assert found.f1 == pytest.approx(0.25)
    assert found.always_1_f1 == pytest.approx(4 / 12)
    assert found.fpr == 5 / 8
    # the alarm that begins one frame early touches the event; the ones at 0 and 8 touch nothing
    assert found.false_alarms == 2
    assert found.normal_minutes == pytest.approx(8 / 2 / 60)
    assert found.false_alarms_per_minute == pytest.approx(30.0)


def test_scores_with_a_threshold_are_the_same_as_their_labels() -> None:
    scores, truth, clips = np.array([0.1, 3.0, 2.0]), np.array([0, 1, 1]), np.zeros(3, int)
    assert at_threshold(scores, truth, clips, 10, 2.0) == at_threshold(scores >= 2, truth, clips, 10)
    silent = at_threshold(scores, truth, clips, 10, 9.0)
    assert math.isnan(silent.precision)
    assert to_json(silent)["precision"] is None


def test_an_event_is_found_late_or_not_at_all_and_ends_with_its_clip() -> None:
    truth = np.array([0, 1, 1, 1, 1, 1, 0, 1])
    clips = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 0])
    found = events(labels, truth, clips)
    assert (found.events, found.found) == (3, 2)
    assert found.recall == pytest.approx(2 / 3)
    assert found.mean_delay == pytest.approx((2 + 0) / 2)
    assert math.isnan(events(np.zeros(8, int), truth, clips).mean_delay)


def test_smoothing_stays_within_clips_and_the_trailing_mean_within_the_past() -> None:
    scores, starts = np.array([2.0, 4, 6, 100, 0]), np.array([True, False, False, True, False])
    assert causal_mean(scores, starts, 2) == pytest.approx(np.array([2, 3, 5, 100, 50]))
    two_sided = gaussian(scores, starts, 1.0)
    assert two_sided[:3].max() < 6
    assert two_sided[0] > 2, "it looks ahead"
    assert gaussian(np.ones(5), starts, 8.0) == pytest.approx(np.ones(5))
    stacked = causal_mean(np.stack([scores, -scores], axis=1), starts, 2)
    assert stacked[:, 1] == pytest.approx(-causal_mean(scores, starts, 2))


def clips_of(rng: np.random.Generator, count: int, size: int = 20) -> tuple[Array, Array, Array]:
    """Scores that know something of the truth."""
    truth = np.tile(np.arange(size) >= size // 2, count).astype(int)
    return truth + rng.normal(0, 1, count * size), truth, np.repeat(np.arange(count), size)


def test_the_bootstrap_by_clips_holds_the_value_and_is_repeatable() -> None:
    scores, truth, clips = clips_of(np.random.default_rng(2), 6)
    for measure in (micro, per_clip_minmax, macro, eer):
        found = clip_bootstrap(measure, scores, truth, clips, np.random.default_rng(0), 100)
        value, low, high = found
        assert value == measure(scores, truth, clips)
        assert low <= value <= high
        assert low < high
        assert found == clip_bootstrap(measure, scores, truth, clips, np.random.default_rng(0), 100)


def test_resamples_of_one_class_are_drawn_again_and_counted() -> None:
    scores, truth, clips = np.arange(4.0), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    found = clip_bootstrap(micro, scores, truth, clips, np.random.default_rng(0), 200)
    assert tuple(found) == (1.0, 1.0, 1.0)
    # half of the draws of two clips are twice the same
    assert 120 < found.redrawn < 290
    with pytest.raises(InvalidInput, match="both classes"):
        clip_bootstrap(micro, scores, np.zeros(4, int), clips, np.random.default_rng(0))


def test_a_paired_difference_is_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    scores, truth, clips = clips_of(rng, 8)
    none = paired_clip_bootstrap(micro, scores, scores, truth, clips, np.random.default_rng(0))
    assert tuple(none) == (0.0, 0.0, 0.0)
    better = scores + 0.5 * truth
    value, low, high = paired_clip_bootstrap(micro, better, scores, truth, clips, np.random.default_rng(0))
    assert 0 < low <= value <= high
    alone = clip_bootstrap(micro, scores, truth, clips, np.random.default_rng(0))
    assert high - low < alone.high - alone.low


def moving(frames: int = 10) -> Array:
    """A square of 8 x 8 pixels that moves two pixels a frame, in a picture of 32 x 48."""
    masks = np.zeros((frames, 32, 48), np.bool_)
    for frame in range(frames):
        masks[frame, 8:16, 2 * frame : 2 * frame + 8] = True
    return masks


def test_a_perfect_map_finds_every_region_and_an_empty_one_none() -> None:
    masks, clips = moving(), np.zeros(10, int)
    assert rbdc_tbdc(masks.astype(np.float16), masks, clips) == Regions(1.0, 1.0, regions=10, tracks=1)
    assert rbdc_tbdc(np.zeros((10, 4, 6)), masks, clips) == Regions(0.0, 0.0, regions=10, tracks=1)


def test_a_map_that_glows_elsewhere_finds_nothing() -> None:
    masks = moving()
    heat = np.zeros(masks.shape)
    heat[:, 24:30, 40:] = 1
    found = rbdc_tbdc(heat, masks, np.zeros(10, int))
    assert (found.rbdc, found.tbdc) == (0.0, 0.0)


def test_one_false_region_in_every_second_frame_costs_half_of_the_area() -> None:
    masks = np.zeros((2, 8, 8), np.bool_)
    masks[0, :4, :4] = True
    heat = np.zeros((2, 4, 4))
    heat[0, :2, :2] = 1
    heat[1, 3, 3] = 2
    found = rbdc_tbdc(heat, masks, np.zeros(2, int))
    assert (found.rbdc, found.tbdc) == (0.5, 0.5)


def test_a_region_counts_from_an_overlap_of_a_tenth_in_pixels() -> None:
    masks = np.zeros((1, 10, 10), np.bool_)
    masks[0] = True
    heat = np.zeros((1, 10, 10))
    heat[0, 0, :9] = 1
    assert rbdc_tbdc(heat, masks, np.zeros(1, int)).rbdc == 0.0
    heat[0, 0] = 1
    assert rbdc_tbdc(heat, masks, np.zeros(1, int)).rbdc == 1.0


def test_a_track_needs_a_tenth_of_its_regions_and_ends_with_its_clip() -> None:
    masks = np.zeros((40, 4, 4), np.bool_)
    masks[:, :2, :2] = True
    clips = np.repeat([0, 1], 20)
    heat = np.zeros((40, 2, 2))
    heat[0, 0, 0] = heat[20:22, 0, 0] = 1
    found = rbdc_tbdc(heat, masks, clips)
    assert (found.regions, found.tracks) == (40, 2)
    assert found.rbdc == pytest.approx(3 / 40)
    assert found.tbdc == pytest.approx(1 / 2), "1 of 20 regions is too few, 2 of 20 are enough"


def test_a_summary_has_every_measure_by_name_and_plain_values() -> None:
    scores, truth, clips = clips_of(np.random.default_rng(4), 3)
    starts = np.arange(60) % 20 == 0
    found = summary(scores, truth, clips, starts, np.random.default_rng(0))
    assert set(found) == set(MEANING) | {"frames", "clips"}
    assert found["raw_micro"]["value"] == pytest.approx(micro(scores, truth), abs=1e-5)
    assert found["smoothed_micro"]["value"] == pytest.approx(micro(gaussian(scores, starts, 8.0), truth), abs=1e-5)
    assert found["always_1_f1"] == pytest.approx(2 / 3, abs=1e-5)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    bare = summary(scores, truth, clips, starts, np.random.default_rng(0), sigma=0)
    assert not [name for name in bare if name.startswith("smoothed")]


@pytest.mark.parametrize(
    ("scores", "truth", "clips", "word"),
    [
        ([0.1, 0.2], [0, 1, 1], [0, 0], "one of each per frame"),
        ([0.1, 0.2], [0, 1], [0], "one of each per frame"),
        ([0.1, math.nan], [0, 1], [0, 0], "NaN"),
        ([0.1, 0.2], [0, 2], [0, 0], "other values than 0 and 1"),
        ([], [], [], "one of each per frame"),
    ],
)
def test_frames_that_do_not_fit_are_refused(
    scores: Sequence[float], truth: Sequence[int], clips: Sequence[int], word: str
) -> None:
    with pytest.raises(InvalidInput, match=word):
        per_clip_minmax(np.array(scores), np.array(truth), np.array(clips))


def test_heat_that_does_not_fit_the_masks_is_refused() -> None:
    masks, clips = moving(2), np.zeros(2, int)
    with pytest.raises(InvalidInput, match="one of each per frame"):
        rbdc_tbdc(np.zeros((3, 4, 6)), masks, clips)
    with pytest.raises(InvalidInput, match="finer than the masks"):
        rbdc_tbdc(np.zeros((2, 64, 48)), masks, clips)
    with pytest.raises(InvalidInput, match="all empty"):
        rbdc_tbdc(np.zeros((2, 4, 6)), np.zeros_like(masks), clips)
    with pytest.raises(InvalidInput, match="NaN"):
        rbdc_tbdc(np.full((2, 4, 6), np.nan), masks, clips)
    with pytest.raises(InvalidInput, match="true at the first"):
        causal_mean(np.zeros(2), np.array([False, True]), 5)


def film(file: Path, greys: Sequence[int], codec: str, pixels: str) -> None:
    """One even picture per grey value."""
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, pixels
        for grey in greys:
            frame = av.VideoFrame.from_ndarray(np.full((32, 48), grey, np.uint8), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def tiny_ped2(folder: Path) -> Path:
    """Two clips of 3 and 4 frames; returns the folder of the videos."""
    place = folder / "video" / "ucsd_ped2"
    place.mkdir(parents=True)
    clips = [{"name": "01", "first": 0, "frames": 3}, {"name": "02", "first": 3, "frames": 4}]
    (place / "train.json").write_text(json.dumps({"fps": 10, "clips": clips}), "utf-8")
    marked = [{**clips[0], "anomaly_frames": [[1, 1]]}, {**clips[1], "anomaly_frames": [[0, 1], [3, 3]]}]
    (place / "test_01_06.json").write_text(json.dumps({"fps": 10, "clips": marked}), "utf-8")
    for name in ("train", "test_01_06"):
        film(place / f"{name}.mp4", [0, 40, 80, 120, 160, 200, 255], "libx264", "yuv420p")
    np.savez(place / "test_01_06_masks.npz", masks=np.zeros((7, 32, 48), np.bool_))
    return place


def test_ped2_is_read_with_its_clips_and_truth(tmp_path: Path) -> None:
    tiny_ped2(tmp_path)
    found = ped2(tmp_path)
    assert found.test.images.shape == (7, 32, 48)
    assert found.test.images.mean(axis=(1, 2)) == pytest.approx([0, 40, 80, 120, 160, 200, 255], abs=4)
    assert found.test.starts.tolist() == [True, False, False, True, False, False, False]
    assert found.test.truth.tolist() == [0, 1, 0, 1, 1, 0, 1]
    assert found.test.index.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert (found.test.clips, found.test.fps, len(found.test)) == (("01", "02"), 10.0, 7)
    assert found.test.masks is not None
    assert found.train.masks is None
    assert not found.train.truth.any()


def test_ped2_files_that_lack_or_do_not_fit_are_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"train\.json is missing"):
        ped2(tmp_path)
    place = tiny_ped2(tmp_path)
    np.savez(place / "test_01_06_masks.npz", masks=np.zeros((6, 32, 48), np.bool_))
    with pytest.raises(InvalidInput, match="shape"):
        ped2(tmp_path)
    film(place / "train.mp4", [1, 2], "libx264", "yuv420p")
    with pytest.raises(InvalidInput, match="2 frames"):
        ped2(tmp_path)
    (place / "train.mp4").write_bytes(b"no video at all")
    with pytest.raises(InvalidInput, match="cannot be decoded"):
        ped2(tmp_path)


def test_the_frames_after_a_fall_are_marked(tmp_path: Path) -> None:
    place = tmp_path / "video" / "coffee_room_falls"
    place.mkdir(parents=True)
    (place / "intervals.csv").write_text("video,frames,fall_first,fall_last\ncoffee_01,5,1,2\n", "utf-8")
    film(place / "coffee_01.avi", [10, 60, 110, 160, 210], "mjpeg", "yuvj420p")
    (clip,) = coffee(tmp_path)
    assert clip.name == "coffee_01"
    assert clip.images.mean(axis=(1, 2)) == pytest.approx([10, 60, 110, 160, 210], abs=4)
    assert clip.truth.tolist() == [0, 1, 1, 0, 0]
    assert clip.after_fall.tolist() == [False, False, False, True, True]
    (place / "intervals.csv").write_text("video,frames,fall_first,fall_last\ncoffee_01,6,1,2\n", "utf-8")
    with pytest.raises(InvalidInput, match="5 frames"):
        list(coffee(tmp_path))


def test_box_means_are_those_of_every_box_and_the_heat_takes_the_nearest() -> None:
    picture = np.random.default_rng(5).integers(0, 255, (9, 12)).astype(np.float32)
    means = box_means(picture, 4)
    assert means.shape == (6, 9)
    assert means[2, 5] == pytest.approx(picture[2:6, 5:9].mean())
    scores, heat = scored(iter([picture]), 4, 3)
    assert scores[0] == pytest.approx(means.max())
    assert heat is not None
    assert heat.shape == (1, 3, 4)
    assert heat[0, 0, 0] == pytest.approx(means[0, 0])
    assert scored(iter([picture]), None, 3)[1] is None


def test_differences_stay_within_a_clip_and_begin_with_the_first_there_is() -> None:
    images = np.array([0, 1, 4, 9, 200, 210, 230], np.uint8).reshape(7, 1, 1)
    starts = np.array([True, False, False, False, True, False, False])
    assert [float(d[0, 0]) for d in differences(images, starts)] == [4, 4, 4, 8, 30, 30, 30]
    assert pooled(np.arange(12, dtype=np.uint8).reshape(1, 2, 6), 2).tolist() == [[[3.5, 5.5, 7.5]]]


def test_the_conformal_point_counts_blocks_of_each_clip() -> None:
    scores, index = np.arange(40.0), np.repeat([0, 1], 20)
    # maxima 9, 19, 29, 39: of four blocks the 95 % point is the largest
    assert conformal(scores, index, 10) == 39.0
    assert conformal(scores, index, 1) == 38.0
