"""Commands whose reader has gone away, as behind `head`: real processes at real pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TRAINING = """
import threading
from keepfit.app.progress import training_progress
from keepfit.app.readers import nobody_listens, survive_readers

survive_readers()
done = []

def step():
    with training_progress(False) as report:
        for stage in range(4):
            report({"stage": float(stage)}, 0)
    done.append(True)

thread = threading.Thread(target=step)
thread.start()
thread.join()
assert not nobody_listens()
print("the result", flush=True)
assert nobody_listens()
raise SystemExit(7 if done else 1)
"""

CAMERA = """
from keepfit.app.alarms import Said
from keepfit.app.cli import until_nobody_listens
from keepfit.app.readers import survive_readers

survive_readers()
tell = until_nobody_listens(lambda said: print(said, flush=True))
try:
    for number in range(5):
        tell(Said(number, number / 10, 0.9, 1))
except KeyboardInterrupt:
    raise SystemExit(7 + number)
"""


def unread(*command: str) -> int:
    """The exit code of Python running this, with standard output and error at a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, *command], stdout=writer, stderr=writer, timeout=60, check=False
        ).returncode
    finally:
        os.close(writer)


def test_a_step_that_tells_how_far_it_is_goes_on_when_nobody_listens_any_more() -> None:
    assert unread("-c", TRAINING) == 7


def test_a_camera_is_not_followed_when_nobody_listens_any_more() -> None:
    assert unread("-c", CAMERA) == 7


def test_a_command_has_its_usual_exit_code_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    assert unread("-m", "keepfit.app.cli", "init", "--project", str(tmp_path)) == 0
    assert unread("-m", "keepfit.app.cli", "rollback", "--project", str(tmp_path)) == 2


def test_what_is_closed_from_the_start_is_no_number_for_a_database(tmp_path: Path) -> None:
    script = (
        "from keepfit.app.readers import survive_readers; survive_readers();"
        f"import os; raise SystemExit(os.open({str(tmp_path / 'new')!r}, os.O_CREAT | os.O_WRONLY) < 3)"
    )
    line = f'exec "{sys.executable}" -c "{script}" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", line], timeout=60, check=False).returncode == 0
