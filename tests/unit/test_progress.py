"""Progress where nobody looks at a bar: a log."""

from __future__ import annotations

import io

from rich.console import Console

from keepfit.app.progress import Lines


def test_a_log_gets_a_line_for_each_tenth_and_each_new_thing() -> None:
    written = io.StringIO()
    lines = Lines(Console(file=written, width=100))
    for step in range(40):
        lines.tell("training", step / 40, f"loss {1 - step / 40:.3f}")
    lines.tell("trial 2 of 3", 0.0, "")
    told = written.getvalue().splitlines()
    assert len(told) == 11
    assert told[0] == "training: 0%  loss 1.000"
    assert told[-1] == "trial 2 of 3: 0%"
