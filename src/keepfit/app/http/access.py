"""Access: who may call what. Without tokens only this machine may call, with them every caller needs one."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from flask import Request

from keepfit.clock import Clock
from keepfit.data.store import RecordStore
from keepfit.data.tokens import Token
from keepfit.errors import BackendError, Forbidden, SettingsError

Role = Literal["open", "any", "predict", "label", "approve", "admin"]
"""open: needs no token; any: every valid token will do. The role admin may do everything."""

KEEP_S = 1.0
"""Tokens are read again after this; so long a revoked one may still work."""


@dataclass(frozen=True)
class Caller:
    """Who calls: the token's name, or `anonymous` where no tokens are set."""

    name: str = "anonymous"


class Access:
    """The tokens of the store, read again every second; once there is one (or `required`), every caller needs one."""

    def __init__(self, store: RecordStore, clock: Clock, required: bool = False) -> None:
        self._store, self._clock, self._required = store, clock, required
        self._lock = threading.Lock()
        self._tokens: Sequence[Token] = ()
        self._read_at = float("-inf")

    def tokens(self) -> Sequence[Token]:
        """All that were ever made; revoked and expired ones too, so that access never opens by itself."""
        if time.monotonic() - self._read_at <= KEEP_S:
            return self._tokens
        # while one caller waits for a slow store, the others go on with what was read last
        if not self._lock.acquire(blocking=self._read_at == float("-inf")):
            return self._tokens
        try:
            if time.monotonic() - self._read_at > KEEP_S:
                self._read_again()
            return self._tokens
        finally:
            self._lock.release()

    def _read_again(self) -> None:
        """While the store is away the tokens that were read last count, so that answering goes on."""
        try:
            self._tokens = tuple(self._store.tokens())
        except BackendError:
            if self._read_at == float("-inf"):
                raise
        self._read_at = time.monotonic()

    def check(self, request: Request, role: Role) -> Caller:
        """Who calls. Raises Forbidden when they may not."""
        if role == "open":
            return Caller()
        tokens = self.tokens()
        if not tokens and not self._required:
            refuse_other_sites(request)
            return Caller()
        token = self._token_of(request, tokens)
        if role != "any" and role not in token.roles and "admin" not in token.roles:
            raise Forbidden(f"the token {token.name!r} lacks the role {role!r}; ask for one that has it", known=True)
        return Caller(token.name)

    def _token_of(self, request: Request, tokens: Sequence[Token]) -> Token:
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Forbidden("this server needs a token; send it as `Authorization: Bearer TOKEN`")
        given = hash_token(secret.strip())
        for token in tokens:
            if hmac.compare_digest(token.hash, given):
                if token.revoked or (token.expires is not None and token.expires <= self._clock.now()):
                    raise Forbidden(f"the token {token.name!r} is revoked or expired; make a new one")
                return token
        raise Forbidden("this token is unknown; make one with `keepfit token add NAME`")


def hash_token(secret: str) -> str:
    """What is stored of a token: SHA-256, hex. Tokens are random (32 bytes), so no salt or stretching is needed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def refuse_other_sites(request: Request) -> None:
    """Without tokens, a web page must not reach this server through its reader's browser.

    Raises Forbidden when the Host is not this machine (a foreign name that was made to point here), or the Origin is
    another host.
    """
    host = request.host.rpartition(":")[0] if request.host.rpartition(":")[2].isdigit() else request.host
    if not is_loopback(host.strip("[]")):
        raise Forbidden(f"without tokens only this machine may call, by 127.0.0.1 or localhost, not {host!r}", True)
    origin = request.headers.get("Origin")
    if origin and urlsplit(origin).netloc != request.host:
        raise Forbidden(f"pages of {origin!r} may not call this server; set tokens to allow other callers", True)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_host(host: str, tokens: Sequence[Token]) -> None:
    """Raises SettingsError when other machines could call and no token is set."""
    if not is_loopback(host) and not tokens:
        raise SettingsError(
            f"serving on {host} lets other machines call; make a token first (`keepfit token add NAME --role admin`), "
            "or serve on 127.0.0.1"
        )
