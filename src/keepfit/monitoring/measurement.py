"""Measurement: one value seen in one window of one version, with its interval and its limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from keepfit.data.records import Window

HARM = "harm"
TOO_FEW = "too few"
"""The note of a measurement that was taken on so little that it never counts as breached."""


@dataclass(frozen=True)
class Measurement:
    """What the monitor saw; triggers and people read it, nobody changes it.

    Names: `accuracy`, `macro_f1`, and `accuracy:lastN` (on the newest N labels only); `label_mix` (total variation
    distance to the reference, in [0, 1]) and `share:LABEL`; the means `confidence`, `length` (tokens), `unknown` (share
    of tokens); `embedding_drift` (standard deviations of the reference per component); `ks:FEATURE` (largest gap
    between the two distribution functions, in [0, 1], with its `p`); `harm` and `harm:NAME=VALUE` (evidence of the harm
    detector, of all answers or a slice, as a multiple of what an alarm needs; breached since its alarm, until the next
    attempt to retrain).
    """

    name: str
    value: float
    low: float
    high: float
    """95 % interval around the value; equal to it where an interval means nothing."""
    n: int
    """On how many predictions (for `accuracy` and `macro_f1`: labels) it rests."""
    window: Window
    model_version: int
    breached: bool = False
    limit: float | None = None
    """What the value was compared with; None where no threshold is set."""
    note: str = ""
    """For people: `too few` where the window was too small to judge, else what the limit means."""
    p: float | None = None
    """The p-value of a test, uncorrected; None where there is no test."""
    effective: float | None = None
    """How many equally weighted labels it is worth, where labels had unequal chances of being asked for."""
    since: str = ""
    """When what was measured may have begun, as ISO 8601; empty where that is not known."""

    @property
    def weight(self) -> float:
        """How many independent equal labels the value is worth: `effective` where known, else `n`."""
        return float(self.n) if self.effective is None else self.effective

    @property
    def judged(self) -> bool:
        """False when the window was too small to say anything."""
        return not self.note.startswith(TOO_FEW)

    def to_json(self) -> dict[str, Any]:
        """A mapping of plain values; times as ISO 8601."""
        plain = asdict(self)
        plain["window"] = [self.window.start.isoformat(), self.window.end.isoformat()]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Measurement:
        """The inverse of `to_json`."""
        start, end = (datetime.fromisoformat(text) for text in plain["window"])
        return cls(**{**plain, "window": Window(start, end)})
