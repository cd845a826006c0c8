"""What a head learns from, by number: labelled events first, then every camera, among the held-out ones too."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from keepfit.tasks.video.draws import FRAMES, Draws, Source
from keepfit.tasks.video.head_training import HELD_OUT
from keepfit.tasks.video.preparation import Preparation
from keepfit.tasks.video.sequences import REAL

NOT_ASKED = cast("Any", None)
"""Maps are not drawn here."""


def source(level: int, events: int = 0) -> Source:
    """A camera that sees one grey, with something walking."""
    images = np.full((3 * FRAMES, 48, 64), level, np.uint8)
    for number, image in enumerate(images):
        image[20:30, number % 50 : number % 50 + 8] = level + 100
    marked = [np.full((FRAMES, 48, 64), level + number, np.uint8) for number in range(events)]
    return Source([images], marked, Preparation(np.full((48, 64), level, np.uint8)), NOT_ASKED, NOT_ASKED)


def test_each_camera_is_among_what_is_kept_from_the_head_and_among_what_it_learns() -> None:
    for count in (1, 2, 3, 4, 5):
        cameras = {str(number): source(10 * number) for number in range(count)}
        draws = Draws(cameras)
        kept = {id(draws.source(number)) for number in range(200) if number % HELD_OUT == 0}
        learnt = {id(draws.source(number)) for number in range(200) if number % HELD_OUT}
        assert len(kept) == len(learnt) == count


def test_labelled_events_come_first_each_of_its_camera() -> None:
    draws = Draws({"door": source(10, 2), "gate": source(90, 1)})
    assert draws.events == 3
    clips = [draws.clip(number, np.random.default_rng(0)) for number in range(3)]
    assert [clip.family for clip in clips] == [REAL] * 3
    assert [int(clip.images[0, 0, 0]) for clip in clips] == [10, 11, 90]
    assert [draws.source(number).preparation.background[0, 0] for number in range(3)] == [10, 10, 90]


def test_a_clip_shows_the_camera_whose_background_it_is_seen_by() -> None:
    draws = Draws({"door": source(10), "gate": source(90)})
    for number in range(0, 24, 3):
        clip = draws.clip(number, np.random.default_rng(number))
        ground = draws.source(number).preparation.background[0, 0]
        assert abs(float(np.median(clip.images)) - float(ground)) < 45  # hard negatives change the brightness
