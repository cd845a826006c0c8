"""Shadows are asked aside, in small groups, and what finds no room is counted."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from keepfit.data.records import Example
from keepfit.serving.shadow import AT_ONCE, Shadow

NOW = datetime(2025, 1, 1, tzinfo=UTC)
EXAMPLES = [Example(f"text {n}", NOW) for n in range(3 * AT_ONCE)]


def test_each_version_is_asked_for_its_own_examples_in_order_and_in_groups() -> None:
    heard: list[tuple[Any, int]] = []
    hold = threading.Event()

    def ask(served: Any, examples: Sequence[Example]) -> None:
        hold.wait(10)
        heard.append((served, len(examples)))

    shadow = Shadow(ask, 1000, "m")
    shadow.offer({"two": EXAMPLES[:1]})
    shadow.offer({"two": EXAMPLES[: AT_ONCE + 4], "three": EXAMPLES[:2]})
    hold.set()
    assert shadow.drain()
    assert sum(n for served, n in heard if served == "two") == AT_ONCE + 5
    assert [n for served, n in heard if served == "three"] == [2]
    assert max(n for _, n in heard) <= AT_ONCE
    shadow.close()


def test_what_finds_no_room_is_dropped_and_counted() -> None:
    hold = threading.Event()
    shadow = Shadow(lambda served, examples: hold.wait(10) and None, 5, "m")
    shadow.offer({"two": EXAMPLES[:20]})
    assert shadow.dropped == 15
    hold.set()
    assert shadow.drain()
    shadow.close()


def test_one_that_raises_does_not_stop_the_next(caplog: Any) -> None:
    heard: list[int] = []

    def ask(served: Any, examples: Sequence[Example]) -> None:
        if served == "bad":
            raise RuntimeError("no")
        heard.append(len(examples))

    shadow = Shadow(ask, 100, "m")
    shadow.offer({"bad": EXAMPLES[:1]})
    shadow.offer({"good": EXAMPLES[:1]})
    assert shadow.drain()
    assert heard == [1]
    assert "could not be asked" in caplog.text
    shadow.close()


def test_a_closed_one_takes_nothing_more() -> None:
    shadow = Shadow(lambda served, examples: None, 100, "m")
    shadow.close()
    shadow.offer({"two": EXAMPLES[:1]})
    assert shadow.waiting() == 0
