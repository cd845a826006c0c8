"""Finding: one thing that `keepfit doctor` looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """`ok` false comes with a detail that says what to do."""

    ok: bool
    what: str
    detail: str
