"""A line an event, that says what it is about, and nothing that was asked or answered."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import pytest

from keepfit.app.logs import write_logs

log = logging.getLogger("keepfit.serving.writer")


@contextmanager
def heard(form: Literal["text", "json"], **known: str) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = write_logs(form, lambda: known, stream)
    try:
        yield stream
    finally:
        logging.getLogger().removeHandler(handler)


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
