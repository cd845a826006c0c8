"""Cascading: does a version's first stage still keep its terms in life, and does it pay; switched off and on by that.

The records of the drawn answers (see serving.cascade) say how often the first stage would have been sure of another
answer than the full model's, without bias and without labels. While it answers, an e-detector looks at them at each
beat (Shin, Ramdas & Rinaldo, arXiv 2203.03532), so a false alarm is rare however long one watches. After an alarm the
first stage is silent, and a threshold is chosen anew from what is drawn from then on, at levels that are shared out
over all looks. Nothing that gave the alarm chooses the threshold.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from keepfit.clock import Clock
from keepfit.data.comparing import Brief
from keepfit.data.records import CONTROL, FIRST, FIRST_AGREED, FIRST_SURE, UNWRITTEN, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.intervals import exact_high
from keepfit.rollout.rollout import serving_since, single
from keepfit.sequential import LARGE_ODDS, share_bounds
from keepfit.serving.cascade import CASCADE, CascadePlan
from keepfit.tasks.trade import Accepted, Trade, accept

SUBJECT = "cascade"
BEATS = 10_000
"""Between two false alarms, on average at least, counted in beats at which something was drawn."""
AT_ONCE = timedelta(hours=1)
"""What a worker that was away has to catch up on is read in pieces of so much."""
FEWEST = 250
"""Drawn answers before a threshold is chosen anew; the next look is at twice as many."""
SHARE_LEVEL, SHARE_LEAST, SHARE_MOST = 0.01, 500, 20_000
"""Whether it pays is judged at this level from so many answers on, and counted anew after so many."""


@dataclass(frozen=True)
class Kept:
    """What is known of one version's first stage in life; the server reads on and threshold of it."""

    version: int
    plan: Mapping[str, Any]
    until: str
    """The answers before are counted."""
    on: bool
    threshold: float | None
    because: str
    at: str
    """Since when it is so."""
    allowed: float = 1.0
    """The share of all answers that may be sure and other ones than the full model's."""
    answers: int = 0
    first: int = 0
    """Of these, given by the first stage."""
    drawn: int = 0
    sure: tuple[int, ...] = ()
    """Of the drawn ones, at each threshold of the curve."""
    differing: tuple[int, ...] = ()
    logs: tuple[float, ...] = ()
    """The e-detector: log of its capital for each of LARGE_ODDS."""
    looks: int = 0
    """Looks at a new threshold since it is off."""
    since: str = ""
    """What is drawn is counted from here on."""
    off: tuple[int, ...] = ()
    """Versions that no longer kept these terms in life: what their held-out rows say counts no more."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Kept:
        """As `asdict` and the store gave it."""
        parts = {name: tuple(values.get(name, ())) for name in ("sure", "differing", "logs", "off")}
        return cls(**{**values, **parts})

    def turned(self, on: bool, threshold: float | None, because: str, at: str, allowed: float, n: int) -> Kept:
        """Switched, with everything counted anew."""
        blank = (0,) * n
        return replace(
            self, on=on, threshold=threshold, because=because, at=at, allowed=allowed, answers=0, first=0, drawn=0,
            sure=blank, differing=blank, logs=(), looks=0, since=at,
        )  # fmt: skip


@dataclass(frozen=True)
class Cascading:
    """Of one model. `tick` does what is due, and twice is as good as once."""

    model: str
    store: RecordStore
    plan: CascadePlan
    trade: Callable[[int], Trade | None]
    """What a version's first stage would change, from its folder."""
    clock: Clock

    def tick(self) -> None:
        """Count the answers since the last beat, and switch where they ask for it; a switch is a stored decision."""
        live = self.store.deployment(self.model)
        if live is None:
            return
        version, end = single(live.traffic), self.clock.now() - UNWRITTEN
        trade = self.trade(version)
        kept = self.known(version, trade)
        if kept is None:
            kept = self.begun(version, trade)
        if trade is None:
            return
        since = min(datetime.fromisoformat(kept.until), end)
        while since < end:
            until = min(since + AT_ONCE, end)
            briefs = self.store.briefs(self.model, Window(since, until), version)
            after = counted(replace(kept, until=until.isoformat()), briefs, trade)
            kept = self.judged(after, trade)
            self.store.put(self.model, CASCADE, asdict(kept))
            since = until

    def known(self, version: int, trade: Trade | None) -> Kept | None:
        """What was counted of this version under these terms, at the thresholds of its curve."""
        kept = self.store.get(self.model, CASCADE)
        if kept is None or kept["version"] != version or kept["plan"]["terms"] != self.plan.terms.to_json():
            return None
        if trade is not None and not fits(kept, trade):
            return None  # an earlier release looked below abstain_below, too
        return replace(Kept.from_json(kept), plan=self.plan.to_json())

    def refuted(self) -> tuple[int, ...]:
        """The versions that no longer kept these terms when they answered."""
        kept = self.store.get(self.model, CASCADE)
        same = kept is not None and kept["plan"]["terms"] == self.plan.terms.to_json()
        return tuple(kept.get("off", ())) if same else ()

    def begun(self, version: int, trade: Trade | None) -> Kept:
        """A new version, or new terms: what the version's own held-out rows say holds at first."""
        served = serving_since(self.store.deployments(self.model, limit=1000))
        # what was answered before anybody looked has no marks, and a long life would take long to read
        since = max(served, self.clock.now() - UNWRITTEN - AT_ONCE).isoformat()
        off = self.refuted()
        found = Accepted(None, NONE) if trade is None else accept(trade, self.plan.terms)
        if version in off:
            found = Accepted(None, "it no longer kept these terms when it answered before")
        on = found.threshold is not None
        words = f"version {version} answers with its first stage: {found.because}" if on else (
            f"the first stage of version {version} answers nothing: {found.because}")  # fmt: skip
        blank = Kept(version, self.plan.to_json(), since, on, found.threshold, words, since)
        n = 0 if trade is None else len(trade.points)
        before = self.store.get(self.model, CASCADE)
        lost = before is not None and before["on"] and not on
        blank = replace(blank, off=off)
        kept = blank.turned(on, found.threshold, words, since, allowed(found, trade, self.plan), n)
        evidence = {"version": version, "threshold": found.threshold, "bound": found.bound, "plan": self.plan.to_json(),
                    "held_out": None if trade is None else trade.n} | ({"switched": True} if lost else {})  # fmt: skip
        self.keep(kept, Decision(Outcome.PASS if on else Outcome.FAIL, (words,), evidence))
        self.store.put(self.model, CASCADE, asdict(kept))
        return kept

    def judged(self, kept: Kept, trade: Trade) -> Kept:
        """Off where it no longer keeps its terms or no longer pays; on again where it would."""
        if not kept.on:
            return self.chosen_anew(kept, trade)
        refuted = worse(kept, trade)
        objection = refuted or idle(kept, self.plan)
        if objection is None:
            return kept
        if refuted is not None:
            kept = replace(kept, off=(*kept.off, kept.version))
        words = (
            f"the first stage of version {kept.version} is switched off: {objection}",
            "every answer is the full model's; a threshold is looked for in what is drawn from now on",
        )
        evidence = self.evidence(kept, trade) | {"switched": True}
        after = kept.turned(False, None, words[0], kept.until, kept.allowed, len(trade.points))
        self.keep(after, Decision(Outcome.FAIL, words, evidence))
        return after

    def chosen_anew(self, kept: Kept, trade: Trade) -> Kept:
        """A threshold from what was drawn since it is off, where so many were drawn that it is time for a look."""
        if kept.drawn < max(FEWEST, 2 * self.plan.terms.rows) * 2**kept.looks:  # fewer could prove nothing
            return kept
        level = (1 - self.plan.terms.confidence) / 2 ** (kept.looks + 1)
        most, best, bound = self.plan.terms.most, None, 1.0
        redeemed = self.redeemed(kept, trade)
        for place, point in enumerate(trade.points):
            bound = exact_high(kept.differing[place] - redeemed[place], kept.drawn, level)
            if bound > most:
                break
            if kept.sure[place] >= self.plan.least_share * kept.drawn:
                best = (place, point.threshold, bound)
        evidence = self.evidence(kept, trade) | {"level": level, "redeemed": redeemed}
        if best is None:
            silent = (
                f"the first stage of version {kept.version} stays silent: of {kept.drawn} drawn contents no threshold"
                f" is proven to answer {self.plan.least_share:.0%} with {most:.1%} other answers at most"
            )
            blank = (0,) * len(trade.points)  # the next look has rows of its own: old ones may be of another world
            after = replace(kept, looks=kept.looks + 1, because=silent, drawn=0, sure=blank, differing=blank,
                            since=kept.until)  # fmt: skip
            self.keep(kept, Decision(Outcome.FAIL, (silent,), evidence))
            return after
        place, threshold, bound = best
        words = (
            f"the first stage of version {kept.version} answers from now on, from a score of {threshold:.3f}: of"
            f" {kept.drawn} drawn contents it would have answered {kept.sure[place] / kept.drawn:.0%}, and"
            f" {kept.differing[place]} of all otherwise than the full model, {bound:.2%} at most"
            + (f", where {redeemed[place]} that the full model got wrong by labels are none" if any(redeemed) else "")
        )
        kept = replace(kept, off=tuple(one for one in kept.off if one != kept.version))
        after = kept.turned(True, threshold, words, kept.until, most, len(trade.points))
        self.keep(
            after,
            Decision(Outcome.PASS, (words,), evidence | {"threshold": threshold, "bound": bound, "switched": True}),
        )
        return after

    def redeemed(self, kept: Kept, trade: Trade) -> list[int]:
        """At each threshold the drawn contents that it would have answered otherwise, and the full model wrongly.

        For accuracy these are no losses, whatever the first stage would have said. A label that is missing redeems
        nothing, so it does not matter which ones have come.
        """
        found = [0] * len(trade.points)
        if self.plan.terms.keeps != "accuracy" or not kept.since:
            return found
        window = Window(datetime.fromisoformat(kept.since), datetime.fromisoformat(kept.until))
        for said, label in self.store.labelled(self.model, window, kept.version):
            if said.measures.get(FIRST_AGREED) != 0.0 or said.label == label.value:
                continue
            for place, point in enumerate(trade.points):
                found[place] += int(np.float32(said.measures[FIRST_SURE]) >= np.float32(point.threshold))
        return found

    def evidence(self, kept: Kept, trade: Trade) -> dict[str, Any]:
        """The numbers of a judgement."""
        return {
            "version": kept.version, "threshold": kept.threshold, "allowed": kept.allowed, "answers": kept.answers,
            "first": kept.first, "drawn": kept.drawn, "thresholds": [point.threshold for point in trade.points],
            "sure": list(kept.sure), "differing": list(kept.differing),
        }  # fmt: skip

    def keep(self, kept: Kept, decision: Decision) -> None:
        """Once, also when a kill makes it happen again."""
        plan = hashlib.sha256(json.dumps(kept.plan, sort_keys=True).encode()).hexdigest()[:8]
        moment = f"{plan}-{kept.until}-{decision.outcome.value}-{kept.looks}"
        id_ = f"{SUBJECT}-{self.model}-{kept.version}-{moment}"
        self.store.add_decision(self.model, SUBJECT, decision, self.clock.now(), id=id_)


