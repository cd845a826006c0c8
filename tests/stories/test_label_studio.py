"""Questions go to Label Studio and come back as labels of those who annotated them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from keepfit.app.cli import cli, run
from keepfit.app.project import Project
from keepfit.data.records import Example, Prediction, QueueItem, Source, Window
from keepfit.errors import InvalidInput, NotFound

MODEL = "default"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """Three answers, two of which are asked for."""
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "toy"\n', "utf-8")
    made = Project(tmp_path)
    at = datetime.now(UTC) - timedelta(hours=1)
    pairs = []
    for name, text in (("a", 'good & "cheap"'), ("b", "bad <b>"), ("c", "odd")):
        example = Example(text, at, id=f"e{name}")
        scores = np.array([0.2, 0.8], np.float32)
        pairs.append((example, Prediction(example.id, 3, ("neg", "pos & more"), scores, scores, at, id=f"p{name}")))
    made.store.add_predictions(MODEL, pairs)
    made.store.ask([
        QueueItem(f"q{p.id}", MODEL, p.id, e, 0.25, "drawn by lot", at, p.labels) for e, p in pairs[:2]
    ])  # fmt: skip
    yield made
    made.close()


def command(project: Project, *words: object) -> tuple[int, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        run(lambda: cli([*map(str, words), "--project", str(project.folder)]), "--json" in words)
    return int(end.value.code or 0), out.getvalue() + err.getvalue()


def annotated(task: dict[str, Any], choice: str | None, who: Any, at: str, cancelled: bool = False) -> dict[str, Any]:
    """An annotation as Label Studio exports it."""
    result = [] if choice is None else [
        {"id": "x1", "from_name": "label", "to_name": "text", "type": "choices", "origin": "manual",
         "value": {"choices": [choice]}}
    ]  # fmt: skip
    return {
        "id": 1, "completed_by": who, "result": result, "was_cancelled": cancelled, "ground_truth": False,
        "created_at": at, "updated_at": at, "lead_time": 4.2, "task": 1, "project": 1,
    }  # fmt: skip


def export(project: Project, name: str = "export.json", **tasks: list[dict[str, Any]]) -> Path:
    """The exported file: of each prediction's id its annotations."""
    file = project.folder / name
    found = [
        {"id": place, "data": {"text": "", "prediction_id": id_}, "meta": {}, "annotations": annotations,
         "drafts": [], "predictions": []}
        for place, (id_, annotations) in enumerate(tasks.items(), 1)
    ]  # fmt: skip
    file.write_text(json.dumps(found), "utf-8")
    return file


def stored(project: Project) -> list[tuple[str, str, str, Source]]:
    now = datetime.now(UTC)
    window = Window(now - timedelta(days=30), now + timedelta(days=1))
    return [
        (p.id, label.value, label.actor, label.source)
        for p, label in project.store.labelled(MODEL, window, sources=frozenset(Source))
    ]


def test_questions_become_tasks_with_predictions_and_an_interface(project: Project) -> None:
    file = project.folder / "tasks.json"
    code, said = command(project, "labels", "export", file)
    assert code == 0, said
    first, second = json.loads(file.read_text("utf-8"))
    assert first["data"]["text"] == 'good & "cheap"'
    assert first["meta"] == {
        "question": "qpa", "prediction_id": "pa", "id": "ea", "propensity": 0.25, "reason": "drawn by lot"
    }  # fmt: skip
    (guess,) = first["predictions"]
    assert (guess["model_version"], guess["score"]) == ("3", pytest.approx(0.8))
    (choice,) = guess["result"]
    assert choice["value"] == {"choices": ["pos & more"]}
    root = ElementTree.fromstring((project.folder / "tasks.label_config.xml").read_text("utf-8"))
    choices = root.find("Choices")
    assert choices is not None
    assert (choices.get("name"), choices.get("toName")) == (choice["from_name"], choice["to_name"])
    assert [one.get("value") for one in choices] == ["neg", "pos & more"]
    assert second["data"]["prediction_id"] == "pb"


def test_nobody_is_swayed_where_the_answers_are_left_out(project: Project) -> None:
    file = project.folder / "tasks.json"
    assert command(project, "labels", "export", file, "--blind")[0] == 0
    assert all("predictions" not in task for task in json.loads(file.read_text("utf-8")))


