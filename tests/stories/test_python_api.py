"""`keepfit.Project` has a verb for each command that answers and ends, and each gives what the command prints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from keepfit import Project
from keepfit.app.cli import cli
from keepfit.app.reference import walk
from keepfit.decision import Outcome
from keepfit.errors import InvalidInput, NotFound

PROCESSES = {"up", "serve", "worker", "stream", "demo"}
"""They run until they are stopped, or are a show."""
VERBS = {
    "approve": "approve", "audit list": "audit", "audit verify": "verify_audit", "backtest": "backtest",
    "batch": "batch", "check": "check", "classes accept": "change_classes", "classes list": "classes",
    "classes merge": "change_classes", "classes rename": "change_classes", "classes retire": "change_classes",
    "compress": "compress", "costs": "costs", "decisions": "decisions", "diff": "diff", "doctor": "doctor",
    "evaluate": "evaluate", "forget": "forget", "gate": "gate", "history": "history", "init": "init",
    "label": "label", "labels export": "labels_next", "labels next": "labels_next", "labels trust": "trust",
    "lineage": "lineage", "live": "live", "models": "models", "promote": "promote", "prune": "prune",
    "retrain": "retrain", "rollback": "rollback", "status": "status", "token add": "add_token",
    "token list": "tokens", "backup": "backup", "restore": "restore",
    "import": "import_model", "import-history": "import_history", "tune": "tune", "classes add": "change_classes",
    "classes split": "change_classes", "classes undo": "undo_classes", "classes map": "classes",
    "classes accuracy": "class_accuracy", "token revoke": "revoke_token", "token set": "change_token", "train": "train",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "toy"\n', "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    made = Project(tmp_path)
    made.train(tmp_path / "data.csv")
    yield made
    made.close()


def test_every_command_has_its_verb() -> None:
    root: Any = typer.main.get_command(cli)
    assert {name for name, _ in walk(root, "")} == set(VERBS) | PROCESSES
    for verb in VERBS.values():
        assert callable(getattr(Project, verb)), verb


def test_a_project_is_looked_at_and_drawn(project: Project, tmp_path: Path) -> None:
    assert project.status()["champion"] == 1
    assert project.check().outcome is Outcome.WAIT
    with pytest.raises(NotFound, match="no accuracy"):  # the notebook draws one
        project.draw_accuracy(tmp_path / "accuracy.svg")
    assert project.costs()["models"]["default"]["retrainings"][0]["version"] == 1
    assert project.audit()[0].action
    assert project.verify_audit().whole
    assert {finding.what for finding in project.doctor()} >= {"alerts", "port"}
    assert project.made_from(project.models()[0].lineage.snapshot_id)["versions"][0]["version"] == 1
    with pytest.raises(NotFound):
        project.diff(1, 7)
    with pytest.raises(NotFound):
        project.lineage("nobody")


def test_order_is_kept_and_every_change_is_audited(project: Project) -> None:
    project.pin(1)
    project.unpin(1)
    project.add_token("app", ["predict"])
    project.change_token("app", per_minute=3)
    assert project.tokens()[0].per_minute == 3
    project.revoke_token("app")
    assert project.tokens()[0].revoked
    change = project.change_classes("accept", ["maybe"])
    assert project.classes().changes == (change,)
    with pytest.raises(InvalidInput):
        project.change_classes("merge", ["neg", "pos", "maybe"], "all")
    assert project.prune().gone == ()
    assert project.forget(id="nobody").nothing
    assert project.trust() == []
    with pytest.raises(NotFound):
        project.set_apart("nobody")
    with pytest.raises(NotFound):
        project.clear("nobody")
    actions = {entry.action for entry in project.store.audit_entries()}
    assert len(actions) >= 5
