"""Overview: all models of an installation in one table, those that were taken out of the settings, and new ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from keepfit.app.amounts import size
from keepfit.app.findings import Finding
from keepfit.app.listing import Column, listing
from keepfit.app.memory import MEMORY, files
from keepfit.app.project import Project
from keepfit.errors import KeepfitError

RESTART = "restart `keepfit up` (or the worker and the servers): models are read when they start"


def memory_json(project: Project) -> dict[str, Any]:
    """What a model takes: its files as they are, and what a server reported last (None: none did)."""
    reported = project.store.get(project.model, MEMORY)
    return {"files_bytes": files(project.home.models, project.model), "server": reported}


def memory_line(memory: Mapping[str, Any]) -> str:
    """The same for people."""
    told, on_disk = memory["server"], f"{size(memory['files_bytes'])} of files"
    if told is None:
        return f"{on_disk}; no server has reported"
    asked = "" if told["last_asked"] is None else f"; asked last {told['last_asked'][:16].replace('T', ' ')} UTC"
    held = (
        "unloaded until somebody asks"
        if told["unloaded"]
        else f"about {size(told['resident_bytes_estimate'])} of weights in memory (estimate)"
    )
    return f"{on_disk}; {held}{asked}"


def removed(project: Project) -> list[str]:
    """Models that the store knows and the settings do not name (any more)."""
    return sorted(set(project.store.models()) - set(project.home.settings.models))


def added(project: Project, runs: bool) -> list[str]:
    """Models that the running worker does not know, since it started before they were in the settings."""
    sign = project.store.get("", "worker") if runs else None
    known = None if sign is None else sign.get("models")
    return [] if known is None else sorted(set(project.home.settings.models) - set(known))


def remarks(project: Project, runs: bool) -> list[str]:
    """What one should know of models that are in the settings or in the store alone."""
    said = [f"{name!r} is not in keepfit.toml any more; its data stay" for name in removed(project)]
    return said + [f"{name!r} is new to the worker that runs; {RESTART}" for name in added(project, runs)]


def finding(project: Project) -> list[Finding]:
    """For doctor: each model that only the store, or only the settings know."""
    found = []
    for name in removed(project):
        answers, labels = project.store.amounts(name)
        words = (
            f"{name!r} is not in keepfit.toml: {answers:,} answers, {labels:,} labels and "
            f"{size(files(project.home.models, name))} of files stay; put [models.{name}] back to go on with it"
        )
        found.append(Finding(True, "models", words))
    new = added(project, project.worker_runs())
    return found + [Finding(False, "models", f"{name!r} is new to the worker that runs; {RESTART}") for name in new]


def every(project: Project) -> list[Project]:
    """A project for each model of the settings, the default one first."""
    return [
        project if name == project.model else Project(project.folder, name) for name in project.home.settings.models
    ]


def close_others(project: Project, opened: Sequence[Project]) -> None:
    """Let go of the stores that `every` opened."""
    for one in opened:
        if one is not project:
            one.close()


def table(all_status: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Where every model stands, a line each; the first is the default."""
    columns = (
        Column("model", folds=True), Column("task"), Column("live"), Column("accuracy in life"), Column("last check"),
        Column("retraining", folds=True), Column("memory", folds=True, spare=True),
    )  # fmt: skip
    rows = []
    for place, now in enumerate(all_status):
        seen, job, check = now["accuracy"], now["retraining"], now["last_check"]
        accuracy = f"{seen['value']:.3f} ({seen['n']} labels)" if seen else "no labels yet"
        doing = ": ".join(filter(None, (job["state"], job["step"]))) if job else "none"
        rows.append((
            escape(now["name"]) + (" (default)" if place == 0 else ""), now["task"],
            f"version {now['champion']}" if now["champion"] else "nothing yet", accuracy,
            check["outcome"] if check else "never", doing, escape(memory_line(now["memory"])),
        ))  # fmt: skip
    console = Console()
    listing(console, columns, rows)
    for now in all_status:
        if now["retraining"] and now["retraining"]["waits_because"]:
            console.print(escape(now["retraining"]["waits_because"]), soft_wrap=True)
    for note in notes:
        console.print(escape(note), soft_wrap=True)
    console.print("keepfit status --model NAME says more of one.", soft_wrap=True)


def versions_of_all(projects: Sequence[Project], one: Any) -> list[dict[str, Any]]:
    """The versions of each model, by `one(project)`; of one whose registry does not answer the reason instead."""
    found: list[dict[str, Any]] = []
    for project in projects:
        try:
            found.append({"name": project.model, **one(project)})
        except KeepfitError as error:
            found.append({"name": project.model, "error": str(error)})
    return found
