"""The life of a video model on a small generated scene: train, score, label, retrain, roll back."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.torch import load_file

from keepfit.app.demo.plaza import Event, Plaza, render_plaza, write_sidecar
from keepfit.app.project import Project
from keepfit.data.records import Cause, Traffic
from keepfit.data.snapshot import Split, open_snapshot
from keepfit.decision import Outcome
from keepfit.errors import InvalidInput, SettingsError
from keepfit.tasks.video.clips import Clip
from keepfit.tasks.video.fit import VideoTask
from keepfit.tasks.video.model import Facts, load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the libraries that convert
]

SETTINGS = """\
tracking = "local"

[models.default]
task = "video"

[models.default.gate]
floors = { auc = 0.1 }
max_negative_flips = 1.0
guard_margin = 1.0
not_worse_margin = 1.0
latency_ratio = 100

[models.default.recipe.video]
profile = "demo"
steps = 10
sequences = 16
budget_minutes = 1
"""


@pytest.fixture(scope="module")
def lobby(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_plaza(
        tmp_path_factory.mktemp("video") / "lobby.mp4", 90, (), np.random.default_rng(0), size=(64, 48)
    ).path


@pytest.fixture(scope="module")
def eventful(tmp_path_factory: pytest.TempPathFactory) -> Plaza:
    event = Event("cart", 8.0, 6.0)
    plaza = render_plaza(
        tmp_path_factory.mktemp("clips") / "later.mp4", 24, (event,), np.random.default_rng(1), size=(64, 48)
    )
    write_sidecar(plaza)
    return plaza


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, lobby: Path) -> Project:
    folder = tmp_path_factory.mktemp("project")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    home = Project(folder, environ={})
    home.train(lobby)
    return home


def test_the_first_version_serves(project: Project) -> None:
    assert project.champion() == 1
    version = project.models()[-1]
    assert 0 <= version.evaluation.metrics["auc"].value <= 1
    card = (project.home.models / "default" / "1" / "card.md").read_text("utf-8")
    assert "Area under the curve" in card
    assert "grey levels of 256 are not judged" in card
    assert "One" not in card.splitlines()[0]


def test_a_folder_is_scored_into_files_that_people_and_programs_read(
    project: Project, eventful: Plaza, tmp_path: Path
) -> None:
    (eventful.path.parent / "broken.mp4").write_bytes(b"no video")
    report = project.batch(eventful.path.parent, tmp_path / "out")
    assert (report.rows, report.errors, report.frames) == (2, 1, eventful.frames)
    lines = (tmp_path / "out" / "later.frames.csv").read_text("utf-8").splitlines()
    assert lines[0] == "frame,time_s,score,label"
    assert len(lines) == eventful.frames + 1
    found = json.loads((tmp_path / "out" / "later.segments.json").read_text("utf-8"))
    assert found["schema"] == "keepfit.video.segments/1"
    assert found["model"]["version"] == 1
    assert "error" in json.loads((tmp_path / "out" / "broken.segments.json").read_text("utf-8"))
    assert (tmp_path / "out" / "later.timeline.png").read_bytes().startswith(b"\x89PNG")
    with av.open(str(tmp_path / "out" / "later.overlay.mp4")) as overlay:
        assert sum(1 for _ in overlay.decode(video=0)) == eventful.frames


def test_scoring_again_leaves_what_is_finished(project: Project, eventful: Plaza, tmp_path: Path) -> None:
    project.batch(eventful.path, tmp_path / "out")
    before = (tmp_path / "out" / "later.overlay.mp4").stat().st_mtime_ns
    project.batch(eventful.path, tmp_path / "out")
    assert (tmp_path / "out" / "later.overlay.mp4").stat().st_mtime_ns == before


def test_the_answering_half_says_what_the_learning_half_says(project: Project) -> None:
    folder = project.home.models / "default" / "1"
    snapshot = open_snapshot(project.home.snapshots, project.store.get("default", "snapshot"))
    rows = snapshot.rows(Split.TEST)
    plain = [content for content, said in zip(rows.contents, rows.truth, strict=True) if said == "0"]
    learnt, answering = VideoTask().load(folder), load(folder)
    ours, theirs = (model.infer(model.prepare(plain)).scores for model in (learnt, answering))
    assert np.array_equal(ours, theirs)
    with pytest.raises(InvalidInput, match="synthetic"):
        answering.infer(answering.prepare([rows.contents[-1]]))


def test_a_camera_is_followed_by_the_command_against_a_running_server(project: Project, eventful: Plaza) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    keepfit = [sys.executable, "-m", "keepfit.app.cli"]
    here = ["--project", str(project.folder)]
    server = subprocess.Popen([*keepfit, "serve", "--port", port, *here], stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        assert f"http://127.0.0.1:{port}; answers for default" in server.stderr.readline()
        followed = subprocess.run(
            [*keepfit, "stream", str(eventful.path), "--json", "--url", f"http://127.0.0.1:{port}", *here],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert followed.returncode == 0, followed.stderr
    frames = [json.loads(line) for line in followed.stdout.splitlines()]
    assert [frame["frame"] for frame in frames] == list(range(eventful.frames))
    assert frames[0].keys() == {"frame", "time_s", "score", "label"}


def test_a_labelled_video_measures_the_champion(project: Project, eventful: Plaza) -> None:
    result = project.evaluate(eventful.path)
    assert {"auc", "accuracy"} <= result["metrics"].keys()


def test_nothing_of_a_text_recipe_is_passed_over(project: Project) -> None:
    with pytest.raises(SettingsError, match="max_tokens"):
        Project(project.folder, environ={"KEEPFIT_MODELS__DEFAULT__RECIPE__MAX_TOKENS": "128"})


def test_recalibrating_needs_newer_video(project: Project) -> None:
    with pytest.raises(InvalidInput, match="bring newer video"):
        project.retrain(wait=True, start="recalibrate")


def test_a_camera_in_other_light_is_recalibrated_without_touching_the_networks(project: Project) -> None:
    dusk = render_plaza(project.folder / "dusk.mp4", 60, (), np.random.default_rng(7), size=(64, 48), dusk=0.5)
    result = project.train(dusk.path, start="recalibrate")
    number = result["version"]
    before, after = (project.home.models / "default" / str(n) for n in (1, number))
    for name in ("denoiser", "head"):
        files = [folder / "weights" / f"{name}.safetensors" for folder in (before, after)]
        assert files[0].read_bytes() == files[1].read_bytes()
    was, now = (Facts.read(folder) for folder in (before, after))
    assert now.background.mean() < 0.9 * was.background.mean()
    assert now.own.threshold != was.own.threshold
    lineage = project.registry.version("default", number).lineage
    assert (lineage.recipe.start, lineage.parent) == ("recalibrate", 1)
    assert project.reproduce(number)["same"]
    project.store.deploy("default", Traffic({1: 1.0}), Cause("test", "back"), project.home.clock.now())


def test_a_warm_start_goes_on_from_the_champions_weights(project: Project) -> None:
    number = project.train(project.folder / "dusk.mp4", start="warm")["version"]
    before, after = (load_file(project.home.models / "default" / str(n) / "weights" / "denoiser.safetensors")
                     for n in (1, number))  # fmt: skip
    moved = max(float((after[name] - before[name]).abs().max()) for name in before)
    assert 0 < moved < 0.1  # ten steps at a third of the rate from where it was, not from random weights
    project.store.deploy("default", Traffic({1: 1.0}), Cause("test", "back"), project.home.clock.now())


def test_networks_of_another_make_cannot_be_built_on(project: Project) -> None:
    other = Project(project.folder, environ={"KEEPFIT_MODELS__DEFAULT__RECIPE__VIDEO__HEAD": "global"})
    with pytest.raises(InvalidInput, match="head differs"):
        other.train(project.folder / "dusk.mp4", start="recalibrate")


def test_a_version_from_newer_video_is_judged_promoted_and_taken_back(project: Project, eventful: Plaza) -> None:
    newer = render_plaza(project.folder / "newer.mp4", 60, (), np.random.default_rng(5), size=(64, 48), dusk=0.3)
    result = project.train(newer.path)
    number = result["version"]
    verdict = next(stored.decision for stored in project.decisions() if stored.subject == f"gate v{number}")
    assert result["deployed"] == (verdict.outcome is Outcome.PASS)
    assert any("auc" in reason for reason in verdict.because)
    project.promote(number)
    assert project.champion() == number
    for deployment in project.history():  # as a server notes it
        project.store.applied(deployment.id, "server", project.home.clock.now())
    project.rollback()
    assert project.champion() == 1
    assert project.history()[0].kind == "rollback"


# several cameras


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, lobby: Path) -> Project:
    """A model of two cameras, one of them darker."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    for name in ("door", "gate"):
        (folder / "cameras" / name).mkdir(parents=True)
    shutil.copy(lobby, folder / "cameras" / "door" / "monday.mp4")
    render_plaza(folder / "cameras" / "gate" / "monday.mp4", 90, (), np.random.default_rng(3), size=(64, 48), dusk=0.5)
    home = Project(folder, environ={})
    home.train(folder / "cameras")
    return home


