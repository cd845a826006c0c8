"""`keepfit labels trust`: whose labels count, with the numbers, and a person's word on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.listing import Column, listing
from keepfit.app.project import Project
from keepfit.data.labellers import Labeller
from keepfit.errors import InvalidInput
from keepfit.monitoring.trust import Agreement, Standing


def register(labels: typer.Typer) -> None:
    """Add the command to `keepfit labels`."""
    labels.command("trust")(trust)


def trust(
    name: Annotated[str | None, typer.Argument(help="A labeller, or the token through which several speak.")] = None,
    apart: Annotated[bool, typer.Option("--apart", help="From now on these labels neither measure nor train.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="They count again, those that are stored too.")] = False,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Whose labels count, with the numbers; set a labeller apart, or clear one."""
    if (apart and clear) or (apart or clear) != (name is not None):
        raise InvalidInput("give a labeller with one of --apart and --clear, or neither to list them all")
    home = Project(project, model)
    if name is None:
        listed(home.trust(), {one.actor: one for one in home.store.labellers(home.model)}, json)
        return
    decision = (home.set_apart if apart else home.clear)(name)
    words = "neither measure nor train any more; they are kept" if apart else "measure and train again"
    done = {"labeller": name, "apart": apart, "because": list(decision.because)}
    show.result(done, json, f"Labels of {name!r} {words}.")


def listed(standings: Sequence[Standing], known: dict[str, Labeller], json: bool) -> None:
    """Every labeller with the numbers."""
    if json:
        show.out({"labellers": [as_json(one, known.get(one.actor)) for one in standings]})
        return
    if not standings:
        Console().print("Nobody has given a label yet.")
        return
    columns = (
        Column("labeller", folds=True), Column("labels"), Column("agrees with others", folds=True),
        Column("with itself", folds=True), Column("same", spare=True), Column("this hour", spare=True),
        Column("set apart", folds=True),
    )  # fmt: skip
    rows = []
    for one in standings:
        decided = known.get(one.actor)
        why = "; ".join(decided.because) if decided is not None and decided.apart else ""
        rows.append((
            escape(one.actor), str(one.labels), share(one.others), share(one.repeats), f"{one.run.length} times",
            str(one.hour), escape(why),
        ))  # fmt: skip
    listing(Console(), columns, rows)


def as_json(one: Standing, decided: Labeller | None) -> dict[str, Any]:
    """The numbers, and what was decided."""
    kept = {"apart": False} if decided is None else {
        "apart": decided.apart, "since": decided.since, "decided_by": decided.decided_by,
        "because": list(decided.because),
    }  # fmt: skip
    return one.to_json() | kept


def share(found: Agreement) -> str:
    """An agreement, and the least that it must be."""
    if not found.n:
        return "-"
    least = "" if found.floor is None else f" (least {found.floor:.0%})"
    return f"{found.same:g} of {found.n}{least}"
