"""Asking for labels, told step by step: who may be drawn, the lots of each part, the day's budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from keepfit.clock import Clock
from keepfit.data.records import AUDIT, STREAM, UNWRITTEN, Prediction, QueueItem, Window, new_id
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.allowance import Allowance
from keepfit.monitoring.asking import ALIKE, Drawn, Parts, chances, expected, rate_within, throw
from keepfit.monitoring.unsure import Unsure
from keepfit.pipelines.jumps import BACK
from keepfit.pipelines.rolling import Rolling
from keepfit.rollout.rollout import single

LATELY = "asked_lately"
"""Under this name the store keeps how many answers there were lately."""


@dataclass(frozen=True)
class AskingPlan:
    """What the settings say about asking."""

    rate: float
    budget: int
    parts: Parts = ALIKE
    audit_rate: float = 0.0
    """Where every outcome becomes known: the share that is checked blindly, in the place of all other parts."""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Asking:
    """The label queue of one model."""

    model: str
    store: RecordStore
    plan: AskingPlan
    clock: Clock
    reference: Callable[[int], Reference]
    rolling: Rolling | None = None
    fits: dict[int, Unsure | None] = field(default_factory=dict)
    """By version, for a version's reference never changes."""

    def ask(self) -> None:
        """Draw from the answers since the last beat, at a rate that the day's budget allows.

        The budget is earned as the day goes by and spent by chances, not by what the lots drew, so something is left
        at every beat: each answer has a chance, which is what its label weighs by.

        Of answers to the same content only the first of a day can be drawn: a storm of duplicates is one piece of
        evidence, and must not eat the budget. What the queue measures is therefore the accuracy over different texts.
        """
        now = self.clock.now()
        end = now - UNWRITTEN
        since = self.store.asked_until(self.model) or datetime.min.replace(tzinfo=now.tzinfo)
        if since > end + BACK:
            self.jumped(since, end)
        fresh = self.fresh(Window(since, end), now) if since < end else []
        if not fresh:
            return
        today, elapsed = day_of(now, self.plan.timezone)
        allowance = self.allowance().met(len(fresh), end)
        left = allowance.left(self.plan.budget, today, elapsed, end - since)
        likely = self.chances(fresh, left, allowance.near, end)
        self.store.ask([self.item(drawn, now) for drawn in throw(fresh, likely, self.model)])
        self.remember(allowance.paid(today, expected(likely)), end)
        self.store.set_asked_until(self.model, end)

    def fresh(self, window: Window, now: datetime) -> list[Prediction]:
        """Who may be drawn: live answers whose content was not answered earlier on the same day."""
        midnight = start_of_day(now, self.plan.timezone)
        again = self.store.repeated(self.model, midnight, window)
        answers = self.store.predictions(self.model, window)
        return [p for p in answers if not p.shadow and p.stage != STREAM and p.id not in again]

    def allowance(self) -> Allowance:
        """As of the last beat that had answers."""
        lately = self.store.get(self.model, LATELY)
        near, until = (0.0, None) if lately is None else (lately["near"], datetime.fromisoformat(lately["until"]))
        return Allowance(self.store.get(self.model, "asked") or {}, near, until)

    def remember(self, allowance: Allowance, end: datetime) -> None:
        """For the next beat."""
        self.store.put(self.model, "asked", dict(allowance.spent))
        self.store.put(self.model, LATELY, {"near": allowance.near, "until": end.isoformat()})

    def chances(self, fresh: Sequence[Prediction], left: float, near: float, end: datetime) -> list[dict[str, float]]:
        """The rate looks at how many answers there are, and the chances at what they say; at labels neither does."""
        plan = self.plan
        if plan.audit_rate:  # checked by somebody who does not see what was answered
            return [{AUDIT: rate_within(plan.audit_rate, left, near)}] * len(fresh)
        met = self.rolling.meet(fresh, end) if self.rolling is not None and plan.parts.disagreement else None
        parts = plan.parts.during(rollout=met is not None)
        differing = {id_ for id_, differs in (met or {}).items() if differs}
        live = self.store.deployment(self.model)
        version = None if live is None else single(live.traffic)
        return chances(
            fresh, rate_within(plan.rate, left, near), parts, differing,
            self.unsure(version) if version is not None and parts.uncertain else None, version,
        )  # fmt: skip

    def unsure(self, version: int) -> Unsure | None:
        """What a version was unsure of when it was judged."""
        if version not in self.fits:
            known = self.reference(version)
            self.fits[version] = Unsure.fit(known.scores, known.embeddings)
        return self.fits[version]

    def item(self, drawn: Drawn, now: datetime) -> QueueItem:
        """What a labeller is shown, with the chance with which it was drawn."""
        prediction = drawn.prediction
        example, _ = self.store.prediction(self.model, prediction.id)
        return QueueItem(
            new_id(), self.model, prediction.id, example, drawn.propensity, drawn.reason, now, prediction.labels,
            drawn.parts,
        )  # fmt: skip

    def jumped(self, since: datetime, end: datetime) -> None:
        """Go on from now; without it nothing would be asked until the clock has caught up with its own past."""
        words = (
            f"the clock jumped back by {since - end}: labels are asked again from now on, and answers with times in the"
            " future are not drawn before their time; put the clock right (NTP)"
        )
        evidence = {"asked_until": since.isoformat(), "now": end.isoformat()}
        self.store.add_decision(self.model, "asking", Decision(Outcome.WAIT, (words,), evidence), self.clock.now())
        self.store.set_asked_until(self.model, end)


def start_of_day(now: datetime, timezone: str) -> datetime:
    """The last local midnight."""
    local = now.astimezone(ZoneInfo(timezone))
    return datetime.combine(local.date(), datetime.min.time(), local.tzinfo)


def day_of(now: datetime, timezone: str) -> tuple[str, float]:
    """The local day, and the share of it that is over; it is 23 or 25 hours long when the clocks change."""
    midnight = start_of_day(now, timezone)
    following = datetime.combine(midnight.date() + timedelta(days=1), datetime.min.time(), midnight.tzinfo)
    length = following.astimezone(UTC) - midnight.astimezone(UTC)
    return midnight.date().isoformat(), (now - midnight.astimezone(UTC)) / length
