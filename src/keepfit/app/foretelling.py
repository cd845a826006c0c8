"""Forecasts, put together from the settings."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from typing import Any

from keepfit.app.wiring import Home
from keepfit.data.store import RecordStore
from keepfit.pipelines.forecast import FORECAST, Forecast

FRESH = timedelta(hours=1)


def forecast(home: Home, store: RecordStore) -> Forecast:
    """The forecast of a project."""
    return Forecast(
        tuple(home.settings.models), store, home.state, home.clock, home.settings.costs.seconds_per_label,
        lambda: shutil.disk_usage(home.state).free,
    )  # fmt: skip


def current(home: Home, store: RecordStore) -> dict[str, Any]:
    """The one that the worker has made within the hour, else a new one."""
    kept = store.get("", FORECAST)
    if kept is not None and home.clock.now() - datetime.fromisoformat(kept["at"]) < FRESH:
        return dict(kept)
    return forecast(home, store).run()


def keep(home: Home, store: RecordStore) -> None:
    """Make one and keep it where the server finds it, once an hour."""
    kept = store.get("", FORECAST)
    if kept is None or home.clock.now() - datetime.fromisoformat(kept["at"]) >= FRESH:
        store.put("", FORECAST, forecast(home, store).run())
