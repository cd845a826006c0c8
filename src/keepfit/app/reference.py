"""The reference pages, made from settings, commands and routes: `python -m keepfit.app.reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from keepfit.app.cli import cli
from keepfit.app.http_reference import http_page
from keepfit.app.json_reference import json_page
from keepfit.app.model_settings import ModelSettings
from keepfit.app.settings import SECTIONS, Settings

SKIPPED = frozenset({"models", *SECTIONS})
SHARED = frozenset({"project", "model", "json", "help"})


def pages() -> dict[str, str]:
    """File name to text."""
    return {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "http.md": http_page(),
        "json.md": json_page(),
    }


def settings_page() -> str:
    """Every setting with its default."""
    lines = [
        "# Settings", "",
        "`keepfit.toml` in the project folder; every setting is optional. `KEEPFIT_SERVER__PORT=9000` in the",
        "environment overrides `[server] port`. A secret may be written `env:NAME` or `file:PATH`. Unknown keys are",
        "refused.", "",
    ]  # fmt: skip
    for title, section in sections():
        lines += [f"## {title}", "", "| setting | default | meaning |", "|---|---|---|"]
        for name, field in section.model_fields.items():
            if name in SKIPPED and title in ("Top level", "[models.NAME]", "[models.NAME.recipe]", "[alerts]"):
                continue
            default = "required" if field.is_required() else f"`{plain(field.get_default(call_default_factory=True))}`"
            lines.append(f"| `{name}` | {default} | {field.description} |")
        lines.append("")
    return "\n".join(lines)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """Title and fields of each section."""
    yield "Top level", Settings
    for name in ("server", "worker", "retention", "alerts", "log", "costs", "backup"):
        yield f"[{name}]", SECTIONS[name]
    yield "[alerts.email]", SECTIONS["email"]
    yield "[models.NAME]", ModelSettings
    for name in (
        "keep",
        "columns",
        "recipe",
        "recipe.video",
        "watch",
        "watch.label_parts",
        "gate",
        "rollout",
        "prices",
        "retraining",
        "cascade",
        "elsewhere",
        "hand_over",
        "follow",
        "follow.names",
    ):
        yield f"[models.NAME.{name}]", SECTIONS[name.rpartition(".")[2]]


def plain(value: Any) -> str:
    """A default as it would be written."""
    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
            if seconds and seconds % size == 0:
                return f"{seconds // size}{unit}"
        return f"{seconds}s"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {plain(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(plain(v) for v in value) + "]"
    return (
        {None: "unset", True: "true", False: "false"}.get(value, str(value))
        if isinstance(value, bool | None)
        else str(value)
    )


def commands_page() -> str:
    """Every command with its arguments."""
    lines = [
        "# Commands", "",
        "All take `--project DIR` (default: the present folder), `--model NAME` where there are several, and `--json`.",
        "`up`, `serve` and `worker` are for every model and refuse the last two; so are `prune`, `forget`, `backup`",
        "and `restore`, which refuse `--model`.",
        "Exit codes: 0 done, 2 a sentence says what is wrong, 3 a fault of keepfit; `check` exits with 10 when a",
        "retraining is wanted, `gate`, `models --reproduce` and `audit verify` with 1 when the answer is no.", "",
    ]  # fmt: skip
    root: Any = typer.main.get_command(cli)
    for name, command in sorted(walk(root, "")):
        lines += [f"## `keepfit {name}`", "", str(command.help).strip(), ""]
        own = [p for p in command.params if p.name not in SHARED]
        if own:
            lines += ["| | |", "|---|---|"]
            lines += [f"| `{usage(p)}` | {getattr(p, 'help', None) or ''} |" for p in own]
            lines.append("")
    return "\n".join(lines)


def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Every command below a group, with its full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from walk(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def usage(parameter: Any) -> str:
    """An argument or option as it is typed."""
    if parameter.param_type_name == "argument":
        name = str(parameter.name).upper()
        return name if parameter.required else f"[{name}]"
    return str(parameter.opts[0])


def main() -> None:
    """Write the pages into a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
