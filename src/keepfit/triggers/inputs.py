"""The trigger on input drift by betting: only for who names it, since a change of the inputs is not yet harm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keepfit.decision import Decision
from keepfit.triggers.trigger import NoObjection, Reason, Situation, fire, wait

NAME = "input_drift"


@dataclass(frozen=True)
class InputDrift(NoObjection):
    """The wagers on the inputs raised an alarm, after the last attempt to retrain."""

    kind: ClassVar[str] = "input_drift"

    def decide(self, situation: Situation) -> Decision:
        found = situation.measured(NAME)
        if found is None:
            return wait(self.kind, "no answer has been compared with the reference yet")
        facts = {"evidence": found.value, "limit": found.limit, "n": found.n}
        if not found.judged:
            return wait(self.kind, f"the inputs cannot be judged yet ({found.note})", facts)
        if not found.breached:
            limit = 0.0 if found.limit is None else found.limit
            said = f"the evidence for a change of the inputs is 10^{found.value:.1f}, an alarm is at 10^{limit:.1f}"
            return wait(self.kind, said, facts)
        if situation.trained_at is not None and found.window.start <= situation.trained_at:
            return wait(self.kind, f"the inputs changed before the last attempt ({found.note})", facts)
        return fire(self.kind, Reason.ROUTINE, f"the inputs are no longer like the reference ({found.note})", facts)
