"""A backtest with the toy task: a file is replayed; worth_it keeps still where nothing changes and acts on harm."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.app.project import Project
from keepfit.app.settings import load
from keepfit.data.records import Example, Label, Prediction, Source
from keepfit.decision import Outcome
from keepfit.errors import InvalidInput, Refused, SettingsError

TOML = """# ours, kept
[models.default]                # the only one
task = "toy"

[models.default.prices]
hour = 600                      # so a retraining of 10 minutes is worth 100 mistakes

[[models.default.triggers]]     # to be replaced
kind = "accuracy_floor"
floor = 0.7
"""
GOOD, BAD = ("good", "fine", "nice", "great"), ("bad", "poor", "awful", "sad")
NEW_GOOD, NEW_BAD = ("slay", "lit"), ("mid", "cringe")
START = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = {"steps": 15, "first": 0.3}


def write_rows(file: Path, n: int, turn: float | None, seed: int = 4) -> Path:
    """Texts whose first word tells the class but for a tenth of noise; from `turn` on, most words are new ones."""
    rng = random.Random(seed)
    lines = ["time,text,label"]
    for i in range(n):
        positive = rng.random() < 0.5
        new = turn is not None and i >= turn * n and rng.random() < 0.7
        word = rng.choice((NEW_GOOD if positive else NEW_BAD) if new else (GOOD if positive else BAD))
        label = positive if rng.random() < 0.9 else not positive
        at = START + timedelta(minutes=10 * i)
        lines.append(f"{at.isoformat()},{word} words number {i},{'pos' if label else 'neg'}")
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a version."""
    made = tmp_path_factory.mktemp("project")
    (made / "keepfit.toml").write_text(f'tracking = "local"\n{TOML}', "utf-8")
    project = Project(made, environ={})
    assert project.train(write_rows(made / "first.csv", 400, None, seed=1))["deployed"]
    project.close()
    return made


@pytest.fixture
def project(folder: Path):  # type: ignore[no-untyped-def]
    opened = Project(folder, environ={})
    yield opened
    opened.close()


def by_policy(result: dict) -> dict[str, dict]:
    return {one["policy"]: one for one in result["policies"]}


def test_nothing_changes_so_worth_it_does_not_retrain(project: Project, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "calm.csv", 3000, None)
    found = project.backtest(file, ["never", "worth_it", "every_step"], **SMALL)
    assert by_policy(found)["worth_it"]["retrainings"] == 0
    assert found["recommended"] in ("never", "worth_it")
    assert by_policy(found)["every_step"]["false_alarms"] > 5
    assert any("is not shown" in reason for reason in found["because"])


def test_abrupt_harm_is_answered_soon_and_recommended(project: Project, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "turned.csv", 3000, 0.6)
    out = tmp_path / "report.html"
    found = project.backtest(file, ["never", "period:days=7", "worth_it"], out=out, **SMALL)
    ours = by_policy(found)["worth_it"]
    turn = 15 * (0.6 - 0.3) / 0.7  # in steps
    assert ours["at_steps"]
    assert turn - 1 <= ours["at_steps"][0] <= turn + 3
    assert ours["cost"] < by_policy(found)["never"]["cost"]
    bounds = found["bounds"]
    assert bounds["clairvoyant"]["cost"] <= min(one["cost"] for one in found["policies"])
    assert bounds["clairvoyant"]["cost"] <= bounds["causal"]["cost"]
    assert "data:image/png" in out.read_text("utf-8")
    stored = project.store.decisions(project.model, subject="backtest")[0]
    assert stored.decision.evidence["recommended"] == found["recommended"]


def test_it_goes_faster_the_second_time_for_the_matrix_is_kept(project: Project, tmp_path: Path) -> None:
    file, told = write_rows(tmp_path / "calm.csv", 1000, None, seed=9), []
    for _ in range(2):
        told.append([])
        project.backtest(file, ["never"], tell=lambda what, done, of: told[-1].append(what), **SMALL)
    assert "training" in told[0]
    assert "training" not in told[1]


def test_the_recommendation_is_written_and_every_comment_stays(project: Project, folder: Path, tmp_path: Path) -> None:
    before = (folder / "keepfit.toml").read_text("utf-8")
    try:
        file = write_rows(tmp_path / "turned.csv", 2000, 0.6)
        project.backtest(file, ["worth_it:gap_days=1"], write=True, **SMALL)
        after = (folder / "keepfit.toml").read_text("utf-8")
        assert "# ours, kept" in after
        assert "# the only one" in after
        triggers = load(folder, {}).models["default"].triggers
        assert triggers[0] == {"kind": "worth_it", "gap_days": 1}
        assert "accuracy_floor" not in after
    finally:
        (folder / "keepfit.toml").write_text(before, "utf-8")


