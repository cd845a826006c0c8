"""The examples for Airflow and GitHub Actions: what they run is run, in projects with nothing and with much to do."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from keepfit.app.project import Project
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Label, Prediction, Source
from keepfit.tasks.task import predict

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
DAG = EXAMPLES / "airflow" / "keepfit_hourly.py"
WORKFLOW = EXAMPLES / "github" / "keepfit.yml"
SETTINGS = """\
tracking = "local"
[models.default]
task = "toy"
[models.default.gate.invariances]
case = 0.1
"""


def write(file: Path, words: dict[str, str]) -> Path:
    rows = [f"{word} thing {i},{label}" for i in range(60) for word, label in words.items()]
    file.write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    project = Project(folder)
    project.home = replace(project.home, clock=ManualClock(datetime.now(UTC) - timedelta(hours=1)))
    project.train(write(folder / "data.csv", {"good": "pos", "bad": "neg", "dull": "neg"}))
    project.close()
    return folder


@pytest.fixture
def calm(trained: Path, tmp_path: Path) -> Path:
    """A project in which nothing is to be done."""
    return Path(shutil.copytree(trained, tmp_path / "project"))


@pytest.fixture
def harmed(calm: Path) -> Path:
    """The same, and what is bad has become good."""
    project = Project(calm)
    model = project.retraining("default").task.load(project.registry.fetch("default", 1))
    at = project.home.clock.now() - timedelta(minutes=5)
    examples = [Example(f"bad day number {i}", at, id=f"bad-{i}") for i in range(80)]
    output = predict(model, [e.content for e in examples])
    answers = [
        Prediction(e.id, 1, model.labels, scores, embedding, at, measures={"length": 4.0, "unknown": 0.0})
        for e, scores, embedding in zip(examples, output.scores, output.embeddings, strict=True)
    ]
    project.store.add_predictions("default", list(zip(examples, answers, strict=True)))
    now = project.home.clock.now()
    labels = [Label(a.example_id, "pos", now, Source.ASKED, "ann", 1.0, a.id) for a in answers]
    project.store.add_labels("default", labels)
    project.close()
    return calm


class Shell:
    """Runs lines with the command keepfit on the path, as Airflow and GitHub do."""

    def __init__(self, project: Path, place: Path) -> None:
        command = place / "bin" / "keepfit"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m keepfit.app.cli "$@"\n', "utf-8")
        command.chmod(0o755)
        self.output = place / "github_output"
        self.output.touch()
        self.project, self.fresh = project, write(place / "fresh.csv", {"good": "pos", "bad": "pos", "dull": "neg"})
        self.environ = os.environ | {
            "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}", "GITHUB_OUTPUT": str(self.output),
            "PROJECT_FOLDER": str(project), "FRESH_LABELS": str(self.fresh),
        }  # fmt: skip

    def __call__(self, line: str, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", *options, "-c", line],
            env=self.environ, cwd=self.project, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "shell").mkdir()
    return tmp_path / "shell"


def dag() -> dict[str, dict[str, Any]]:
    """The operators of the DAG by their ids, read without Airflow."""
    tree = ast.parse(DAG.read_text("utf-8"))
    known = {
        target.id: statement.value.value
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }

    def plain(node: ast.expr) -> Any:
        if isinstance(node, ast.JoinedStr):
            return "".join(plain(part) for part in node.values)
        if isinstance(node, ast.FormattedValue):
            return plain(node.value)
        if isinstance(node, ast.Name):
            return known[node.id]
        return node.value if isinstance(node, ast.Constant) else ast.unparse(node)

    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "BashOperator"]
    operators = [{word.arg: plain(word.value) for word in call.keywords if word.arg is not None} for call in calls]
    return {operator["task_id"]: operator for operator in operators}


def rendered(command: str, shell: Shell) -> str:
    """As Airflow fills in its variables."""
    values = {"keepfit_project": shell.project, "keepfit_fresh": shell.fresh}
    for name, value in values.items():
        command = command.replace(f"{{{{ var.value.{name} }}}}", str(value))
    assert "{{" not in command
    return command


def test_the_dag_skips_the_rest_while_nothing_is_to_be_done(calm: Path, place: Path) -> None:
    shell, operators = Shell(calm, place), dag()
    assert list(operators) == ["check", "retrain", "gate"]
    done = shell(rendered(operators["check"]["bash_command"], shell))
    assert done.returncode == operators["check"]["skip_on_exit_code"], done.stderr


def test_the_dag_retrains_and_judges_when_that_is_wanted(harmed: Path, place: Path) -> None:
    shell, operators = Shell(harmed, place), dag()
    for name in operators:
        done = shell(rendered(operators[name]["bash_command"], shell))
        assert done.returncode == 0, (name, done.stdout, done.stderr)
    project = Project(harmed)
    assert [version.number for version in project.models()] == [2, 1]
    project.close()
    write(shell.fresh, {"good": "neg", "bad": "neg", "dull": "pos"})
    assert shell(rendered(operators["gate"]["bash_command"], shell)).returncode == 1


def test_the_dag_fails_where_the_check_cannot_be_made(calm: Path, place: Path) -> None:
    shell = Shell(calm, place)
    (calm / "keepfit.toml").write_text("nonsense = 1\n", "utf-8")
    assert shell(rendered(dag()["check"]["bash_command"], shell)).returncode == 2


def steps() -> dict[str, dict[str, Any]]:
    """The steps of the workflow by name."""
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    return {step["name"]: step for step in job["steps"]}


def run_workflow(shell: Shell) -> dict[str, int]:
    """The exit codes of the steps whose condition holds, as GitHub's bash runs them."""
    codes = {}
    for name, step in steps().items():
        outputs = dict(line.split("=", 1) for line in shell.output.read_text("utf-8").split())
        if "if" in step and step["if"] != f"steps.check.outputs.wanted == '{outputs.get('wanted')}'":
            continue
        assert step["shell"] == "bash"
        done = shell(step["run"], "-e", "-o", "pipefail")
        codes[name] = done.returncode
        if done.returncode:
            break
    return codes


def test_the_workflow_ends_after_the_check_while_nothing_is_to_be_done(calm: Path, place: Path) -> None:
    assert run_workflow(Shell(calm, place)) == {"check": 0}


def test_the_workflow_retrains_and_judges_when_that_is_wanted(harmed: Path, place: Path) -> None:
    assert run_workflow(Shell(harmed, place)) == {"check": 0, "retrain": 0, "gate": 0}


def test_the_workflow_fails_where_the_check_cannot_be_made(calm: Path, place: Path) -> None:
    (calm / "keepfit.toml").write_text("nonsense = 1\n", "utf-8")
    assert run_workflow(Shell(calm, place)) == {"check": 2}
