"""What a retraining costs and what harm there is: the facts for triggers on benefit, gathered from the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Literal

from keepfit.data.costs import RETRAIN, Cost
from keepfit.data.records import Job, JobState, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.errors import NotFound
from keepfit.pipelines.costs import HOUR, Amounts, Prices
from keepfit.pipelines.losses import Summing
from keepfit.pipelines.taking import Days, Taking
from keepfit.rollout.rollout import ENDS
from keepfit.triggers.facts import Attempt, Price
from keepfit.triggers.trigger import Reason

NEWEST = 5
"""Past retrainings whose median says what the next one takes."""
ASSUMED = 600.0
"""Seconds that a retraining is taken to last before one was measured."""
REMEMBERED = timedelta(days=400)
MOST, MONTH = 100, timedelta(days=32)
"""Attempts that are looked at: so many, or those of a month where these are more."""
NEEDED_BY = frozenset({"ski_rental", "benefit", "growth", "worth_it"})
"""The kinds of triggers that look at these facts."""


@dataclass(frozen=True)
class Valued:
    """What the settings say a mistake and a retraining are worth, in one currency; see `[models.NAME.prices]`."""

    currency: Literal["mistakes", "seconds", "money"] = "mistakes"
    mistake: float = 1.0
    """A wrong answer, in the currency."""
    hour: float | None = 100.0
    """An hour of the machine that trains; None: by the prices of processors in `money`."""
    label: float = 1.0
    labels: int = 0
    """Labels that a retraining needs besides those that the watch asks for."""
    fixed: float = 0.0
    """What each retraining costs besides."""
    money: Prices = field(default_factory=Prices)

    def price(self, past: Sequence[Sequence[Cost]]) -> Price:
        """Of one retraining, by what past ones used: the rows of each, newest first.

        >>> Valued(hour=100.0, fixed=5.0).price([]).words
        '600 s (assumed, for none was measured yet) x 100 mistakes an hour = 16.67, and 5 besides = 21.67 mistakes'
        """
        seconds = median(Amounts.of(rows).seconds for rows in past) if past else ASSUMED
        source = f"median of the last {len(past)}" if past else "assumed, for none was measured yet"
        unit = self.money.currency if self.currency == "money" else self.currency
        machine, words = self._machine(seconds, past, source, unit)
        total = machine + self.labels * self.label + self.fixed
        words += f", {self.labels} labels x {self.label:g}" if self.labels else ""
        words += f", and {self.fixed:g} besides" if self.fixed else ""
        if total != machine:
            words += f" = {total:.4g} {unit}"
        if self.currency != "mistakes":
            words += f"; a mistake costs {self.mistake:g} {unit}, so {total / self.mistake:.4g} mistakes"
        money = total if self.currency == "money" else None
        return Price(total / self.mistake, words, len(past), money, seconds)

    def _machine(self, seconds: float, past: Sequence[Sequence[Cost]], source: str, unit: str) -> tuple[float, str]:
        """What the machine's time is worth, and the arithmetic."""
        if self.currency == "seconds":
            return seconds, f"{seconds:.0f} s ({source})"
        if self.hour is not None:
            machine = seconds / HOUR * self.hour
            tail = "" if self.labels or self.fixed else f" {unit}"
            return machine, f"{seconds:.0f} s ({source}) x {self.hour:g} {unit} an hour = {machine:.4g}{tail}"
        used = [Amounts.of(rows) for rows in past] or [Amounts(seconds, seconds)]
        machine = median(one.money(self.money) or 0.0 for one in used)
        return machine, f"{seconds:.0f} s ({source}) at the prices of [costs] = {machine:.4g} {unit}"