NONE = (
    "it has none; a version that is trained from now on has one, except of video, after a change of the class mix, and"
    " where it was compressed"
)


def allowed(found: Accepted, trade: Trade | None, plan: CascadePlan) -> float:
    """The disagreement that was accepted; where accuracy was, what may have been there, and the tolerance besides."""
    if plan.terms.keeps == "agreement" or trade is None or found.point is None:
        return plan.terms.most
    return min(0.5, exact_high(found.point.differing, trade.n, 1 - plan.terms.confidence) + plan.terms.loss)


def counted(kept: Kept, briefs: Sequence[Brief], trade: Trade) -> Kept:
    """With these answers."""
    heard = [one for one in briefs if not one.shadow]
    first = sum(one.stage == FIRST for one in heard)
    # what the cache knew, and what was drawn, the first stage was not asked to answer
    marked = first + sum(one.measures.get(CONTROL) == 0.0 and one.stage != "cache" for one in heard)
    drawn = [(one.measures[FIRST_SURE], one.measures[FIRST_AGREED]) for one in heard if FIRST_SURE in one.measures]
    sure, agreed = np.array(drawn, np.float32).reshape(-1, 2).T  # as the server compares them
    rows = [sure >= np.float32(point.threshold) for point in trade.points]
    before = kept
    if kept.answers >= SHARE_MOST:
        kept = replace(kept, answers=0, first=0)  # what was long ago says little of whether it pays
    kept = replace(
        kept, answers=kept.answers + marked, first=kept.first + first, drawn=kept.drawn + len(drawn),
        sure=tuple(n + int(row.sum()) for n, row in zip(kept.sure, rows, strict=True)),
        differing=tuple(n + int((row & (agreed == 0)).sum()) for n, row in zip(kept.differing, rows, strict=True)),
    )  # fmt: skip
    if not kept.on or not drawn:
        return kept
    place = place_of(kept, trade)
    return replace(
        kept, logs=wagered(before.logs, kept.differing[place] - before.differing[place], len(drawn), kept.allowed)
    )


