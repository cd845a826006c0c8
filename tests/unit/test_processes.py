"""Processes that are minded: started again when they die, given up when they die too often."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from keepfit.app.processes import FAULT, MOST_FAILURES, REFUSED, Minded

DEADLINE = 30.0
FOREVER = "import signal; signal.pause()"
Start = Callable[[str], Minded]


def eventually(condition: Callable[[], bool]) -> None:
    pause, end = threading.Event(), time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        pause.wait(0.01)


@pytest.fixture
def start() -> Iterator[Start]:
    """A minded Python that runs this code; stopped at the end."""
    with ExitStack() as stack:

        def begin(code: str) -> Minded:
            made = Minded("test", [sys.executable, "-S", "-c", code])
            stack.callback(made.stop)
            assert made.mind()
            return made

        yield begin


def died(minded: Minded) -> bool:
    return minded.process is not None and minded.process.poll() is not None


def test_a_living_process_is_left_alone(start: Start) -> None:
    minded = start(FOREVER)
    first = minded.process
    assert minded.mind()
    assert minded.process is first
    assert minded.failures == 0


def test_a_dead_process_is_started_again_after_a_pause(start: Start) -> None:
    minded = start("raise SystemExit(7)")
    eventually(lambda: died(minded))
    assert minded.mind()
    assert minded.process is None
    assert minded.wait_until > time.monotonic()
    assert minded.mind()
    assert minded.process is None, "not before the pause is over"
    minded.wait_until = 0.0
    assert minded.mind()
    assert minded.process is not None


def test_each_pause_is_longer_and_the_fifth_death_is_the_last(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    minded = start("raise SystemExit(7)")
    pauses = []
    for _ in range(MOST_FAILURES - 1):
        eventually(lambda: died(minded))
        assert minded.mind()
        pauses.append(minded.wait_until - time.monotonic())
        minded.wait_until = 0.0
        assert minded.mind()
    eventually(lambda: died(minded))
    assert not minded.mind()
    assert minded.code == 7
    assert pauses == sorted(pauses)
    assert 0.5 < pauses[0] <= 1
    assert "it is not started again" in capsys.readouterr().err


def test_a_process_that_lived_long_starts_its_count_anew(start: Start) -> None:
    minded = start("raise SystemExit(7)")
    minded.failures, minded.started = MOST_FAILURES - 1, minded.started - 60
    eventually(lambda: died(minded))
    assert minded.mind()
    assert minded.failures == 1


@pytest.mark.parametrize("code", [REFUSED, FAULT])
def test_one_that_said_why_it_cannot_start_is_not_tried_again(
    start: Start, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    minded = start(f"raise SystemExit({code})")
    eventually(lambda: died(minded))
    assert not minded.mind()
    assert minded.code == code
    assert capsys.readouterr().err == "", "it has said itself why"


def test_stop_ends_it_and_may_be_called_again(start: Start) -> None:
    minded = start(FOREVER)
    minded.stop()
    assert died(minded)
    minded.stop()


def test_one_that_has_lived_is_tried_again_however_it_ends(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A database that is away for a while stops a server from starting; that is no reason to end everything."""
    minded = start(f"raise SystemExit({REFUSED})")
    minded.started -= 60
    for _ in range(MOST_FAILURES + 2):
        eventually(lambda: died(minded))
        assert minded.mind()
        assert minded.wait_until - time.monotonic() <= 8
        minded.wait_until = 0.0
        assert minded.mind()
    assert "starting it again" in capsys.readouterr().err


@pytest.mark.parametrize(("daemon", "code"), [(False, 7), (True, 0)])
def test_a_step_that_cannot_be_interrupted_does_not_hold_the_process(daemon: bool, code: int) -> None:
    script = (
        "import threading; from keepfit.app.processes import end_without\n"
        f"threading.Thread(target=threading.Event().wait, daemon={daemon}).start()\n"
        "end_without(threading.enumerate(), 7)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code
    assert ("goes on at the next start" in done.stderr) is not daemon
