"""A version that is served elsewhere is one, whoever tells of it: an imported history, POST /predictions, or both."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from keepfit.app.doctor import deployment
from keepfit.app.project import Project
from keepfit.app.server import create_app
from keepfit.app.serving import make
from keepfit.app.show_models import status_json
from keepfit.data.foreign import FOREIGN_FROM
from keepfit.data.records import is_withheld
from keepfit.decision import Outcome
from keepfit.errors import Refused, SettingsError

HERE = 'tracking = "local"\n[models.default]\ntask = "toy"\n[models.default.gate]\nlatency_ratio = 1000\n'
ELSEWHERE = HERE.replace('"toy"\n', '"toy"\nserved = "elsewhere"\n')
FIRST = FOREIGN_FROM + 1
SAYS = (*(("good", 0.9, "pos"), ("bad", 0.1, "neg")) * 2, ("fine", 0.85, "pos"), ("awful", 0.8, "neg"))
"""Word, the probability of pos that is answered, and the truth."""
MARKER = "Xylophonquartz of 17 Elm Road"


def without_street(text: str) -> str:
    """The mask of these tests."""
    return text.replace("17 Elm Road", "[street]").replace("Xylophonquartz", "[name]")


def project_of(folder: Path, toml: str = HERE) -> Project:
    (folder / "keepfit.toml").write_text(toml, "utf-8")
    return Project(folder, environ={})


def history(folder: Path, now: datetime, n: int = 600, version: str = "2025-a", words: str = "here") -> Path:
    """Answers of the last ten days by a model that calls what is awful good; every outcome is known."""
    file = folder / "history.csv"
    if file.exists():
        return file
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "text", "p_neg", "p_pos", "truth", "time", "version"])
        for number in range(n):
            word, pos, truth = SAYS[number % 6]
            at = now - timedelta(days=10) * (1 - number / n) - timedelta(minutes=10)
            text = f"{word} words {number} {words}"
            writer.writerow([f"h{number}", text, round(1 - pos, 2), pos, truth, at.isoformat(), version])
    return file


def imported(project: Project, **asked: Any) -> Mapping[str, Any]:
    named = {name: asked.pop(name) for name in ("n", "version", "words") if name in asked}
    file = history(project.folder, project.home.clock.now(), **named)
    return project.import_history(file=file, **{"looks": 4, **asked})


def trained(project: Project) -> Mapping[str, Any]:
    file = project.folder / "data.csv"
    words = (("good", "pos"), ("bad", "neg"), ("awful", "neg"))
    rows = [f"{word} thing {i},{label}" for i in range(40) for word, label in words]
    file.write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    return project.train(file)


@contextmanager
def served(folder: Path) -> Iterator[FlaskClient]:
    service = make(folder)
    try:
        service.models["default"].predictor.refresh()
        yield create_app(service).test_client()
    finally:
        service.close()
        service.store.close()


def answer(number: int, version: str = "2025-a", **changes: Any) -> dict[str, Any]:
    made = {
        "id": f"p{number}",
        "version": version,
        "text": f"good day {number}",
        "probabilities": {"neg": 0.2, "pos": 0.8},
    }
    return made | changes


def post(folder: Path, *answers: Mapping[str, Any]) -> Any:
    with served(folder) as client:
        return client.post("/predictions", json={"predictions": list(answers)})


def holds(folder: Path, words: str) -> list[str]:
    """Every file of the state with these bytes."""
    files = (path for path in (folder / ".keepfit").rglob("*") if path.is_file())
    return [str(path) for path in files if words.encode() in path.read_bytes()]


def test_a_history_then_a_training_then_its_version_serves_here(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    assert imported(project)["versions"] == {"2025-a": FIRST}
    with served(tmp_path) as client:  # nothing can answer here, and it says so
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "'2025-a') is served elsewhere" in ready.text
        assert "keepfit train" in ready.text
        assert client.post("/predict", json={"text": "good"}).status_code == 503
        assert client.get("/status").json["models"][0]["elsewhere"] == "2025-a"
    told = deployment(project)
    assert (told.ok, "served elsewhere" in told.detail) == (False, True)
    result = trained(project)
    assert result["verdict"] == "pass", result["because"]
    gate = project.decision(result["decision"]).decision
    assert gate.evidence["rules"]["not_worse"]["wins"] > 20  # of the rows that the recorded champion has answered
    assert project.history()[0].traffic.shares == {1: 1.0}  # no share is left to what cannot answer here
    with served(tmp_path) as client:
        said = client.post("/predict", json={"text": "awful day"}).json["predictions"][0]
        assert (said["label"], said["model_version"]) == ("neg", 1)
        assert client.get("/status").json["models"][0]["elsewhere"] is None
        assert client.post("/rollback", json={}).status_code == 409
    with pytest.raises(Refused, match="only one that ever served here"):
        project.rollback()
    with pytest.raises(Refused, match="served elsewhere"):
        project.rollback(FIRST)
    assert [one.number for one in project.models()] == [1, FIRST]
    project.close()


def test_a_history_goes_on_with_posted_answers_under_the_same_number(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    done = imported(project)
    project.close()
    project = project_of(tmp_path, ELSEWHERE)
    before = len(project.history())
    assert post(tmp_path, *(answer(number) for number in range(200))).json["new"] == 200
    _, said = project.store.prediction(project.model, "p7")
    assert said.model_version == done["versions"]["2025-a"] == FIRST
    project.hand_over().observe()
    project.hand_over().hand_over()
    assert len(project.history()) == before  # it was live, and is; nobody is told of it
    assert project.store.get(project.model, "handed_over") is None
    measured = {one["name"]: one for one in project.check().evidence["measurements"]}
    assert measured["accuracy"]["n"] >= 500
    assert measured["confidence"]["n"] >= 200
    assert "without embeddings" in measured["embedding_drift"]["note"]
    now = status_json(project)
    assert (now["elsewhere"], now["champion"]) == ("2025-a", FIRST)
    with served(tmp_path) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.get("/models/default/ready").status_code in (200, 404)
        assert client.get("/status").json["models"][0]["elsewhere"] == "2025-a"
    project.close()


def test_posted_answers_go_on_into_the_past_under_the_same_number(tmp_path: Path) -> None:
    project = project_of(tmp_path, ELSEWHERE)
    assert post(tmp_path, answer(1), answer(2, "2025-b")).status_code == 200
    assert imported(project)["versions"] == {"2025-a": FIRST}
    assert [one.name for one in project.store.foreign_versions(project.model)] == ["2025-a", "2025-b"]
    project.close()


def test_a_bare_number_of_a_history_stays_the_other_system_s_until_keepfit_s_own_is_handed_over(tmp_path: Path) -> None:
    project = project_of(tmp_path, ELSEWHERE)
    imported(project, version="1")
    assert post(tmp_path, answer(1, "1")).status_code == 200
    assert project.store.prediction(project.model, "p1")[1].model_version == FIRST
    trained(project)
    assert post(tmp_path, answer(2, "1")).status_code == 200
    assert project.store.prediction(project.model, "p2")[1].model_version == 1
    project.close()


def test_a_history_with_embeddings_of_ours_goes_on_with_answers_without(tmp_path: Path) -> None:
    project = project_of(tmp_path)
    imported(project, embed=True)
    with pytest.raises(Refused, match="leave --embed out"):
        post_then_embed(tmp_path)
    project.close()
    project = project_of(tmp_path, ELSEWHERE)
    assert post(tmp_path, *(answer(number) for number in range(150))).status_code == 200
    assert "embeddings of none" in post(tmp_path, answer(900, embedding=[1.0, 2.0])).json["detail"]
    assert project.check().outcome in (Outcome.WAIT, Outcome.FIRE)
    project.close()


def post_then_embed(folder: Path) -> None:
    """Another project, told of a version without embeddings first."""
    other = folder / "other"
    other.mkdir()
    project = project_of(other, ELSEWHERE)
    try:
        post(other, answer(1))
        imported(project, embed=True)
    finally:
        project.close()


def test_the_normal_is_the_first_labelled_answers_and_stays(tmp_path: Path) -> None:
    project = project_of(tmp_path, ELSEWHERE)
    imported(project, n=900)
    normal = project.watch(project.model).reference
    before = normal(FIRST)
    assert len(before.truth) == len(before.scores) == 400
    assert normal(FIRST) is before
    imported(project, n=900, looks=0)
    assert normal(FIRST) is before
    project.close()


def test_without_enough_labels_the_normal_has_no_truth(tmp_path: Path) -> None:
    project = project_of(tmp_path, ELSEWHERE)
    post(tmp_path, *(answer(number) for number in range(120)))
    reference = project.watch(project.model).reference(FIRST)
    assert (len(reference.scores), len(reference.truth)) == (120, 0)
    project.close()


@pytest.mark.parametrize(
    ("keep", "stays"),
    [('texts = "none"', None), (f'mask = "{__name__}:without_street"', "[name] of [street]")],
)
def test_what_must_not_be_kept_is_nowhere_after_either_door(tmp_path: Path, keep: str, stays: str | None) -> None:
    project = project_of(tmp_path, f"{ELSEWHERE}[models.default.keep]\n{keep}\n")
    done = imported(project, words=MARKER)
    assert done["answers"] == 600
    sent = answer(1, text=f"good day {MARKER}", embedding=None)
    assert post(tmp_path, sent).json["new"] == 1
    assert post(tmp_path, sent).json["known"] == 1
    again = imported(project, words=MARKER)
    assert (again["answers"], again["labels"]) == (0, 0)
    for id_ in ("h3", "p1"):
        example, _ = project.store.find_prediction(project.model, example_id=id_) or (None, None)
        assert example is not None
        assert is_withheld(example.content) if stays is None else stays in example.content
    with pytest.raises(SettingsError, match="leave --embed out"):
        imported(project, embed=True)
    project.close()
    for words in ("Xylophonquartz", "Elm Road"):
        assert holds(tmp_path, words) == []


def test_a_stage_that_a_kill_left_holds_no_text_either(tmp_path: Path) -> None:
    project = project_of(tmp_path, f'{HERE}[models.default.keep]\ntexts = "none"\n')

    def killed(what: str, done: int, of: int | None) -> None:
        if what == "importing":
            raise KeyboardInterrupt

    file = history(tmp_path, project.home.clock.now(), words=MARKER)
    with pytest.raises(KeyboardInterrupt):
        project.import_history(tell=killed, file=file, looks=0)
    assert list(project.home.work.glob("history-*"))
    assert holds(tmp_path, "Xylophonquartz") == []
    project.close()
