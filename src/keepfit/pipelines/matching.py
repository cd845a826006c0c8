"""Matching: on which rows a candidate and the champion can be compared, and what is left to the candidate alone."""

from __future__ import annotations

from dataclasses import dataclass

from keepfit.evaluation.evaluator import Judged, judge
from keepfit.tasks.task import Model


@dataclass(frozen=True, eq=False)
class Match:
    """Who is judged on which rows."""

    candidate: Judged
    """On the rows that both know how to judge; on all where there is no such champion."""
    champion: Model | None = None
    """None before the first version, and where it knows none of the rows."""
    against: Judged | None = None
    """What it answers, on the candidate's rows."""
    beyond: Judged | None = None
    """The candidate on the other rows: for these it has only its own floors."""
    unknown: int = 0
    """Rows that there is a champion for who does not know them."""

    @classmethod
    def of(cls, candidate: Judged, champion: Model | None) -> Match:
        """The champion is asked now."""
        if champion is None:
            return cls(candidate)
        known = [champion.knows(content) for content in candidate.rows.contents]
        both = [place for place, knows in enumerate(known) if knows]
        other = [place for place, knows in enumerate(known) if not knows]
        if not other:
            return cls(candidate, champion, judge(champion, candidate.rows))
        if not both:
            return cls(candidate, unknown=len(other))
        shared = candidate.only(both)
        return cls(shared, champion, judge(champion, shared.rows), candidate.only(other), len(other))
