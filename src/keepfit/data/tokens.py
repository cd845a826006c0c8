"""Token: who may do what over HTTP. Only the hash of a token is ever stored."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from keepfit.data.schema import TOKENS
from keepfit.errors import NotFound, Refused

ANONYMOUS = "anonymous"
"""The name of whoever calls without a token."""


@dataclass(frozen=True)
class Token:
    """A named token; `hash` is made by the caller, `expires` None means never."""

    name: str
    hash: str
    roles: tuple[str, ...]
    created: datetime
    expires: datetime | None = None
    revoked: bool = False
    model: str | None = None
    """The only model that it opens; None: all."""
    per_minute: int | None = None
    """Requests a minute; None: as many as it likes."""
    labels_per_day: int | None = None
    """New labels a day (UTC); None: as many as it likes."""


def hash_token(secret: str) -> str:
    """What is stored of a token: SHA-256, hex. Tokens are random (32 bytes), so no salt or stretching is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def add_token(conn: Connection, token: Token) -> None:
    """Raises Refused when the name is taken, by a revoked token too, so that a name stays one person's."""
    if conn.execute(select(TOKENS.c.name).where(TOKENS.c.name == token.name)).first() is not None:
        raise Refused(f"There is already a token named {token.name!r}; choose another name.")
    conn.execute(insert(TOKENS).values({field.name: getattr(token, field.name) for field in fields(token)}))


def tokens(conn: Connection) -> list[Token]:
    """All tokens, oldest first, the revoked and expired ones too."""
    c = TOKENS.c
    query = select(*(c[field.name] for field in fields(Token))).order_by(c.created, c.name)
    return [Token(name, hash_, tuple(roles), *rest) for name, hash_, roles, *rest in conn.execute(query)]


def change_token(conn: Connection, name: str, limits: Mapping[str, int | None]) -> None:
    """Sets `per_minute` or `labels_per_day`. Raises NotFound for an unknown name."""
    if conn.execute(update(TOKENS).where(TOKENS.c.name == name).values(**limits)).rowcount == 0:
        raise NotFound(f"There is no token named {name!r}; `keepfit token list` shows the names.")


def revoke_token(conn: Connection, name: str) -> bool:
    """Whether it was valid until now. Raises NotFound for an unknown name; a revoked token stays revoked."""
    valid = (TOKENS.c.name == name) & TOKENS.c.revoked.is_(False)
    changed = conn.execute(update(TOKENS).where(valid).values(revoked=True)).rowcount
    if changed == 0 and conn.execute(select(TOKENS.c.name).where(TOKENS.c.name == name)).first() is None:
        raise NotFound(f"There is no token named {name!r}; `keepfit token list` shows the names.")
    return changed == 1
