"""The reference page of the HTTP routes, made from the OpenAPI document: routes, what goes in, what comes out."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flask_openapi3.openapi import OpenAPI

from keepfit.app import server, serving

Schema = Mapping[str, Any]

HEAD = [
    "# HTTP", "",
    "JSON in and out; the full OpenAPI document is at `/openapi.json`, a page at `/docs`. Errors are problem",
    "documents (RFC 9457): `Problem` below, as `application/problem+json`. `/models/NAME/...` addresses one of several",
    "models, the bare routes the default one. Below `/v2` errors are `ErrorOut`, and a path names its model.", "",
]  # fmt: skip


def http_page() -> str:
    """Every route of the server, and the bodies that go in and out."""
    with tempfile.TemporaryDirectory() as folder:
        service = serving.make(Path(folder))
        try:
            app = server.create_app(service)
            found, document = sorted(routes(app)), app.api_doc
        finally:
            service.close()
            service.store.close()
    lines = [*HEAD, "| route | what | in | out |", "|---|---|---|---|"]
    for path, method, words in found:
        operation = document["paths"].get(path, {}).get(method.lower(), {})
        cells = (f"`{method} {path}`", words, " ".join(taken(operation)), " ".join(given(operation)))
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Bodies", "", "Fields in bold must be there.", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += body(name, schema)
    return "\n".join(lines)


def routes(app: OpenAPI) -> Iterator[tuple[str, str, str]]:
    """(path, method, what it does) of every route of the default model."""
    documented = app.api_doc["paths"]
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
        if path.startswith("/models/{"):
            continue
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operation = documented.get(path, {}).get(method.lower(), {})
            written = (app.view_functions[rule.endpoint].__doc__ or "").strip().partition("\n")[0]
            yield path, method, operation.get("summary") or written


def taken(operation: Schema) -> Iterator[str]:
    """What a route takes: query parameters and bodies."""
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "query":
            default = parameter["schema"].get("default")
            said = "" if default is None else f", default {json.dumps(default)}"
            yield f"`?{parameter['name']}=` {kind(parameter['schema'])}{said}"
    for form, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        if "properties" in schema:
            yield f"`{form}`: {', '.join(f'`{name}`' for name in schema['properties'])}"
        else:
            yield kind(schema) if "$ref" in schema else f"`{form}`"


def given(operation: Schema) -> Iterator[str]:
    """What a route answers when all is well."""
    for status, answer in operation.get("responses", {}).items():
        if status.startswith("2"):
            yield from (f"{status} {kind(content['schema'])}" for content in answer.get("content", {}).values())


def body(name: str, schema: Schema) -> Iterator[str]:
    """One body: what it is for, and its fields."""
    yield from (f"### {name}", "")
    if said := schema.get("description"):
        yield from (said, "")
    if "properties" not in schema:
        yield from (kind(schema), "")
        return
    yield from ("| field | type | meaning |", "|---|---|---|")
    required = schema.get("required", [])
    for field, values in schema["properties"].items():
        shown = f"**`{field}`**" if field in required else f"`{field}`"
        default = values.get("default")
        meaning = [values.get("description", "")] + ([f"Default {json.dumps(default)}."] if default is not None else [])
        yield f"| {shown} | {kind(values)} | {' '.join(part for part in meaning if part)} |"
    yield ""


def kind(schema: Schema) -> str:
    """The type of a schema in words.

    >>> kind({"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}})
    'list (at least 1) of (string or null)'
    >>> kind({"type": "integer", "minimum": 1.0, "maximum": 1000})
    'integer (1 to 1000)'
    >>> kind({"$ref": "#/components/schemas/Problem"})
    '[Problem](#problem)'
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(kind(choice) for choice in choices)
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list{bounds(schema, 'minItems', 'maxItems')} of {inside(schema.get('items', {}))}"
    if schema.get("type") == "object":
        inner = schema.get("additionalProperties")
        return f"object of {inside(inner)}" if isinstance(inner, Mapping) else "object"
    if schema.get("format") == "binary":
        return "file"
    limits = bounds(schema, "minimum", "maximum") or bounds(schema, "minLength", "maxLength")
    return f"{schema.get('format') or schema.get('type') or 'any'}{limits}"


def inside(schema: Schema) -> str:
    """The type of what a list or an object holds; several in brackets."""
    words = kind(schema)
    return f"({words})" if len(schema.get("anyOf") or schema.get("oneOf") or ()) > 1 else words


def bounds(schema: Schema, low: str, high: str) -> str:
    """The limits of a schema in words, empty without any."""
    least, most = schema.get(low), schema.get(high)
    if least is not None and most is not None:
        return f" ({least:g} to {most:g})" if most < 1e6 else f" (from {least:g})"
    if least is not None:
        return f" (at least {least:g})"
    return f" (at most {most:g})" if most is not None else ""
