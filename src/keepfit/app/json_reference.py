"""The reference page of what commands print with --json, made from their types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import models_json_schema

from keepfit.app.http_reference import body
from keepfit.app.outputs import OUTPUTS, UNPRINTED, Printed

HEAD = [
    "# JSON of the commands", "",
    "With `--json` a command prints one JSON document on standard output (`stream` one a line), and nothing else;",
    "progress and warnings go to standard error. A failure prints `{\"error\": SENTENCE, \"kind\": NAME}` on standard",
    "error and exits with 2. Times are RFC 3339 in UTC. Fields are added without notice and taken away or changed only",
    f"with a line in the changelog. {', '.join(f'`{name}`' for name in sorted(UNPRINTED))} print no result and refuse",
    "`--json`. The JSON schema of each is to be had in Python:", "",
    "```python", "from keepfit.app.outputs import schema_of", "", 'schema_of("status")', "```", "",
    "| command | prints |", "|---|---|",
]  # fmt: skip


def json_page() -> str:
    """Every command with the types that it prints."""
    lines = list(HEAD)
    kinds: dict[str, Any] = {}
    for command, printed in sorted(OUTPUTS.items()):
        several = getattr(printed, "__args__", (printed,))
        kinds |= {kind.__name__: kind for kind in several}
        lines.append(f"| `keepfit {command}` | {' or '.join(link(kind.__name__) for kind in several)} |")
    lines += ["", "## Types", "", "Fields in bold are always there.", ""]
    _, found = models_json_schema(
        [(kind, "validation") for kind in kinds.values()], schema_generator=Printed, ref_template="#/{model}"
    )
    for name, schema in sorted(found["$defs"].items()):
        lines += sections(name, schema)
    return "\n".join(lines)


def link(name: str) -> str:
    """To a type below."""
    return f"[{name}](#{name.lower()})"


def sections(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """One type; its first docstring line and its fields."""
    said = json.loads(json.dumps(schema))
    said["description"] = " ".join(str(said.get("description", "")).split())
    yield from body(name, said)
