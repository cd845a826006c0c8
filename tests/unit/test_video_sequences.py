from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from keepfit.metrics import area
from keepfit.tasks.video.head import Head, HeadShape, head_loss
from keepfit.tasks.video.head_training import Scores, areas, earned, parted
from keepfit.tasks.video.sequences import (
    LENGTH,
    REAL,
    RUN_UP,
    SequenceBatches,
    Sequences,
    cells_of,
    labels_of,
    make,
    weights_of,
)
from keepfit.tasks.video.synthetic import Injected

GRID = (16, 24)


def maps_of(number: int, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Maps that are the pictures themselves, so that nothing must be trained."""
    kept = images[RUN_UP:, ::4, ::4].astype(np.float16) / 255
    return np.repeat(kept[:, None], 2, axis=1)


def drawn(number: int, rng: np.random.Generator) -> Injected:
    images = np.zeros((RUN_UP + LENGTH, 4 * GRID[0], 4 * GRID[1]), np.uint8)
    mask = np.zeros(images.shape, bool)
    if number % 3 == 0:
        images[20:28, 8:40, 8:40], mask[20:28, 8:40, 8:40] = 255, True
    family = ("speed", "noise", REAL)[number % 3]
    return Injected(images, mask, family)


def some(folder: Path, count: int = 12) -> Sequences:
    return make(drawn, maps_of, count, 1, folder)


def test_cells_are_marked_where_the_event_is() -> None:
    mask = np.zeros((1, 64, 96), bool)
    mask[0, 40:60, 70:90] = True
    assert np.argwhere(cells_of(mask, GRID)[0]).tolist() == [[1, 2]]


def test_the_smallest_event_still_marks_a_cell() -> None:
    mask = np.zeros((1, 64, 96), bool)
    mask[0, 5, 5] = True
    assert cells_of(mask, GRID).sum() == 1


def test_sequences_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    made = some(tmp_path, 4)

    def refuse(number: int, rng: np.random.Generator) -> Injected:
        assert number >= 4, "made again"
        return drawn(number, rng)

    again = make(refuse, maps_of, 6, 1, tmp_path)
    assert again.families[:4] == made.families
    assert np.array_equal(again.maps([0, 1]), made.maps([0, 1]))


def test_frames_after_an_event_are_not_called_normal() -> None:
    truth = np.zeros((1, 20), np.uint8)
    truth[0, 5:8] = 1
    weights = weights_of(truth)[0]
    assert weights[:8].tolist() == [1] * 8
    assert weights[8:16].tolist() == [0] * 8
    assert weights[16:].tolist() == [1] * 4


def test_a_real_event_is_known_to_be_somewhere(tmp_path: Path) -> None:
    made = some(tmp_path)
    assert (labels_of(made.cells[2:3]) == -1).all()
    assert made.truth[2].sum() == 0
    cells, weights = torch.full((1, LENGTH, 2, 3), -2.0), torch.ones(1, LENGTH)
    low, high = torch.full((1, LENGTH), -3.0), torch.full((1, LENGTH), -3.0)
    high[0, 5] = 6.0
    unknown = torch.full((1, LENGTH, 2, 3), -1.0)
    losses = [head_loss({"cells": cells, "frames": frames}, unknown, weights) for frames in (low, high)]
    assert losses[1] < losses[0]


def test_a_family_that_is_left_out_is_neither_learnt_nor_looked_at(tmp_path: Path) -> None:
    made = some(tmp_path)
    learnt, looked = parted(made, "speed")
    assert all(made.families[i] != "speed" for i in (*learnt, *looked))
    assert not set(learnt) & set(looked)


def test_batches_come_in_the_same_order_for_the_same_seed(tmp_path: Path) -> None:
    made = some(tmp_path)
    first, again = (SequenceBatches(made, range(12), 2.0, 5) for _ in range(2))
    assert len(first) == 4
    assert all(torch.equal(first[i]["maps"], again[i]["maps"]) for i in range(len(first)))


def test_areas_are_those_of_frames_against_frames_without_an_event(tmp_path: Path) -> None:
    made = some(tmp_path)
    chosen = list(range(12))
    said = made.truth.astype(np.float32)
    found = areas(said, made, chosen)
    assert found.families == {"speed": 1.0}
    assert found.worst == found.mean == 1.0


def test_the_area_of_equal_scores_is_one_half() -> None:
    assert area(np.ones(3, np.float32), np.ones(4, np.float32)) == 0.5


def test_the_plain_detector_sees_the_brightest_box(tmp_path: Path) -> None:
    made = some(tmp_path)
    head = Head(HeadShape(2, GRID, "none")).eval()
    with torch.inference_mode():
        frames = head(torch.from_numpy(made.maps([0])))["frames"].numpy()[0]
    assert frames[made.truth[0] == 1].min() > frames[made.truth[0] == 0].max()


NAMES = ("speed", "freeze", "scale", "texture", "shuffle")


@pytest.mark.parametrize(
    ("gains", "taken", "words"),
    [
        ((0.03, 0.04, 0.02, 0.05, 0.03), True, "finds more than the plain errors .gain in area .0.034, p 0.0"),
        ((0.01, -0.05, 0.09, 0.02, -0.01), False, "not been shown to find more"),
        ((-0.03, -0.04, -0.02, -0.05, -0.03), False, "gain in area -0.034"),
        ((0.0, 0.0, 0.0, 0.0, 0.0), False, "gain in area .0.000, p 1"),
        ((0.1,), False, "on 1 families"),
    ],
)
def test_a_head_is_taken_only_where_it_gains_on_families_it_had_not_seen(
    gains: tuple[float, ...], taken: bool, words: str
) -> None:
    plain = Scores(0.7, dict.fromkeys(NAMES, 0.7))
    unseen = Scores(0.7, {name: 0.7 + gain for name, gain in zip(NAMES, gains, strict=False)})
    found, because = earned(unseen, plain)
    assert found is taken
    assert re.search(words, because)
