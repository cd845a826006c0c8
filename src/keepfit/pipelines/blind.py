"""A monitor of answers that came without embeddings, as those of a model that is served elsewhere often do."""

from __future__ import annotations

from typing import Any

from keepfit.monitoring.monitor import Measurement, Monitor

NO_EMBEDDING = "these answers came without embeddings, so nothing is said of how the inputs look"


class Blind(Monitor):
    """Says of answers that came without embeddings that their drift is not measured, instead of leaving it out."""

    def measure(self, *given: Any, **named: Any) -> list[Measurement]:
        found = super().measure(*given, **named)
        said = given[0]
        if not said or said[0].embedding.size:
            return found
        one = found[-1]
        return [*found, Measurement("embedding_drift", 0.0, 0.0, 0.0, len(said), one.window, one.model_version,
                                    note=NO_EMBEDDING)]  # fmt: skip
