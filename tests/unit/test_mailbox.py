"""The built-in mailbox: files that any mail program opens."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path

from keepfit.alerts.mailbox import MailboxChannel
from keepfit.clock import ManualClock


def test_a_message_is_one_whole_file_with_date_and_sender(tmp_path: Path, clock: ManualClock) -> None:
    MailboxChannel(tmp_path / "mail", clock).send("title", "body")
    (path,) = (tmp_path / "mail").iterdir()
    message = message_from_bytes(path.read_bytes(), policy=policy.default)
    assert path.suffix == ".eml"
    assert message["Date"].datetime == clock.now()
    assert "keepfit" in message["From"]
    assert message.get_content() == "body\n"
