"""The example of a server elsewhere, as its pages say it: three processes, MLflow between them, the toy task."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from keepfit.app.project import Project
from keepfit.registry.registry import Alias

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "elsewhere"
DEADLINE = 90.0
SECRET = "a secret of both"
SETTINGS = (
    (EXAMPLE / "keepfit.toml").read_text("utf-8").replace("approval = true", "approval = false")
    + """
[models.reviews.watch]
every = "1s"
label_rate = 0.0
[models.reviews.gate]
latency_ratio = 1000
[models.reviews.gate.invariances]
case = 0.1
"""
).replace('served = "elsewhere"', 'served = "elsewhere"\ntask = "toy"\nsettle_after = "10s"')


def eventually(condition: Callable[[], bool], what: str) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"it did not happen in time: {what}"
        pause.wait(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(words: list[str], url: str, folder: Path) -> Iterator[None]:
    """A process until it is ready, and until the block ends."""
    log = (folder / f"{Path(words[0]).stem}.log").open("wb")
    with log, subprocess.Popen([sys.executable, *words], stdout=log, stderr=log) as process:

        def ready() -> bool:
            assert process.poll() is None, Path(log.name).read_text("utf-8")
            with contextlib.suppress(requests.ConnectionError):
                requests.get(url, timeout=DEADLINE)
                return True
            return False

        try:
            eventually(ready, f"{words} answers")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(DEADLINE)


def test_a_server_elsewhere_is_watched_retrained_for_and_given_the_new_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    theirs, ours = free_port(), free_port()
    (tmp_path / "keepfit.toml").write_text(SETTINGS.replace(":5001", f":{theirs}"), "utf-8")
    rows = [f"{word} thing number {i},{label}" for i in range(60)
            for word, label in (("good", "pos"), ("fine", "pos"), ("bad", "neg"))]  # fmt: skip
    (tmp_path / "data.csv").write_text("text,label\n" + "\n".join(rows) + "\n", "utf-8")
    project = Project(tmp_path, environ={})
    project.import_data(tmp_path / "data.csv")
    tracking = f"sqlite:///{tmp_path / '.keepfit' / 'mlflow.db'}"
    server = [str(EXAMPLE / "server.py"), "--port", str(theirs), "--keepfit", f"http://127.0.0.1:{ours}"]
    keepfit = ["-m", "keepfit.app.cli", "up", "--port", str(ours), "--project", str(tmp_path)]

    def classify(text: str) -> dict[str, Any]:
        answer: dict[str, Any] = requests.post(
            f"http://127.0.0.1:{theirs}/classify", json={"text": text}, timeout=DEADLINE
        ).json()
        return answer

    def newest() -> dict[str, Any]:
        found = requests.get(f"http://127.0.0.1:{ours}/history", timeout=DEADLINE).json()["deployments"]
        return dict(found[0]) if found else {}

    def label(ids: list[str], truth: str) -> bool:
        labels = [{"id": id_, "label": truth, "actor": f"ann {place % 9}"} for place, id_ in enumerate(ids)]
        sent = requests.post(f"http://127.0.0.1:{ours}/labels", json={"labels": labels}, timeout=DEADLINE)
        return sent.status_code == 200  # 404 until the reports have arrived

    with (
        running(keepfit, f"http://127.0.0.1:{ours}/health/live", tmp_path),
        running([*server, "--tracking", tracking], f"http://127.0.0.1:{theirs}/", tmp_path),
    ):
        good = [classify(f"good day {i}")["id"] for i in range(30)]
        eventually(lambda: label(good, "pos"), "the answers have been reported")
        eventually(lambda: newest().get("kind") == "elsewhere", "their own version is in the history")
        awful = [classify(f"awful day {i}") for i in range(120)]
        assert {one["label"] for one in awful} == {"pos"}
        eventually(lambda: label([one["id"] for one in awful], "neg"), "the labels have come")
        # harm, retraining, gate, webhook: all by itself
        eventually(lambda: classify("awful again")["version"] == "models:/reviews/1", "the new version was loaded")
        assert classify("awful again")["label"] == "neg"
        eventually(lambda: bool(newest()["applied"]), "the new version was seen")
        assert newest()["traffic"] == {"1": 1.0}
    assert project.registry.alias("reviews", Alias.CHAMPION) == 1
    told = [one.subject for one in project.store.decisions("reviews", limit=1000)]
    project.close()
    assert "hand over v1" in told
