"""What the documents say can be done can be done: links, commands, settings, requests, and the files of deploy/."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml
from pydantic import BaseModel

from keepfit.app.cli import cli
from keepfit.app.http.schemas import EventBody, LabelsBody, PredictBody
from keepfit.app.settings import Settings, override
from keepfit.triggers.policies import trigger_from

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
WRITTEN = [page for page in PAGES if page.parent.name != "reference"]
"""Those that people write; the reference is generated, and has a test of its own."""
PICTURES = (".png", ".svg")
COMMAND = re.compile(r"(?:^[ \t]*|(?<=/bin/))keepfit(?= [a-z])[^|#\n\\]*", re.MULTILINE)
BODIES: dict[str, type[BaseModel]] = {"/predict": PredictBody, "/labels": LabelsBody, "/events": EventBody}

by_page = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text("utf-8")
    return [re.sub(r"(?m)^ {3}", "", block) for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """(file, anchor) of each link that stays in the repository."""
    prose = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", link):
            file, _, anchor = link.partition("#")
            yield (page.parent / file).resolve() if file else page, anchor


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    found = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


@by_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, anchor in links(page):
        if file.suffix not in PICTURES:
            assert file.exists(), f"{page.name} links to {file}, which is not there"
        assert not anchor or anchor in headings(file), f"{page.name} links to #{anchor}, which {file.name} lacks"


@by_page
def test_every_picture_is_there(page: Path) -> None:
    missing = [file.name for file, _ in links(page) if file.suffix in PICTURES and not file.exists()]
    assert not missing


def known(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words after `keepfit` name, and the words that are left."""
    command: Any = typer.main.get_command(cli)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {' '.join(words)!r}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@by_page
def test_every_command_exists_with_its_options(page: Path) -> None:
    text = "\n".join([*blocks(page, "sh"), *re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))])
    for said in COMMAND.findall(text):
        words = shlex.split(said.replace("[", "").replace("]", ""))[1:]
        command, rest = known(words)
        options = {option for parameter in command.params for option in parameter.opts}
        unknown = {word for word in rest if word.startswith("--")} - options - {"--help"}
        assert not unknown, f"{said!r} in {page.name}: unknown {unknown}"


@by_page
def test_every_piece_of_settings_is_accepted(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for block in blocks(page, "toml"):
        for name in re.findall(r"env:([A-Z_]+)", block):
            monkeypatch.setenv(name, "json://localhost")
        settings = Settings.model_validate(tomllib.loads(block))
        for model in settings.models.values():
            trigger_from(model.triggers, model.warmup, model.cooldown)


@by_page
def test_every_request_is_understood(page: Path) -> None:
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"https?://[^/\s]+(/\w+).* -d '([^']*)'", line)
            if found:
                BODIES[found[1]].model_validate_json(found[2])


@by_page
def test_every_python_snippet_compiles(page: Path) -> None:
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_all_of_deploy_can_be_parsed() -> None:
    for file in [*DEPLOY.rglob("*.y*ml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(file.read_text("utf-8")), file
    for file in DEPLOY.rglob("*.json"):
        assert json.loads(file.read_text("utf-8")), file


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


def test_every_image_is_pinned_to_a_release() -> None:
    images = [service["image"] for service in compose()["services"].values()]
    images += re.findall(r"(?m)^FROM (\S+)", (DEPLOY / "Dockerfile").read_text("utf-8"))
    for image in images:
        assert re.search(r":v?\d+\.\d+", image), f"{image} floats"


def test_compose_publishes_on_this_machine_only_and_mounts_what_is_there() -> None:
    for name, service in compose()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose()["volumes"], volume


@pytest.mark.parametrize("name", ["server", "worker"])
def test_the_services_of_keepfit_are_set_by_known_settings(name: str) -> None:
    service, values = compose()["services"][name], {}
    for variable, value in service["environment"].items():
        override(values, variable.removeprefix("KEEPFIT_").lower().split("__"), value, variable)
    Settings.model_validate(values)
    known(service["command"])


def test_the_unit_starts_a_command_that_exists() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(DEPLOY / "systemd" / "keepfit.service", "utf-8")
    command, rest = known(unit["Service"]["ExecStart"].split()[1:])
    assert rest[0] in {option for parameter in command.params for option in parameter.opts}
