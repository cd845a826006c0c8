"""Channels that need nobody else: the built-in mailbox (a folder of .eml files) and the shipped fake."""

from __future__ import annotations

import os
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path

from keepfit.clock import Clock
from keepfit.data.records import new_id
from keepfit.errors import BackendError


class MailboxChannel:
    """Keeps each message as an .eml file that any mail program opens; the names sort by time."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder, self._clock = folder, clock

    @property
    def name(self) -> str:
        return "mailbox"

    def send(self, title: str, body: str) -> None:
        now = self._clock.now()
        message = EmailMessage()
        message["Subject"] = " ".join(title.split())
        message["From"], message["To"] = "keepfit <keepfit@localhost>", "you@localhost"
        message["Date"] = format_datetime(now)
        message.set_content(body)
        path = self._folder / f"{now:%Y%m%dT%H%M%S%f}-{new_id()[:8]}.eml"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(bytes(message))
            os.replace(part, path)  # a reader never sees half a message
        except OSError as error:
            raise BackendError(f"the mailbox {self._folder} cannot be written ({error.strerror}); make room") from error


class MemoryChannel:
    """Keeps what was sent in a list; while `broken` holds a reason, every message fails with it."""

    def __init__(self, name: str = "memory") -> None:
        self.sent: list[tuple[str, str]] = []
        self.broken: str | None = None
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def send(self, title: str, body: str) -> None:
        if self.broken is not None:
            raise BackendError(self.broken)
        self.sent.append((title, body))