def test_a_result_that_cannot_be_written_into_the_settings_is_kept(
    project: Project, folder: Path, tmp_path: Path
) -> None:
    before = (folder / "keepfit.toml").read_text("utf-8")
    file = write_rows(tmp_path / "calm.csv", 500, None)
    with pytest.raises(Refused, match=r"cannot be written.*the result is kept: keepfit decisions") as error:
        project.backtest(file, ["every_step"], write=True, steps=6, first=0.4)
    kept = project.decision(str(error.value).rsplit(" ", 1)[1])
    assert (kept.subject, kept.decision.outcome) == ("backtest", Outcome.HOLD)
    assert kept.decision.evidence["recommended"] == "every_step"
    assert (folder / "keepfit.toml").read_text("utf-8") == before


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_that_is_no_number_of_answers_is_refused(project: Project, tmp_path: Path, scale: float) -> None:
    with pytest.raises(InvalidInput, match="number of answers above 0"):
        project.backtest(write_rows(tmp_path / "calm.csv", 300, None), ["never"], scale=scale, **SMALL)


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        ("text,label\n" + "good a,pos\nbad b,neg\n" * 300, InvalidInput, "no column with the time"),
        ("time,text,label\n" + "2026-01-01,good a,pos\n2026-01-02,bad b,neg\n" * 5, InvalidInput, "at least 200"),
        ("time,text,label\n" + "2026-01-01,good,pos\n2026-01-02,fine,pos\n" * 300, InvalidInput, "one class"),
        ("time,text,label\n" + "2026-01-01,good a,pos\n2026-01-01,bad b,neg\n" * 300, InvalidInput, "same time"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_refused_with_a_sentence(
    project: Project, tmp_path: Path, rows: str, error: type[Exception], words: str
) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(rows, "utf-8")
    with pytest.raises(error, match=words):
        project.backtest(file, ["never"])


@pytest.mark.parametrize("policy", ["worth_itt", "worth_it:gap=3", "period", "never:x=1", "accuracy_floor:floor=7"])
def test_a_wrong_policy_is_refused(project: Project, tmp_path: Path, policy: str) -> None:
    with pytest.raises(InvalidInput):
        project.backtest(write_rows(tmp_path / "calm.csv", 500, None), [policy])


def test_other_endings_and_rates_for_stored_traffic_are_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.html or \.png"):
        project.backtest(write_rows(tmp_path / "calm.csv", 500, None), out=tmp_path / "report.pdf")
    with pytest.raises(InvalidInput, match="labelled as it is"):
        project.backtest(label_rate=0.5)
    with pytest.raises(InvalidInput, match="give a file"):
        project.backtest()


def test_without_a_version_the_encoder_embeds_the_texts(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(f'tracking = "local"\n{TOML}', "utf-8")
    project = Project(tmp_path, environ={})
    found = project.backtest(write_rows(tmp_path / "calm.csv", 500, None), ["never"], **SMALL)
    assert found["rows"] == 500
    project.close()


def test_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "video"\n', "utf-8")
    project = Project(tmp_path, environ={})
    with pytest.raises(SettingsError, match="classifiers of texts"):
        project.backtest()
    project.close()


def test_the_result_can_be_stored_as_json(project: Project, tmp_path: Path) -> None:
    found = project.backtest(write_rows(tmp_path / "calm.csv", 500, None), ["never", "ks"], steps=6, first=0.4)
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=str))


def test_stored_traffic_is_replayed_with_the_answers_that_a_label_stands_for(project: Project) -> None:
    rng = np.random.default_rng(2)
    now = project.home.clock.now()
    pairs, labels = [], []
    for i in range(500):
        at = now - timedelta(minutes=5 * (500 - i))
        truth = int(rng.random() < 0.5)
        embedding = np.zeros(8, np.float32)
        embedding[truth if i < 300 else 3 + truth] = 1
        scores = np.array([0.7, 0.3] if truth else [0.3, 0.7], np.float32)
        said = Prediction(f"live {i}", 1, ("neg", "pos"), scores, embedding, at, f"live {i}")
        pairs.append((Example(f"good {i}", at, f"live {i}"), said))
        if i % 2:
            value = ("neg", "pos")[truth]
            labels.append(Label(f"live {i}", value, at, Source.ASKED, "tester", 0.5, f"live {i}"))
    project.store.add_predictions(project.model, pairs)
    project.store.add_labels(project.model, labels)
    found = project.backtest(None, ["never", "settings", "every_step"], steps=10, first=0.3)
    assert found["rows"] == 250
    assert found["scale"] == pytest.approx(2.0, rel=0.01)
    assert by_policy(found)["every_step"]["accuracy"] > by_policy(found)["never"]["accuracy"]
