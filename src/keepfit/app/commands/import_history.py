"""`keepfit import-history`: what another system answered, and what became of it, into the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.progress import stages_progress
from keepfit.app.project import Project
from keepfit.data.past_columns import PastColumns

Column = str | None


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("import-history")(import_history)


def import_history(
    file: Annotated[
        Path | None, typer.Argument(help="CSV, TSV, JSON lines or Parquet, plain or .gz, a row for each answer.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--from", help="Instead: a database, as a SQLAlchemy URL, env:NAME or file:PATH.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="With --from: a SELECT that gives a row for each answer.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Column of the text; several times: several columns.")] = None,
    id: Annotated[Column, typer.Option(help="Column of the answer's own id. `none` in any role: not there.")] = None,
    label: Annotated[Column, typer.Option(help="Column of what was true; empty where that is not known.")] = None,
    prediction: Annotated[Column, typer.Option(help="Column of what was answered, as a label.")] = None,
    probabilities: Annotated[
        list[str] | None,
        typer.Option(help="Columns of probabilities: 'p_*' for p_CLASS, or one that holds {class: probability}."),
    ] = None,
    time: Annotated[Column, typer.Option(help="Column of when it was answered.")] = None,
    version: Annotated[Column, typer.Option(help="Column of the version that answered, by its name there.")] = None,
    key: Annotated[Column, typer.Option(help="Column of what stays together: a user, a queue.")] = None,
    context: Annotated[Column, typer.Option(help="Columns to slice by: country,channel.")] = None,
    label_time: Annotated[Column, typer.Option(help="Column of when the label became known.")] = None,
    label_source: Annotated[
        str | None,
        typer.Option(help="complete: every outcome becomes known; asked: rows drawn at random; volunteered: neither."),
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(help="Of times that name none: Europe/Berlin, UTC, or `settings` for the project's.")
    ] = None,
    name: Annotated[str, typer.Option("--as", help="The version's name, where no column has it.")] = "elsewhere",
    normalise: Annotated[bool, typer.Option("--normalise", help="Divide probabilities by their sum.")] = False,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave rows with a fault out, and count them.")] = False,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="Labels may be of classes that were never answered.")
    ] = False,
    embed: Annotated[bool, typer.Option("--embed", help="Compute embeddings of all texts (some ms a text).")] = False,
    looks: Annotated[int, typer.Option(min=0, help="How often the watch looks back on the past; 0: not at all.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check everything, show the plan, stop.")] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Import past answers and labels of a model served elsewhere; the same again adds only what is new."""
    home = Project(project, model)
    columns = PastColumns(
        text=tuple(text or ()), id=id, label=label, prediction=prediction, probabilities=listed(probabilities),
        time=time, version=version, key=key, context=listed([context] if context else None), label_time=label_time,
    )  # fmt: skip
    tell_plan = (lambda plan: None) if json else (lambda plan: planned(plan.to_json()))
    with stages_progress(json) as tell:
        done = home.import_history(
            tell_plan, tell, file=file, url=url, query=query, columns=columns, timezone=timezone, name=name,
            label_source=label_source, normalise=normalise, skip_bad=skip_bad, new_classes=new_classes, embed=embed,
            looks=looks, dry_run=dry_run,
        )  # fmt: skip
    home.close()
    if json:
        show.out(done)
    elif dry_run:
        show.text("This was a dry run: nothing was stored.")
    else:
        printed(done)


def listed(given: Sequence[str] | None) -> tuple[str, ...]:
    """Names, each given alone or several with commas.

    >>> listed(["a, b", "c"])
    ('a', 'b', 'c')
    """
    return tuple(part.strip() for one in given or () for part in one.split(",") if part.strip())


def planned(plan: Mapping[str, Any]) -> None:
    """The plan, for people."""
    console, columns = Console(), plan["columns"]
    shown = show.table("taken as", "")
    for role, value in columns.items():
        if value and role != "classes":
            words = value if isinstance(value, str) else ", ".join(value)
            shown.add_row(role.replace("_", " "), escape(words))
    versions = [f"{name} ({seen['rows']})" for name, seen in plan["versions"].items()]
    for name, words in (
        ("rows", f"{plan['rows']} of {plan['read']} read" + (f", {plan['equal']} repeat others" * bool(plan["equal"]))),
        ("times (UTC)", f"{plan['first']} to {plan['last']}; zone: {plan['timezone']}"),
        ("versions", few(versions)), ("classes", few(plan["classes"])),
        ("labels", f"{plan['labelled']}, as {plan['label_source']}"),
    ):  # fmt: skip
        shown.add_row(name, escape(words))
    console.print(escape(f"{plan['source']} will be imported like this:"), soft_wrap=True)
    console.print(shown)
    for words in (*plan["mended"], *(f"left out: {words}" for words in plan["left_out"]), *plan["missing"]):
        console.print(escape(f"  - {words}"), soft_wrap=True)


def few(words: Sequence[str], most: int = 10) -> str:
    """The first ones, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def printed(done: Mapping[str, Any]) -> None:
    """What was imported, and what the look back saw."""
    console = Console()
    lines = [f"{done['answers']} answers and {done['labels']} labels are new."]
    if done["resumed"]:
        lines.append(f"An interrupted import went on: {done['resumed']} rows were stored already.")
    numbers = [f"{name!r} is version {number}" for name, number in done["versions"].items()]
    lines += [f"Served elsewhere, so never served here: {few(numbers)}.", *done["notes"]]
    for one in done["accuracy"]:
        lines.append(
            f"  {one['at']:%Y-%m-%d}  accuracy {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f}, "
            f"{one['n']} labels, version {one['version']})"
        )
    if done["alarm"] is not None:
        alarm = done["alarm"]
        lines.append(f"The watch would have raised the alarm at {alarm['at'][:16]} UTC: {'; '.join(alarm['because'])}")
    elif (call := done["first_call"]) is not None:
        said = f"would first have called for a retraining at {call['at'][:16]} UTC: {'; '.join(call['because'])}"
        lines.append(f"The watch would have raised no alarm of harm; it {said}")
    elif done["looks"]:
        lines.append("The watch would have raised no alarm, and called for no retraining.")
    if done["objection"] is not None:
        lines.append(f"The watch cannot work as it is set: {done['objection']}")
    lines.append(f"Next: {done['next']}")
    for line in lines:
        console.print(escape(line), soft_wrap=True, highlight=False)
