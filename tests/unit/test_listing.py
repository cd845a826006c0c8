"""Listings in a terminal of 80 columns, and in a wide one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from keepfit.app.listing import Column, listing

COLUMNS = (
    Column("version"), Column("at (UTC)"), Column("role", folds=True), Column("accuracy"),
    Column("because", folds=True), Column("snapshot", spare=True), Column("made because", spare=True),
)  # fmt: skip
LONG = "accuracy 0.650 (0.610 to 0.690, 312 labels) is below the floor 0.80, and has been for a week"
ROW = ("12", "2026-11-27 02:36", "champion, pinned", "0.912 (0.741-0.990)", LONG, "f32e04060ddc", "routine")


def printed(width: int) -> list[str]:
    out = io.StringIO()
    listing(Console(file=out, width=width, force_terminal=True, color_system=None), COLUMNS, [ROW, ROW])
    return out.getvalue().splitlines()


def test_at_80_columns_nothing_is_broken_that_must_stay_whole_and_no_word_is() -> None:
    lines = printed(80)
    assert max(map(len, lines)) <= 80
    assert sum("2026-11-27 02:36" in line and "0.912 (0.741-0.990)" in line for line in lines) == 2
    words = {word for line in lines for word in line.split()}
    assert {*LONG.split()} <= words
    assert "snapshot" not in lines[0]


def test_a_file_gets_everything() -> None:
    out = io.StringIO()
    listing(Console(file=out, width=80), COLUMNS, [ROW])
    assert "f32e04060ddc" in out.getvalue()
    assert "2026-11-27 02:36" in out.getvalue()


@pytest.mark.parametrize("width", [120, 200])
def test_a_wide_terminal_shows_everything(width: int) -> None:
    lines = printed(width)
    assert "snapshot" in lines[0]
    assert "f32e04060ddc" in lines[1]
