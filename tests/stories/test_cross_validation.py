"""`train --cv`: the recipe is learnt and judged several times first, the spread is kept, and the gate heeds it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from keepfit.app.project import Project
from keepfit.data.records import Job
from keepfit.errors import Refused

Command = Callable[..., tuple[int, str, str]]
"""See `keepfit` in conftest."""

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"

[models.default.gate]
invariances = {{}}
floors = {{ accuracy = {floor} }}
"""


def labelled(folder: Path, floor: float = 0.5, wrong: int = 0, timed: bool = True) -> Path:
    """A labelled file of 120 rows, of which so many of a day late in the year have the other label."""
    (folder / "keepfit.toml").write_text(SETTINGS.format(floor=floor), "utf-8")
    file = folder / "data.csv"
    lines = ["text,label" + (",time" if timed else "")]
    for i in range(120):
        good = (i % 2 == 0) != (i >= 120 - wrong)
        word = "good" if i % 2 == 0 else "bad"
        when = f",2025-01-{1 + i // 5:02d}" if timed else ""
        lines.append(f"{word} thing number {i},{'pos' if good else 'neg'}{when}")
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return labelled(tmp_path)


@pytest.fixture
def project(data: Path) -> Iterator[Project]:
    opened = Project(data.parent)
    yield opened
    opened.close()


def test_the_spread_is_in_the_result_the_decisions_and_the_gates_word(data: Path, keepfit: Command) -> None:
    code, out, err = keepfit("train", data, "--cv", 4, "--project", data.parent, "--json")
    assert code == 0, err
    result = json.loads(out)
    found = result["cross_validation"]
    assert (found["kind"], len(found["values"])) == ("grouped", 4)
    assert found["metrics"]["accuracy"] == {"mean": 1.0, "deviation": 0.0, "error": 0.0}
    decisions = json.loads(keepfit("decisions", "--project", data.parent, "--json")[1])["decisions"]
    (kept,) = (d for d in decisions if d["subject"] == "cross-validation")
    assert kept["because"][0].startswith("4 folds (grouped) of ")
    assert kept["evidence"]["values"] == found["values"]
    (gate,) = (d for d in decisions if d["subject"] == "gate v1")
    assert gate["evidence"]["rules"]["spread"]["holds"]
    assert any(said.startswith("over 4 folds (grouped): accuracy 1.000 ± 0.000") for said in gate["because"])


def test_folds_are_shown_to_people_and_leave_only_their_numbers_behind(data: Path, keepfit: Command) -> None:
    code, out, err = keepfit("train", data, "--cv", 3, "--cv-kind", "time", "--project", data.parent)
    assert code == 0, err
    assert "deviation" in out
    assert "1.0000 1.0000 1.0000" in " ".join(out.split())
    left = [p for p in (data.parent / ".keepfit" / "work" / "tune-default-folds").rglob("*") if p.is_file()]
    assert sorted(p.name for p in left) == ["0.json", "1.json", "2.json", "lock"]


def test_a_recipe_whose_folds_miss_a_floor_is_refused_though_its_test_part_keeps_it(
    tmp_path: Path, keepfit: Command
) -> None:
    """The labels turn in the last days, of which the test part by hash has few."""
    data = labelled(tmp_path, floor=0.75, wrong=24)
    code, out, err = keepfit("train", data, "--cv", 4, "--cv-kind", "time", "--project", tmp_path, "--json")
    result = json.loads(out)
    assert result["cross_validation"]["values"][-1]["accuracy"] == 0.0, err
    assert result["accuracy"] >= 0.75
    assert not result["deployed"]
    assert any("misses its floor 0.75 [floors]" in said for said in result["because"])
    assert code == 0


