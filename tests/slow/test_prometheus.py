"""A real Prometheus scrapes a running keepfit: it takes the rules, and every expression of dashboard and rules."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml
from werkzeug.serving import make_server

from keepfit.app import serving
from keepfit.app.server import create_app
from keepfit.data.records import Cause, Traffic
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/keepfit.json"
PATIENCE_S = 60.0


def binary() -> str:
    """KEEPFIT_PROMETHEUS, else what is on the path; CI installs Debian's package."""
    named = os.environ.get("KEEPFIT_PROMETHEUS")
    if named is not None:
        assert Path(named).is_file(), f"KEEPFIT_PROMETHEUS names {named}, which is no file"
        return named
    found = shutil.which("prometheus")
    if found is None:
        assert not os.environ.get("CI"), "CI installs Prometheus in .ci/run, and it is not here"
        pytest.skip("no Prometheus is here; install Debian's package, or name a binary in KEEPFIT_PROMETHEUS")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: Callable[[], bool]) -> None:
    """Wait for another process."""
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not what():
        assert time.monotonic() < deadline, "it did not come in time"
        pause.wait(0.2)


class Prometheus:
    """Its HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **query: str) -> dict[str, Any]:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        assert found["status"] == "success", found
        return cast(dict[str, Any], found["data"])

    def up(self) -> bool:
        try:
            result = self.get("query", query='up{job="keepfit"}')["result"]
        except (URLError, OSError):
            return False
        return bool(result) and result[0]["value"][1] == "1"


@pytest.fixture
def prometheus(tmp_path: Path, answering: Callable[[Any], AbstractContextManager[str]]) -> Iterator[Prometheus]:
    program = binary()
    (tmp_path / "keepfit.toml").write_text('[models.default]\ntask = "toy"\n', "utf-8")
    service = serving.make(tmp_path)
    service.start()
    server = make_server("127.0.0.1", 0, create_app(service), threaded=True)
    try:
        with answering(server) as keepfit:
            rules = yaml.safe_load(RULES.read_text("utf-8"))
            for rule in (rule for group in rules["groups"] for rule in group["rules"]):
                rule.pop("for", None)
            (tmp_path / "alerts.yml").write_text(yaml.safe_dump(rules), "utf-8")
            config = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(tmp_path / "alerts.yml")],
                "scrape_configs": [
                    {"job_name": "keepfit", "static_configs": [{"targets": [keepfit.removeprefix("http://")]}]}
                ],
            }
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
            address = f"127.0.0.1:{free_port()}"
            process = subprocess.Popen(
                [program, f"--config.file={tmp_path / 'prometheus.yml'}", f"--web.listen-address={address}",
                 f"--storage.tsdb.path={tmp_path / 'data'}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                made = Prometheus(f"http://{address}")
                until(made.up)
                yield made
            finally:
                process.terminate()
                process.wait(30)
    finally:
        service.close()
        service.store.close()


def asked() -> list[str]:
    """Every expression, as Grafana would send it."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    found += [rule["expr"] for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"] for rule in group["rules"]]
    return [expression.replace("$__rate_interval", "1m").replace("$model", ".*") for expression in found]


def test_prometheus_takes_every_expression_and_all_rules_are_healthy(prometheus: Prometheus) -> None:
    for expression in asked():
        prometheus.get("query", query=expression)

    def judged() -> bool:
        groups = prometheus.get("rules")["groups"]
        return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])

    until(judged)
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == RULES.read_text("utf-8").count("- alert:")
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}


def test_what_keepfit_says_is_what_prometheus_stores(prometheus: Prometheus) -> None:
    names = prometheus.get("label/__name__/values")
    assert {"keepfit_ready", "keepfit_state_free_bytes", "keepfit_decisions_total", "process_cpu_seconds_total"} <= {
        str(name) for name in names
    }


def test_a_keepfit_that_reports_harm_makes_its_alert_fire(prometheus: Prometheus, tmp_path: Path) -> None:
    """The rules wait for minutes before they page; here they are in force at once."""
    assert not firing(prometheus, "KeepfitQuality")
    now, store = datetime.now(UTC), RecordStore.open(f"sqlite:///{tmp_path / '.keepfit' / 'keepfit.db'}")
    with store:
        store.deploy("default", Traffic({1: 1.0}), Cause("ann", "the first"), now)
        harm = {"name": "accuracy", "value": 0.65, "low": 0.61, "high": 0.69, "breached": True}
        words = ("accuracy 0.650 is below the floor 0.80",)
        store.add_decision("default", "trigger", Decision(Outcome.FIRE, words, {"measurements": [harm]}), now)
        until(lambda: firing(prometheus, "KeepfitQuality"))
        assert not firing(prometheus, "KeepfitDrift")
        well = Decision(Outcome.WAIT, ("well",), {"measurements": [{**harm, "breached": False}]})
        store.add_decision("default", "trigger", well, datetime.now(UTC))
        until(lambda: not firing(prometheus, "KeepfitQuality"))


def firing(prometheus: Prometheus, name: str) -> bool:
    """Whether an alert is in force."""
    return any(a["labels"]["alertname"] == name and a["state"] == "firing" for a in prometheus.get("alerts")["alerts"])


def test_promtool_says_that_each_alert_fires_when_it_should_and_only_then() -> None:
    tool = Path(binary()).with_name("promtool")
    if not tool.is_file():
        pytest.skip(f"there is no promtool beside {binary()}")
    command = [str(tool), "test", "rules", str(RULES.with_name("alerts_test.yml"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    tool = Path(binary()).with_name("promtool")
    if not tool.is_file():
        pytest.skip(f"there is no promtool beside {binary()}")
    done = subprocess.run([str(tool), "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
