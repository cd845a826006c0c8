"""A line an event, that says what it is about, and nothing that was asked or answered."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from keepfit.app.logs import Lines, write_logs

log = logging.getLogger("keepfit.serving.writer")


@contextmanager
def heard(form: Literal["text", "json"], **known: str) -> Iterator[io.StringIO]:
    """What is logged in the block; all of it is there when the block ends."""
    stream = io.StringIO()
    handler = write_logs(form, lambda: known, stream)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)
        handler.stream.close(10)


def test_json_has_time_level_room_message_and_what_it_is_about() -> None:
    with heard("json", request="r-1") as stream:
        log.warning("%d wait", 3, extra={"model": "m", "version": 2, "text": "never shown"})
    said = json.loads(stream.getvalue())
    assert said.pop("time").endswith("Z")
    assert said == {
        "level": "WARNING", "room": "serving", "message": "3 wait", "model": "m", "version": 2, "request": "r-1",
    }  # fmt: skip


def test_text_is_one_line_whatever_the_message_holds() -> None:
    with heard("text") as stream:
        log.info("two\nlines \x1b[31mred", extra={"model": "m"})
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("INFO serving: two lines  [31mred (model=m)")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_traceback_stays_with_its_line(form: Literal["text", "json"]) -> None:
    with heard(form) as stream:
        try:
            raise ValueError("bad")
        except ValueError:
            log.exception("it failed")
    assert "ValueError: bad" in stream.getvalue()
    assert form == "text" or len(stream.getvalue().splitlines()) == 1


class Reader(io.StringIO):
    """Reads nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.reads = threading.Event(), threading.Event()

    def write(self, words: str) -> int:
        self.asked.set()
        self.reads.wait(30)
        return super().write(words)


def test_a_log_that_nobody_reads_holds_up_nobody_and_says_what_was_dropped() -> None:
    stream = Reader()
    lines = Lines(stream, lambda n: f"{n} dropped\n", most=3)
    lines.write("first\n")
    assert stream.asked.wait(30)  # it is being written, and waits for its reader
    for number in range(5):
        lines.write(f"{number}\n")
    stream.reads.set()
    lines.close(10)
    lines.write("last\n")
    lines.close(10)
    assert stream.getvalue().splitlines() == ["first", "0", "1", "2", "2 dropped", "last"]


def test_a_reader_that_is_gone_ends_nothing() -> None:
    stream = io.StringIO()
    lines = Lines(stream, str)
    stream.close()
    for _ in range(2):
        lines.write("to nobody\n")
        lines.close(10)
