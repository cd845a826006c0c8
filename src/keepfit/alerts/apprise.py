"""E-mail and every other service that Apprise knows, as a channel."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from urllib.parse import quote, urlencode

import apprise

from keepfit.errors import BackendError, SettingsError

IMPLICIT_TLS_PORT = 465
_logging = Lock()
"""Apprise tells its reasons only to its log, which belongs to the whole process."""


def email_url(host: str, port: int, user: str, password: str, sender: str | None, to: Sequence[str]) -> str:
    """The Apprise address of a mailbox: STARTTLS and login first (Gmail's way); TLS from the start on port 465.

    The server's certificate and name are verified. Raises SettingsError without a receiver.
    """
    if not to:
        raise SettingsError("alerts.email.to names nobody; write at least one address", "to")
    mode = "ssl" if port == IMPLICIT_TLS_PORT else "starttls"
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    options = {"smtp": host, "from": sender or user, "to": ",".join(to), "mode": mode, "format": "text"}
    return f"mailtos://{login}@{host}:{port}?{urlencode({**options, 'verify': 'yes'})}"


class AppriseChannel:
    """One Apprise address. Nothing is kept on disk and nobody but the address is contacted."""

    def __init__(self, url: str) -> None:
        """Raises SettingsError (without the address, which may hold a password) when Apprise cannot read it."""
        asset = apprise.AppriseAsset(app_id="keepfit", app_desc="keepfit", app_url="", async_mode=False)
        with overheard():
            plugin = apprise.Apprise.instantiate(url, asset=asset)
        if plugin is None:
            raise SettingsError(
                f"Apprise cannot read the alert address that begins with {url.split(':', 1)[0]!r};"
                " compare it with the services' forms at https://github.com/caronc/apprise/wiki",
                "urls",
            )
        # Apprise would sleep for seconds between two messages; repeats are grouped before they get here
        plugin.request_rate_per_sec = 0
        self._plugin = plugin
        self._name = str(plugin.service_name)

    @property
    def name(self) -> str:
        return self._name

    def send(self, title: str, body: str) -> None:
        with overheard() as log:
            sent = self._plugin.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        if not sent:
            raise BackendError(f"{self._name} did not take the message: {reason(log)}; check [alerts] and try again")


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def overheard() -> Iterator[list[logging.LogRecord]]:
    """What Apprise logs meanwhile, kept out of every other log: its debug lines may hold payloads and addresses."""
    logger, collector = logging.getLogger("apprise"), _Collector()
    with _logging:
        level, propagate = logger.level, logger.propagate
        logger.addHandler(collector)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield collector.records
        finally:
            logger.removeHandler(collector)
            logger.setLevel(level)
            logger.propagate = propagate


def reason(log: Sequence[logging.LogRecord]) -> str:
    """What a person needs of it: the warnings, and of the debug lines only the exceptions."""
    lines = [(record.levelno, record.getMessage()) for record in log]
    kept = [text.rstrip(".") for level, text in lines if level >= logging.WARNING or "Exception:" in text]
    return "; ".join(kept) or "no reason was given"
