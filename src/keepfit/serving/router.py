"""Router: which version answers this example. Sticky: one key, one version, as long as the shares stay."""

from __future__ import annotations

import hashlib

from keepfit.data.records import Traffic
from keepfit.errors import BackendError


def route(key: str, traffic: Traffic) -> int:
    """The version whose stretch of [0, 1) holds the hash of `key`; stretches are laid out by version number.

    A share that grows keeps the keys it had when the versions below it keep their shares.
    Raises BackendError when nothing is deployed.

    >>> route("any", Traffic({3: 1.0}))
    3
    """
    if not traffic.shares:
        raise BackendError("no version is deployed yet; train one with `keepfit train DATA`")
    if len(traffic.shares) == 1:
        return next(iter(traffic.shares))
    point = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    served = [(number, share) for number, share in sorted(traffic.shares.items()) if share > 0]
    for number, share in served:
        if point < share:
            return number
        point -= share
    return served[-1][0]
