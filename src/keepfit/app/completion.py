"""Completion of what only the project knows: model names, versions, decisions; it never fails, and makes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from keepfit.app.project import Project
from keepfit.errors import KeepfitError

MANY = 100
"""Decisions that are offered."""

Offers = list[tuple[str, str]]
"""(what may be typed, a word on it)"""


def model_names(ctx: typer.Context, incomplete: str) -> Offers:
    """The names of the models in the settings."""
    with project_of(ctx, named=False) as project:
        models = {} if project is None else project.home.settings.models
        return beginning([(name, f"a model of {model.task}") for name, model in models.items()], incomplete)


def versions(ctx: typer.Context, incomplete: str) -> Offers:
    """The versions in the registry, newest first."""
    with project_of(ctx) as project:
        if project is None:
            return []
        try:
            found = [(str(one.number), f"of {one.at:%Y-%m-%d %H:%M} UTC") for one in project.models()]
        except KeepfitError:
            return []
    return beginning(found, incomplete)


def decision_ids(ctx: typer.Context, incomplete: str) -> Offers:
    """The newest decisions."""
    with project_of(ctx) as project:
        if project is None:
            return []
        try:
            found = [(one.id, f"{one.subject}: {one.decision.outcome.value}") for one in project.decisions(MANY)]
        except KeepfitError:
            return []
    return beginning(found, incomplete)


def beginning(offers: Offers, incomplete: str) -> Offers:
    """Those that begin as what is typed."""
    return [offer for offer in offers if offer[0].startswith(incomplete)]


@contextmanager
def project_of(ctx: typer.Context, named: bool = True) -> Iterator[Project | None]:
    """The project of the command line so far, with the model that it names; None where there is none with a past."""
    folder, model = ctx.params.get("project") or Path(), ctx.params.get("model") if named else None
    try:
        project = Project(folder, model)
    except KeepfitError:
        yield None
        return
    try:
        yield project if not named or (project.folder / ".keepfit").is_dir() else None
    finally:
        project.close()
