"""What people say is not kept where the settings forbid it, and nothing breaks that needs no texts."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient

from keepfit.app.doctor import examine
from keepfit.app.project import Project
from keepfit.app.server import create_app
from keepfit.app.serving import make
from keepfit.app.show_models import status_json
from keepfit.data.records import Example, Prediction, Window, is_withheld
from keepfit.errors import SettingsError
from keepfit.serving.discretion import MASK_FAILED, Discretion

MODEL = "default"
MARKER = "good Xylophonquartz of 17 Elm Road"
HEAD = """\
tracking = "local"

[models.default]
task = "toy"
"""


def without_street(text: str) -> str:
    """The mask of these tests."""
    return text.replace("17 Elm Road", "[street]").replace("Xylophonquartz", "[name]")


def broken(text: str) -> str:
    """A mask that fails, with the text in its words."""
    raise ValueError(text)


def project_of(folder: Path, keep: str) -> Path:
    (folder / "keepfit.toml").write_text(f"{HEAD}\n[models.default.keep]\n{keep}\n", "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(folder)
    project.train(folder / "data.csv")
    project.close()
    return folder


@contextmanager
def served(folder: Path) -> Iterator[FlaskClient]:
    service = make(folder)
    service.start()
    try:
        yield create_app(service).test_client()
    finally:
        service.close()
        service.store.close()


def told(client: FlaskClient, method: str, path: str, body: Any = None) -> Any:
    answer = client.open(path, method=method, json=body)
    assert answer.status_code < 300, answer.json
    return answer.json


def holds(folder: Path, words: str) -> list[str]:
    """Every file of the state with these bytes."""
    files = (path for path in (folder / ".keepfit").rglob("*") if path.is_file())
    return [str(path) for path in files if words.encode() in path.read_bytes()]


def test_a_text_that_must_not_be_kept_is_nowhere(tmp_path: Path) -> None:
    folder = project_of(tmp_path, 'texts = "none"')
    with served(folder) as client:
        body = {"examples": [{"text": MARKER, "id": "order-1"}, {"text": MARKER}]}
        first, _ = told(client, "POST", "/predict", body)["predictions"]
        told(client, "POST", "/labels", {"labels": [{"prediction_id": first["id"], "label": "pos"}]})
        by_text = told(client, "POST", "/labels", {"labels": [{"text": MARKER, "label": "pos"}]})
        assert by_text, "the hash still matches a label that names the text"
        assert holds(folder, "Xylophonquartz") == [], "the write-ahead log included"
        file = (io.BytesIO(f"text\n{MARKER}\n".encode()), "in.csv")
        refused = client.post("/batches", data={"file": file}, content_type="multipart/form-data")
        assert refused.status_code == 409
        assert "must not be stored as they come" in refused.json["detail"]
    assert holds(folder, "Xylophonquartz") == []
    project = Project(folder)
    assert is_withheld(project.store.prediction(MODEL, first["id"])[0].content)
    assert project.store.training_data(MODEL) == []
    everything = Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    assert project.store.examples(MODEL, everything) == [], "nobody warms up with what is no text"
    assert [label.value for label in project.store.labels_of(MODEL, "order-1")][:1] == ["pos"]
    project.check()
    assert project.retrain(wait=True)["version"] == 2
    assert "nothing is learnt from labels in life" in status_json(project)["not_kept"][0]
    project.close()
    finding = next(one for one in examine(folder, False) if one.what == "texts")
    assert finding.ok
    assert "the label queue shows ids only" in finding.detail


def test_a_masked_text_is_kept_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "masks_of_test.py").write_text(
        'def mask(text):\n    return text.replace("Xylophonquartz", "[name]").replace("17 Elm Road", "[street]")\n',
        "utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = project_of(tmp_path, 'mask = "masks_of_test:mask"')
    with served(folder) as client:
        (answer,) = told(client, "POST", "/predict", {"text": MARKER})["predictions"]
        told(client, "POST", "/labels", {"labels": [{"text": MARKER, "label": "pos"}]})
    assert holds(folder, "Xylophonquartz") == []
    project = Project(folder)
    assert project.store.prediction(MODEL, answer["id"])[0].content == "good [name] of [street]"
    assert [row.example.content for row in project.store.training_data(MODEL)] == ["good [name] of [street]"]
    project.close()


def test_a_mask_that_fails_lets_nothing_through_and_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken_of_test.py").write_text("def mask(text):\n    raise ValueError(text)\n", "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = project_of(tmp_path, 'mask = "broken_of_test:mask"')
    with served(folder) as client:
        (answer,) = told(client, "POST", "/predict", {"text": MARKER})["predictions"]
        assert answer["label"] == "pos", "people are answered all the same"
    assert holds(folder, "Xylophonquartz") == []
    assert "Xylophonquartz" not in caplog.text
    project = Project(folder)
    assert project.store.get(MODEL, MASK_FAILED)["count"] == 1
    project.close()
    finding = next(one for one in examine(folder, False) if one.what == "texts")
    assert not finding.ok
    assert "has failed 1 times (last: ValueError)" in finding.detail


def test_a_mask_that_is_not_there_stops_the_server_before_it_answers(tmp_path: Path) -> None:
    folder = project_of(tmp_path, 'mask = "keepfit.clock:no_such_mask"')
    with pytest.raises(SettingsError, match="cannot be loaded"):
        make(folder)


@pytest.mark.parametrize("mask", [without_street, broken, lambda text: None])
def test_what_a_mask_gives_is_kept_and_nothing_else(mask: Any) -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    said = Prediction("e", 1, ("a", "b"), np.array([0.1, 0.9], np.float32), np.ones(4, np.float32), now)
    example, _ = Discretion(mask=mask).kept(Example((MARKER, "more"), now, "e"), said)
    assert "Xylophonquartz" not in str(example.content)
    assert example.group == Example((MARKER, "more"), now).group_or_default()


def test_so_many_embeddings_are_kept_and_the_others_stand_for_none() -> None:
    now = datetime(2025, 1, 1, tzinfo=UTC)
    discretion, kept = Discretion(embeddings=0.2), 0
    for i in range(1000):
        scores, embedding = np.array([0.1, 0.9], np.float32), np.ones(4, np.float32)
        example, said = discretion.kept(
            Example("text", now), Prediction("e", 1, ("a", "b"), scores, embedding, now, f"answer {i}")
        )
        assert example.content == "text"
        assert said.stands_for_all == bool(said.embedding.size)
        kept += said.stands_for_all
    assert 150 < kept < 250


def test_sampled_embeddings_leave_the_watch_at_work(tmp_path: Path) -> None:
    folder = project_of(tmp_path, "embeddings = 0.5")
    with served(folder) as client:
        for i in range(10):
            told(client, "POST", "/predict", {"text": [f"good day {i} {j}" for j in range(40)]})
    project = Project(folder)
    decision = project.check()
    assert decision.because
    project.close()


@pytest.mark.parametrize("keep", ['texts = "none"\nmask = "a:b"', 'texts = "some"', "embeddings = 0", 'mask = "a b"'])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, keep: str) -> None:
    (tmp_path / "keepfit.toml").write_text(f"{HEAD}\n[models.default.keep]\n{keep}\n", "utf-8")
    with pytest.raises(SettingsError, match="keep"):
        Project(tmp_path)
