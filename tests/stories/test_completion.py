"""The shell completes commands and options, and what only the project knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from keepfit.app.cli import cli
from keepfit.app.project import Project

SETTINGS = 'tracking = "local"\n[models.reviews]\ntask = "toy"\n[models.tickets]\ntask = "toy"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("completion")
    (made / "keepfit.toml").write_text(SETTINGS, "utf-8")
    rows = [f"{word} thing {i},{label}" for i in range(40) for word, label in (("good", "pos"), ("bad", "neg"))]
    (made / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(made)
    project.train(made / "data.csv")
    project.close()
    return made


def completed(words: str) -> str:
    """What bash is offered after these words."""
    line = f"keepfit {words}"
    variables = {"_KEEPFIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    return CliRunner().invoke(cli, [], prog_name="keepfit", env=variables).output


def test_it_can_be_shown_and_installed() -> None:
    said = CliRunner().invoke(cli, ["--help"]).output
    assert "--install-completion" in said
    assert "--show-completion" in said


def test_commands_are_offered() -> None:
    assert "status" in completed("sta")


def test_the_models_of_the_project_are_offered(folder: Path) -> None:
    assert completed(f"status --project {folder} --model ").split() == ["reviews", "tickets"]
    assert completed(f"status --project {folder} --model ti").split() == ["tickets"]


def test_versions_and_decisions_are_offered(folder: Path) -> None:
    assert completed(f"promote --project {folder} ").split() == ["1"]
    with_id = completed(f"decisions --project {folder} ").split()
    project = Project(folder)
    assert set(with_id) == {one.id for one in project.decisions()}
    project.close()


def test_where_there_is_no_project_nothing_is_offered_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(SETTINGS, "utf-8")
    assert completed(f"promote --project {tmp_path} ").split() == []
    assert completed(f"promote --project {tmp_path / 'nowhere'} ").split() == []
    assert [file.name for file in tmp_path.iterdir()] == ["keepfit.toml"]
