"""The picture of accuracy over time: drawn from what checks stored, and nothing is drawn that has no value."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from keepfit.app.accuracy_plot import MOST_POINTS, draw, points
from keepfit.app.life_settings import WatchSettings
from keepfit.clock import ManualClock
from keepfit.data.records import Cause, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import BackendError, InvalidInput, NotFound
from keepfit.monitoring.measurement import CANNOT, Measurement

MODEL = "reviews"


@pytest.fixture
def store(store_url: str, clock: ManualClock) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        opened.deploy(MODEL, Traffic({1: 1.0}), Cause("trainer", "the first"), clock.now())
        yield opened


def check(store: RecordStore, clock: ManualClock, accuracy: float, note: str = "") -> None:
    window = Window(clock.now(), clock.now() + timedelta(hours=1))
    seen = [Measurement(name, accuracy, accuracy - 0.05, accuracy + 0.05, 300, window, 1, note=note)
            for name in ("accuracy", "accuracy:estimated", "accuracy:corrected")]  # fmt: skip
    decision = Decision(Outcome.WAIT, ("nothing",), {"measurements": [m.to_json() for m in seen]})
    store.add_decision(MODEL, "trigger", decision, clock.now())
    clock.advance(timedelta(minutes=1))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_checks_become_a_picture(store: RecordStore, clock: ManualClock, tmp_path: Path, suffix: str) -> None:
    for number in range(5):
        check(store, clock, 0.8 - number / 50)
    target = tmp_path / f"accuracy{suffix}"
    assert draw(store, MODEL, target) == 5
    assert target.stat().st_size > 1000


def test_what_has_no_value_is_left_out_and_many_checks_are_thinned(store: RecordStore, clock: ManualClock) -> None:
    check(store, clock, 0.0, f"{CANNOT}: the inputs are elsewhere")
    for _ in range(MOST_POINTS + 7):
        check(store, clock, 0.9)
    found = points(store.decisions(MODEL, limit=10_000), "accuracy:estimated")
    assert {point.seen.value for point in found} == {0.9}
    assert len(found) <= MOST_POINTS
    assert found[0].at < found[-1].at


def test_before_the_first_check_and_for_odd_files_it_says_what_to_do(
    store: RecordStore, clock: ManualClock, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="keepfit check"):
        draw(store, MODEL, tmp_path / "a.png")
    with pytest.raises(InvalidInput, match="must end in"):
        draw(store, MODEL, tmp_path / "a.xlsx")
    check(store, clock, 0.9)
    with pytest.raises(BackendError, match="cannot be written"):
        draw(store, MODEL, tmp_path / "missing" / "a.png")


def test_detectors_in_the_settings_are_known_or_refused_with_the_nearest_name() -> None:
    assert WatchSettings(detectors={"mmd": 0.95, "psi": 0.25}).detectors["psi"] == 0.25
    with pytest.raises(ValueError, match="did you mean 'psi'"):
        WatchSettings(detectors={"psl": 0.25})
