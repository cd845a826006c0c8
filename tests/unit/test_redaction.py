"""No secret leaves keepfit in its words: errors, logs, settings, doctor, reports."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from keepfit import redaction
from keepfit.alerts.alerts import Alert, AlertKind, Alerts
from keepfit.alerts.apprise import AppriseChannel
from keepfit.app import show
from keepfit.app.doctor import examine
from keepfit.app.project import Project
from keepfit.app.settings import load
from keepfit.data.database import open_database
from keepfit.data.tokens import Token, hash_token
from keepfit.errors import BackendError
from keepfit.redaction import guard_logs, redacted, remember, remember_address

PASSWORD = "gEh3im/und=lang"
STORE = "postgresql://anna:gEh3im%2Fund%3Dlang@db.example/keepfit"


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """What a test makes the process remember is forgotten after it, and so is its way of making log records."""
    known, factory = set(redaction._known), logging.getLogRecordFactory()
    yield
    redaction._known.clear()
    redaction._known.update(known)
    logging.setLogRecordFactory(factory)


@pytest.mark.parametrize(
    ("words", "secret"),
    [
        ("postgresql://anna:pass-word@db:5432/x refused", "pass-word"),
        ("postgresql://anna:p@ss@db/x refused", "p@ss"),
        ("postgresql://db/keepfit?user=a&password=geheim&sslmode=x", "geheim"),
        ("postgresql://db/keepfit?sslpassword=geheim", "geheim"),
        ("rtsp://admin:camera1@10.0.0.7/live is gone", "camera1"),
        ("https://ghp_abcdefghijklmnop@git.example/x", "ghp_abcdefghijklmnop"),
        ("sent Authorization: Bearer abcdefghijklmnopqrstuvwxyz012345", "abcdefghijklmnopqrstuvwxyz012345"),
        ('{"token": "abcdef"}', "abcdef"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(words: str, secret: str) -> None:
    assert secret not in redacted(words)
    assert secret not in str(BackendError(words))


@pytest.mark.parametrize(
    "words", ["the token 'app' lacks the role 'label'", "https://db.example/x?limit=3", "a@b.example"]
)
def test_other_words_stay(words: str) -> None:
    assert redacted(words) == words


def test_a_chat_services_keys_are_hidden_wherever_they_turn_up() -> None:
    remember_address("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general")
    said = redacted("HTTPSConnectionPool: max retries with url /services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    assert "T1JJ3T3L2" not in said
    assert "TIiajkdnlazkcOXrIdevi7FQ" not in said


def test_a_short_word_is_never_hidden_everywhere() -> None:
    remember("a")
    assert redacted("a banana") == "a banana"


def settings_with_secrets(folder: Path) -> None:
    (folder / "keepfit.toml").write_text(
        f'store = "{STORE}"\n[worker]\njobs_database = "{STORE}"\n[alerts]\nurls = ["json://u:s3cretPart9@h.example/p"]\n'
        f'[alerts.email]\nuser = "me"\npassword = "{PASSWORD}"\nto = ["you@x.example"]\n',
        "utf-8",
    )


def test_settings_that_are_shown_hold_no_secret_and_make_it_known(tmp_path: Path) -> None:
    settings_with_secrets(tmp_path)
    shown = repr(load(tmp_path, {}))
    for secret in ("gEh3im", "s3cretPart9"):
        assert secret not in shown
    for words in (f"login with {PASSWORD} failed", f"cannot reach {STORE}", "s3cretPart9 refused"):
        assert PASSWORD not in redacted(words)
        assert "s3cretPart9" not in redacted(words)
        assert "gEh3im%2F" not in redacted(words)


def test_the_doctor_shows_the_store_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text(
        'store = "postgresql://anna:gEh3im@127.0.0.1:1/db?connect_timeout=1&password=geheim2"\n', "utf-8"
    )
    said = str(examine(tmp_path, send_test=False))
    assert "gEh3im" not in said
    assert "geheim2" not in said


def test_a_database_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(BackendError) as failed:
        open_database("postgresql://anna:gEh3im@127.0.0.1:1/db?connect_timeout=1&sslpassword=geheim2")
    assert "gEh3im" not in str(failed.value)
    assert "geheim2" not in str(failed.value)


def test_an_alert_channel_that_fails_says_so_without_its_keys() -> None:
    url = "json://user:gEh3imPart1@127.0.0.1:1/path"
    remember_address(url)
    with pytest.raises(BackendError) as failed:
        AppriseChannel(url).send("title", "body")
    assert "gEh3imPart1" not in str(failed.value)


def test_a_channel_of_any_make_that_fails_is_recorded_without_its_keys() -> None:
    class Broken:
        name = "broken"

        def send(self, title: str, body: str) -> None:
            raise ValueError("https://u:gEh3im@hooks.example/x did not answer")

    alert = Alert(AlertKind.FAILURE, "m", "title", "body", datetime(2025, 1, 1, tzinfo=UTC))
    (why,) = Alerts([Broken()]).send(alert).failed
    assert "gEh3im" not in why


def test_logs_hold_no_secret_whoever_writes_them_and_no_traceback_does() -> None:
    guard_logs()
    guard_logs()
    stream = io.StringIO()
    log, handler = logging.Logger("a library"), logging.StreamHandler(stream)
    log.addHandler(handler)
    try:
        raise ValueError("postgresql://anna:gEh3im@db/x")
    except ValueError:
        log.exception("cannot reach %s", "postgresql://anna:gEh3im@db/x")
    said = stream.getvalue()
    assert "gEh3im" not in said
    assert "ValueError" in said
    assert "Traceback" in said


def test_the_report_of_an_unexpected_fault_holds_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    show.unexpected(ValueError("postgresql://anna:gEh3im@db/x is odd"))
    said = "".join(capsys.readouterr().err.split())
    report = Path(said[said.rindex("with") + 4 :])
    assert "gEh3im" not in said
    assert "gEh3im" not in report.read_text("utf-8")
    report.unlink()


def test_a_statement_that_fails_is_not_logged_with_what_users_sent(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'x.db'}")
    assert database.engine.hide_parameters
    database.engine.dispose()


def test_a_tokens_secret_is_in_no_file_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "keepfit.toml").write_text('tracking = "local"\n[models.m]\ntask = "toy"\n', "utf-8")
    project = Project(tmp_path)
    secret = project.add_token("app", ["predict"])
    assert project.store.tokens() == [Token("app", hash_token(secret), ("predict",), project.store.tokens()[0].created)]
    project.close()
    assert all(secret.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
