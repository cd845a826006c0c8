"""`keepfit diff`: what differs between two versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, VERSIONS, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project

LONGEST = 120
"""Of an example, for people."""


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(diff)


def diff(
    first: Annotated[int, typer.Argument(min=1, help="A version.", autocompletion=VERSIONS)],
    second: Annotated[int, typer.Argument(min=1, help="The version to compare it with.", autocompletion=VERSIONS)],
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """What differs between two versions: data, recipe, numbers, answers that turned, code, and who let each in."""
    found = Project(project, model).diff(first, second)
    if json:
        show.out(found)
        return
    console = Console(highlight=False, emoji=False)
    for part in (versions, data, recipe, numbers, turned, code):
        for line in part(found):
            console.print(escape(line) if isinstance(line, str) else line, soft_wrap=isinstance(line, str))


def versions(found: Mapping[str, Any]) -> Iterator[str]:
    """Which, and who let each in."""
    for version in found["versions"]:
        gate, first = version["gate"], version["first_deployment"]
        yield f"Version {version['version']} of {show.moment(version['at'])} UTC, made because: {version['reason']}"
        if gate is not None:
            yield f"  gate: {gate['outcome']} ({gate['id']}): {'; '.join(gate['because'][:1])}"
        if first is None:
            yield "  never deployed"
        else:
            yield f"  first deployed {show.moment(first['at'])} UTC by {first['actor']}: {first['reason']}"


def data(found: Mapping[str, Any]) -> Iterator[str]:
    """Rows that came and went."""
    rows = found["data"]
    if rows["same"]:
        yield f"Data: the same snapshot {rows['before'][:12]}"
        return
    yield f"Data: from snapshot {rows['before'][:12]} to {rows['after'][:12]}"
    if "unavailable" in rows:
        yield f"  cannot be compared: {rows['unavailable']}"
        return
    yield f"  {rows['kept']} rows kept, {rows['relabelled']} contents with another label"
    for name in ("added", "removed"):
        for part, counts in rows[name].items():
            yield f"  {name} in {part}: " + ", ".join(f"{count} {label}" for label, count in counts.items())


def recipe(found: Mapping[str, Any]) -> Iterator[str]:
    """The fields that differ."""
    fields = found["recipe"]
    yield "Recipe: " + ("" if fields else "the same")
    yield from (f"  {name}: {values['before']} -> {values['after']}" for name, values in fields.items())


def numbers(found: Mapping[str, Any]) -> Iterator[Any]:
    """Metrics side by side."""
    first, second = (f"version {version['version']}" for version in found["versions"])
    shown = show.table("each on its own test part", first, second, "")
    words = {True: "overlap", False: "apart", None: ""}
    for name, pair in found["metrics"].items():
        shown.add_row(escape(name), interval(pair["before"]), interval(pair["after"]), words[pair["overlap"]])
    yield shown


def interval(values: Mapping[str, Any] | None) -> str:
    """A number with its interval.

    >>> interval({"value": 0.9, "low": 0.8, "high": 0.95, "n": 50}), interval(None)
    ('0.900 (0.800 to 0.950)', '')
    """
    if values is None or values["value"] is None:
        return ""
    ends = "" if None in (values["low"], values["high"]) else f" ({values['low']:.3f} to {values['high']:.3f})"
    return f"{values['value']:.3f}{ends}"


def turned(found: Mapping[str, Any]) -> Iterator[str]:
    """The answers that turned."""
    flips = found["flips"]
    if "unavailable" in flips:
        yield f"Answers that turned: cannot be told: {flips['unavailable']}"
        return
    yield f"Answers on {flips['n']} rows ({flips['rows']}; {flips['by']}):"
    if "caveat" in flips:
        yield f"  but {flips['caveat']}"
    yield (
        f"  {flips['gained']} from wrong to right, {flips['lost']} from right to wrong; "
        f"accuracy {flips['accuracy_before']:.3f} -> {flips['accuracy_after']:.3f}, "
        f"difference {interval(flips['difference'])}"
    )
    for kind, words in (("gained", "now right"), ("lost", "now wrong")):
        for flip in flips["examples"][kind]:
            content = " ".join(str(flip["content"]).split())
            short = content if len(content) <= LONGEST else f"{content[:LONGEST]}..."
            yield f"  {words}: {flip['before']} -> {flip['after']} (truth {flip['truth']}): {short}"


def code(found: Mapping[str, Any]) -> Iterator[str]:
    """The code that trained them."""
    both = found["code"]
    yield f"Code: {both['before']}" + ("" if both["same"] else f" -> {both['after']}")
