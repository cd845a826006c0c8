"""`keepfit doctor`: looks at everything that a project needs, and says what is missing and what to do."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from keepfit.alerts.alerts import Alerts
from keepfit.alerts.wording import trial_message
from keepfit.app import yearly
from keepfit.app.findings import Finding
from keepfit.app.learning import channels
from keepfit.app.overview import close_others, every, finding
from keepfit.app.project import Project
from keepfit.app.settings import FILE
from keepfit.app.wiring import named
from keepfit.data.foreign import is_foreign
from keepfit.errors import KeepfitError
from keepfit.pipelines.foreign import cannot_answer, foreign_name
from keepfit.redaction import redacted

LEAST_DISK = 2 * 2**30
LEAST_MEMORY = 3 * 2**30


def examine(folder: Path, send_test: bool) -> list[Finding]:
    """Every finding, in the order in which they build on each other."""
    found = [python(), memory(), disk(folder), settings_file(folder)]
    try:
        project = Project(folder)
    except KeepfitError as error:
        return [*found, Finding(False, "settings", str(error))]
    found.append(look(store, project))
    projects = every(project)
    for one in projects:
        told = [look(check, one) for check in OF_A_MODEL]
        found += told if len(projects) == 1 else [replace(f, detail=f"{one.model}: {f.detail}") for f in told]
    found += [look(check, project) for check in (port, worker, *yearly.CHECKS)]
    close_others(project, projects)
    found += models(project)
    found += alerts(project, send_test)
    project.close()
    return found


def look(check: Callable[[Project], Finding], project: Project) -> Finding:
    """A check that fails is a finding."""
    try:
        return check(project)
    except KeepfitError as error:
        return Finding(False, check.__name__, str(error))


def python() -> Finding:
    """3.11 or newer."""
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(sys.version_info >= (3, 11), "python", f"{version}; 3.11 or newer is needed")


def memory() -> Finding:
    """Enough to train."""
    free = psutil.virtual_memory().available
    return Finding(
        free >= LEAST_MEMORY, "memory", f"{free / 2**30:.1f} GiB free; training wants {LEAST_MEMORY / 2**30:.0f}"
    )


def disk(folder: Path) -> Finding:
    """Enough for models."""
    place = folder if folder.exists() else Path()
    free = shutil.disk_usage(place).free
    return Finding(free >= LEAST_DISK, "disk", f"{free / 2**30:.1f} GiB free; versions want {LEAST_DISK / 2**30:.0f}")


def settings_file(folder: Path) -> Finding:
    """A project without a file runs on the defaults."""
    there = (folder / FILE).exists()
    return Finding(
        True, "settings file", str(folder / FILE) if there else f"none in {folder}: the defaults hold (keepfit init)"
    )


def store(project: Project) -> Finding:
    """Can labels be written?"""
    project.store.is_writable()
    return Finding(True, "store", redacted(project.home.store_url))


def registry(project: Project) -> Finding:
    """Does the registry answer?"""
    count = len(project.models())
    return Finding(True, "registry", f"{count} versions of {project.model}")


def backbone(project: Project) -> Finding:
    """Is the backbone here, and whole?"""
    if project.settings.task != "text":
        return Finding(True, "backbone", f"the task {project.settings.task} has none")
    name = project.recipe.backbone
    if name == "minilm":
        named("keepfit.tasks.text.backbone:minilm_folder")()
    else:
        named("keepfit.tasks.text.backbone:load")(name, None, project.home.state / "imported")
    return Finding(True, "backbone", name)


def deployment(project: Project) -> Finding:
    """Is something deployed, and are its files here?"""
    live = project.store.deployment(project.model)
    if live is None:
        return Finding(False, "deployment", "nothing is deployed yet; run keepfit train DATA")
    number = project.champion()
    if is_foreign(number):
        here, name = project.settings.served == "here", foreign_name(project.store, project.model, number)
        sentence = cannot_answer(project.store, project.model, number) if here else f"{name!r} answers elsewhere"
        return Finding(not here, "deployment", sentence)
    project.registry.fetch(project.model, number)
    return Finding(True, "deployment", f"version {number}, its files are whole")


def triggers(project: Project) -> Finding:
    """Do the triggers make sense for this champion?"""
    objection = project.objection()
    return Finding(objection is None, "triggers", objection or f"{len(project.settings.triggers)} set")


def port(project: Project) -> Finding:
    """Is the port free, or is it ours?"""
    server = project.home.settings.server
    with socket.socket() as probe:
        taken = probe.connect_ex((server.host, server.port)) == 0
    return Finding(True, "port", f"{server.port} {'answers (a server runs)' if taken else 'is free'}")


def worker(project: Project) -> Finding:
    """Does somebody watch?"""
    runs = project.worker_runs()
    return Finding(True, "worker", "runs" if runs else "does not run; keepfit up starts it")


def models(project: Project) -> list[Finding]:
    """Are the models of the settings, of the store and of the worker the same?"""
    try:
        return finding(project)
    except KeepfitError as error:
        return [Finding(False, "models", str(error))]


OF_A_MODEL: tuple[Callable[[Project], Finding], ...] = (registry, backbone, deployment, triggers)
"""What is looked at for each model."""


def alerts(project: Project, send_test: bool) -> list[Finding]:
    """Can people be reached?"""
    try:
        found = channels(project.home, project.home.settings.alerts)
    except KeepfitError as error:
        return [Finding(False, "alerts", str(error))]
    if not found:
        return [Finding(False, "alerts", "nobody is told; set [alerts] urls or [alerts.email]")]
    if not send_test:
        return [Finding(True, "alerts", ", ".join(c.name for c in found) + " (--send-test tries them)")]
    delivery = Alerts(found).send(trial_message(project.model, project.home.clock.now()))
    sent = [Finding(True, "alerts", f"a test was sent to {name}") for name in delivery.sent]
    return sent + [Finding(False, "alerts", why) for why in delivery.failed]
