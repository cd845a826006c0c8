"""Taught: which recorded contents a version's weights have learnt from besides its snapshot, without keeping them.

A distilled version learns from texts of the traffic, which no snapshot holds. Its folder keeps a salted hash of each,
so that a forgetting can tell whether somebody's text was among them, and nobody can read it out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from keepfit.data.splits import content_group
from keepfit.errors import BackendError

TAUGHT = "taught.json"
_DIGITS = 16


def remember(contents: Iterable[Any], folder: Path, salt: str, before: Path | None = None) -> None:
    """Write the marks of these contents into a model's folder, and those of the version before, whose weights went in.

    Raises OSError.
    """
    earlier = _read(before) if before is not None else []
    marks = sorted({_mark(salt, content) for content in contents})
    (folder / TAUGHT).write_text(json.dumps([*earlier, {"salt": salt, "marks": marks}]), "utf-8")


def was_taught(folder: Path, contents: Iterable[Any]) -> bool:
    """Whether the version in the folder has learnt from any of these. Raises BackendError where that is damaged."""
    known = [(one["salt"], set(one["marks"])) for one in _read(folder)]
    return bool(known) and any(_mark(salt, content) in marks for content in contents for salt, marks in known)


def _mark(salt: str, content: Any) -> str:
    return hashlib.sha256(f"{salt}\x1f{content_group(content)}".encode()).hexdigest()[:_DIGITS]


def _read(folder: Path) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = json.loads((folder / TAUGHT).read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise BackendError(f"what the version in {folder} was taught cannot be read ({error})") from error
    return found
