"""The settings file, changed by a program: one value is replaced, every comment and all else stays as it is."""

from __future__ import annotations

import os
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

from keepfit.app.settings import FILE
from keepfit.errors import BackendError, Refused

KEY = "triggers"


def write_triggers(project: Path, model: str, value: str) -> Path:
    """Set the triggers of a model to a TOML value, such as `[{kind = "ks"}]`.

    Raises Refused, with what to paste, where the file does not say them in a form that can be replaced safely; then
    nothing is changed. BackendError when the file cannot be read or written. Its rights, the ends of its lines and a
    link to it stay as they are.
    """
    file = Path(os.path.realpath(project / FILE))
    there = file.exists()
    try:
        before = file.read_bytes().decode("utf-8-sig") if there else ""
    except OSError as error:
        raise BackendError(f"{file} cannot be read: {error.strerror}") from error
    after = replaced(before, model, value)
    if after is None or not only_triggers_differ(before, after, model, value):
        raise Refused(f"{file} cannot be changed safely; below [models.{model}] write by hand: {KEY} = {value}")
    part = file.with_suffix(".part")
    try:
        part.touch(mode=0o600 if there else 0o666)
        if there:
            shutil.copymode(file, part)  # before anything is in it: settings may hold secrets
        part.write_bytes(after.encode())
        os.replace(part, file)
    except OSError as error:
        raise BackendError(f"{file} cannot be written: {error.strerror}") from error
    return project / FILE


def replaced(text: str, model: str, value: str) -> str | None:
    """The text with other triggers; None where it is not told how.

    >>> replaced("[models.a]\\ntask = 'toy' # ours\\n", "a", "[]")
    "[models.a]\\ntriggers = []\\ntask = 'toy' # ours\\n"
    """
    lines = text.splitlines(keepends=True)
    end_of_line = "\r\n" if "\r\n" in text else "\n"
    said = f"{KEY} = {value}{end_of_line}"
    name = rf"(?:{re.escape(model)}|\"{re.escape(model)}\"|'{re.escape(model)}')"
    tables = re.compile(rf"\s*\[\[\s*models\s*\.\s*{name}\s*\.\s*{KEY}\s*\]\]\s*(#.*)?$")
    header = re.compile(rf"\s*\[\s*models\s*\.\s*{name}\s*\]\s*(#.*)?$")
    places = [i for i, line in enumerate(lines) if tables.match(line)]
    if places:
        lines = without_tables(lines, places)
    at = next((i for i, line in enumerate(lines) if header.match(line)), None)
    if at is None:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += end_of_line
        return "".join(lines) + f"{end_of_line}[models.{model}]{end_of_line}{said}"
    end = next((i for i in range(at + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    own = [i for i in range(at + 1, end) if re.match(rf"\s*{KEY}\s*=", lines[i])]
    if not own:
        if not lines[at].endswith("\n"):
            lines[at] += end_of_line
        return "".join([*lines[: at + 1], said, *lines[at + 1 :]])
    last = closes(lines, own[0])
    return None if last is None else "".join([*lines[: own[0]], said, *lines[last + 1 :]])


def without_tables(lines: list[str], places: list[int]) -> list[str]:
    """Without `[[models.NAME.triggers]]` and its keys; comments and blank lines between them stay."""
    dropped = set()
    for place in places:
        dropped.add(place)
        for i in range(place + 1, len(lines)):
            if re.match(r"\s*\[", lines[i]):
                break
            if re.match(r"\s*[A-Za-z0-9_\"'-]+\s*=", lines[i]):
                last = closes(lines, i)
                dropped.update(range(i, (i if last is None else last) + 1))
    return [line for i, line in enumerate(lines) if i not in dropped]


def closes(lines: list[str], at: int) -> int | None:
    """The line on which the value that begins on line `at` ends: the first up to which it can be read."""
    for last in range(at, len(lines)):
        try:
            tomllib.loads("".join(lines[at : last + 1]))
        except tomllib.TOMLDecodeError:
            continue
        return last
    return None


def only_triggers_differ(before: str, after: str, model: str, value: str) -> bool:
    """Whether the new text says the same as the old one but for these triggers, which are as wanted."""
    try:
        old, new, wanted = tomllib.loads(before), tomllib.loads(after), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return False
    found = taken(new, model)
    taken(old, model)
    return bool(found == wanted and old == new)


def taken(values: dict[str, Any], model: str) -> Any:
    """The triggers, which are taken out of the values; a section that is empty then counts as none."""
    models = values.setdefault("models", {})
    return models.setdefault(model, {}).pop(KEY, None)
