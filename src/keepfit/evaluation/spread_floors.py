"""The gate's rule about the spread: a floor must be kept by the mean of the folds less its standard error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keepfit.errors import SettingsError
from keepfit.evaluation.gate import Finding, Trial
from keepfit.evaluation.spread import Spread
from keepfit.metrics import METRICS, Metric


@dataclass(frozen=True)
class SpreadFloors:
    """The floors hold for the recipe, not only for one lucky split: kept by the folds' mean less its standard error.

    The same limits as `Floors`; of a metric of which low is good, the mean plus its error must keep its limit.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=lambda: METRICS)
    name: str = "spread"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.limits) - set(self.metrics))
        if unknown:
            raise SettingsError(f"there is no floor for {unknown[0]!r}; known are {', '.join(self.metrics)} [floors]")

    def find(self, trial: Trial) -> Finding | None:
        """Applies to a candidate whose recipe was cross-validated."""
        if trial.spread is None:
            return None
        spread = trial.spread
        where = f"over {len(spread.values)} folds ({spread.kind})"
        worst = {name: self._worst(spread, name) for name in self.limits}
        evidence = {"worst": worst, "limits": dict(self.limits), "folds": len(spread.values)}
        missed = [
            f"{spread.told(name)}, so {worst[name]:.3f} misses its floor {limit:g} [floors]"
            for name, limit in self.limits.items()
            if not self._kept(name, worst[name])
        ]
        if missed:
            return Finding(False, f"{where}: {'; '.join(missed)}", evidence)
        told = ", ".join(spread.told(name) for name in self.limits or ("accuracy",))
        return Finding(True, f"{where}: {told}", evidence)

    def _kept(self, name: str, value: float) -> bool:
        """What is no number keeps no floor."""
        limit = self.limits[name]
        return value >= limit if self.metrics[name].higher_is_better else value <= limit

    def _worst(self, spread: Spread, name: str) -> float:
        sign = -1 if self.metrics[name].higher_is_better else 1
        return spread.mean(name) + sign * spread.error(name)
