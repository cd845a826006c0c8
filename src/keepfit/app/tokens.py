"""Tokens of a project: making, changing and revoking them, each with whoever does it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from keepfit.app.wiring import Home
from keepfit.data.labellers import NOBODY
from keepfit.data.store import RecordStore
from keepfit.data.tokens import ANONYMOUS, Token, hash_token
from keepfit.errors import InvalidInput

ROLES = ("predict", "label", "approve", "admin")
TAKEN = NOBODY | {ANONYMOUS, "keepfit", "watch", "folder", "worker"}
"""Names under which keepfit itself acts."""
LONGEST = 100


@dataclass(frozen=True)
class Terms:
    """What a token may do."""

    roles: Sequence[str]
    expires: timedelta | None = None
    only: str | None = None
    """The one model that it opens; None: all."""
    per_minute: int | None = None
    labels_per_day: int | None = None


def add(home: Home, store: RecordStore, name: str, terms: Terms, actor: str) -> str:
    """A new token; its secret is returned once and never stored. Raises InvalidInput, NotFound for an unknown model."""
    check_name(name)
    if not terms.roles or not set(terms.roles) <= set(ROLES):
        raise InvalidInput(f"a token needs roles of {', '.join(ROLES)}", "role")
    if terms.only is not None:
        home.settings.model(terms.only)
    secret, now = secrets.token_urlsafe(32), home.clock.now()
    until = None if terms.expires is None else now + terms.expires
    token = Token(
        name, hash_token(secret), tuple(terms.roles), now, until,
        model=terms.only, per_minute=terms.per_minute, labels_per_day=terms.labels_per_day,
    )  # fmt: skip
    store.add_token(token, actor)
    return secret


def check_name(name: str) -> None:
    """Names are recorded with what is done, so they must be told apart. Raises InvalidInput."""
    if not name.strip():
        raise InvalidInput("a token needs a name, so that it can be told apart and revoked", "name")
    if ":" in name or not name.isprintable() or len(name) > LONGEST:
        raise InvalidInput(
            "a token's name has no colon (who speaks through it is recorded as NAME:actor), and at most "
            f"{LONGEST} characters, all of which can be printed",
            "name",
        )
    if name in TAKEN:
        raise InvalidInput(f"{name!r} is a name under which keepfit itself acts; choose another", "name")


def change(store: RecordStore, name: str, limits: Mapping[str, int | None], actor: str) -> None:
    """New limits: `per_minute` and `labels_per_day`; 0 or None takes one away. Raises NotFound."""
    wanted = {what: most or None for what, most in limits.items()}
    if not wanted:
        raise InvalidInput("there is nothing to change; give --per-minute or --labels-per-day (0: no limit)")
    store.change_token(name, wanted, actor)
