"""Access: who may call what. Without tokens only this machine may call, with them every caller needs one."""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from flask import Request
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from keepfit.app.http.rates import Rates, neighbourhood
from keepfit.clock import Clock
from keepfit.data.quota import Quota
from keepfit.data.store import RecordStore
from keepfit.data.tokens import ANONYMOUS, Token, hash_token
from keepfit.errors import BackendError, Forbidden, SettingsError

Role = Literal["open", "any", "predict", "label", "approve", "admin"]
"""open: needs no token; any: every valid token will do. The role admin may do everything."""

GUESSES = 30
"""Unknown tokens that one address may try in a minute; after them it is told to wait, and a known token still works."""

KEEP_S = 1.0
"""Tokens are read again after this; so long a revoked one may still work."""


@dataclass(frozen=True)
class Caller:
    """Who calls: the token's name, or `anonymous` where no tokens are set."""

    name: str = ANONYMOUS
    only: str | None = None
    """The one model that the token opens; None: all."""
    labels_per_day: int | None = None
    bound: bool = False
    """A token without the role admin speaks for nobody else."""

    def speaks_as(self, actor: str | None) -> str:
        """Who is recorded when the caller names an actor: with a token that is not an admin's, `TOKEN:actor`.

        >>> Caller("shop", bound=True).speaks_as("ann"), Caller("boss").speaks_as("ann"), Caller("shop").speaks_as(None)
        ('shop:ann', 'ann', 'shop')
        """
        if actor is None or actor == self.name:
            return self.name
        return f"{self.name}:{actor}" if self.bound else actor

    def quota(self, now: datetime) -> Quota | None:
        """How many labels the caller may still add today; None: as many as it likes."""
        if self.labels_per_day is None:
            return None
        return Quota(self.name if self.name != ANONYMOUS else "", self.labels_per_day, now)


NAMELESS = Caller()


@dataclass(frozen=True)
class OpenLimits:
    """What callers without a token may do; None: no limit."""

    requests_per_minute: int | None = None
    """Of one address."""
    labels_per_day: int | None = None
    """Of all of them together."""


class Access:
    """The tokens of the store, read again every second; once there is one (or `required`), every caller needs one."""

    def __init__(
        self, store: RecordStore, clock: Clock, required: bool = False, limits: OpenLimits = OpenLimits(),
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._store, self._clock, self._required, self._limits = store, clock, required, limits
        self._seconds, self._rates, self._guesses = seconds, Rates(seconds), Rates(seconds)
        self.unknown = 0
        """Requests with a token that is not known, revoked or expired, since this process began."""
        self._lock = threading.Lock()
        self._tokens: Sequence[Token] = ()
        self._read_at = float("-inf")

    def tokens(self) -> Sequence[Token]:
        """All that were ever made; revoked and expired ones too, so that access never opens by itself."""
        if self._seconds() - self._read_at <= KEEP_S:
            return self._tokens
        # while one caller waits for a slow store, the others go on with what was read last
        if not self._lock.acquire(blocking=self._read_at == float("-inf")):
            return self._tokens
        try:
            if self._seconds() - self._read_at > KEEP_S:
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
        self._read_at = self._seconds()

    def check(self, request: Request, role: Role, model: str | None = None) -> Caller:
        """Who calls. Raises Forbidden when they may not, or not for this model; Overloaded when they call too often."""
        if role == "open":
            return NAMELESS
        tokens = self.tokens()
        if not tokens and not self._required:
            refuse_other_sites(request)
            address = neighbourhood(request.remote_addr)
            self._rates.take(f"address {address}", self._limits.requests_per_minute, "requests without a token")
            return replace(NAMELESS, labels_per_day=self._limits.labels_per_day)
        token = self._token_of(request, tokens)
        self._rates.take(f"token {token.name}", token.per_minute, f"requests with the token {token.name!r}")
        if role != "any" and role not in token.roles and "admin" not in token.roles:
            raise Forbidden(f"the token {token.name!r} lacks the role {role!r}; ask for one that has it", known=True)
        if model is not None and token.model not in (None, model):
            raise Forbidden(
                f"the token {token.name!r} is for the model {token.model!r} alone; call /models/{token.model}/...", True
            )
        return Caller(token.name, token.model, token.labels_per_day, "admin" not in token.roles)

    def _token_of(self, request: Request, tokens: Sequence[Token]) -> Token:
        """The token of a request; one that is not known is counted, and its address is told to wait."""
        kind, _, secret = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not secret.strip():
            raise Forbidden("this server needs a token; send it as `Authorization: Bearer TOKEN`")
        given = hash_token(secret.strip())
        for token in tokens:
            valid = not token.revoked and (token.expires is None or token.expires > self._clock.now())
            if hmac.compare_digest(token.hash, given) and valid:
                return token
        self.unknown += 1
        self._guesses.take(neighbourhood(request.remote_addr), GUESSES, "requests with an unknown token")
        raise Forbidden("this token is unknown, revoked or expired; make one with `keepfit token add NAME`")


class UnknownTokens(Collector):
    """How often somebody came with a token that does not work, for Prometheus."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def collect(self) -> Iterator[Metric]:
        """Read now."""
        yield CounterMetricFamily(
            "keepfit_unknown_tokens", "Requests with a token that does not work.", self._access.unknown
        )


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


@lru_cache(maxsize=1000)
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
