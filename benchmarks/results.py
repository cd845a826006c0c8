"""What all benchmarks share: the machine they ran on, a table for people, and a small JSON for the repository."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from keepfit import __version__

FOLDER = Path(__file__).parent / "results"


def save(name: str, result: Mapping[str, Any]) -> Path:
    """Write results/NAME.json, with the machine and the day."""
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "load": round(os.getloadavg()[0], 2)}
    about = {"keepfit": __version__, "at": datetime.now(UTC).date().isoformat(), "machine": machine}
    file = FOLDER / f"{name}.json"
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps({**about, **result}, indent=1) + "\n", "utf-8")
    print(f"written: benchmarks/results/{file.name}")
    return file


def table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys, as a table."""
    made = Table(title=title, box=None)
    for name in rows[0]:
        made.add_column(name)
    for row in rows:
        made.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console().print(made)
