"""Limits: how much one serving process takes in, holds and waits."""

from __future__ import annotations

from dataclasses import dataclass

from keepfit.errors import SettingsError


@dataclass(frozen=True)
class ServingLimits:
    """Every bound of a `Predictor`; each one is a setting."""

    batch_cost: int = 4096
    """What one engine call may cost at most (for text: tokens); a single dearer content still runs, alone."""
    queue_items: int = 2048
    """Contents that may wait for the engine; one more call is answered 429."""
    cache_bytes: int = 64 * 2**20
    """Memory for answers that are given again; 0 turns the cache off."""
    timeout_s: float = 30.0
    """How long a call waits for its answer."""
    warm_up: int = 32
    """Recent contents that a new version answers before anyone waits for it; 0 for models that warm themselves."""
    challenger_share: float = 1 / 6
    """A version with the smaller part of the traffic has this share of `timeout_s`; then the larger one answers."""
    shadow_items: int = 1000
    """Answers that may wait to be asked of a shadow as well; more are not asked, and counted."""
    keep_warm: int = 2
    """Versions that no longer serve but stay loaded, the latest first, for a rollback without loading."""

    def __post_init__(self) -> None:
        if self.batch_cost < 1 or self.queue_items < 1 or self.timeout_s <= 0:
            raise SettingsError("serving needs batch_cost >= 1, queue_items >= 1 and timeout_s > 0")
        if not 0 < self.challenger_share <= 1 or self.shadow_items < 0:
            raise SettingsError("serving needs a challenger_share within (0, 1] and shadow_items >= 0")
        if self.cache_bytes < 0 or self.keep_warm < 0 or self.warm_up < 0:
            raise SettingsError("serving needs cache_bytes >= 0, keep_warm >= 0 and warm_up >= 0")
