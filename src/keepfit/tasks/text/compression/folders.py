"""Folders of models on their way: copied, and their model.json changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from keepfit.errors import BackendError
from keepfit.tasks.prior import LEFT_BEHIND

LEFT = frozenset({*LEFT_BEHIND, "learned.json"})
"""What tells of the version before, and of its training."""


def copied(before: Path, after: Path) -> Path:
    """A copy of a model's folder, made anew. Raises BackendError."""
    try:
        shutil.rmtree(after, ignore_errors=True)
        shutil.copytree(before, after, ignore=lambda place, names: [n for n in names if n in LEFT or n[0] == "."])
    except OSError as error:
        raise BackendError(f"cannot write {after} ({error}); make room on the disk and try again") from error
    return after


def read_facts(folder: Path) -> dict[str, Any]:
    """All of model.json."""
    found: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
    return found


def revise(folder: Path, **changes: Any) -> None:
    """Change values of model.json; None takes one away."""
    facts = {name: value for name, value in (read_facts(folder) | changes).items() if value is not None}
    (folder / "model.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False), "utf-8")
