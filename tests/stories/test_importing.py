"""A model that was trained elsewhere is imported, answers as it did, is labelled, and trained on from what it knew."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from transformers import pipeline

from keepfit.app.cli import cli, run
from keepfit.app.project import Project
from keepfit.app.wiring import LATE, answering_half, named
from keepfit.data.records import Job, JobState, Label, Source
from keepfit.decision import Outcome
from keepfit.errors import InvalidInput, SettingsError
from keepfit.pipelines.alone import alone
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter

MODEL = "default"
SETTINGS = """\
tracking = "local"

[models.default]
task = "text"

[models.default.recipe]
epochs = 1
inference = "fp32"

[models.default.gate.invariances]
case = 0.1
"""


@pytest.fixture(scope="module")
def theirs(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people bring: a folder of Transformers, and labelled texts."""
    folder = tmp_path_factory.mktemp("theirs")
    tiny.save(tiny.classifier("distilbert"), folder / "model")
    tiny.save(tiny.classifier("distilbert", taught=False), folder / "untaught")
    tiny.table(folder / "data.csv", 400)
    return folder


@pytest.fixture(scope="module")
def imported_once(theirs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    project = Project(folder)
    project.import_model(str(theirs / "model"), data=theirs / "data.csv")
    project.close()
    return folder


@pytest.fixture
def project(imported_once: Path, tmp_path: Path) -> Iterator[Project]:
    """One whose version 1 was imported with data."""
    shutil.copytree(imported_once, tmp_path / "project")
    made = Project(tmp_path / "project")
    yield made
    made.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Project]:
    """One without any version."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "keepfit.toml").write_text(SETTINGS, "utf-8")
    made = Project(tmp_path / "new")
    yield made
    made.close()


def command(project: Project, *words: object, code: int = 0) -> str:
    """What a command prints."""
    out, err = io.StringIO(), io.StringIO()
    arguments = [*map(str, words), "--project", str(project.folder)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        run(lambda: cli(arguments), "--json" in arguments)
    assert int(end.value.code or 0) == code, (out.getvalue(), err.getvalue())
    return " ".join((out.getvalue() + err.getvalue()).split())


def answer(project: Project, texts: list[str], truth: list[str] | None = None) -> list[dict[str, float]]:
    """A server's answers, in order; with the truth, each answer was asked for and is labelled."""
    writer = RecordWriter(project.store)
    predictor = Predictor(
        MODEL,
        project.store,
        answering_half(project.home, MODEL, project.store),
        writer,
        project.home.clock,
        "here",
        ServingLimits(),
    )
    predictor.refresh()
    said = [predictor.predict([Request(text)])[0].prediction for text in texts]
    writer.flush()
    now = project.home.clock.now()
    for one, value in zip(said, truth or [], strict=False):
        label = Label(one.example_id, value, now, Source.ASKED, "tester", 1.0, one.id)
        project.store.add_labels(MODEL, [label])
    predictor.close()
    writer.close()
    return [dict(zip(one.labels, map(float, one.scores), strict=True)) for one in said]


def test_an_imported_model_answers_as_before_is_labelled_and_trained_on(project: Project, theirs: Path) -> None:
    rows = [f"we saw the {word} film {i}" for i, word in enumerate(["good", "awful", "fine", "poor", "great"] * 4)]
    kept = json.loads((project.home.models / MODEL / "1" / "model.json").read_text("utf-8"))
    classify = pipeline("text-classification", model=str(theirs / "model"), top_k=None, device="cpu")
    temperature = kept["temperature"]
    truth = ["pos" if i % 5 in (0, 2, 4) else "neg" for i in range(len(rows))]
    for ours, said in zip(answer(project, rows, truth), classify(rows), strict=True):
        powers = {one["label"]: one["score"] ** (1 / temperature) for one in said}
        assert ours == pytest.approx({k: v / sum(powers.values()) for k, v in powers.items()}, abs=1e-3)
    done = project.retrain(wait=True)
    assert (done["version"], done["labels"], done["verdict"]) == (2, len(rows), "pass")
    later = json.loads((project.home.models / MODEL / "2" / "model.json").read_text("utf-8"))
    assert later["backbone"] == kept["backbone"]
    assert later["backbone"].startswith("imported:")
    assert (later["max_tokens"], later["labels"], later["cleaning"]) == (32, ["neg", "pos"], 0)
    assert "imported" not in later
    assert project.recipe.backbone == kept["backbone"]  # the heir's heirs, too


def test_everything_says_where_it_came_from_and_nothing_reproduces_it(project: Project, theirs: Path) -> None:
    words = "imported (DistilBertForSequenceClassification); trainings begin with its weights and tokenizer"
    assert words in command(project, "models")
    state = json.loads(command(project, "status", "--json"))["models"][0]
    assert state["imported"]["words"] == words
    decision = next(one for one in project.decisions() if one.subject == "import v1")
    assert decision.decision.evidence["origin"]["from"] == str(theirs / "model")
    assert len(decision.decision.evidence["origin"]["sha256"]) == 64
    assert "was imported by" in decision.decision.because[0]
    assert "not trained here" in command(project, "models", "--reproduce", "1", code=2)
    with pytest.raises(InvalidInput, match="import it again"):
        project.reproduce(1)


def test_another_model_must_prove_itself_against_the_champion(project: Project, theirs: Path) -> None:
    done = project.import_model(str(theirs / "untaught"), data=theirs / "data.csv")
    assert (done["version"], done["verdict"], done["deployed"]) == (2, "fail", False)
    assert project.champion() == 1


