"""Tracing: the tracer of this process, as the settings say; with the setting on it is never silently none."""

from __future__ import annotations

import os
from functools import cache

from keepfit.app.wiring import LATE, named
from keepfit.errors import BackendError, SettingsError
from keepfit.traces import OFF, Tracer


@cache
def tracer_of(on: bool) -> Tracer:
    """One for the whole process. Raises SettingsError where traces are wanted and cannot be sent."""
    if not on:
        return OFF
    try:
        make = named(LATE["tracer"])
    except BackendError as error:
        raise SettingsError(
            "traces = true needs OpenTelemetry: pip install 'keepfit[otel]', or set traces = false"
        ) from error
    made: Tracer = make(os.environ)
    return made
