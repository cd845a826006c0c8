"""Models as people and programs see them: the status, and the list of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from keepfit.app import show
from keepfit.app.amounts import minute
from keepfit.app.listing import Column, listing
from keepfit.app.overview import close_others, every, memory_json, memory_line, remarks, removed, versions_of_all
from keepfit.app.overview import table as table_of_models
from keepfit.app.project import Project
from keepfit.app.recipes import about_import
from keepfit.app.turns import why_it_waits
from keepfit.app.wiring import LATE, named
from keepfit.data.foreign import is_foreign
from keepfit.data.records import Job, JobState
from keepfit.data.retention import PINNED
from keepfit.data.snapshot import current_id
from keepfit.errors import BackendError
from keepfit.monitoring.cohorts import LAG
from keepfit.pipelines.forecast import told as foretold
from keepfit.pipelines.foreign import foreign_name
from keepfit.registry.registry import Alias, ModelVersion, model_folder
from keepfit.rollout.rollout import WAITING, single, standing
from keepfit.serving.cascade import CASCADE
from keepfit.serving.cascade import standing as cascade
from keepfit.tasks.loading import first_trade
from keepfit.tasks.trade import Terms, accept

REASONS = 2
"""Of the last check, that the status tells."""


def version_json(version: ModelVersion, snapshots: Path) -> dict[str, Any]:
    """A version for programs."""
    now = current_id(snapshots, version.lineage.snapshot_id)
    return {
        "version": version.number, "at": version.at.isoformat(), "snapshot": version.lineage.snapshot_id,
        "reason": version.lineage.reason, "verdict": version.verdict.outcome.value if version.verdict else None,
        "metrics": version.evaluation.to_json()["metrics"], "removed": version.removed,
        "snapshot_rewritten_as": None if now == version.lineage.snapshot_id else now,
    }  # fmt: skip


def versions_json(project: Project) -> dict[str, Any]:
    """Every version of a model for programs."""
    aliases = {alias.value: project.registry.alias(project.model, alias) for alias in Alias}
    pinned = project.store.get(project.model, PINNED) or {}
    told = [version_json(v, project.home.snapshots) for v in project.models()]
    return {"aliases": aliases, "pinned": pinned, "versions": told}


def versions(project: Project, json: bool, whole: bool = False) -> None:
    """Every version; `whole`: of every model."""
    if not whole:
        versions_of(project, json)
        return
    projects = every(project)
    if json:
        show.out({**versions_json(project), "models": versions_of_all(projects, versions_json)})
    else:
        for one in projects:
            Console().print(f"[bold]{escape(one.model)}[/]")
            versions_of(one, json)
    close_others(project, projects)


def versions_of(project: Project, json: bool) -> None:
    """Every version of one model."""
    found = project.models()
    aliases = {alias.value: project.registry.alias(project.model, alias) for alias in Alias}
    pinned = project.store.get(project.model, PINNED) or {}
    snapshots = project.home.snapshots
    if json:
        show.out(versions_json(project))
        return
    if not found:
        Console().print("There is no version yet: keepfit train DATA.")
        return
    columns = (
        Column("version"), Column("at (UTC)"), Column("role", folds=True), Column("accuracy"), Column("verdict"),
        Column("snapshot", folds=True, spare=True), Column("made because", spare=True),
    )  # fmt: skip
    rows = []
    for v in found:
        roles = [name for name, number in aliases.items() if number == v.number]
        roles += ["pinned"] if str(v.number) in pinned else []
        role = ", ".join([*roles, "files removed"] if v.removed is not None else roles)
        now = current_id(snapshots, v.lineage.snapshot_id)
        made_from = (
            f"served elsewhere as {v.lineage.code!r}"
            if is_foreign(v.number)
            else v.lineage.snapshot_id[:12] + ("" if now == v.lineage.snapshot_id else f", now {now[:12]}")
        )
        seen = v.evaluation.metrics["accuracy"]
        accuracy = f"{seen.value:.3f} ({seen.low:.3f}-{seen.high:.3f})" if v.evaluation.n else "not evaluated"
        verdict = v.verdict.outcome.value if v.verdict else ""
        rows.append((str(v.number), minute(v.at), escape(role), accuracy, verdict, made_from, v.lineage.reason))
    listing(Console(), columns, rows)
    live = project.store.deployment(project.model)
    if live is not None and (told := about_import(project.home, project.model, single(live.traffic))) is not None:
        show.text(f"Version {single(live.traffic)}: {told['words']}.")
    if live is not None and (words := offer(project, single(live.traffic))) is not None:
        show.text(words)


def offer(project: Project, number: int) -> str | None:
    """What turning on the cascade would give with a version; None where it is on, or the version has no first stage."""
    try:
        trade = first_trade(model_folder(project.home.models, project.model, number))
    except BackendError:  # its files are not on this machine
        return None
    if trade is None or project.settings.cascade.plan() is not None:
        return None
    found = accept(trade, Terms())
    if found.threshold is None:
        return f"A first stage of version {number} would answer nothing: {found.because}."
    words = (
        f'With cascade = {{ keeps = "accuracy" }} below [models.{project.model}], the first stage of version {number}'
    )
    return f"{words} would answer: {found.because}."


def status_json(project: Project) -> dict[str, Any]:
    """The present state of one model."""
    live = project.store.deployment(project.model)
    checks = project.store.decisions(project.model, subject="trigger", limit=1)
    running = project.store.jobs(project.model, kind="retrain", states=[JobState.RUNNING, JobState.WAITING], limit=1)
    champion = None if live is None else single(live.traffic)
    others = [] if live is None else sorted(live.traffic.versions - {champion})
    elsewhere = foreign_name(project.store, project.model, champion)
    return {
        "name": project.model, "task": project.settings.task,
        "champion": champion, "challenger": others[-1] if others else None,
        "elsewhere": elsewhere,
        "accuracy_by_time": by_checks(project) if elsewhere is not None else [],
        "rollout": standing(project.store, project.model),
        "imported": None if champion is None else about_import(project.home, project.model, champion),
        "traffic": {} if live is None else {str(v): share for v, share in live.traffic.shares.items()},
        "accuracy": project.store.get(project.model, "accuracy"),
        "class_map": project.store.classes(project.model).told(),
        "label_lag": project.store.get(project.model, LAG),
        "awaiting_approval": project.store.get(project.model, WAITING),
        "last_check": show.decision_json(checks[0]) if checks else None,
        "cascade": cascade(project.store.get(project.model, CASCADE), project.settings.cascade.plan(), champion),
        "retraining": retraining_json(project, first(running)),
        "memory": memory_json(project),
        "worker": project.worker_runs(),
        "not_kept": list(named(LATE["given_up"])(project.settings)),
        "forecast": named(LATE["forecast"])(project.home, project.store),
    }  # fmt: skip


def first(jobs: Sequence[Job]) -> Job | None:
    """The first, if any."""
    return jobs[0] if jobs else None


def retraining_json(project: Project, job: Job | None) -> dict[str, Any] | None:
    """A retraining that waits or runs, and why it waits."""
    if job is None:
        return None
    waits = why_it_waits(project.store, job)
    return {"job": job.id, "state": job.state.value, "step": job.step, "waits_because": waits}


def status(project: Project, json: bool, whole: bool = False) -> None:
    """The present state for people; `whole`: of every model."""
    projects = every(project) if whole else [project]
    found = [status_json(one) for one in projects]
    close_others(project, projects)
    now = found[0]
    notes = remarks(project, now["worker"])
    if json:
        default = next(iter(project.home.settings.models))
        show.out({"models": found, "default": default, "removed": removed(project), "remarks": notes})
        return
    if len(found) > 1:
        table_of_models(found, notes)
        return
    shown = show.table("", "")
    seen = now["accuracy"]
    accuracy = (
        f"{seen['value']:.3f} ({seen['low']:.3f} to {seen['high']:.3f}, {seen['n']} labels)"
        if seen
        else "no labels yet"
    )
    check, of = now["last_check"], f" --model {project.model}" if len(project.home.settings.models) > 1 else ""
    job, waits = now["retraining"], now["awaiting_approval"]
    disk, labelling = foretold(now["forecast"], now["name"])
    for name, value in (
        ("model", f"{now['name']} ({now['task']})"),
        ("live", live(now["champion"], now["elsewhere"])),
        *(("imported", found["words"]) for found in [now["imported"]] if found),
        ("rollout", rolling(now["rollout"]) if now["rollout"] else "none"),
        ("accuracy in life", accuracy),
        *([("accuracy by time", by_time(now["accuracy_by_time"]))] if now["accuracy_by_time"] else []),
        ("labels asked for", asked(now["label_lag"])),
        ("last check", last_check(check, of) if check else "never"),
        ("retraining", ": ".join(filter(None, (job["state"], job["step"], job["waits_because"]))) if job else "none"),
        ("first stage", stage(now["cascade"])),
        ("waits for approval", str(waits["version"]) if waits else "nothing"),
        ("memory", memory_line(now["memory"])),
        ("worker", "runs" if now["worker"] else "does not run (keepfit up)"),
        ("disk", disk),
        ("labelling", labelling),
        ("texts", "; ".join(now["not_kept"]) or "all are kept"),
    ):  # fmt: skip
        shown.add_row(name, escape(value))
    Console().print(shown)
    for note in notes:
        Console().print(escape(note), soft_wrap=True)


def last_check(check: Mapping[str, Any], of: str) -> str:
    """What it came to and when, the first reasons that decided, each on a line, and where the rest is."""
    told, all_reasons = list(check["evidence"].get("telling") or check["because"])[:REASONS], check["because"]
    when = minute(datetime.fromisoformat(check["at"]))
    lines = [f"{check['outcome']}, {when} UTC", *(f"- {reason}" for reason in told)]
    if len(told) < len(all_reasons):
        lines.append(f"all {len(all_reasons)} reasons: keepfit decisions {check['id'][:12]}{of}")
    return "\n".join(lines)


def live(champion: int | None, elsewhere: str | None) -> str:
    """Which version answers, and where.

    >>> live(2, "2024-b")
    "version 2 ('2024-b', served elsewhere)"
    """
    if champion is None:
        return "nothing yet"
    return f"version {champion}" + (f" ({elsewhere!r}, served elsewhere)" if elsewhere is not None else "")


def by_checks(project: Project) -> list[dict[str, Any]]:
    """The accuracies that the newest checks have seen."""
    found: list[dict[str, Any]] = named(LATE["over_time"])(project.store, project.model, 6, 300)
    return found


def by_time(seen: Sequence[Mapping[str, Any]]) -> str:
    """A few of the accuracies so far, each with its interval."""
    rows = [f"{one['at']:%Y-%m-%d} {one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})" for one in seen]
    return "\n".join(rows)


def stage(now: Mapping[str, Any]) -> str:
    """What the first stage does, in a line."""
    if now["keeps"] == "off":
        return "off"
    share = "" if now["share"] is None else f"{now['share']:.0%} of what it was asked; "
    does = {True: "answers", False: "does not answer", None: "not judged yet"}[now["on"]]
    return f"{does}: {share}{now['because']}"


def asked(lag: Mapping[str, Any] | None) -> str:
    """How soon questions are answered, in a line."""
    if not lag or not lag["asked"]:
        return "none yet"
    late = f", half of them within {timedelta(seconds=round(lag['median_s']))}" if lag["median_s"] is not None else ""
    return f"{lag['answered']} of {lag['asked']} answered{late}"


def rolling(now: Mapping[str, Any]) -> str:
    """A rollout under way, in a line."""
    gets = f"{now['share']:.0%} of the traffic" if now["share"] else "no traffic, but is asked"
    said = f"; {now['outcome']}: {'; '.join(now['because'])}" if now["outcome"] else ""
    return f"{now['strategy']}, step {now['step']}: version {now['version']} has {gets}{said}"
