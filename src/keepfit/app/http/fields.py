"""Fields: the kinds of values that requests bring, checked once for all schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from flask_openapi3.models.file import FileStorage
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictStr
from werkzeug.datastructures import FileStorage as WerkzeugFile

from keepfit.data.labellers import NOBODY

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def in_utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone counts as UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    try:
        moment = aware.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None
    if not EARLIEST <= moment < LATEST:
        raise ValueError("the time must lie between 1900 and 2200")
    return moment


def read_moment(value: Any) -> Any:
    """Only RFC 3339 strings: a bare number could be seconds or milliseconds."""
    if not isinstance(value, str):
        raise ValueError('write a time like "2026-01-31T12:00:00Z"')
    return value


def a_file(value: Any) -> Any:
    """Only a part of the request that is a file."""
    if not isinstance(value, WerkzeugFile):
        raise ValueError("send one file here, as a part with a file name")
    return value


SentFile = Annotated[FileStorage, AfterValidator(a_file)]
Moment = Annotated[datetime, BeforeValidator(read_moment), AfterValidator(in_utc)]


def a_person(value: str) -> str:
    """No name of keepfit's own, and nothing that a terminal would act on."""
    if value in NOBODY:
        raise ValueError(f"{value!r} is a name of keepfit's own; choose another")
    if not value.isprintable():
        raise ValueError("a name is made of characters that can be printed")
    return value


Name = Annotated[StrictStr, Field(min_length=1, max_length=200)]
Actor = Annotated[Name, AfterValidator(a_person)]


class Strict(BaseModel):
    """Unknown names are refused: what cannot be honoured is an error."""

    model_config = ConfigDict(extra="forbid")
