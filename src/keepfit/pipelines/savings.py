"""Savings: what was not spent, only where it can be said from measured figures, each with its arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from keepfit.data.costs import Cost
from keepfit.data.records import Window

DAY = timedelta(days=1)


def by_cache(serving: Sequence[Cost]) -> dict[str, Any]:
    """Answers given again, times what the engine used for an answer that had to be made."""
    hits = sum(int(row.details.get("cached", 0)) for row in serving)
    contents = sum(int(row.details.get("contents", 0)) for row in serving)
    engine = sum(row.cpu_seconds for row in serving if row.version is not None)
    if not contents:
        return {"by": "cache", "not_stated": "no engine has answered in this month, so an answer's cost is not known"}
    saved = hits * engine / contents
    words = f"{hits} answers given again x ({engine:.3f} engine CPU s / {contents} contents) = {saved:.2f} CPU s"
    return {"by": "cache", "cpu_seconds": saved, "arithmetic": words}


def by_compression(serving: Sequence[Cost], version: int | None, ratio: float | None) -> dict[str, Any]:
    """What fp32 would have used more, by the ratio that was measured when the version was made."""
    if version is None:
        return {"by": "compression", "not_stated": "no version has answered in this month"}
    if ratio is None:
        words = f"the card of version {version} holds no time of fp32 beside its own arithmetic"
        return {"by": "compression", "not_stated": words}
    engine = sum(row.cpu_seconds for row in serving if row.version == version)
    saved = engine * (ratio - 1)
    words = (
        f"version {version}: {engine:.3f} engine CPU s x ({ratio:.2f} - 1), since fp32 used {ratio:.2f} times as much "
        f"on its validation texts = {saved:.2f} CPU s"
    )
    return {"by": "compression", "cpu_seconds": saved, "arithmetic": words}


def by_waiting(retrainings: Sequence[Mapping[str, Any]], window: Window, now: datetime) -> dict[str, Any]:
    """Against one retraining a day, which is what a nightly job would have done; said as the comparison that it is."""
    days = (min(now, window.end) - window.start) // DAY
    if not retrainings:
        words = "no retraining was measured in this month, so one's cost is not known"
        return {"by": "skipped retrainings", "not_stated": words}
    mean = sum(float(one["cpu_seconds"]) for one in retrainings) / len(retrainings)
    skipped = max(days - len(retrainings), 0)
    words = (
        f"had a nightly job retrained: ({days} days - {len(retrainings)} retrainings) x {mean:.2f} CPU s, their mean, "
        f"= {skipped * mean:.2f} CPU s"
    )
    return {"by": "skipped retrainings", "cpu_seconds": skipped * mean, "arithmetic": words}