def test_one_without_data_waits_for_a_persons_word(project: Project, theirs: Path) -> None:
    said = command(project, "import", theirs / "model")
    assert "Version 2 (not evaluated) is not deployed" in said
    assert "keepfit promote 2" in said
    assert project.champion() == 1
    project.promote(2)
    assert "not evaluated" in command(project, "status")


def test_the_first_answers_without_data_and_learns_from_labels_alone(empty: Project, theirs: Path) -> None:
    done = json.loads(command(empty, "import", theirs / "model", "--json"))
    assert (done["deployed"], done["evaluated"], done["accuracy"]) == (True, False, None)
    assert (done["precision"], done["temperature"]) == ("fp32", 1.0)
    assert "not evaluated" in command(empty, "models")
    assert empty.check().outcome.value == "wait"
    rows = [f"a {word} story {i}" for i, word in enumerate(["good", "awful"] * 60)]
    answer(empty, rows, ["pos", "neg"] * 60)
    assert empty.retrain(wait=True)["version"] == 2


def test_a_killed_import_goes_on_and_leaves_one_version(empty: Project, theirs: Path) -> None:
    def stopped(what: str, done: int, of: int | None) -> None:
        if what == "judging":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        empty.import_model(str(theirs / "model"), stopped, data=theirs / "data.csv")
    assert empty.store.deployment(MODEL) is None
    done = empty.import_model(str(theirs / "model"), data=theirs / "data.csv")
    assert (done["version"], done["deployed"], len(empty.models())) == (1, True, 1)
    assert not list(empty.home.work.glob("import*"))


def test_a_killed_import_that_nobody_goes_on_with_blocks_nothing(empty: Project) -> None:
    store, now = empty.store, empty.home.clock.now()
    store.add_job(Job("left", MODEL, "import", now, JobState.RUNNING, {"reason": "import"}))
    daily = named(LATE["daily"])(empty.home, store, empty.registry)
    with alone(empty.home.work / f"import-{MODEL}", "it runs"):
        daily()
        assert store.job("left").state is JobState.RUNNING  # somebody is at it
    daily()
    daily.thread.join()
    assert store.job("left").state is JobState.FAILED
    assert "interrupted" in store.job("left").result["error"]
    assert store.decisions(MODEL, subject="import")[0].decision.outcome is Outcome.FAIL
    assert store.decisions(MODEL, subject="prune")  # which had waited for its end


def test_an_imported_network_outlives_a_pruning_and_comes_back_with_a_backup(project: Project, tmp_path: Path) -> None:
    kept = sorted(
        p.relative_to(project.home.state) for p in (project.home.state / "imported").rglob("*") if p.is_file()
    )
    assert kept
    named(LATE["prune"])(project.home, project.store, project.registry).run("ann")
    archive = tmp_path / "b.tar"
    command(project, "backup", archive)
    with contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as end:
        run(lambda: cli(["restore", str(archive), "--to", str(tmp_path / "again")]), False)
    assert not end.value.code
    for path in kept:
        assert (project.home.state / path).is_file()
        assert (tmp_path / "again" / ".keepfit" / path).read_bytes() == (project.home.state / path).read_bytes()


def test_what_is_wrong_leaves_nothing_behind(empty: Project, theirs: Path, tmp_path: Path) -> None:
    def refused(words: str, *asked: object, code: int = 2) -> None:
        assert words in command(empty, "import", *asked, code=code)

    refused("there is no file or folder nowhere, and it is no URI of MLflow", "nowhere")
    refused("give a folder of Transformers, an .onnx file", theirs / "data.csv")
    refused("--tracking is for MLflow URIs", theirs / "model", "--tracking", "http://localhost")
    refused('tracking = "local" names none; add --tracking URL', "models:/reviews/3")
    refused("--labels names 1 classes", theirs / "model", "--labels", "one")
    (tmp_path / "names.json").write_text("{}}", "utf-8")
    refused("cannot be read", theirs / "model", "--labels", tmp_path / "names.json")
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(60)), "utf-8")
    refused("the data have 'a', 'b', the model has 'pos', 'neg'", theirs / "model", "--data", other)
    assert empty.models() == []
    assert empty.store.get(MODEL, "snapshot") is None


def test_a_setting_that_names_a_backbone_is_kept_to_and_said(empty: Project, theirs: Path) -> None:
    file = empty.folder / "keepfit.toml"
    file.write_text(SETTINGS.replace("epochs = 1", 'backbone = "minilm"\nepochs = 1'), "utf-8")
    project = Project(empty.folder)
    done = project.import_model(str(theirs / "model"))
    assert "trainings begin with recipe.backbone = 'minilm' of the settings" in done["imported"]["words"]
    assert project.recipe.backbone == "minilm"
    project.close()


def test_names_can_come_from_a_file(empty: Project, theirs: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.json"
    for written in ({"0": "fine", "1": "bad"}, ["fine", "bad"], {"fine": 0, "bad": 1}, {"pos": "fine", "neg": "bad"}):
        names.write_text(json.dumps(written), "utf-8")
        found = json.loads(command(empty, "import", theirs / "model", "--labels", names, "--json"))
        assert found["labels"] == ["bad", "fine"]


def test_a_toy_cannot_be_imported(tmp_path: Path, theirs: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n\n[models.default]\ntask = "toy"\n', "utf-8")
    project = Project(tmp_path)
    with pytest.raises(SettingsError, match="`keepfit import` is for texts"):
        project.import_model(str(theirs / "model"))
    project.close()
