"""The notebook runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "keepfit.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute()


def answers(notebook: NotebookNode) -> list[tuple[float, int]]:
    """(share of right answers, version) wherever a cell ends with `right(texts)`."""
    return [
        ast.literal_eval(output["data"]["text/plain"])
        for cell in notebook.cells
        if cell.cell_type == "code" and cell.source.endswith("right(texts)")
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]


def printed(notebook: NotebookNode) -> str:
    return "\n".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream"
    )


def test_the_accuracy_falls_with_the_change_and_recovers_with_the_next_version(executed: NotebookNode) -> None:
    (before, old), (after, new) = answers(executed)
    assert (old, new) == (1, 2)
    assert before < 0.8
    assert after > 0.95


def test_the_alarm_the_gate_and_the_rollback_are_shown(executed: NotebookNode) -> None:
    text = printed(executed)
    assert "is below the floor 0.80" in text
    assert "better on recent labels" in text
    assert "rolled back from version 2 to version 1" in text


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)


READING = NOTEBOOK.with_name("reading.ipynb")


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    notebook = nbformat.read(READING, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    folder = tmp_path_factory.mktemp("reading")
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    return client.execute()


def test_a_project_is_read_from_python(read: NotebookNode) -> None:
    text = printed(read)
    assert "version 1 of reviews is live" in text
    assert "accuracy 1.000" in text
    assert "the record is whole: True" in text
    assert "by version 1 for first" in text


def test_accuracy_and_a_verdict_are_drawn(read: NotebookNode) -> None:
    pictures = [
        output for cell in read.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
