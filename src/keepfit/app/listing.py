"""Listing: rows for people in a terminal of any width; what matters least is left out where there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

ROOM = 110
"""Columns of a terminal that has room for everything; --json has everything at any width."""
PAGE = 160
"""Columns of what goes to a file or another program."""


@dataclass(frozen=True)
class Column:
    """A column of a listing."""

    name: str
    folds: bool = False
    """Words that may go over several lines; all else stays in one."""
    spare: bool = False
    """Left out where there is no room."""


def listing(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows, which have a cell of rich's markup for each column."""
    if not console.is_terminal:
        console.width = max(console.width, PAGE)
    shown = [place for place, column in enumerate(columns) if console.width >= ROOM or not column.spare]
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for place in shown:
        folds = columns[place].folds
        table.add_column(columns[place].name, overflow="fold", no_wrap=not folds)
    for row in rows:
        table.add_row(*(row[place] for place in shown))
    console.print(table)
