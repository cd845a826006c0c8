"""Every error that keepfit raises on purpose.

    KeepfitError
    ├── InvalidInput       the request or the data cannot be understood   HTTP 422
    │   ├── TooLarge       over a stated limit                            HTTP 413
    │   └── SettingsError  a setting is unknown, wrong or contradictory
    ├── NotFound           no such prediction, model or snapshot          HTTP 404
    ├── Refused            understood, but not now or not so              HTTP 409
    ├── Forbidden          the token is missing, unknown or too weak      HTTP 401/403
    ├── Overloaded         the queue is full, come back later             HTTP 429
    └── BackendError       a store, registry, disk or network failed us   HTTP 503

Every message is one sentence that says what is wrong and what to do next. A rejected model, a quiet
trigger and an aborted rollout are not errors: they are decisions (see `decision.py`).
"""

from __future__ import annotations

from keepfit.redaction import redacted


class KeepfitError(Exception):
    """Base class of every error below. Its sentence never shows a password or a token, wherever it came from."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class InvalidInput(KeepfitError):
    """The request cannot be understood; retrying it unchanged is useless. `field` names the culprit, if one."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class TooLarge(InvalidInput):
    """Over a limit that the settings state."""


class SettingsError(InvalidInput):
    """A setting is unknown, wrong or contradicts another."""


class NotFound(KeepfitError):
    """Nothing is stored under this name."""


class Refused(KeepfitError):
    """Understood, but not possible in the present state."""


class Forbidden(KeepfitError):
    """The token is missing or unknown (`known` false), or lacks the role (`known` true)."""

    def __init__(self, message: str, known: bool = False) -> None:
        super().__init__(message)
        self.known = known


class Overloaded(KeepfitError):
    """The queue is full; the caller may retry after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendError(KeepfitError):
    """Something we depend on failed; the cause is chained."""
