"""Gate: may this candidate go towards users? Rules judge it beside the champion, on the same held-out rows.

The gate looks nothing up and looks once: everything it needs is in the Trial. Every rule that applies adds a
sentence with numbers, whether it holds or not, so that a pass is as well explained as a refusal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from keepfit.decision import Decision, Outcome
from keepfit.evaluation.behaviour import BehaviourResult
from keepfit.evaluation.evaluator import Judged
from keepfit.evaluation.spread import Spread

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trial:
    """All that a gate may know."""

    candidate: Judged
    champion: Judged | None = None
    """On the same rows as the candidate; None for the first version."""
    reason: str = "routine"
    """Why the candidate was trained: `harm` (users are harmed: it must be better); all else must not be worse."""
    recent: Flags = field(default_factory=lambda: np.zeros(0, bool))
    """The held-out rows with labels from life since the change, shape (n,); empty means none."""
    contradicted: frozenset[str] = frozenset()
    """Ids of rows whose old label was denied by a new one for the same content."""
    candidate_latency_ms: float | None = None
    champion_latency_ms: float | None = None
    behaviour: BehaviourResult | None = None
    champion_behaviour: BehaviourResult | None = None
    beyond: Judged | None = None
    """The candidate on rows that the champion has not learnt to judge, which are not among the others."""
    unknown: int = 0
    """How many such rows there are; without a champion to compare with they are the candidate's."""
    spread: Spread | None = None
    """How the candidate's recipe did in a cross-validation; None where there was none."""

    def __post_init__(self) -> None:
        if self.champion is not None and self.champion.rows.ids != self.candidate.rows.ids:
            raise ValueError("candidate and champion must be judged on the same rows")
        if len(self.recent) not in (0, len(self.candidate)):
            raise ValueError("recent must name each row of the trial")

    @cached_property
    def since_change(self) -> Flags:
        """`recent`, shape (n,) even when there is none."""
        return self.recent if len(self.recent) else np.zeros(len(self.candidate), bool)

    @cached_property
    def wins(self) -> Flags:
        """Rows on which only the candidate is right, shape (n,); none without a champion."""
        return self.candidate.right & ~self._champion_right

    @cached_property
    def losses(self) -> Flags:
        """Rows on which only the champion is right, shape (n,): the negative flips."""
        return self._champion_right & ~self.candidate.right

    @property
    def _champion_right(self) -> Flags:
        return self.candidate.right if self.champion is None else self.champion.right

    @cached_property
    def same_content_denied(self) -> Flags:
        """Rows from before the change whose content has got another label since, shape (n,)."""
        named = np.array([id in self.contradicted for id in self.candidate.rows.ids], bool)
        return named & ~self.since_change


@dataclass(frozen=True)
class Finding:
    """What one rule found: whether it holds, a sentence with numbers, and values for programs (JSON-able)."""

    holds: bool
    says: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    decides: bool = False
    """Whether it compares the two, so that it tells most of why a candidate passed."""


class Rule(Protocol):
    """One condition. A new rule is a frozen dataclass with its limits as fields."""

    @property
    def name(self) -> str:
        """The key of its findings in the evidence."""
        ...

    def find(self, trial: Trial) -> Finding | None:
        """The finding; None where the rule does not apply (to a first version, to another reason)."""
        ...


class Gate:
    """Rules, judged together."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = tuple(rules)

    def judge(self, trial: Trial) -> Decision:
        """PASS when no rule objects, else FAIL with the objections first. Every finding is in the evidence."""
        found = [(rule.name, finding) for rule in self._rules if (finding := rule.find(trial)) is not None]
        objections = tuple(finding.says for _, finding in found if not finding.holds)
        held = tuple(finding.says for _, finding in found if finding.holds)
        outcome = Outcome.FAIL if objections else Outcome.PASS
        first = self._first(trial)
        telling = objections or tuple(finding.says for _, finding in found if finding.decides) or first + held[:1]
        evidence = {**self._evidence(trial, found), "telling": list(telling)}
        return Decision(outcome, objections + first + held, evidence)

    @staticmethod
    def _first(trial: Trial) -> tuple[str, ...]:
        if trial.unknown:
            rows = len(trial.candidate) + (0 if trial.beyond is None else len(trial.beyond))
            known = f"the champion has not learnt to judge {trial.unknown} of {rows} rows"
            return (f"{known}, so there the candidate has only its floors to keep",)
        return () if trial.champion is not None else ("there is no champion yet, so the candidate is judged alone",)

    @staticmethod
    def _evidence(trial: Trial, found: Sequence[tuple[str, Finding]]) -> dict[str, Any]:
        return {
            "reason": trial.reason,
            "rows": len(trial.candidate),
            "recent": int(trial.since_change.sum()),
            "objections": [name for name, finding in found if not finding.holds],
            "rules": {name: {"holds": finding.holds, **finding.evidence} for name, finding in found},
        }
