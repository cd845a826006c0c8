"""What `keepfit doctor` finds, and that each finding says what to do."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from keepfit.app.doctor import examine
from keepfit.app.findings import Finding
from keepfit.app.project import Project
from keepfit.app.worker import WorkerLock
from keepfit.data.records import Job, new_id

SETTINGS = """\
tracking = "local"

[models.default]
task = "toy"
"""
MACHINE = {"python", "memory", "disk"}
"""What depends on the machine that runs the tests."""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one version; copying it is fast."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    rows = [f"{word} thing {i},{label if i % 12 else 'neg'}" for i in range(150)
            for word, label in (("good", "pos"), ("bad", "neg"))]  # fmt: skip
    (folder / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(folder)
    snapshot, _ = project.import_data(folder / "data.csv")
    job = Job(new_id(), "default", "retrain", project.home.clock.now(), request={"snapshot": snapshot.id})
    project.store.add_job(job)
    project.retraining("default").run(job.id)
    project.close()
    return folder


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained_once, tmp_path / "project")
    return tmp_path / "project"


def found_in(folder: Path, send_test: bool = False) -> Mapping[str, Finding]:
    return {finding.what: finding for finding in examine(folder, send_test)}


def missing(folder: Path) -> dict[str, str]:
    """What is wrong, apart from this machine."""
    return {f.what: f.detail for f in examine(folder, False) if not f.ok and f.what not in MACHINE}


def change(folder: Path, *lines: str) -> None:
    with (folder / "keepfit.toml").open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")


def test_nothing_is_missing_in_a_trained_project(trained: Path) -> None:
    assert missing(trained) == {}
    assert found_in(trained)["deployment"].detail.startswith("version 1")
    assert found_in(trained)["registry"].detail == "1 versions of default"


def test_an_untrained_project_is_told_to_train(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    assert missing(tmp_path) == {"deployment": "nothing is deployed yet; run keepfit train DATA"}


def test_settings_that_cannot_be_read_are_the_last_finding(tmp_path: Path) -> None:
    change(tmp_path, "[server]", "prot = 1")
    findings = examine(tmp_path, False)
    assert not findings[-1].ok
    assert "did you mean 'port'?" in findings[-1].detail


@pytest.mark.slow
def test_a_folder_without_settings_runs_on_the_defaults(tmp_path: Path) -> None:
    found = found_in(tmp_path)
    assert "the defaults hold" in found["settings file"].detail
    assert found["backbone"] == Finding(True, "backbone", "minilm")


@pytest.mark.slow
def test_a_backbone_that_cannot_be_had_is_found(tmp_path: Path) -> None:
    recipe = f'recipe = {{ backbone = "{tmp_path / "no backbone"}" }}'
    change(tmp_path, 'tracking = "local"', "[models.default]", recipe)
    assert "no backbone" in missing(tmp_path)["backbone"]


def test_a_damaged_version_is_found(trained: Path) -> None:
    (trained / ".keepfit" / "models" / "default" / "1" / "model.json").write_text("{}", "utf-8")
    assert "damaged" in missing(trained)["deployment"]


def test_a_floor_that_the_champion_is_below_itself_is_found(trained: Path) -> None:
    change(trained, "[[models.default.triggers]]", 'kind = "accuracy_floor"', "floor = 0.99")
    assert "0.99" in missing(trained)["triggers"]


def test_an_unknown_trigger_is_found(trained: Path) -> None:
    change(trained, "[[models.default.triggers]]", 'kind = "kss"')
    assert "kss" in missing(trained)["settings"]


def test_a_database_that_is_none_is_found(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    (tmp_path / ".keepfit").mkdir()
    (tmp_path / ".keepfit" / "keepfit.db").write_text("this is no database, but some other file of some length\n" * 99)
    assert "store" in missing(tmp_path)


def test_nobody_to_tell_is_found_and_a_test_reaches_those_there_are(trained: Path) -> None:
    sent = [f for f in examine(trained, send_test=True) if f.what == "alerts"]
    assert [f.detail for f in sent] == ["a test was sent to mailbox"]
    assert len(list((trained / ".keepfit" / "mailbox").glob("*.eml"))) == 1
    change(trained, "[alerts]", "mailbox = false")
    assert "nobody is told" in missing(trained)["alerts"]


def test_a_channel_that_cannot_be_reached_is_found(trained: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        change(trained, "[alerts]", "mailbox = false", f'urls = ["json://127.0.0.1:{closed.getsockname()[1]}"]')
        (alert,) = [f for f in examine(trained, send_test=True) if f.what == "alerts"]
    assert not alert.ok
    assert "127.0.0.1" in alert.detail


def test_it_says_whether_a_server_and_a_worker_run(trained: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        change(trained, "[server]", f"port = {server.getsockname()[1]}")
        assert "a server runs" in found_in(trained)["port"].detail
    lock = WorkerLock(trained / ".keepfit")
    lock.acquire()
    assert found_in(trained)["worker"].detail == "runs"
    lock.release()
    assert "keepfit up" in found_in(trained)["worker"].detail
