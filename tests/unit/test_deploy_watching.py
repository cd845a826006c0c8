"""The dashboard and the alert rules: every metric is there, every expression is sound, every alert has its runbook."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from keepfit.app import serving
from keepfit.app.server import create_app

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/keepfit.json"
RULES = ROOT / "deploy/prometheus/alerts.yml"
RUNBOOK = ROOT / "docs/operations.md"
OTHERS = {"up"}
"""Made by Prometheus itself."""
KEYWORDS = {
    "sum", "max", "min", "avg", "count", "rate", "increase", "histogram_quantile", "time", "by", "without", "on",
    "ignoring", "group_left", "group_right", "unless", "and", "or", "offset", "bool", "label_values",
    "max_over_time",
}  # fmt: skip
PAIRS = {")": "(", "]": "[", "}": "{"}


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a running keepfit with the toy task says at /metrics."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "keepfit.toml").write_text('[models.default]\ntask = "toy"\n', "utf-8")
    service = serving.make(folder)
    try:
        client = create_app(service).test_client()
        service.start()
        client.get("/status")
        return client.get("/metrics").text
    finally:
        service.close()
        service.store.close()


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return found


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """(where, expression) of everything that is asked of Prometheus."""
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def bare(expression: str) -> str:
    """Without texts, ranges and the labels of selectors and groupings."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    plain = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", plain)
    return re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", r"\1", plain)


def names(expression: str) -> set[str]:
    """The metrics of an expression."""
    return set(re.findall(r"(?<![\w.])[a-z_][a-z0-9_]*", re.sub(r"\d+[smhdw]\b", " ", bare(expression)))) - KEYWORDS


def there(scraped: str) -> set[str]:
    found = set(re.findall(r"(?m)^# HELP (\w+)", scraped))
    return found | {f"{name}_{part}" for name in found for part in ("bucket", "sum", "count")} | OTHERS


def test_every_metric_of_the_dashboard_and_the_rules_is_one_that_keepfit_has(scraped: str) -> None:
    for where, expression in expressions():
        assert names(expression), where
        assert names(expression) <= there(scraped), where


def test_every_metric_that_the_runbook_names_is_one_that_keepfit_has(scraped: str) -> None:
    assert set(re.findall(r"`(keepfit_\w+)`", RUNBOOK.read_text("utf-8"))) <= there(scraped)


def test_every_metric_has_words_and_a_name_as_prometheus_wants_it(scraped: str) -> None:
    kinds = dict(re.findall(r"(?m)^# TYPE (keepfit_\w+) (\w+)$", scraped))
    assert len(kinds) > 40
    for name, kind in kinds.items():
        assert re.search(rf"(?m)^# HELP {name} \S.*\.$", scraped), f"{name} has no sentence"
        # prometheus_client adds _created gauges beside counters and histograms
        assert name.endswith("_total") == (kind == "counter"), name
        assert not re.search(r"_(ms|millis|minutes|mb|kb|percent)(_|$)", name), f"{name} is not in base units"


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expression_is_balanced_and_uses_functions_that_exist(where: str, expression: str) -> None:
    open_: list[str] = []
    expression = re.sub(r'"(?:[^"\\]|\\.)*"', "", expression)
    for sign in expression:
        if sign in PAIRS.values():
            open_.append(sign)
        elif sign in PAIRS:
            assert open_, f"{sign} closes nothing"
            assert open_.pop() == PAIRS[sign]
    assert not open_
    assert set(re.findall(r"\b([a-z_]+)\s*\(", expression)) <= KEYWORDS
    # a rate of what is no counter, or of a stretch that is not given, is a common slip
    without_texts = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)
    for function, inner in re.findall(r"\b(rate|increase)\(([^()]*)\)", without_texts):
        metric = names(inner).pop()
        assert re.search(r"_(total|bucket|sum|count)$", metric), f"{function} of {metric}"
        assert re.search(r"\[[^\]]+\]$", inner.strip()), f"{function} needs a range"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_says_what_it_means_and_has_its_heading_in_the_runbook(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    assert said["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
    found = re.search(rf"(?ms)^### {rule['alert']}\n(.*?)(?=^##|\Z)", RUNBOOK.read_text("utf-8"))
    assert found, f"{rule['alert']} has no heading in docs/operations.md"
    for part in ("Look at:", "Do:", "Undo:"):
        assert part in found[1], f"{rule['alert']}: {part} is missing"


def test_the_runbook_has_no_alert_that_does_not_exist() -> None:
    told = re.findall(r"(?m)^### (Keepfit\w+)$", RUNBOOK.read_text("utf-8"))
    assert told == [rule["alert"] for rule in rules()]


def test_the_dashboard_can_be_imported_anywhere() -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "model"}
    sources = {target["datasource"]["uid"] for panel in panels() for target in panel.get("targets", ())}
    assert sources == {"${datasource}"}
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_the_sample_configuration_reads_the_rules() -> None:
    sample = yaml.safe_load((RULES.parent / "prometheus.yml").read_text("utf-8"))
    assert sample["rule_files"] == [RULES.name]
    assert sample["scrape_configs"][0]["job_name"] == "keepfit"
