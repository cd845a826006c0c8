"""Each decision shows its evidence: those of the watch over time, those of the gate by pairs, others as numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from tests.stories.conftest import MODEL, World

from keepfit.app.evidence import leaves, picture
from keepfit.data.records import StoredDecision, Window
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput
from keepfit.monitoring.measurement import Measurement

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def drawn(world: World, subject: str, folder: Path) -> Path:
    one = world.store.decisions(MODEL, subject, limit=1)[0]
    return picture(one, world.store.decisions(MODEL, subject), folder / "evidence.png")


def test_every_judgement_of_a_life_can_be_drawn(world: World, tmp_path: Path) -> None:
    world.train(("fine", "pos"), ("poor", "neg"))
    for truth in ("pos", "neg", "neg"):
        world.live(40, "fine", truth)
        world.watch.tick()
    job = world.waiting_job()
    assert job is not None
    world.work(job)
    world.watch.tick()
    subjects = {one.subject for one in world.store.decisions(MODEL)}
    assert {"trigger", "gate v1", "gate v2"} <= subjects
    for subject in subjects:
        with Image.open(drawn(world, subject, tmp_path)) as image:
            assert image.width == 1200
            assert image.height > 400


def judged(evidence: dict[str, object]) -> StoredDecision:
    return StoredDecision("1", MODEL, datetime.now(UTC), "quarantine", Decision(Outcome.PASS, ("so",), evidence))


def test_numbers_without_a_history_are_drawn_as_bars(tmp_path: Path) -> None:
    evidence = {"shares": {"a": 0.25, "b": 0.75}, "kept": 90, "name": "x", "sure": True}
    assert dict(leaves(evidence)) == {"shares.a": 0.25, "shares.b": 0.75, "kept": 90.0}
    assert picture(judged(evidence), [], tmp_path / "evidence.svg").stat().st_size > 1000


@pytest.mark.parametrize("name", ["harm:price=$5", r"harm:shop=A$_{$", r"harm:path=\$x$^$"])
def test_dollar_signs_are_drawn_as_they_are(tmp_path: Path, name: str) -> None:
    window = Window(NOW, NOW + timedelta(hours=1))
    seen = Measurement(name, 0.5, 0.4, 0.6, 100, window, 1).to_json()
    for number, evidence in enumerate(
        (
            {"measurements": [seen], "measurement": name, "bound": 0.3},
            {"rules": {name: {"wins": 3, "losses": 1}}},
            {"shares": {name: 0.25}},
        )
    ):
        decision = Decision(Outcome.FIRE, (f"{name} is beyond its limit",), evidence)
        one = StoredDecision("1", MODEL, NOW, "trigger", decision)
        assert picture(one, [], tmp_path / f"{number}.png").stat().st_size > 1000


def test_a_decision_without_numbers_says_so(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no number that could be drawn"):
        picture(judged({"name": "x"}), [], tmp_path / "evidence.png")


def test_an_ending_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"must end in \.png"):
        picture(judged({"kept": 9}), [], tmp_path / "evidence.txt")
