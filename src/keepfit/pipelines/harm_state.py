"""What the feeding of the harm detectors keeps between two checks; its size does not grow with the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from keepfit.monitoring.baseline import Bursts, Sums
from keepfit.monitoring.harm import HarmDetector, Observations, Proxy

SLICE_SPREAD = 0.1
"""How far the usual risk of a slice may be from that of the whole, before anything was seen of it."""


@dataclass
class Watched:
    """A detector with what people want to know of it."""

    detector: HarmDetector
    place: int = 0
    """0: of all answers; k: of the slice that appeared as number k."""
    lost: float = 0.0
    allowed: float = 0.0
    """Sums of losses and of bounds over all labels."""
    lows: dict[str, tuple[str, float, float]] = field(default_factory=dict)
    """By number of the label with which a rise began: when it was answered, and the sums before it."""
    usual: tuple[float, float] = (0.0, 0.0)
    """Of a slice: labels that taught what is usual, and the sum of their losses beyond the whole's risk."""
    taught: tuple[float, float] = (0.0, 0.0)
    """The same with those of the piece under way."""
    alarm: dict[str, Any] | None = None
    """Since the last restart."""

    def take(self, seen: Observations, times: Sequence[datetime], needed: float) -> None:
        """Labels, with the moments of their answers; an alarm is described as it was when it came."""
        if self.alarm is None:
            trial = HarmDetector.from_json(self.detector.to_json())
            alarm = trial.watch(seen, needed)
            if alarm is not None:
                at = alarm - self.detector.seen + 1
                self._feed(seen.only(slice(None, at)), times[:at])
                self.alarm = {"answered": times[at - 1].isoformat(), **self.rise()}
                seen, times = seen.only(slice(at, None)), times[at:]
        self._feed(seen, times)

    def _feed(self, seen: Observations, times: Sequence[datetime]) -> None:
        first = self.detector.seen
        before_lost = self.lost + np.concatenate([[0.0], np.cumsum(seen.losses)])
        before_allowed = self.allowed + np.concatenate([[0.0], np.cumsum(seen.bounds)])
        self.detector.watch(seen, np.inf)
        self.lost, self.allowed = float(before_lost[-1]), float(before_allowed[-1])
        for number in map(int, self.detector.since):
            at = number - first
            if 0 <= at < len(times):
                self.lows[str(number)] = (times[at].isoformat(), float(before_lost[at]), float(before_allowed[at]))
        kept = {str(int(number)) for number in self.detector.since}
        self.lows = {number: low for number, low in self.lows.items() if number in kept}

    def rise(self) -> dict[str, Any]:
        """Where the harm that is most evident may have begun, and what was seen since."""
        began = self.detector.began
        at, lost, allowed = self.lows.get(str(began), ("", 0.0, 0.0))
        n = self.detector.seen - began
        risk, usual = (self.lost - lost) / max(n, 1), (self.allowed - allowed) / max(n, 1)
        return {"began": at, "labels": n, "risk": risk, "usual": usual}

    def excess(self) -> tuple[float, float]:
        """Of a slice: how much its risk is usually beyond the whole's, and the standard deviation of that."""
        n, total = self.usual
        precision = n / 0.25 + 1 / SLICE_SPREAD**2
        return total / 0.25 / precision, precision**-0.5

    def restart(self) -> None:
        """New evidence only."""
        self.detector.restart()
        self.alarm = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain: dict[str, Any] = {
            "place": self.place,
            "lost": self.lost,
            "allowed": self.allowed,
            "usual": list(self.usual),
        }
        plain["taught"] = list(self.taught)
        lows = {number: list(low) for number, low in self.lows.items()}
        return {"detector": self.detector.to_json(), "lows": lows, "alarm": self.alarm, **plain}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Watched:
        """The inverse of `to_json`."""
        lows = {number: (at, lost, allowed) for number, (at, lost, allowed) in plain["lows"].items()}
        (n, total), (m, more) = plain["usual"], plain["taught"]
        return cls(
            HarmDetector.from_json(plain["detector"]), plain["place"], plain["lost"], plain["allowed"], lows,
            (n, total), (m, more), plain["alarm"],
        )  # fmt: skip


@dataclass
class State:
    """What is kept in the store between two checks; its size does not grow with the labels."""

    of: str
    """A hash of the version, its deployment, the rule and who is set apart: what makes it start anew."""
    since: str
    """When the version was deployed."""
    reference: Sums
    life: Sums
    proxy: Proxy
    taught: Sums
    """Life with the labels of the piece under way."""
    bursts: Bursts = field(default_factory=Bursts)
    worth: float = 1.0
    """How many independent labels one is worth, as of the last whole piece."""
    taken: int = 0
    """Labels that counted."""
    after: int = 0
    """Labels up to this number were taken in."""
    settled: str = ""
    """Where every outcome becomes known: answers of before this moment were taken in."""
    restarted: tuple[str, int, str] = ("", 0, "")
    """At which attempt to retrain evidence began anew, the number of the label before, and `settled` of then."""
    watched: dict[str, Watched] = field(default_factory=dict)
    """By slice; the whole under ""."""
    days: dict[str, str] = field(default_factory=dict)
    """By content: the day of the last label that counted."""
    hours: dict[str, float] = field(default_factory=dict)
    """By hour: how wrong the model expected to be, on average; -1 where too few answers were given to tell."""
    passed_over: int = 0
    """Slices beyond the most that are watched."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "of": self.of, "since": self.since, "reference": self.reference.to_json(), "life": self.life.to_json(),
            "proxy": [self.proxy.share, self.proxy.explained], "taught": self.taught.to_json(),
            "bursts": asdict(self.bursts), "worth": self.worth, "taken": self.taken, "after": self.after,
            "settled": self.settled, "restarted": list(self.restarted),
            "watched": {name: one.to_json() for name, one in self.watched.items()}, "days": self.days,
            "hours": self.hours, "passed_over": self.passed_over,
        }  # fmt: skip

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> State:
        """The inverse of `to_json`."""
        at, number, *settled = plain["restarted"]  # the last is missing where an earlier release wrote it
        return cls(
            plain["of"], plain["since"], Sums.from_json(plain["reference"]), Sums.from_json(plain["life"]),
            Proxy(*plain["proxy"]), Sums.from_json(plain["taught"]),
            Bursts(**{**plain["bursts"], "part": tuple(plain["bursts"]["part"])}), plain["worth"], plain["taken"],
            plain["after"], plain["settled"], (at, number, settled[0] if settled else ""),
            {name: Watched.from_json(one) for name, one in plain["watched"].items()}, dict(plain["days"]),
            dict(plain["hours"]), plain["passed_over"],
        )  # fmt: skip
