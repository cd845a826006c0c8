"""Each decision shows its evidence: those of the watch over time, those of the gate by pairs, others as numbers."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import insert
from tests.stories.conftest import MODEL, World

from keepfit.app.evidence import leaves, picture
from keepfit.app.project import Project
from keepfit.data.records import StoredDecision, Window
from keepfit.data.schema import DECISIONS
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput, NotFound
from keepfit.monitoring.measurement import Measurement
from keepfit.registry.search_pictures import draw_search

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


def test_a_decision_is_found_and_drawn_however_many_are_younger(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.toy]\ntask = "toy"\n', "utf-8")
    window = Window(NOW, NOW + timedelta(hours=1))
    seen = Measurement("accuracy", 0.5, 0.4, 0.6, 100, window, 1).to_json()
    young = [
        {"model": "toy", "id": f"y{number}", "at": NOW + timedelta(minutes=10 + number), "subject": "trigger",
         "outcome": "wait", "because": [], "evidence": {}}
        for number in range(10_001)
    ]  # fmt: skip
    with closing(Project(tmp_path, environ={})) as project:
        for number in range(3):
            decision = Decision(Outcome.WAIT, ("so",), {"measurements": [seen]})
            project.store.add_decision("toy", "trigger", decision, NOW + timedelta(minutes=number), id=f"old-{number}")
        with project.store.database.write() as conn:
            conn.execute(insert(DECISIONS), young)
        assert project.decision("old-2").id == "old-2"
        assert project.decision("old-1").at == NOW + timedelta(minutes=1)
        with pytest.raises(InvalidInput, match="3 decisions have an id that begins"):
            project.decision("old")
        with pytest.raises(NotFound, match="no decision"):
            project.decision("older")
        alone = picture(project.decision("old-2"), [], tmp_path / "alone.png").read_bytes()
        assert project.picture("old-2", tmp_path / "with_the_past.png").read_bytes() != alone


def trials(*losses: float | None) -> list[dict[str, object]]:
    return [
        {"number": number, "state": "finished" if loss is not None else "stopped early", "loss": loss, "seconds": 1.0,
         "error": "", "recipe": {"learning_rate": 1e-4 * number, "truncation": ("head", "head+tail")[number % 2],
                                 "batch_size": 32}}
        for number, loss in enumerate(losses, 1)
    ]  # fmt: skip


@pytest.mark.parametrize("losses", [(0.5, 0.4, None, 0.6), (0.5,), (0.5, 0.5)])
def test_a_search_is_drawn_as_parallel_coordinates_and_importances(
    tmp_path: Path, losses: tuple[float | None, ...]
) -> None:
    evidence = {"trials": trials(*losses), "importance": {"learning_rate": 0.8, "truncation": 0.2}}
    assert picture(judged(evidence), [], tmp_path / "both.png").stat().st_size > 5_000
    with Image.open(tmp_path / "both.png") as both:
        alone = picture(judged({**evidence, "importance": {}}), [], tmp_path / "alone.png")
        with Image.open(alone) as one:
            assert both.height > one.height
    made = draw_search(evidence, tmp_path)
    assert [path.name for path in made] == ["trials.png", "importance.png"]
