"""How values lie in database columns: times as whole microseconds, any string reversibly, mappings as JSON text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from json.encoder import encode_basestring_ascii
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Dialect, Text, TypeDecorator

from keepfit.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LARGEST = float(np.finfo(np.float64).max)
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPE = "\x01"


class Moment(TypeDecorator[datetime]):
    """An aware time, as microseconds since 1970 in UTC: sorts and compares alike in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


class Words(TypeDecorator[str]):
    """Any Python string. Null bytes and lone surrogates, which databases refuse, are escaped reversibly."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or not (value.startswith(_ESCAPE) or _UNSTORABLE.search(value)):
            return value
        return _ESCAPE + json.dumps(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or not value.startswith(_ESCAPE):
            return value
        return str(json.loads(value[1:]))


class Json(TypeDecorator[Any]):
    """A JSON-able value as ASCII text (JSON types of databases refuse null bytes and lone surrogates)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        if type(value) is str:  # a text's content: the hot path
            return encode_basestring_ascii(value)
        return "{}" if value == {} else json.dumps(plain(value))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        if value is None or value == "{}":  # most contexts are empty
            return None if value is None else {}
        return json.loads(value)


def microseconds(moment: datetime) -> int:
    """Whole microseconds since 1970. Raises InvalidInput for a time without a zone.

    >>> microseconds(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"The time {moment.isoformat()} has no time zone; give one, for example +00:00.")
    return (moment - EPOCH) // MICROSECOND


def plain(value: Any) -> Any:
    """The same value in JSON's own types: numpy, times, paths, enums, sets and dataclasses are converted.

    JSON has no NaN and no infinity: NaN becomes None, an infinity the largest float of its sign.
    Raises InvalidInput for a type that JSON cannot hold.

    >>> plain({"n": np.int64(3), "at": datetime(2025, 1, 1, tzinfo=UTC), "low": float("nan")})
    {'n': 3, 'at': '2025-01-01T00:00:00+00:00', 'low': None}
    """
    if value is None or type(value) in {str, bool, int}:
        return value
    if isinstance(value, Mapping):
        return {_name(key): plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=str)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return _finite(float(value))
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, str | PurePath):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [plain(each) for each in value]
    if isinstance(value, int):
        return int(value)
    raise InvalidInput(f"A value of the type {type(value).__name__} cannot be stored as JSON; convert it first.")


def _name(key: Any) -> str:
    return str(key.value if isinstance(key, Enum) else key)


def _finite(value: float) -> float | None:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else math.copysign(LARGEST, value)
