"""E-mail by SMTP with STARTTLS and login first, against a real SMTP server in this process."""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keepfit.alerts.alerts import Alert, AlertKind, Alerts
from keepfit.alerts.apprise import AppriseChannel, email_url
from keepfit.errors import BackendError, SettingsError

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""Apprise looks for it on Python 3.11 and 3.12."""

USER, PASSWORD = "me@example.org", "pa/ss w:ord@1"
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate of this machine and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    return paths


class Inbox(Sink):
    """Keeps each envelope, and whether it came over TLS."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[Envelope, bool]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.got.append((envelope, session.ssl is not None))
        return "250 taken"


@dataclass(frozen=True)
class Post:
    """A running post office."""

    inbox: Inbox
    port: int
    certificate: Path

    def url(self, password: str = PASSWORD) -> str:
        return email_url("localhost", self.port, USER, password, None, ("you@example.org", "team@example.org"))


def login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword) -> AuthResult:
    """Only one user is known."""
    return AuthResult(success=(data.login, data.password) == (USER.encode(), PASSWORD.encode()), handled=False)


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    inbox = Inbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    server = Controller(
        inbox, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True, auth_required=True,
        authenticator=login,
    )  # fmt: skip
    server.start()
    yield Post(inbox, port, cert)
    server.stop()


@pytest.fixture
def trusted(post: Post, monkeypatch: pytest.MonkeyPatch) -> Post:
    """The machine trusts the post office's certificate, as it would trust Gmail's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(post.certificate))
    return post


def test_an_alert_arrives_over_starttls_after_login(trusted: Post) -> None:
    delivery = Alerts([AppriseChannel(trusted.url())]).send(
        Alert(AlertKind.DEPLOYMENT, "reviews", "reviews: version 4", "90 % – good", NOON, "keepfit rollback")
    )
    assert delivery.failed == ()
    assert {to for envelope, _ in trusted.inbox.got for to in envelope.rcpt_tos} == {
        "you@example.org", "team@example.org",
    }  # fmt: skip
    envelope, encrypted = trusted.inbox.got[0]
    assert encrypted
    assert envelope.mail_from == USER
    message = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]
    assert message["Subject"] == "reviews: version 4"
    assert "To undo this: keepfit rollback" in message.get_content()


def test_a_wrong_password_is_told_but_not_repeated(trusted: Post) -> None:
    with pytest.raises(BackendError, match="535") as error:
        AppriseChannel(trusted.url("secret-typo")).send("title", "body")
    assert "secret-typo" not in str(error.value)
    assert trusted.inbox.got == []


def test_a_server_that_cannot_prove_its_name_gets_neither_password_nor_message(post: Post) -> None:
    with pytest.raises(BackendError, match="certificate verify failed"):
        AppriseChannel(post.url()).send("title", "body")
    assert post.inbox.got == []


def test_a_server_that_is_away_is_told() -> None:
    with pytest.raises(BackendError, match="refused"):
        AppriseChannel(email_url("localhost", 1, USER, PASSWORD, None, ("you@example.org",))).send("title", "body")


def test_what_apprise_says_stays_out_of_other_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    level = logging.getLogger("apprise").level
    with pytest.raises(BackendError):
        AppriseChannel(email_url("localhost", 1, USER, PASSWORD, None, ("you@example.org",))).send("title", "body")
    assert [record for record in caplog.records if record.name.startswith("apprise")] == []
    assert logging.getLogger("apprise").level == level


def test_gmail_is_addressed_its_way() -> None:
    url = email_url("smtp.gmail.com", 587, "me@gmail.com", "p", "Ann <me@gmail.com>", ("you@example.org",))
    assert url.startswith("mailtos://me%40gmail.com:p@smtp.gmail.com:587?")
    assert "mode=starttls" in url
    assert "verify=yes" in url
    assert AppriseChannel(url).name == "E-Mail"
    assert "mode=ssl" in email_url("smtp.example.org", 465, "me@example.org", "p", None, ("you@example.org",))


def test_an_address_that_cannot_be_read_is_refused_without_repeating_it() -> None:
    with pytest.raises(SettingsError, match="begins with 'slak'") as error:
        AppriseChannel("slak://token-secret")
    assert "token-secret" not in str(error.value)
    with pytest.raises(SettingsError, match="names nobody"):
        email_url("localhost", 587, USER, PASSWORD, None, ())
