"""Imports go strictly down the floors, rooms on one floor do not know each other, and nothing is imported late."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "keepfit"
FLOORS: list[set[str]] = [
    {"intervals", "redaction"},
    {"errors", "clock", "decision", "metrics", "sequential", "telling", "traces"},
    {"data"},
    {"engine", "training"},
    {"tasks"},
    {"evaluation"},
    {"registry"},
    {"serving", "monitoring"},
    {"triggers", "rollout", "alerts"},
    {"pipelines"},
    {"app"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")
LATE = {"app/wiring.py", "tasks/loading.py"}
"""The tables of lazy entries: the only files that may import by name."""


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("keepfit"):
            module = node.module or ""
            found += [f"keepfit.{a.name}" for a in node.names] if module == "keepfit" else [module]
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("keepfit.")]
    return [m for m in found if m != "keepfit.__version__"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOOR, f"{room} has no floor: add it to FLOORS and to docs/design.md"
    for module in imported(ast.parse(path.read_text("utf-8"))):
        other = room_of(module)
        assert other == room or FLOOR[other] < FLOOR[room], f"{room} must not import {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_imported_inside_a_function(path: Path) -> None:
    if str(path.relative_to(ROOT)) in LATE:
        return
    tree = ast.parse(path.read_text("utf-8"))
    late = [
        ast.unparse(inner)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(function)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]
    assert not late, f"late imports belong in app/wiring.py: {late}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_says_in_its_first_line_what_it_is_for(path: Path) -> None:
    doc = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert doc, "no module docstring"
    assert doc.splitlines()[0].strip(), "the first line is empty"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_remote_code_is_trusted(path: Path) -> None:
    text = path.read_text("utf-8")
    for forbidden in ("pickle.load", "import pickle", "joblib.load", "trust_remote_code=True", "weights_only=False"):
        assert forbidden not in text, forbidden
