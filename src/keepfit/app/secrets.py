"""Secrets in the settings file: which stand there in plain words, and the file without them."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keepfit.app.settings import FILE
from keepfit.redaction import HIDDEN

ELSEWHERE = ("env:", "file:")
PLACES = (("store",), ("tracking",), ("trials",), ("worker", "jobs_database"))
"""Settings that may be an address with a password."""


def plain_secrets(values: Mapping[str, Any]) -> dict[str, str]:
    """By the name of the setting, what is secret in it and stands there in plain words.

    >>> plain_secrets({"store": "postgresql://ann:geheim@db/keepfit", "tracking": "env:MLFLOW"})
    {'store': 'geheim'}
    """
    found = {}
    for path in PLACES:
        value = at(values, path)
        if isinstance(value, str) and not value.startswith(ELSEWHERE) and (password := password_of(value)):
            found[".".join(path)] = password
    for place, url in enumerate(at(values, ("alerts", "urls")) or ()):
        if isinstance(url, str) and not url.startswith(ELSEWHERE):
            found[f"alerts.urls[{place}]"] = url
    models = values.get("models")
    for name in models if isinstance(models, Mapping) else ():
        follow, hook = at(values, ("models", name, "follow", "url")), at(values, ("models", name, "hand_over", "url"))
        if isinstance(follow, str) and not follow.startswith(ELSEWHERE) and (password := password_of(follow)):
            found[f"models.{name}.follow.url"] = password
        if isinstance(hook, str) and not hook.startswith(ELSEWHERE) and (urlsplit(hook).query or password_of(hook)):
            found[f"models.{name}.hand_over.url"] = hook
        secret = at(values, ("models", name, "hand_over", "secret"))
        if isinstance(secret, str) and secret and not secret.startswith(ELSEWHERE):
            found[f"models.{name}.hand_over.secret"] = secret
    password = at(values, ("alerts", "email", "password"))
    if isinstance(password, str) and password and not password.startswith(ELSEWHERE):
        found["alerts.email.password"] = password
    return found


def at(values: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value of a setting, or None."""
    here: Any = values
    for part in path:
        here = here.get(part) if isinstance(here, Mapping) else None
    return here


def password_of(address: str) -> str | None:
    """Of an address; None where it has none or is none."""
    try:
        return urlsplit(address).password
    except ValueError:
        return None


def read_values(folder: Path) -> dict[str, Any]:
    """What the file says, unchecked; nothing where there is none."""
    file = folder / FILE
    return tomllib.loads(file.read_text("utf-8-sig")) if file.is_file() else {}


def without_secrets(folder: Path) -> tuple[str | None, list[str]]:
    """The text of the file with *** for each plain secret, and the names of these settings; None without a file.

    None, too, where a secret is written in a way (with escapes) that could not be found in the text.
    """
    file = folder / FILE
    if not file.is_file():
        return None, []
    words, found = file.read_text("utf-8-sig"), plain_secrets(read_values(folder))
    for secret in sorted(found.values(), key=len, reverse=True):
        words = words.replace(secret, HIDDEN)
    left = set(plain_secrets(tomllib.loads(words)).values()) & set(found.values())
    return None if left else words, sorted(found)


def secret_files(values: Any) -> Iterator[Path]:
    """Every file that a value of the settings names by file:."""
    if isinstance(values, Mapping):
        for each in values.values():
            yield from secret_files(each)
    elif isinstance(values, list):
        for each in values:
            yield from secret_files(each)
    elif isinstance(values, str) and values.startswith("file:"):
        yield Path(values[5:])


def open_to_others(path: Path) -> bool:
    """Whether accounts other than the owner and its group may read a file."""
    return bool(path.stat().st_mode & stat.S_IROTH)
