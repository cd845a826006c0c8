"""The demo's live display; silent when the output is for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from keepfit.app.demo.report import Moment
from keepfit.app.demo.traffic import Traffic
from keepfit.app.progress import phase

BARS = "▁▂▃▄▅▆▇█"


class Stage:
    """What people see while the demo runs."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Live(console=self._console, refresh_per_second=4, transient=False)
        self._phase, self._notes, self._numbers = "", list[str](), Table.grid(padding=(0, 3))
        self._curve: list[float] = []

    def __enter__(self) -> Stage:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def phase(self, words: str) -> None:
        """What happens now."""
        self._phase = words
        if not self._console.is_terminal:
            self._console.print(f"demo: {words}")
        self._draw()

    def note(self, words: str) -> None:
        """A line that stays."""
        self._notes.append(words)
        self._draw()

    def training(self, metrics: Mapping[str, float], step: int) -> None:
        """Progress of the first training."""
        shown = "  ".join(f"{k} {v:.3f}" for k, v in metrics.items() if "loss" in k or "accuracy" in k)
        self._numbers = Table.grid(padding=(0, 3))
        self._numbers.add_row(phase(metrics), f"step {step}" if step else "", shown)
        self._draw()

    def show(self, traffic: Traffic, accuracy: float, labels: int, moments: Sequence[Moment]) -> None:
        """The state of live traffic."""
        failed = sum(s.failed for s in traffic.seen)
        version = traffic.seen[-1].version if traffic.seen else 0
        self._curve = [*self._curve, accuracy][-80:]
        self._numbers = Table.grid(padding=(0, 3))
        self._numbers.add_row("second", f"{traffic.now():.0f}", "answers", str(len(traffic.seen) - failed))
        self._numbers.add_row("version", str(version), "failed", str(failed))
        self._numbers.add_row("accuracy", "" if math.isnan(accuracy) else f"{accuracy:.2f}", "labels", str(labels))
        self._notes = [f"{m.at:6.1f} s  {m.words}" for m in moments]
        self._draw()

    def _draw(self) -> None:
        bars = "".join(" " if math.isnan(v) else BARS[min(int(v * len(BARS)), len(BARS) - 1)] for v in self._curve)
        notes = [Text(note, overflow="ellipsis", no_wrap=True) for note in self._notes[-8:]]
        body = Group(Text(self._phase, style="bold"), self._numbers, Text(bars, style="cyan"), *notes)
        self._live.update(Panel(body, title="keepfit demo", border_style="blue"))

    @staticmethod
    def farewell(result: Mapping[str, Any], out: Path, quiet: bool) -> None:
        """The last words."""
        if quiet:
            print(json.dumps(result))
            return
        told = Table(box=None, show_header=False)
        for name, value in result.items():
            told.add_row(name, escape(f"{value:.3f}" if isinstance(value, float) else str(value)))
        Console().print(told)
        Console().print(f"Report: {out / 'report.html'}", soft_wrap=True)
