"""What `doctor` says of the year: backups, secrets, the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepfit.app.doctor import examine
from keepfit.app.findings import Finding
from keepfit.app.project import Project
from keepfit.app.settings import load
from keepfit.data.upgrading import HEAD
from keepfit.pipelines.backup import LAST

SETTINGS = """\
tracking = "local"
{top}
[models.default]
task = "toy"
{more}
"""


def examined(folder: Path, more: str = "", top: str = "") -> dict[str, Finding]:
    (folder / "keepfit.toml").write_text(SETTINGS.format(more=more, top=top), "utf-8")
    return {finding.what: finding for finding in examine(folder, False)}


def test_a_project_without_backups_is_told_of_them_and_found_lacking_only_where_they_are_wanted(tmp_path: Path) -> None:
    assert examined(tmp_path)["backup"].ok
    wanted = examined(tmp_path, '[backup]\nmax_age = "2d"')["backup"]
    assert not wanted.ok
    assert "keepfit backup FOLDER" in wanted.detail


def test_a_backup_that_is_too_old_is_a_finding(tmp_path: Path) -> None:
    examined(tmp_path)
    project = Project(tmp_path)
    project.store.put("", LAST, {"at": "2025-01-01T00:00:00+00:00", "file": "/backups/a.tar"})
    project.close()
    old = examined(tmp_path, '[backup]\nmax_age = "2d"')["backup"]
    assert not old.ok
    assert "2 days are allowed [backup.max_age]" in old.detail
    assert examined(tmp_path)["backup"].ok, "without the setting it is only said"


def test_secrets_that_everyone_may_read_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = '[alerts]\nurls = ["json://user:correct-horse@localhost/"]'
    (tmp_path / "keepfit.toml").touch(mode=0o644)
    assert not examined(tmp_path, urls)["secrets"].ok
    (tmp_path / "keepfit.toml").chmod(0o600)
    mine = examined(tmp_path, urls)["secrets"]
    assert mine.ok
    assert "alerts.urls[0]" in mine.detail
    assert "correct-horse" not in mine.detail
    secret = tmp_path / "secret"
    secret.write_text("json://localhost/", "utf-8")
    secret.chmod(0o644)
    loose = examined(tmp_path, f'[alerts]\nurls = ["file:{secret}"]')["secrets"]
    assert not loose.ok
    assert "chmod 600" in loose.detail
    monkeypatch.setenv("THE_URL", "json://localhost/")
    assert "none stands in plain words" in examined(tmp_path, '[alerts]\nurls = ["env:THE_URL"]')["secrets"].detail


@pytest.mark.parametrize("way", ["env", "file"])
def test_every_address_may_lie_elsewhere(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql://ann:correct-horse@db/keepfit"
    monkeypatch.setenv("THE_PLACE", address)
    (tmp_path / "place").write_text(f"{address}\n", "utf-8")
    said = "env:THE_PLACE" if way == "env" else f"file:{tmp_path / 'place'}"
    top = f'store = "{said}"\ntracking = "{said}"\n[worker]\njobs_database = "{said}"\n[alerts]\nurls = ["{said}"]\n'
    (tmp_path / "keepfit.toml").write_text(top, "utf-8")
    settings = load(tmp_path, {})
    assert {settings.store, settings.tracking, settings.worker.jobs_database} == {address}
    assert settings.alerts.urls[0].get_secret_value() == address
    assert "correct-horse" not in repr(settings)


def test_schema_platform_and_disk_are_told(tmp_path: Path) -> None:
    found = examined(tmp_path)
    assert HEAD in found["schema"].detail
    assert "Python 3" in found["platform"].detail
    assert "cannot say yet" in found["disk forecast"].detail
    assert found["texts"].detail == "all are kept as they came"
