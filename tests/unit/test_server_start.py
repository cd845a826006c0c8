"""A server that cannot start says why in one sentence, and its process ends with a code that tells what kind it was."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from keepfit.app.processes import FAULT, REFUSED
from keepfit.app.server import free_address
from keepfit.errors import BackendError

SCRIPT = """
from keepfit.app import cli, server
from keepfit.errors import BackendError

def make():
    raise {kind}("the store is away; start it first")

cli.run(lambda: server.serve(make, "localhost", 0), False)
"""


@pytest.mark.parametrize(("kind", "code", "prefix"), [("BackendError", REFUSED, ""), ("ValueError", FAULT, "unex")])
def test_what_the_serving_process_cannot_get_over_is_one_line_and_an_exit_code(
    kind: str, code: int, prefix: str
) -> None:
    script = [sys.executable, "-c", SCRIPT.format(kind=kind)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line.startswith(f"keepfit: {prefix}")
    assert "the store is away; start it first" in line
    assert done.returncode == code


def test_a_host_may_be_a_name_and_a_taken_port_is_told_with_the_next_step() -> None:
    assert free_address("localhost", 0) in ("127.0.0.1", "::1")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))  # taken, though nobody listens yet
        port = other.getsockname()[1]
        with pytest.raises(BackendError, match=f"127.0.0.1:{port} cannot be taken .* choose another --port"):
            free_address("127.0.0.1", port)
