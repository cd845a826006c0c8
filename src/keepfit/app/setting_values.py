"""What values of settings look like: durations, secrets, shares; and what all sections have in common."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
)

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(value: Any) -> Any:
    """A stretch of time from "90s", "15m", "12h", "7d", "2w" or a number of seconds.

    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*", value)
        if match is None:
            raise ValueError('write a duration like "90s", "15m", "12h" or "7d"')
        return timedelta(seconds=float(match[1]) * UNITS[match[2]])
    return timedelta(seconds=value) if isinstance(value, int | float) else value


def secret(value: Any) -> Any:
    """A text, or where it lies: env:NAME or file:PATH."""
    if isinstance(value, str) and value.startswith("env:"):
        found = os.environ.get(value[4:])
        if found is None:
            raise ValueError(f"the environment variable {value[4:]} is not set")
        return found
    if isinstance(value, str) and value.startswith("file:"):
        try:
            return Path(value[5:]).read_text("utf-8").strip()
        except OSError as error:
            raise ValueError(f"{value[5:]} cannot be read: {error.strerror}") from error
    return value


def zone(value: str) -> str:
    """A name that the time zone data base knows."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is no time zone; write one like Europe/Berlin or UTC") from error
    return value


Duration = Annotated[timedelta, BeforeValidator(duration)]
Age = Annotated[timedelta, BeforeValidator(duration), Field(ge=timedelta(0))]
Secret = Annotated[SecretStr, BeforeValidator(secret)]
Place = Annotated[str | None, BeforeValidator(secret)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """What all sections have in common: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
