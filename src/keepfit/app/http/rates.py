"""Rates: so many requests a minute for one name, in this process, with bounded memory."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from keepfit.errors import Overloaded

MOST = 10_000
"""Names that are remembered; beyond it the one that was silent longest is forgotten."""


class Rates:
    """A bucket for each name: it holds the requests of one minute and fills up again as time goes by."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic, most: int = MOST) -> None:
        self._seconds, self._most = seconds, most
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Name to what was left in its bucket, and when."""

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, per_minute: int | None, who: str) -> None:
        """One request; None: no limit. Raises Overloaded, with the time until the next one, for the words in `who`."""
        if per_minute is None:
            return
        with self._lock:
            now = self._seconds()
            left, at = self._buckets.pop(name, (float(per_minute), now))
            left = min(float(per_minute), left + (now - at) * per_minute / 60)
            allowed = left >= 1
            self._buckets[name] = (left - 1 if allowed else left, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        if not allowed:
            raise Overloaded(
                f"{who}: {per_minute} a minute are allowed; come back a little later", 60 * (1 - left) / per_minute
            )


@lru_cache(maxsize=MOST)
def neighbourhood(address: str | None) -> str:
    """What counts as one address: of IPv6 the network of one customer, who has very many.

    >>> neighbourhood("192.0.2.7"), neighbourhood("2001:db8::1:2")
    ('192.0.2.7', '2001:db8::/64')
    """
    try:
        known = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    return str(known) if known.version == 4 else str(ipaddress.ip_network((known, 64), strict=False))
