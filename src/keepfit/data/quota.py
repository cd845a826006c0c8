"""Quota: so many new labels a day for one name, counted in the store, so that servers and restarts agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from sqlalchemy import Connection, select

from keepfit.data.database import insert_or_replace, one_at_a_time
from keepfit.data.schema import NAMED_VALUES
from keepfit.errors import Overloaded


@dataclass(frozen=True)
class Quota:
    """What `who` (a token's name; empty: everyone without a token) may add on the day of `now`, by UTC."""

    who: str
    most: int
    now: datetime


def spend(conn: Connection, quota: Quota, labels: int) -> None:
    """Counts new labels. Raises Overloaded, which undoes the caller's transaction, when they are too many for today.

    Labels carry a time that their sender may choose, so they are counted as they come and not by their times.
    """
    one_at_a_time(conn, "quota", quota.who)
    today, name, n = quota.now.astimezone(UTC).date(), f"labels of {quota.who}", NAMED_VALUES.c
    kept = conn.execute(select(n.value).where(n.model == "", n.name == name)).scalar() or {}
    spent = int(kept.get("labels", 0)) if kept.get("day") == today.isoformat() else 0
    if spent + labels > quota.most:
        raise Overloaded(
            f"{labels} new labels after {spent} today are more than the {quota.most} a day that are allowed here; "
            "send fewer, come back tomorrow (UTC), or ask for more (`keepfit token set NAME --labels-per-day N`)",
            (datetime.combine(today + timedelta(days=1), time(), UTC) - quota.now).total_seconds(),
        )
    value = {"day": today.isoformat(), "labels": spent + labels}
    insert_or_replace(conn, NAMED_VALUES, {"model": "", "name": name, "value": value})
