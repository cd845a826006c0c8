"""Redaction: passwords in addresses, tokens and known secrets become ***, wherever words leave keepfit."""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote, unquote, urlsplit

HIDDEN = "***"
SHORTEST = 6
"""Shorter secrets are not looked for: they would be found in every second word."""
_PART = 8

_RULES = (
    (re.compile(r"(?<=://)([^\s/:@]*):[^\s/]*@"), rf"\1:{HIDDEN}@"),
    (re.compile(r"(?<=://)[^\s/:@]{16,}@"), f"{HIDDEN}@"),
    (re.compile(r"(?i)(\bbearer\s+)[A-Za-z0-9._~+/=-]{16,}"), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"(?i)\b((?:ssl)?password|passwd|pwd|secret|token|api_?key|access_?key)(=|[\"']:\s*[\"'])[^\s&\"',;)]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
)
_known: set[str] = set()


def redacted(text: str) -> str:
    """The text without anything that looks like a secret, and without those that were remembered.

    >>> redacted("postgresql://anna:geheim@db/keepfit?sslpassword=x does not answer")
    'postgresql://anna:***@db/keepfit?sslpassword=*** does not answer'
    """
    for secret in sorted(_known, key=len, reverse=True):  # a secret may hold another one
        if secret in text:
            text = text.replace(secret, HIDDEN)
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text


def remember(secret: str) -> None:
    """From now on this very text is hidden in this process, as it is and as it stands in addresses."""
    _known.update(form for form in (secret, quote(secret, safe=""), quote(secret)) if len(form) >= SHORTEST)


def remember_address(url: str) -> None:
    """Hide the secrets of an address: its password; where it holds several keys (as chat services do), each of them."""
    parts = urlsplit(url)
    given = [part for part in re.split(r"[/:@?&=]+", url.partition("://")[2]) if len(part) >= _PART]
    keys = [part for part in given if "." not in part and re.search(r"\d|[A-Z]", part)]
    for secret in (parts.password or "", *keys):
        remember(secret)
        remember(unquote(secret))


def guard_logs() -> None:
    """Let no log record of this process hold a secret, whoever writes it and whatever handles it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "redacts", False):
        return

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = make(*args, **kwargs)
        try:
            made.msg, made.args = redacted(made.getMessage()), ()
        except (TypeError, ValueError):  # a wrong call of a logger: logging says so itself
            return made
        if made.exc_info and made.exc_info[0] is not None:
            made.exc_text = redacted(logging.Formatter().formatException(made.exc_info))
        return made

    record.redacts = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(record)
