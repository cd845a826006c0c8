"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest

from keepfit.clock import ManualClock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="session")
def tiny_video() -> ModuleType:
    """tests/tiny_video.py; it needs torch, so only those who ask for it load it."""
    spec = importlib.util.spec_from_file_location("tiny_video", Path(__file__).with_name("tiny_video.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_video_model(tiny_video: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a video model that nobody has trained; not to be changed."""
    built: Path = tiny_video.build(tmp_path_factory.mktemp("tiny") / "model")
    return built


class Answering(Protocol):
    """A server of the standard library, or made like one."""

    server_port: int

    def serve_forever(self, poll_interval: float = 0.5) -> None: ...
    def shutdown(self) -> None: ...
    def server_close(self) -> None: ...


@contextmanager
def at_a_port(server: Answering) -> Iterator[str]:
    """The address of a server that answers in a thread of its own."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def answering() -> Callable[[Answering], AbstractContextManager[str]]:
    return at_a_port


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'keepfit.db'}"
