"""When the disk will be full and how many hours of labelling a week are asked for, from what the last weeks brought."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from keepfit.clock import Clock
from keepfit.data.recent import Recent, recent
from keepfit.data.records import Window
from keepfit.data.store import RecordStore
from keepfit.pipelines.backup import state_files

FORECAST = "forecast"
"""Under this name the store keeps the newest one, for those who must not look at files."""
LOOKS_BACK = timedelta(days=28)
LEAST = timedelta(days=3)
"""Less says nothing of a week."""
FAR_DAYS = 3650
"""A disk that lasts longer is not counted in days: little is known of so far a time."""
KINDS = {
    "models": "versions", "mlartifacts": "versions", "snapshots": "snapshots", "videos": "videos",
    "batches": "batches", "mailbox": "alerts",
}  # fmt: skip
"""Folders of the state, and what they hold."""
DAY_S = 86_400.0


@dataclass(frozen=True)
class Forecast:
    """The forecast of one project."""

    models: Sequence[str]
    store: RecordStore
    state: Path
    clock: Clock
    seconds_per_label: float
    free: Callable[[], int]
    """Bytes that are free on the disk of the state."""

    def run(self) -> dict[str, Any]:
        """What is to be expected, with what it rests on.

        `disk.full_in_days` and `labels.NAME.hours_a_week` are null where it cannot be told yet, and `because` says why.
        What retention deletes is not deducted.
        """
        now = self.clock.now()
        window = Window(now - LOOKS_BACK, now)
        found = {name: recent(self.store.database, name, window) for name in self.models}
        firsts = [one.first for one in found.values() if one.first is not None]
        past = min(now - min(firsts), LOOKS_BACK) if firsts else timedelta(0)
        short = too_short(past)
        return {
            "at": now.isoformat(), "days": round(past / timedelta(days=1), 2),
            "disk": self.disk(found, past, now, short), "labels": self.labels(found, past, short),
        }  # fmt: skip

    def disk(self, found: Mapping[str, Recent], past: timedelta, now: datetime, short: str | None) -> dict[str, Any]:
        """Bytes a day of each kind, and when the disk is full."""
        free = self.free()
        if short is not None:
            return {"bytes_a_day": {}, "free_bytes": free, "full_in_days": None, "because": short}
        days = past.total_seconds() / DAY_S
        grown = {"answers": sum(one.answers * one.bytes_each for one in found.values())}
        for kind, size in self.files(now - past).items():
            grown[kind] = grown.get(kind, 0) + size
        daily = {kind: round(size / days) for kind, size in sorted(grown.items()) if size}
        total = sum(daily.values())
        full = free / total if total else None
        said = f"{total / 1e6:.1f} MB a day over the last {days:.0f} days, {free / 1e9:.1f} GB free"
        return {
            "bytes_a_day": daily, "free_bytes": free, "full_in_days": None if full is None else round(full, 1),
            "because": f"{said}; what retention deletes is not deducted",
        }  # fmt: skip

    def files(self, since: datetime) -> dict[str, float]:
        """Bytes of files that were written since then and are still here, by kind."""
        sizes: dict[str, float] = {}
        for path in state_files(self.state):
            top = path.relative_to(self.state).parts[0]
            try:
                about = path.stat()
            except OSError:
                continue
            if top in KINDS and datetime.fromtimestamp(about.st_mtime, UTC) >= since:
                sizes[KINDS[top]] = sizes.get(KINDS[top], 0) + about.st_size
        return sizes

    def labels(self, found: Mapping[str, Recent], past: timedelta, short: str | None) -> dict[str, Any]:
        """By model: questions a day, answers a day, and the hours a week that answering all of them takes."""
        told: dict[str, Any] = {}
        for name, one in found.items():
            if short is not None:
                told[name] = {"asked_a_day": None, "answered_a_day": None, "hours_a_week": None, "because": short}
                continue
            days = past.total_seconds() / DAY_S
            asked, answered = one.asked / days, one.answered / days
            told[name] = {
                "asked_a_day": round(asked, 1), "answered_a_day": round(answered, 1),
                "hours_a_week": round(7 * asked * self.seconds_per_label / 3600, 2),
                "because": f"{one.asked} questions and {one.answered} answers in {days:.0f} days, "
                f"{self.seconds_per_label:g} seconds a label [costs.seconds_per_label]",
            }  # fmt: skip
        return told


def too_short(past: timedelta) -> str | None:
    """Why nothing can be told; None when it can."""
    if past >= LEAST:
        return None
    had = "there are no answers" if not past else f"the answers go back {past.total_seconds() / DAY_S:.1f} days"
    return f"cannot say yet: {had}, and {LEAST.days} days of them are needed"


def told(forecast: Mapping[str, Any], model: str) -> tuple[str, str]:
    """The disk and the labelling of a model, each as a line for people."""
    disk, labels = forecast["disk"], forecast["labels"].get(model)
    full = disk["full_in_days"]
    when = "" if full is None else f"full in {full:.0f} days: " if full <= FAR_DAYS else "not full within ten years: "
    room = f"{when}{disk['because']}"
    hours = None if labels is None else labels["hours_a_week"]
    work = "not known" if labels is None else labels["because"]
    return room, work if hours is None else f"{hours:.1f} hours a week: {work}"
