"""What every command prints with --json is what docs/reference/json.md says."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer

from keepfit.app.cli import cli, run
from keepfit.app.outputs import OUTPUTS, UNPRINTED, schema_of
from keepfit.app.project import Project, actor
from keepfit.app.reference import walk
from keepfit.clock import ManualClock
from keepfit.data.records import Example, Prediction, QueueItem
from keepfit.tasks.task import predict

SETTINGS = """\
tracking = "local"
[models.default]
task = "toy"
[models.default.watch]
label_rate = 1.0
label_budget = 100000
[models.default.gate.invariances]
case = 0.1
[retention]
snapshots_most = 1
"""


def rows(file: Path, n: int = 60) -> Path:
    lines = [f"{word} thing number {i},{label}" for i in range(n) for word, label in (("good", "pos"), ("bad", "neg"))]
    file.write_text("\n".join(["text,label", *lines]) + "\n", "utf-8")
    return file


def answer(project: Project, n: int = 40) -> None:
    """n texts were answered and their labels are asked for."""
    model = project.retraining("default").task.load(project.registry.fetch("default", 1))
    at = project.home.clock.now() - timedelta(minutes=5)
    examples = [Example(f"good day number {i}", at, key="ann", id=f"e{i}") for i in range(n)]
    output = predict(model, [e.content for e in examples])
    pairs = [
        (e, Prediction(e.id, 1, model.labels, scores, embedding, at, id=f"p{e.id}"))
        for e, scores, embedding in zip(examples, output.scores, output.embeddings, strict=True)
    ]
    project.store.add_predictions("default", pairs)
    now = project.home.clock.now()
    project.store.ask([QueueItem(f"q{e.id}", "default", p.id, e, 1.0, "by lot", now, model.labels) for e, p in pairs])


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a version, answers, labels and a second version."""
    folder = tmp_path_factory.mktemp("lived")
    (folder / "keepfit.toml").write_text(SETTINGS, "utf-8")
    project = Project(folder)
    project.home = replace(project.home, clock=ManualClock(datetime.now(UTC) - timedelta(hours=1)))
    project.train(rows(folder / "data.csv"))
    project.store.applied(1, "a server", project.home.clock.now())
    answer(project)
    (folder / "labels.csv").write_text("prediction_id,label\n" + "".join(f"pe{i},pos\n" for i in range(20)), "utf-8")
    project.label(folder / "labels.csv")
    project.check()
    project.retrain(wait=True)
    timed = [
        f"2025-01-{1 + i // 20:02d}T00:00:{i % 20:02d},good thing {i},{'pos' if i % 5 else 'neg'}" for i in range(400)
    ]
    (folder / "timed.csv").write_text("\n".join(["time,text,label", *timed]) + "\n", "utf-8")
    (folder / "names.txt").write_text(f"{project.decisions(1)[0].id} {actor()}", "utf-8")
    project.close()
    return folder


@pytest.fixture
def say(lived: Path, tmp_path: Path) -> Callable[..., tuple[int, Any]]:
    """Runs a command with --json in a copy of the project; its exit code, and what it printed."""
    folder = Path(shutil.copytree(lived, tmp_path / "project"))

    def said(words: str) -> tuple[int, Any]:
        decision, labeller = (folder / "names.txt").read_text("utf-8").split()
        known = {"@": str(folder), "!": decision, "%": labeller}
        arguments = [word.replace(word[0], known.get(word[0], word[0]), 1) for word in words.split()]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            run(lambda: cli([*arguments, "--project", str(folder), "--json"]), True)
        assert out.getvalue(), err.getvalue()
        return int(end.value.code or 0), json.loads(out.getvalue())

    return said


CASES = {
    "init": ["init @/new"],
    "train": ["train @/data.csv"],
    "evaluate": ["evaluate @/data.csv"],
    "gate": ["gate @/data.csv"],
    "batch": ["batch @/data.csv @/out.csv"],
    "label": ["label @/labels.csv"],
    "labels next": ["labels next"],
    "labels export": ["labels export @/tasks.json"],
    "labels trust": ["labels trust", "labels trust % --apart"],
    "check": ["check"],
    "retrain": ["retrain --wait"],
    "promote": ["promote 1"],
    "rollback": ["promote 2", "rollback"],
    "status": ["status"],
    "history": ["history"],
    "live": ["live --at 2100-01-01"],
    "decisions": ["decisions", "decisions !"],
    "models": ["models", "models --reproduce 1", "models --pin 1", "models --unpin 1"],
    "doctor": ["doctor"],
    "audit list": ["audit list"],
    "audit verify": ["audit verify"],
    "costs": ["costs"],
    "diff": ["diff 1 2"],
    "lineage": ["lineage pe1"],
    "prune": ["prune --dry-run", "prune"],
    "forget": ["forget --id e1 --dry-run", "forget --id e1"],
    "token add": ["token add app --role predict"],
    "token list": ["token add app --role predict", "token list"],
    "token set": ["token add app --role predict", "token set app --per-minute 3"],
    "token revoke": ["token add app --role predict", "token revoke app"],
    "classes list": ["classes list"],
    "classes accept": ["classes accept maybe"],
    "classes rename": ["classes rename pos positive"],
    "classes merge": ["classes accept maybe", "classes merge pos maybe --into all"],
    "classes retire": ["classes accept maybe", "classes retire maybe"],
    "backtest": ["backtest @/timed.csv --steps 5"],
    "backup": ["backup @/b.tar.gz"],
    "restore": ["backup @/b.tar.gz", "restore @/b.tar.gz --to @/again"],
    "tune": ["tune @/data.csv --trials 2 --search random"],
    "classes add": ["classes add maybe"],
    "classes split": ["classes split pos better,best"],
    "classes undo": ["classes add maybe", "classes undo"],
    "classes map": ["classes add maybe", "classes map"],
    "classes accuracy": ["classes accuracy"],
}

UNTRIED = {
    "approve": "needs a version that waits; its output is that of promote",
    "compress": "needs a transformer; tests/slow/test_text_compress.py",
    "demo": "takes minutes; `make demo`",
    "import": "needs a transformer; tests/stories/test_importing.py",
    "import-history": "tests/stories/test_import_history.py",
    "stream": "needs a camera; tests/unit/test_following.py",
}


def commands() -> set[str]:
    root: Any = typer.main.get_command(cli)
    return {name for name, _ in walk(root, "")}


def test_every_command_prints_json_of_a_documented_type_or_refuses_to() -> None:
    assert commands() == set(OUTPUTS) | UNPRINTED
    assert set(OUTPUTS) == set(CASES) | set(UNTRIED)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_printed_is_what_is_documented(say: Callable[..., tuple[int, Any]], name: str) -> None:
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for words in CASES[name]:
        code, printed = say(words)
        assert code in {0, 1, 10}, printed
        if words.startswith(name):
            jsonschema.validate(printed, schema)


def test_the_schemas_refuse_what_is_not_documented(say: Callable[..., tuple[int, Any]]) -> None:
    _, printed = say("history")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**printed, "surprise": 1}, schema_of("history"))
    del printed["deployments"][0]["actor"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(printed, schema_of("history"))


@pytest.mark.parametrize("name", sorted(UNPRINTED))
def test_what_prints_no_result_refuses_json(lived: Path, name: str) -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
        run(lambda: cli([name, "--project", str(lived), "--json"]), True)
    assert end.value.code == 2
    assert "prints no result" in err.getvalue()
