"""What `keepfit doctor` says of a year: backups, schema, disk, secrets, what is kept of texts, the platform."""

from __future__ import annotations

import platform as machine
from collections.abc import Iterator
from datetime import datetime, timedelta

from keepfit.app.findings import Finding
from keepfit.app.model_settings import ModelSettings
from keepfit.app.project import Project
from keepfit.app.secrets import open_to_others, plain_secrets, read_values, secret_files
from keepfit.app.settings import FILE
from keepfit.app.wiring import LATE, discretion, named
from keepfit.clock import spelt
from keepfit.data.upgrading import HEAD, version_of
from keepfit.pipelines.backup import LAST
from keepfit.serving.discretion import MASK_FAILED

SOON = 14.0
"""Days; a disk that is full by then is a finding."""
TESTED = {("Linux", "x86_64")}
EXPECTED = {("Linux", "aarch64"), ("Darwin", "arm64")}


def schema(project: Project) -> Finding:
    """Which revision has the record store? (It was upgraded when it was opened.)"""
    with project.store.database.read() as conn:
        found = version_of(conn)
    return Finding(found == HEAD, "schema", f"revision {found}; this release has {HEAD}")


def backup(project: Project) -> Finding:
    """How old is the last backup?"""
    last, limit = project.store.get("", LAST), project.home.settings.backup.max_age
    if last is None:
        return Finding(limit is None, "backup", "none was made yet; keepfit backup FOLDER makes one")
    age = project.home.clock.now() - datetime.fromisoformat(last["at"])
    said = f"the last one is {spelt(age)} old: {last['file']}"
    if limit is not None and age > limit:
        return Finding(False, "backup", f"{said}; {spelt(limit)} are allowed [backup.max_age]: keepfit backup FOLDER")
    return Finding(True, "backup", said)


def room(project: Project) -> Finding:
    """When is the disk full?"""
    disk = named(LATE["forecast"])(project.home, project.store)["disk"]
    full = disk["full_in_days"]
    if full is None:
        return Finding(True, "disk forecast", disk["because"])
    said = f"full in {spelt(timedelta(days=full))}: {disk['because']}"
    return Finding(full > SOON, "disk forecast", said if full > SOON else f"{said}; make room, or set [retention]")


def secrets(project: Project) -> Finding:
    """Are secrets where only their owner reads them?"""
    values, file = read_values(project.folder), project.folder / FILE
    plain = sorted(plain_secrets(values))
    if plain and open_to_others(file):
        named_ = ", ".join(plain)
        why = f"{file} may be read by everyone and has secrets in plain words ({named_}): chmod 600, or write env:NAME"
        return Finding(False, "secrets", why)
    loose = [str(path) for path in secret_files(values) if path.is_file() and open_to_others(path)]
    if loose:
        return Finding(False, "secrets", f"everyone may read {', '.join(loose)}: chmod 600 {loose[0]}")
    if plain:
        said = f"in plain words in {file}: {', '.join(plain)}; env:NAME or file:PATH keeps them out of backups"
        return Finding(True, "secrets", said)
    return Finding(True, "secrets", "none stands in plain words in the settings file")


def kept(project: Project) -> Finding:
    """What is stored of people's texts, and what does not work for that?"""
    discretion(project.model, project.settings)  # a mask that is not there is found here, not by a server
    lost = list(given_up(project.settings))
    failed = project.store.get(project.model, MASK_FAILED)
    if failed is not None:
        lost.append(f"the mask has failed {failed['count']} times (last: {failed['error']}); these texts are not kept")
    return Finding(failed is None, "texts", "; ".join(lost) or "all are kept as they came")


def given_up(model: ModelSettings) -> Iterator[str]:
    """What the settings of `keep` cost, as phrases; nothing where all is kept.

    >>> list(given_up(ModelSettings()))
    []
    """
    if model.keep.texts == "none":
        yield (
            "texts are not kept: the label queue shows ids only, nothing is learnt from labels in life, a challenger "
            "does not answer labelled texts later, backtests need a file, compression learns from training texts only, "
            "and POST /batches is refused"
        )
    if model.keep.mask is not None:
        yield (
            f"texts are kept as {model.keep.mask} masks them: people label, and versions learn from, masked texts; "
            "POST /batches is refused"
        )
    if model.keep.embeddings < 1:
        yield f"{model.keep.embeddings:.0%} of the embeddings are kept: windows measure drift on so many answers"


def platform(project: Project) -> Finding:
    """Is this machine of a kind that is tested?"""
    here = (machine.system(), machine.machine())
    words = f"{here[0]} {here[1]}, Python {machine.python_version()}"
    if here in TESTED:
        return Finding(True, "platform", f"{words}: tested")
    how = "expected to work, not tested" if here in EXPECTED else "not tested; on Windows use WSL"
    return Finding(True, "platform", f"{words}: {how} (docs/platforms.md)")


CHECKS = (schema, backup, room, secrets, kept, platform)
