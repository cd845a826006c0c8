"""`keepfit token`: who may call the HTTP server, what for, and how often."""

from __future__ import annotations

from typing import Annotated

import typer

from keepfit.app import show, tokens
from keepfit.app.commands.options import HERE, JsonOption, ModelOption, ProjectOption
from keepfit.app.project import Project, actor
from keepfit.app.setting_values import duration
from keepfit.app.tokens import Terms
from keepfit.errors import InvalidInput

NameArgument = Annotated[str, typer.Argument(help="Whose it is.")]
commands = typer.Typer(help="Tokens for the HTTP server.", no_args_is_help=True)


def register(cli: typer.Typer) -> None:
    """Add the group to the command line."""
    cli.add_typer(commands, name="token")


@commands.command("add")
def add(
    name: NameArgument,
    role: Annotated[list[str], typer.Option(help="predict, label, approve or admin; may be repeated.")],
    expires: Annotated[str | None, typer.Option(help="Valid for so long, such as 90d.")] = None,
    only: Annotated[str | None, typer.Option(help="For this model alone; the routes of others are refused.")] = None,
    per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute at most, in each server.")] = None,
    labels_per_day: Annotated[int | None, typer.Option(min=1, help="New labels a day (UTC) at most.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Make a token and print its secret, once; only its hash is kept."""
    try:
        until = None if expires is None else duration(expires)
    except ValueError as problem:
        raise InvalidInput(f"--expires {expires!r}: {problem}") from problem
    home, terms = Project(project, model), Terms(role, until, only, per_minute, labels_per_day)
    secret = tokens.add(home.home, home.store, name, terms, actor())
    words = f"{secret}\nIt is shown only now. Send it as: Authorization: Bearer {secret}"
    show.result({"name": name, "roles": role, "token": secret}, json, words)


@commands.command("list")
def listed(project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False) -> None:
    """Every token, without its secret."""
    show.tokens(Project(project, model).store.tokens(), json)


@commands.command("set")
def change(
    name: NameArgument,
    per_minute: Annotated[int | None, typer.Option(min=0, help="Requests a minute at most; 0: no limit.")] = None,
    labels_per_day: Annotated[int | None, typer.Option(min=0, help="New labels a day at most; 0: no limit.")] = None,
    project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False,
) -> None:  # fmt: skip
    """Change a token's limits; within a second every server keeps to them."""
    given = {"per_minute": per_minute, "labels_per_day": labels_per_day}
    limits = {what: most for what, most in given.items() if most is not None}
    Project(project, model).change_token(name, **limits)
    show.result({"changed": name, **limits}, json, f"The limits of the token {name!r} are changed.")


@commands.command("revoke")
def revoke(
    name: NameArgument, project: ProjectOption = HERE, model: ModelOption = None, json: JsonOption = False
) -> None:
    """From now on the token is refused."""
    Project(project, model).revoke_token(name)
    show.result({"revoked": name}, json, f"The token {name!r} is revoked.")
