"""What every channel keeps: it delivers unchanged, or says why not with a BackendError; names hold no secrets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from keepfit.alerts.alerts import Channel
from keepfit.alerts.apprise import AppriseChannel
from keepfit.alerts.mailbox import MailboxChannel, MemoryChannel
from keepfit.clock import ManualClock
from keepfit.errors import BackendError

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""Apprise looks for it on Python 3.11 and 3.12."""

Received = Callable[[], list[tuple[str, str]]]


class Inbox(Message):
    """Keeps what a real SMTP server was given."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[str, str]] = []

    def handle_message(self, message: object) -> None:
        found = message_from_bytes(bytes(message), policy=policy.default)  # type: ignore[call-overload]
        self.got.append((str(found["Subject"]), found.get_body(("plain",)).get_content()))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def post(inbox: Inbox) -> Iterator[int]:
    """The port of a real SMTP server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    server = Controller(inbox, hostname="127.0.0.1", port=port)
    server.start()
    yield port
    server.stop()


@pytest.fixture(params=["memory", "mailbox", "apprise"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> tuple[Channel, Received]:
    if request.param == "memory":
        memory = MemoryChannel()
        return memory, lambda: memory.sent
    if request.param == "mailbox":
        return MailboxChannel(tmp_path / "mail", clock), lambda: letters(tmp_path / "mail")
    inbox: Inbox = request.getfixturevalue("inbox")
    port = request.getfixturevalue("post")
    url = f"mailto://127.0.0.1:{port}?from=me@example.org&to=you@example.org&format=text&mode=insecure"
    return AppriseChannel(url), lambda: inbox.got


def letters(folder: Path) -> list[tuple[str, str]]:
    found = [message_from_bytes(p.read_bytes(), policy=policy.default) for p in sorted(folder.glob("*.eml"))]
    return [(str(m["Subject"]), m.get_content()) for m in found]


@pytest.mark.parametrize("body", ["all is well", "- first\n- second\n\nÄpfel & <Birnen> 90 % – 日本"])
def test_it_delivers_words_unchanged(pair: tuple[Channel, Received], body: str) -> None:
    channel, received = pair
    channel.send("reviews: Größe <1>", body)
    ((title, text),) = received()
    assert title == "reviews: Größe <1>"
    assert text.strip().replace("\r\n", "\n") == body


def test_a_title_of_several_lines_cannot_forge_a_header(pair: tuple[Channel, Received]) -> None:
    channel, received = pair
    channel.send("title\nBcc: spy@example.org", "body")
    assert "Bcc" in received()[0][0] or received()[0][0].startswith("title"), "it stays in the subject"
    assert len(received()) == 1


def test_messages_stay_in_order(pair: tuple[Channel, Received], clock: ManualClock) -> None:
    channel, received = pair
    for number in range(3):
        channel.send(f"title {number}", "body")
        clock.advance(clock.now().resolution)
    assert [title for title, _ in received()] == ["title 0", "title 1", "title 2"]


def test_a_failure_is_a_backend_error_with_a_sentence(tmp_path: Path, clock: ManualClock) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", "utf-8")
    memory = MemoryChannel()
    memory.broken = "the line is dead"
    nobody = "mailto://127.0.0.1:1?from=me@example.org&to=you@example.org&mode=insecure"
    channels: list[Channel] = [memory, MailboxChannel(blocked, clock), AppriseChannel(nobody)]
    for channel in channels:
        with pytest.raises(BackendError, match=" "):
            channel.send("title", "body")


def test_names_hold_no_secrets(pair: tuple[Channel, Received]) -> None:
    assert pair[0].name
    assert "example.org" not in pair[0].name