def fits(kept: Mapping[str, Any], trade: Trade) -> bool:
    """Whether what was counted is of the thresholds of this curve."""
    thresholds = {None, *(point.threshold for point in trade.points)}
    return len(kept["sure"]) == len(trade.points) and kept["threshold"] in thresholds


def place_of(kept: Kept, trade: Trade) -> int:
    """Of the threshold that holds, on the curve."""
    return next(i for i, point in enumerate(trade.points) if point.threshold == kept.threshold)


def wagered(logs: Sequence[float], hits: int, cases: int, chance: float) -> tuple[float, ...]:
    """The e-detector after a beat: each capital and a new one are staked on "more often than `chance`"."""
    scale = 1 - chance + LARGE_ODDS * chance
    gain = hits * np.log(LARGE_ODDS / scale) - (cases - hits) * np.log(scale)
    before = np.array(logs) if len(logs) else np.full(len(LARGE_ODDS), -np.inf)
    return tuple(float(x) for x in np.maximum(np.logaddexp(before, 0.0) + gain, -700.0))


def worse(kept: Kept, trade: Trade) -> str | None:
    """Why it does not keep its terms, where that is proven."""
    if not kept.logs:
        return None
    logs = np.array(kept.logs)
    if logs.max() + math.log(float(np.exp(logs - logs.max()).mean())) < math.log(BEATS):
        return None
    place = place_of(kept, trade)
    return (
        f"of {kept.drawn} drawn contents it was sure of {kept.sure[place]} and would have answered"
        f" {kept.differing[place]} otherwise than the full model, lately more often than the {kept.allowed:.1%} of all"
        " that were accepted"
    )


def idle(kept: Kept, plan: CascadePlan) -> str | None:
    """Why it does not pay, where that is proven."""
    if kept.answers < SHARE_LEAST:
        return None
    _, high = share_bounds(kept.first, kept.answers, 2 * SHARE_LEVEL)
    if high >= plan.least_share:
        return None
    return f"it answered {kept.first} of {kept.answers} contents; it pays from {plan.least_share:.0%} on"
