"""The parts of a snapshot, what decides a row's part, and the row itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from keepfit.data.records import text_group

UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of an imported row that names none: long ago."""


class Split(StrEnum):
    """The parts of a snapshot."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


PART_NAMES: Mapping[str, Split] = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "validation": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "val": Split.VALIDATION,
    "dev": Split.VALIDATION,
    "test": Split.TEST,
}
"""What a split column may say, in lower case."""


ASSUMED = "assumed"
"""The source of a label that nobody gave: of unlabelled video everything is taken for normal."""


@dataclass(frozen=True)
class SnapshotRow:
    """One labelled row. `content` is a str, or a tuple of str when the snapshot has several content columns."""

    id: str
    content: Any
    label: str
    group: str
    split: Split
    time: datetime = UNKNOWN_TIME
    fresh: bool = False
    weight: float = 1.0
    contradicted: bool = False
    source: str = "imported"
    key: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)


def hash_point(group: str) -> float:
    """Where a group lies between 0 and 1: uniform, and the same for ever."""
    return int(hashlib.sha256(group.encode("utf-8", "surrogatepass")).hexdigest()[:16], 16) / 16**16


def split_of(group: str, validation: float = 0.1, test: float = 0.1) -> Split:
    """A function of the group's hash alone, so that no example ever moves between the parts.

    >>> split_of("a") is split_of("a")
    True
    """
    point = hash_point(group)
    if point < test:
        return Split.TEST
    return Split.VALIDATION if point < test + validation else Split.TRAIN


def parts_of(content: Any) -> tuple[str, ...]:
    """The content's columns."""
    return content if isinstance(content, tuple) else (content,)


def content_group(content: Any) -> str:
    """What `Example.group_or_default` says of an example without a group of its own."""
    return text_group("\x1f".join(parts_of(content)))