def test_stopped_in_a_fold_it_goes_on_with_the_same_command(data: Path, project: Project) -> None:
    heard: list[float] = []

    def stopped(metrics: Mapping[str, float], step: int) -> None:
        heard.append(metrics.get("fold", 0.0))
        if metrics.get("fold") == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        project.train(data, stopped, cv=project.folds(4))
    kept = project.home.work / "tune-default-folds"
    assert len(list(kept.rglob("*.json"))) >= 2
    first = next(path for path in kept.rglob("0.json"))
    made = first.stat().st_mtime_ns
    result = project.train(data, cv=project.folds(4))
    assert len(result["cross_validation"]["values"]) == 4
    assert first.stat().st_mtime_ns == made
    assert result["deployed"]


def test_with_a_search_it_is_the_best_recipe_that_is_cross_validated(data: Path, project: Project) -> None:
    result = project.train(data, tune=project.search(2), cv=project.folds(2))
    (kept,) = project.store.decisions(MODEL, subject="cross-validation")
    assert kept.decision.evidence["recipe"] == result["tuning"]["best"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--cv-kind", "time"), "--cv-kind needs --cv K"),
        (("--cv", "1"), "--cv"),
        (("--cv", "3", "--cv-kind", "shuffled"), "known are grouped, time"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(
    data: Path, words: tuple[str, ...], part: str, keepfit: Command
) -> None:
    code, out, err = keepfit("train", data, *words, "--project", data.parent)
    assert (code, out) == (2, "")
    assert part in err
    assert not (data.parent / ".keepfit" / "snapshots").exists()


def test_what_has_no_times_cannot_be_taken_in_their_order(tmp_path: Path, keepfit: Command) -> None:
    data = labelled(tmp_path, timed=False)
    code, _, err = keepfit("train", data, "--cv", 3, "--cv-kind", "time", "--project", tmp_path)
    assert code == 2
    assert "rows have no time" in err


def test_video_and_warm_starts_are_not_cross_validated(data: Path, keepfit: Command) -> None:
    code, _, err = keepfit("train", data, "--cv", 3, "--start", "warm", "--project", data.parent)
    assert code == 2
    assert err
    (data.parent / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "video"\n', "utf-8")
    code, _, err = keepfit("train", data, "--cv", 3, "--project", data.parent)
    assert code == 2
    assert "cannot be cross-validated" in err


def test_nothing_is_learnt_while_a_training_is_under_way_that_could_not_use_it(data: Path, project: Project) -> None:
    snapshot = project.import_data(data)[0]
    project.store.join_or_add_job(
        Job("j", MODEL, "retrain", project.home.clock.now(), request={"snapshot": snapshot.id})
    )
    with pytest.raises(Refused, match="under way"):
        project.train(data, cv=project.folds(2))
    assert not (project.home.work / "tune-default-folds").exists()


def test_one_cross_validation_at_a_time_runs_for_a_model(data: Path, project: Project) -> None:
    workdir = project.home.work / "tune-default-folds"
    workdir.mkdir(parents=True)
    with FileLock(workdir / "lock"), pytest.raises(Refused, match="another search runs"):
        project.train(data, cv=project.folds(2))


def test_a_class_that_comes_late_is_told_of_where_a_fold_is_judged_on_it_unlearnt(
    tmp_path: Path, keepfit: Command
) -> None:
    data = labelled(tmp_path, floor=0.1)
    lines = data.read_text("utf-8").splitlines()
    late = [line.replace("bad thing", "new thing").replace(",neg,", ",fresh,") if i > 105 else line
            for i, line in enumerate(lines)]  # fmt: skip
    data.write_text("\n".join(late) + "\n", "utf-8")
    code, _, err = keepfit("train", data, "--cv", 4, "--cv-kind", "time", "--project", tmp_path, "--json")
    assert code == 0, err
    decisions = json.loads(keepfit("decisions", "--project", tmp_path, "--json")[1])["decisions"]
    (kept,) = (d for d in decisions if d["subject"] == "cross-validation")
    assert "fold 4 learns nothing of fresh, and is judged on it" in kept["because"]
