"""How long work says how far it is: to a progress bar, a log, or nobody."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Hears (done, of all); None where that is not known."""
Tell = Callable[[str, int, int | None], None]
"""Hears (what is being done, done, of all)."""


def silent(what: str, done: int, of: int | None) -> None:
    """Nobody hears."""
