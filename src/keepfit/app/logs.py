"""Logs of the server and the worker: one line an event, as text or JSON, with what it is about; never a content."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import IO, Any, Literal

FACTS = ("model", "version", "request", "prediction", "route", "method", "code", "seconds", "caller", "asked_by")
"""What a line may say besides its message, given as `extra`; everything else is left out."""

Context = Callable[[], Mapping[str, Any]]


def nothing_known() -> Mapping[str, Any]:
    """Outside of a request."""
    return {}


def room_of(logger: str) -> str:
    """The room that speaks.

    >>> room_of("keepfit.serving.writer"), room_of("keepfit.app.http.labels"), room_of("werkzeug")
    ('serving', 'app', 'werkzeug')
    """
    parts = logger.split(".")
    return parts[1] if parts[0] == "keepfit" and len(parts) > 1 else parts[0]


def facts_of(record: logging.LogRecord, context: Context) -> dict[str, Any]:
    """What the line is about: what was given with it, else what is known of the request under way."""
    known = context()
    found = {name: getattr(record, name, known.get(name)) for name in FACTS}
    return {name: value for name, value in found.items() if value is not None}


class TextFormatter(logging.Formatter):
    """`2026-11-26T12:00:00.000Z INFO serving: message (model=m version=3)`; a traceback follows on lines of its own."""

    def __init__(self, context: Context = nothing_known) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{name}={one_line(value)}" for name, value in facts_of(record, self._context).items())
        line = f"{moment(record)} {record.levelname} {room_of(record.name)}: {one_line(record.getMessage())}"
        line = f"{line} ({facts})" if facts else line
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """An object a line: time, level, room, message, the facts, and the traceback as one string."""

    def __init__(self, context: Context = nothing_known) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": moment(record), "level": record.levelname, "room": room_of(record.name),
            "message": record.getMessage(), **facts_of(record, self._context),
        }  # fmt: skip
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, default=str)


def moment(record: logging.LogRecord) -> str:
    """When it happened, in UTC."""
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(value: Any) -> str:
    """Without line ends and other signs that a terminal obeys.

    >>> one_line("two" + chr(10) + "lines")
    'two lines'
    """
    return "".join(sign if sign.isprintable() else " " for sign in str(value))


def write_logs(
    form: Literal["text", "json"], context: Context = nothing_known, stream: IO[str] | None = None
) -> logging.Handler:
    """From now on keepfit's lines, and other libraries' warnings, go to standard error (or `stream`) in this form."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter((JsonFormatter if form == "json" else TextFormatter)(context))
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("keepfit").setLevel(logging.INFO)
    return handler