def test_one_model_knows_each_of_its_cameras(watched: Project, tmp_path: Path) -> None:
    folder = watched.home.models / "default" / "1"
    facts = Facts.read(folder)
    assert list(facts.views) == ["door", "gate"]
    assert facts.view("gate").background.mean() < 0.8 * facts.view("door").background.mean()
    assert "Threshold of camera gate" in (folder / "card.md").read_text("utf-8")
    report = watched.batch(watched.folder / "cameras", tmp_path / "out")
    assert (report.rows, report.errors) == (2, 0)
    for name in facts.views:
        found = json.loads((tmp_path / "out" / name / "monday.segments.json").read_text("utf-8"))
        assert found["video"]["camera"] == name
        assert found["threshold"]["enter"] == pytest.approx(facts.view(name).threshold.enter)


def test_a_camera_that_is_recalibrated_leaves_the_others_as_they_were(watched: Project) -> None:
    for name, dusk in (("gate", 0.55), ("park", 0.2)):
        newer = watched.folder / "newer" / name / "tuesday.mp4"
        newer.parent.mkdir(parents=True)
        render_plaza(newer, 60, (), np.random.default_rng(4), size=(64, 48), dusk=dusk)
    result = watched.train(watched.folder / "newer", start="recalibrate")
    number = result["version"]
    assert result["deployed"], result["because"]
    assert any("the champion has not learnt to judge" in words for words in result["because"]), "it knows no park"
    was, now = (Facts.read(watched.home.models / "default" / str(n)) for n in (1, number))
    assert list(now.views) == ["door", "gate", "park"]
    assert np.array_equal(now.view("door").background, was.view("door").background)
    assert now.view("door").threshold == was.view("door").threshold
    assert not np.array_equal(now.view("gate").background, was.view("gate").background)


def test_later_trainings_learn_from_what_each_camera_showed_last(watched: Project) -> None:
    base = open_snapshot(watched.home.snapshots, watched.store.get("default", "snapshot"))
    sources = {name: set[str]() for name in ("door", "gate", "park")}
    for row in base.stored():
        assert row.key is not None
        sources[row.key].add(Clip.parse(row.content).name)
    assert all(len(names) == 1 for names in sources.values())
    assert base.lineage["kind"] == "renew"
    number = watched.retrain(wait=True, start="warm")["version"]
    assert list(Facts.read(watched.home.models / "default" / str(number)).views) == ["door", "gate", "park"]
