"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keepfit.clock import ManualClock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 1, 1, tzinfo=UTC))


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keepfit.db'}"