def test_what_was_exported_comes_back_with_its_propensity(project: Project) -> None:
    file = project.folder / "tasks.json"
    command(project, "labels", "export", file)
    tasks = json.loads(file.read_text("utf-8"))
    for task in tasks:
        task["annotations"] = [annotated(task, "neg", 7, "2025-03-09T22:16:08.728378Z")]
    file.write_text(json.dumps(tasks), "utf-8")
    assert project.label(file) == {"new": 2, "read": 2, "unknown": 0, "cancelled": 0, "unlabelled": 0}
    assert stored(project) == [(id_, "neg", "label-studio:7", Source.ASKED) for id_ in ("pa", "pb")]
    assert project.labels_next() == []
    (first, _) = project.store.training_data(MODEL)
    assert first.label.propensity == 0.25
    assert first.label.time == datetime(2025, 3, 9, 22, 16, 8, 728378, UTC)
    assert project.label(file)["new"] == 0


def test_several_annotators_are_several_actors_and_the_last_word_of_each_counts(project: Project) -> None:
    ann = {"id": 4, "email": "ann@example.org", "first_name": "", "last_name": ""}
    file = export(project, pa=[
        annotated({}, "neg", ann, "2025-03-09T10:00:00Z"), annotated({}, "pos & more", 9, "2025-03-09T11:00:00Z"),
        annotated({}, "pos & more", ann, "2025-03-09T12:00:00Z"),
    ])  # fmt: skip
    assert project.label(file)["new"] == 3
    assert {one["actor"] for one in trust(project)} == {"ann@example.org", "label-studio:9"}
    assert stored(project)[0][1:3] == ("pos & more", "ann@example.org")


def trust(project: Project) -> list[dict[str, Any]]:
    code, said = command(project, "labels", "trust", "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(said)["labellers"]
    return found


def test_cancelled_annotations_and_tasks_without_a_choice_are_counted(project: Project) -> None:
    at = "2025-03-09T10:00:00Z"
    file = export(project, pa=[annotated({}, "neg", 1, at, cancelled=True)], pb=[], pc=[annotated({}, None, 1, at)])
    assert project.label(file) == {"new": 0, "read": 0, "unknown": 0, "cancelled": 1, "unlabelled": 2}
    assert "1 annotations were cancelled, 2 tasks have no label" in command(project, "label", file)[1]


def test_a_task_that_names_nothing_is_found_by_its_text(project: Project) -> None:
    file = project.folder / "own.json"
    tasks = [
        {"id": 1, "data": {"text": text}, "annotations": [annotated({}, "neg", 1, "2025-03-09T10:00:00Z")]}
        for text in ("odd", "never seen")
    ]
    file.write_text(json.dumps(tasks), "utf-8")
    done = project.label(file)
    assert (done["new"], done["unknown"]) == (1, 1)
    assert stored(project) == [("pc", "neg", "label-studio:1", Source.VOLUNTEERED)]


def test_all_or_none_are_stored(project: Project) -> None:
    at = "2025-03-09T10:00:00Z"
    with pytest.raises(InvalidInput, match="task 2: 'nonsense' is not one of the labels"):
        project.label(export(project, pa=[annotated({}, "neg", 1, at)], pb=[annotated({}, "nonsense", 1, at)]))
    with pytest.raises(NotFound):
        project.label(export(project, pa=[annotated({}, "neg", 1, at)], nobody=[annotated({}, "neg", 1, at)]))
    several = annotated({}, "neg", 1, at)
    several["result"][0]["value"]["choices"].append("pos & more")
    with pytest.raises(InvalidInput, match="2 classes are chosen"):
        project.label(export(project, pa=[several]))
    assert stored(project) == []


@pytest.mark.parametrize("text", ['{"a": 1}', "[", '[{"text": "good", "label": "neg", "annotator": 1}]'])
def test_another_format_is_refused_with_the_one_to_choose(project: Project, text: str) -> None:
    file = project.folder / "min.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InvalidInput, match="is no "):
        project.label(file)


def test_a_table_with_an_empty_column_goes_out_and_comes_back(project: Project) -> None:
    file = project.folder / "questions.csv"
    assert command(project, "labels", "export", file, "--format", "csv")[0] == 0
    with file.open(encoding="utf-8", newline="") as source:
        rows = list(csv.DictReader(source))
    assert [row["text"] for row in rows] == ['good & "cheap"', "bad <b>"]
    rows[0]["label"] = "neg"
    with file.open("w", encoding="utf-8", newline="") as target:
        writer = csv.DictWriter(target, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    project.label(file)
    assert stored(project)[0][:2] == ("pa", "neg")
    assert len(stored(project)) == 1


def test_an_unknown_format_is_refused(project: Project) -> None:
    code, said = command(project, "labels", "export", project.folder / "x", "--format", "doccano")
    assert code == 2
    assert "--format label-studio or --format csv" in said
