"""The history of a model that went stale elsewhere: what keepfit would have told, and what it recommends now."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keepfit.app import show_models
from keepfit.app.accuracy_plot import draw, points
from keepfit.app.project import Project
from keepfit.app.wiring import answering_half
from keepfit.data.past_columns import PastColumns
from keepfit.decision import Outcome
from keepfit.errors import BackendError, Refused

TOML = """
tracking = "local"
[models.default]
task = "toy"
[models.default.prices]
hour = 600
"""
DAYS, ROWS, TURN = 60, 3_000, 0.6
GOOD, BAD = ("good", "fine", "nice", "great"), ("bad", "poor", "awful", "sad")
NEW_GOOD, NEW_BAD = ("sick", "ace"), ("lame", "wack")
"""As the toy embeds them, old words say the opposite of these."""


def write_history(file: Path, end: datetime, n: int = ROWS) -> Path:
    """Answers of a model that does not know the words that most texts begin with from TURN on. Two versions."""
    rng = random.Random(4)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["request_id", "comment", "p_neg", "p_pos", "truth", "created_at", "release", "country"])
        for number in range(n):
            good = rng.random() < 0.5
            new = number >= TURN * ROWS and rng.random() < 0.7
            word = rng.choice((NEW_GOOD if good else NEW_BAD) if new else (GOOD if good else BAD))
            pos = 0.4 + 0.05 * rng.random() if new else (0.85 if good else 0.05) + 0.1 * rng.random()
            true = good if rng.random() < 0.9 else not good
            at = end - timedelta(days=DAYS) * (1 - number / ROWS)
            version = "2025-a" if number < 0.3 * ROWS else "2025-b"
            values = [
                number,
                f"{word} words number {number}",
                round(1 - pos, 4),
                round(pos, 4),
                "pos" if true else "neg",
            ]
            writer.writerow([*values, at.isoformat(), version, rng.choice(["de", "fr"])])
    return file


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Project, dict]]:
    """A project with nothing but an imported history."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "keepfit.toml").write_text(TOML, "utf-8")
    project = Project(folder, environ={})
    file = write_history(folder / "history.csv", project.home.clock.now() - timedelta(minutes=10))
    yield project, project.import_history(file=file, columns=PastColumns(context=("country",)), looks=40)
    project.close()


def test_the_history_tells_when_the_model_went_stale(told: tuple[Project, dict]) -> None:
    _, done = told
    assert (done["answers"], done["labels"], done["looks"]) == (ROWS, ROWS, 40)
    turn = datetime.fromisoformat(done["plan"]["first"]) + timedelta(days=DAYS) * TURN
    alarm = done["alarm"]
    assert alarm["version"] == done["versions"]["2025-b"]
    assert turn < datetime.fromisoformat(alarm["at"]) < turn + timedelta(days=8)
    before = [one for one in done["accuracy"] if one["at"] < turn]
    assert all(one["high"] > 0.88 for one in before)
    assert done["accuracy"][-1]["high"] < 0.75


def test_the_status_and_the_plot_show_the_accuracy_by_time(told: tuple[Project, dict], tmp_path: Path) -> None:
    project, done = told
    now = show_models.status_json(project)
    assert now["elsewhere"] == "2025-b"
    assert now["champion"] == done["versions"]["2025-b"]
    assert now["accuracy"]["n"] > 1_000
    assert len(now["accuracy_by_time"]) == 6
    assert draw(project.store, project.model, tmp_path / "accuracy.png") >= 40
    checks = project.store.decisions(project.model, subject="trigger", limit=1_000)
    assert len(points(checks, "accuracy")) >= 35
    assert len(points(checks, "accuracy:estimated")) >= 20
    measured = {one["name"]: one for one in checks[0].decision.evidence["measurements"]}
    assert {"label_mix", "confidence", "input_drift"} <= set(measured)
    assert "without embeddings" in measured["embedding_drift"]["note"]


def test_the_versions_of_then_stand_in_the_history_of_deployments(told: tuple[Project, dict]) -> None:
    project, done = told
    newest, oldest = project.history()
    assert list(oldest.traffic.shares) == [done["versions"]["2025-a"]]
    assert oldest.at.isoformat() == done["plan"]["first"]
    assert "'2025-b', served elsewhere" in newest.reason
    assert project.store.verify_audit().whole


def test_the_check_of_today_raises_the_alarm_and_starts_no_job_that_cannot_run(told: tuple[Project, dict]) -> None:
    project, _ = told
    decision = project.check()
    assert decision.outcome is Outcome.FIRE
    assert any("below the floor" in reason for reason in decision.because)
    assert "keepfit train DATA" in decision.because[-1]
    assert project.store.jobs(project.model) == []


def test_nobody_is_alerted_about_the_past(told: tuple[Project, dict]) -> None:
    project, _ = told
    heard = []
    project.announcer(project.model, heard.append).announce()
    assert len(heard) <= 1  # of the check of today
    assert all(alert.at > project.home.clock.now() - timedelta(minutes=5) for alert in heard)


def test_a_backtest_recommends_before_there_is_a_champion(told: tuple[Project, dict]) -> None:
    project, _ = told
    found = project.backtest(None, ["never", "every_step", "worth_it"], steps=15, first=0.3)
    by_policy = {one["policy"]: one for one in found["policies"]}
    assert found["rows"] == ROWS
    assert by_policy["worth_it"]["cost"] < by_policy["never"]["cost"]
    assert found["recommended"] != "never"


def test_what_is_served_elsewhere_is_never_served_here(told: tuple[Project, dict]) -> None:
    project, done = told
    number = done["versions"]["2025-a"]
    with pytest.raises(Refused, match=r"'2025-a'.* is served elsewhere"):
        project.promote(number)
    with pytest.raises(Refused, match="no way back"):
        project.rollback()
    with pytest.raises(BackendError, match=r"'2025-a'.* is served elsewhere.*keepfit train"):
        answering_half(project.home, project.model, project.store)(number)


def test_a_name_is_one_version(told: tuple[Project, dict]) -> None:
    project, done = told
    again = project.store.foreign_version(project.model, "2025-a", ("neg", "pos"), 0, project.home.clock.now())
    assert again.number == done["versions"]["2025-a"]
    assert [one.lineage.code for one in project.models()] == ["2025-b", "2025-a"]
    assert project.registry.version(project.model, again.number).evaluation.labels == ("neg", "pos")


def test_the_watch_goes_on_where_the_history_was_left(told: tuple[Project, dict], tmp_path: Path) -> None:
    project, _ = told
    looks = len(project.store.decisions(project.model, subject="trigger", limit=1_000))
    again = project.import_history(
        file=project.folder / "history.csv", columns=PastColumns(context=("country",)), looks=40
    )
    assert (again["answers"], again["labels"], again["looks"]) == (0, 0, 0)
    assert len(project.store.decisions(project.model, subject="trigger", limit=1_000)) == looks
    assert len(project.history()) == 2


def test_embeddings_are_computed_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(TOML, "utf-8")
    project = Project(tmp_path, environ={})
    file = write_history(tmp_path / "history.csv", project.home.clock.now() - timedelta(minutes=10), n=400)
    done = project.import_history(file=file, embed=True, looks=3)
    assert not any("embeddings" in words for words in done["plan"]["missing"])
    checks = project.store.decisions(project.model, subject="trigger")
    assert "embedding_drift" in {one["name"] for one in checks[0].decision.evidence["measurements"]}
    project.close()
