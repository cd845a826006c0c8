"""docs/adopt.md as it is written: its commands are run, and print what it shows.

Each walk is one section. Its ```sh blocks are one script of bash, in which every command stands on the line that it has
in the document; a ```text block shows what the block before it prints on standard output. There `...` stands for
anything in a line, and alone on a line for any number of lines. What runs in the background is stopped at the end.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "adopt.md"
WALKS = ("From scratch", "Beside a running server", "Take over")
DEADLINE = 400.0
MARK = "@@ block at line "


class Stumbled(AssertionError):
    """A walk that does not go as the page says."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences; `line` is that of the first one, counted from 1."""

    kind: str
    line: int
    lines: tuple[str, ...]


def blocks(page: str, heading: str) -> list[Block]:
    """The fenced blocks of a section."""
    found, inside, kind, first, lines = [], False, "", 0, list[str]()
    for number, line in enumerate(page.splitlines(), 1):
        if kind and line == "```":
            found.append(Block(kind, first, tuple(lines)))
            kind = ""
        elif kind:
            lines.append(line)
        elif line.startswith("## "):
            inside = line == f"## {heading}"
        elif inside and line.startswith("```"):
            kind, first, lines = line[3:], number, []
    return found


def script(parts: list[Block]) -> str:
    """Bash that stops at the first command that fails, and names its line."""
    trap = r"""trap 'echo "line $LINENO: $BASH_COMMAND" >&2' ERR; set -eE"""
    made = {1: trap}
    for part in parts:
        if part.kind == "sh":
            made[part.line] = f"printf '\\n{MARK}{part.line}\\n'"
            made |= {part.line + i: line for i, line in enumerate(part.lines, 1)}
    return "\n".join(made.get(number, "") for number in range(1, max(made) + 1)) + "\n"


def expected(lines: tuple[str, ...]) -> re.Pattern[str]:
    """What a ```text block allows; runs of spaces count as one."""
    made = ""
    for line in lines:
        if line.strip() == "...":
            made += r"(?:[^\n]*\n)*?"
        else:
            made += re.escape(" ".join(line.split())).replace(re.escape("..."), r"[^\n]*") + "\n"
    return re.compile(made)


def tidied(printed: str) -> str:
    return "".join(" ".join(line.split()) + "\n" for line in printed.splitlines() if line.strip())


def stop(process: subprocess.Popen[bytes]) -> None:
    """Everything that the walk has left running."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    left = [one for one in psutil.process_iter() if group(one) == process.pid]
    for one in psutil.wait_procs(left, timeout=30)[1]:
        one.kill()


def group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def walk(page: str, heading: str, folder: Path, environ: Mapping[str, str]) -> int:
    """Go through a section in a folder; how many outputs were compared. Raises Stumbled with the line."""
    parts = blocks(page, heading)
    (folder / "out").mkdir()
    file, out, err = folder / "walk.bash", folder / "out" / "stdout", folder / "out" / "stderr"
    file.write_text(script(parts), "utf-8")
    (here := folder / "here").mkdir()
    with out.open("wb") as o, err.open("wb") as e:
        process = subprocess.Popen(
            ["bash", str(file)], cwd=here, env=dict(environ), stdin=subprocess.DEVNULL, stdout=o, stderr=e,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(DEADLINE)
        finally:
            stop(process)
    told, said = err.read_text("utf-8", "replace"), out.read_text("utf-8", "replace")
    if code:
        logs = "".join(f"\n== {one.name}\n{one.read_text('utf-8', 'replace')[-3000:]}" for one in here.glob("*.log"))
        raise Stumbled(f"{heading!r} ended with code {code}\n{told[-3000:]}\nIt had printed:\n{said[-3000:]}{logs}")
    printed = {int(part.partition("\n")[0]): part.partition("\n")[2] for part in said.split(f"\n{MARK}")[1:]}
    compared, wrong = 0, list[str]()
    for before, block in itertools.pairwise(parts):
        if block.kind == "text":
            found = tidied(printed[before.line])
            if not expected(block.lines).fullmatch(found):
                wrong.append(f"{heading!r}: line {block.line} shows what was not printed, which was:\n{found}")
            compared += 1
    if wrong:
        raise Stumbled("\n".join(wrong))
    return compared


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment whose `keepfit` and `python` are those of this test, and a port that is free."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("keepfit", f"{sys.executable} -m keepfit.app.cli"), ("python", sys.executable)):
        (programs / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KEEPFIT_")}
    return kept | {"PATH": f"{programs}:{kept['PATH']}", "PORT": str(port), "COLUMNS": "120", "TERM": "dumb"}


@pytest.mark.parametrize("heading", WALKS)
def test_the_walk_goes_as_the_page_says(heading: str, tmp_path: Path, environ: dict[str, str]) -> None:
    if shutil.which("curl") is None or shutil.which("bash") is None:
        if os.environ.get("CI") == "true":
            raise FileNotFoundError("bash or curl is not installed")
        pytest.skip("bash or curl is not installed")
    assert walk(PAGE.read_text("utf-8"), heading, tmp_path, environ) >= 5


def test_every_section_with_commands_is_walked() -> None:
    page = PAGE.read_text("utf-8")
    assert [one for one in re.findall(r"^## (.+)$", page, re.MULTILINE) if blocks(page, one)] == list(WALKS)


SMALL = """\
## One

```sh
echo first
{second}
```

```text
first
{shown}
```
"""


def small(second: str, shown: str, folder: Path) -> int:
    return walk(SMALL.format(second=second, shown=shown), "One", folder, os.environ)


def test_wildcards_stand_for_what_differs(tmp_path: Path) -> None:
    assert small("seq 1 5; echo 'took   17 s'", "...\n5\ntook ... s", tmp_path) == 1


def test_a_command_that_fails_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Stumbled, match="line 5: ls no-such-file"):
        small("ls no-such-file", "...", tmp_path)


def test_an_output_that_differs_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(Stumbled, match="line 8 shows what was not printed"):
        small("echo second", "third", tmp_path)


def test_what_runs_in_the_background_is_stopped(tmp_path: Path) -> None:
    assert small("sleep 600 & echo $!", "...", tmp_path) == 1
    number = (tmp_path / "out" / "stdout").read_text("utf-8").split()[-1]
    assert not psutil.pid_exists(int(number)) or psutil.Process(int(number)).status() == psutil.STATUS_ZOMBIE