@dataclass(frozen=True)
class Worth:
    """Gathers what `Situation` knows of costs and harm."""

    model: str
    store: RecordStore
    valued: Valued
    rows: Callable[[str], int] = lambda snapshot: 0
    """Rows of a snapshot by its id; 0 where it is gone."""
    complete: bool = False
    """Every outcome becomes known: an answer counts once silence has confirmed it, for objections come first."""
    days: Days | None = None
    """Questions of one day count together; None: each label as it arrives."""
    gates: dict[str, tuple[float | None, bool]] = field(default_factory=dict)
    """By job that has ended: what its gate saw gained, and whether it lacked labels. It never changes."""

    def facts(self, version: int, began: datetime, now: datetime) -> Mapping[str, Any]:
        """The fields of a `Situation` that triggers on benefit need."""
        jobs = self.store.jobs(self.model, kind="retrain", limit=MOST)
        if len(jobs) == MOST and jobs[-1].at > now - MONTH:  # the cap of a month counts all of it
            jobs = self.store.jobs(self.model, kind="retrain", limit=10 * MOST)
        ended = [job for job in jobs if job.state in (JobState.DONE, JobState.FAILED)]
        learnt = [self.rows(str(job.result.get("snapshot", ""))) for job in ended]
        last = max((job.at for job in jobs if not first(job)), default=began)
        taking = Taking(self.model, self.store, self.complete, self.days)
        return {
            "losses": Summing(self.model, self.store, taking).losses(version, max(began, last), now),
            "price": self.price(now),
            "learnt": next((rows for rows in learnt if rows), 0),
            "attempts": tuple(
                self.attempt(job, own, before)
                for job, own, before in zip(ended, learnt, [*learnt, 0][1:], strict=True)
                if not first(job)
            ),
        }

    def attempt(self, job: Job, rows: int, before: int) -> Attempt:
        """What became of a job that has ended, which learnt from so many rows, and the one before from `before`."""
        verdict = job.result.get("verdict") if job.state is JobState.DONE else None
        if job.id not in self.gates:
            id_ = job.result.get("decision")
            gate: Mapping[str, Any] = {} if id_ is None else self.evidence(str(id_))
            self.gates[job.id] = (gain(gate), lacking(gate))
        gained, lacked = self.gates[job.id]
        judged = verdict == Outcome.PASS.value or (verdict == Outcome.FAIL.value and not lacked)
        passed = verdict == Outcome.PASS.value and not self.withdrawn(job.result.get("version"))
        reason = str(job.request.get("reason"))
        grown = rows / before if rows and before else None
        return Attempt(job.at, passed, reason == Reason.ASKED, reason != Reason.HARM, gained, grown, judged)

    def evidence(self, decision: str) -> Mapping[str, Any]:
        """What the gate saw; nothing where that is not known any more."""
        try:
            return self.store.decision(decision).decision.evidence
        except NotFound:
            return {}

    def withdrawn(self, version: Any) -> bool:
        """Whether the rollout of a version that had passed ended with the champion before it."""
        last = self.store.decisions(self.model, f"rollout v{version}", 1)
        return bool(last) and last[0].decision.outcome in ENDS

    def price(self, now: datetime) -> Price:
        """What a retraining costs, by the newest that were measured; the first training counts until there are more."""
        rows = self.store.costs(self.model, Window(now - REMEMBERED, now + timedelta(seconds=1)), RETRAIN)
        return self.valued.price(by_job(rows)[:NEWEST])


def gain(gate: Mapping[str, Any]) -> float | None:
    """By how much the gate found a candidate more accurate than the champion; None where it did not compare."""
    rules = gate.get("rules", {})
    found = [
        rules[name]["difference"]["value"] for name in ("better", "not_worse") if "difference" in rules.get(name, {})
    ]
    return next((float(value) for value in found if value is not None), None)


def lacking(gate: Mapping[str, Any]) -> bool:
    """Whether a gate refused for nothing but too few labels to compare on."""
    rules, objections = gate.get("rules", {}), gate.get("objections", ())
    seen = [rules.get(name, {}) for name in objections]
    return bool(seen) and all("n" in one and one["n"] < one.get("min_labels", 1) for one in seen)


def by_job(rows: Iterable[Cost]) -> list[list[Cost]]:
    """The rows of each retraining, the newest retraining first."""
    jobs: dict[str, list[Cost]] = {}
    for row in rows:
        jobs.setdefault(str(row.details.get("job")), []).append(row)
    return sorted(jobs.values(), key=lambda steps: steps[-1].at, reverse=True)


def first(job: Job) -> bool:
    """Whether it was the training before which nothing was deployed."""
    return job.request.get("reason") == "first"


def needed(rules: Iterable[Mapping[str, Any]]) -> bool:
    """Whether any of these rules, as the settings write them, looks at these facts."""
    return any(rule.get("kind") in NEEDED_BY or needed(rule.get("triggers", ())) for rule in rules)
