"""A training whose progress nobody reads any more: `keepfit train DATA 2>&1 | head -1`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keepfit.app.project import Project

pytestmark = pytest.mark.slow


def test_a_training_ends_when_the_reader_of_its_progress_is_gone(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.default]\ntask = "toy"\n', "utf-8")
    rows = [f"{word} thing number {i},{label}" for i in range(60) for word, label in (("good", "pos"), ("bad", "neg"))]
    (tmp_path / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "keepfit.app.cli", "train", "data.csv"]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=writer, timeout=90, check=False)
    os.close(writer)
    assert done.returncode == 0
    project = Project(tmp_path)
    assert project.store.deployment(project.model) is not None
    project.close()
