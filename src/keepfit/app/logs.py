"""Logs of the server and the worker: one line an event, as text or JSON, with what it is about; never a content."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from multiprocessing.util import Finalize
from typing import IO, Any, Literal

import orjson

from keepfit.redaction import redacted

FACTS = ("model", "version", "request", "prediction", "route", "method", "code", "seconds", "caller", "asked_by")
"""What a line may say besides its message, given as `extra`; everything else is left out."""

LINGER_S = 0.05
MOST_LINES = 20_000

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
    given = record.__dict__
    known = context() if "request" not in given else {}
    found = {name: given.get(name, known.get(name)) for name in FACTS}
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
        return f"{line}\n{redacted(self.formatException(record.exc_info))}" if record.exc_info else line


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
            said["exception"] = redacted(self.formatException(record.exc_info))
        return orjson.dumps(said, default=str).decode()


def moment(record: logging.LogRecord) -> str:
    """When it happened, in UTC."""
    return datetime.fromtimestamp(record.created, UTC).isoformat("T", "milliseconds")[:23] + "Z"


def one_line(value: Any) -> str:
    """Without line ends and other signs that a terminal obeys.

    >>> one_line("two" + chr(10) + "lines")
    'two lines'
    """
    words = str(value)
    return words if words.isprintable() else "".join(sign if sign.isprintable() else " " for sign in words)


class Lines:
    """A stream that is written aside, so that a log which nobody reads, or a slow disk, never holds up an answer.

    Lines are written within LINGER_S; a killed process loses those. Where more than `most` wait, new ones are dropped,
    and how many is said (by `dropped`) when writing goes on.
    """

    def __init__(self, stream: IO[str], dropped: Callable[[int], str], most: int = MOST_LINES) -> None:
        self._stream, self._dropped_line, self._most = stream, dropped, most
        self._waiting: deque[str] = deque()
        self._change = threading.Condition()
        self._busy, self._dropped = False, 0
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Take a line; from any thread."""
        with self._change:
            if len(self._waiting) >= self._most:
                self._dropped += 1
                return
            self._waiting.append(line)
            if len(self._waiting) == 1:
                self._change.notify_all()

    def flush(self) -> None:
        """Nothing: it is written soon."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait until everything is written, but not for ever for a reader that is gone."""
        with self._change:
            self._change.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def _run(self) -> None:
        pause = threading.Event()  # never set: lines that come together are written together
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting)
                self._busy = True
            pause.wait(LINGER_S)
            with self._change:
                lines = list(self._waiting)
                self._waiting.clear()
                dropped, self._dropped = self._dropped, 0
            with contextlib.suppress(OSError, ValueError):  # the reader is gone; there is nobody left to tell
                self._stream.write("".join([*lines, self._dropped_line(dropped)] if dropped else lines))
                self._stream.flush()
            with self._change:
                self._busy = False
                self._change.notify_all()


def write_logs(
    form: Literal["text", "json"], context: Context = nothing_known, stream: IO[str] | None = None
) -> logging.StreamHandler[Lines]:
    """From now on keepfit's lines, and other libraries' warnings, go to standard error (or `stream`) in this form."""
    formatter = (JsonFormatter if form == "json" else TextFormatter)(context)

    def dropped(n: int) -> str:
        words = f"{n} lines were dropped, since the log was not read in time"
        return formatter.format(logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, (), None)) + "\n"

    lines = Lines(stream or sys.stderr, dropped)
    Finalize(None, lines.close, exitpriority=5)
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter)
    logging.getLogger().addHandler(handler)
    logging.getLogger("keepfit").setLevel(logging.INFO)
    return handler
