"""Costs of a month: what was spent, what it comes to at the prices set, against the budget, with the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from keepfit.clock import Clock
from keepfit.data.costs import BATCH, COMPRESS, RETRAIN, SERVE, TUNE, Cost
from keepfit.data.records import Source, Window
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import InvalidInput
from keepfit.pipelines.savings import by_cache, by_compression, by_waiting

HOUR = 3600.0
KWH = 3.6e6
"""Joules of a kilowatt hour."""


@dataclass(frozen=True)
class Prices:
    """What the settings say about money; a price that is not set is not reckoned."""

    currency: str = "EUR"
    per_cpu_hour: float | None = None
    per_gpu_hour: float | None = None
    per_label: float | None = None
    """For a label that was asked for."""
    per_kwh: float | None = None
    monthly_budget: float | None = None
    enforce: bool = False
    warn_at: Sequence[float] = (0.8, 1.0)

    @property
    def known(self) -> bool:
        """Whether anything can be said in money."""
        return any(p is not None for p in (self.per_cpu_hour, self.per_gpu_hour, self.per_label, self.per_kwh))


@dataclass(frozen=True)
class Amounts:
    """Sums. `labels` are those that were asked for; `joules` of what tells, None where nothing does."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    joules: float | None = None
    labels: int = 0

    @classmethod
    def of(cls, rows: Iterable[Cost], labels: int = 0) -> Amounts:
        """Of some rows."""
        found = list(rows)
        told = [row.joules for row in found if row.joules is not None]
        return cls(
            sum(row.seconds for row in found), sum(row.cpu_seconds for row in found),
            sum(row.gpu_seconds for row in found), sum(told) if told else None, labels,
        )  # fmt: skip

    def parts(self, prices: Prices) -> list[tuple[float, str, float]]:
        """(amount, unit, price) of everything that has a price."""
        kwh = None if self.joules is None else self.joules / KWH
        priced = (
            (self.cpu_seconds / HOUR, "CPU h", prices.per_cpu_hour),
            (self.gpu_seconds / HOUR, "GPU h", prices.per_gpu_hour),
            (float(self.labels), "labels", prices.per_label),
            (kwh, "kWh", prices.per_kwh),
        )
        return [(amount, unit, price) for amount, unit, price in priced if amount is not None and price is not None]

    def money(self, prices: Prices) -> float | None:
        """None where no price is set."""
        return sum(amount * price for amount, _, price in self.parts(prices)) if prices.known else None

    def arithmetic(self, prices: Prices) -> str:
        """How the money comes about; without prices the seconds.

        >>> Amounts(9.0, 7200.0, labels=3).arithmetic(Prices(per_cpu_hour=0.05, per_label=0.1))
        '2.0000 CPU h x 0.05 + 3 labels x 0.1 = 0.4000 EUR'
        """
        if not prices.known:
            return f"{self.cpu_seconds:.1f} CPU s, {self.gpu_seconds:.1f} GPU s; no price is set"
        terms = [
            f"{amount:.0f} {unit} x {price:g}" if unit == "labels" else f"{amount:.4f} {unit} x {price:g}"
            for amount, unit, price in self.parts(prices)
        ]
        return f"{' + '.join(terms) or '0'} = {self.money(prices):.4f} {prices.currency}"

    def to_json(self, prices: Prices) -> dict[str, Any]:
        """Plain values, the arithmetic with them."""
        return {
            "seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "gpu_seconds": self.gpu_seconds,
            "kwh": None if self.joules is None else self.joules / KWH, "labels": self.labels,
            "money": self.money(prices), "arithmetic": self.arithmetic(prices),
        }  # fmt: skip


def no_ratio(model: str, version: int) -> float | None:
    """Nobody has measured what compression saves."""
    return None


@dataclass(frozen=True)
class Ledger:
    """The costs of an installation's models, month by month in its own time zone."""

    store: RecordStore
    models: Sequence[str]
    prices: Prices
    timezone: str
    clock: Clock
    ratio: Callable[[str, int], float | None] = no_ratio
    """CPU seconds of fp32 for one of the version's own, where both were measured."""

    def month_of(self, now: datetime) -> str:
        """As it is written: 2026-11."""
        return f"{now.astimezone(ZoneInfo(self.timezone)):%Y-%m}"

    def window(self, month: str) -> Window:
        """From its first local midnight to the next month's. Raises InvalidInput."""
        try:
            first = datetime.strptime(month, "%Y-%m").replace(tzinfo=ZoneInfo(self.timezone))
        except ValueError as error:
            raise InvalidInput(f"{month!r} is no month; write one like 2026-11", "month") from error
        after = (first.year + first.month // 12, first.month % 12 + 1)
        return Window(first, first.replace(year=after[0], month=after[1]))

    def total(self, month: str) -> Amounts:
        """What all models used together."""
        window = self.window(month)
        rows = [row for name in self.models for row in self.store.costs(name, window)]
        return Amounts.of(rows, sum(self.asked(name, window) for name in self.models))

    def asked(self, model: str, window: Window) -> int:
        """Labels that came because they were asked for: those that were paid."""
        return self.store.spent_labels(model, window).get(Source.ASKED.value, 0)

    def report(self, month: str | None = None) -> dict[str, Any]:
        """Everything of one month, with the arithmetic."""
        now = self.clock.now()
        month = month or self.month_of(now)
        window = self.window(month)
        total = self.total(month)
        return {
            "month": month,
            "timezone": self.timezone,
            "currency": self.prices.currency if self.prices.known else None,
            "total": total.to_json(self.prices),
            "budget": self.budget(total),
            "models": {name: self.of_model(name, window, now) for name in self.models},
        }

    def budget(self, total: Amounts) -> dict[str, Any] | None:
        """How much of it is spent; None where none is set."""
        limit, spent = self.prices.monthly_budget, total.money(self.prices)
        if limit is None or spent is None:
            return None
        return {
            "monthly": limit, "spent": spent, "share": spent / limit, "enforced": self.prices.enforce,
            "arithmetic": f"{spent:.4f} / {limit:g} {self.prices.currency} = {spent / limit:.1%}",
        }  # fmt: skip

    def answering(self, name: str, window: Window) -> Window:
        """The part of the window since the model first answered."""
        first = next(iter(self.store.deployments(name, limit=10_000)[::-1]), None)
        return window if first is None else Window(max(window.start, first.at), window.end)

    def of_model(self, name: str, window: Window, now: datetime) -> dict[str, Any]:
        """One model's part."""
        rows = self.store.costs(name, window)
        labels = self.store.spent_labels(name, window)
        retrainings = self.retrainings(name, [row for row in rows if row.kind == RETRAIN])
        serving = [row for row in rows if row.kind == SERVE]
        live = max((row.version for row in serving if row.version is not None), default=None)
        saved = [
            by_cache(serving),
            by_compression(serving, live, None if live is None else self.ratio(name, live)),
            by_waiting(retrainings, self.answering(name, window), now),
        ]
        return {
            "total": Amounts.of(rows, labels.get(Source.ASKED.value, 0)).to_json(self.prices),
            "labels": labels,
            "retrainings": retrainings,
            **{
                kind: Amounts.of(row for row in rows if row.kind == kind).to_json(self.prices)
                for kind in (TUNE, COMPRESS, BATCH, SERVE)
            },
            "versions": self.versions(rows, retrainings),
            "saved": [self.priced(one) for one in saved],
        }

    def priced(self, saving: Mapping[str, Any]) -> dict[str, Any]:
        """A saving, in money too where the processor has a price."""
        seconds, price = saving.get("cpu_seconds"), self.prices.per_cpu_hour
        if seconds is None or price is None:
            return dict(saving)
        money = seconds / HOUR * price
        words = f"{saving['arithmetic']}; {seconds / HOUR:.4f} CPU h x {price:g} = {money:.4f} {self.prices.currency}"
        return {**saving, "money": money, "arithmetic": words}

    def asked_before(self, name: str, job: str, at: datetime, begun: Sequence[tuple[datetime, str]]) -> int:
        """Labels that were asked for and came since the retraining before this one was asked for; `begun` has all."""
        end = next((moment for moment, id_ in begun if id_ == job), at)
        start = max((moment for moment, _ in begun if moment < end), default=datetime.min.replace(tzinfo=UTC))
        return self.store.spent_labels(name, Window(start, end)).get(Source.ASKED.value, 0)

    def retrainings(self, name: str, rows: Sequence[Cost]) -> list[dict[str, Any]]:
        """By job, oldest first, with the price of the labels that were asked for since the one before.

        A step that was taken again after a failure counts each time.
        """
        jobs: dict[str, list[Cost]] = {}
        for row in rows:
            jobs.setdefault(str(row.details.get("job")), []).append(row)
        begun = [(one.at, one.id) for one in self.store.jobs(name, kind=RETRAIN, limit=10_000)] if jobs else []
        found = []
        for job, steps in jobs.items():
            by_step: dict[str, float] = {}
            for row in steps:
                step = str(row.details.get("step"))
                by_step[step] = by_step.get(step, 0.0) + row.cpu_seconds
            asked = self.asked_before(name, job, steps[0].at, begun)
            used = int(max((row.details.get("labels") or 0 for row in steps), default=0))
            found.append({
                "job": job, "at": steps[-1].at, "version": next((r.version for r in steps if r.version), None),
                "labels_used": used, "labels_asked": asked, "cpu_seconds_by_step": by_step,
                **Amounts.of(steps, asked).to_json(self.prices),
            })  # fmt: skip
        return found

    def versions(self, rows: Sequence[Cost], retrainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What each version cost to make and to serve, and 1,000 of its answers."""
        serving = [row for row in rows if row.kind == SERVE]
        rest = Amounts.of(row for row in serving if row.version is None)
        everything = sum(answers(row) for row in serving)
        numbers = {row.version for row in rows if row.version is not None} | {
            one["version"] for one in retrainings if one["version"] is not None
        }
        found = {}
        for number in sorted(numbers):
            own = [row for row in serving if row.version == number]
            jobs = {one["job"] for one in retrainings if one["version"] == number}
            made = [row for row in rows if row.kind == RETRAIN and row.details.get("job") in jobs]
            asked = sum(one["labels_asked"] for one in retrainings if one["job"] in jobs)
            found[str(number)] = {
                "training": Amounts.of(made, asked).to_json(self.prices),
                "serving": Amounts.of(own).to_json(self.prices),
                "answers": sum(answers(row) for row in own),
                "per_1000": self.per_1000(Amounts.of(own), sum(answers(row) for row in own), rest, everything),
            }
        return found

    def per_1000(self, own: Amounts, n: int, rest: Amounts, everything: int) -> dict[str, Any] | None:
        """1,000 answers: the engine's part, and of the server's rest what falls on these answers; None without any."""
        if not n:
            return None
        cpu = 1000 * (own.cpu_seconds / n + rest.cpu_seconds / everything)
        gpu = 1000 * own.gpu_seconds / n
        amounts = Amounts(cpu_seconds=cpu, gpu_seconds=gpu)
        words = (
            f"1000 x ({own.cpu_seconds:.2f} engine CPU s / {n} answers + {rest.cpu_seconds:.2f} other CPU s"
            f" of the server / {everything} answers) = {cpu:.3f} CPU s"
        )
        return {
            "cpu_seconds": cpu, "gpu_seconds": gpu, "money": amounts.money(self.prices),
            "arithmetic": words if not self.prices.known else f"{words}; {amounts.arithmetic(self.prices)}",
        }  # fmt: skip

    # the budget

    def warn(self) -> list[Decision]:
        """Store a decision for each part of the budget that is spent, once a month; announcing reads them."""
        now, limit = self.clock.now(), self.prices.monthly_budget
        if limit is None:
            return []
        month = self.month_of(now)
        total = self.total(month)
        budget = self.budget(total)
        made = []
        for part in sorted(self.prices.warn_at):
            if budget is None or budget["share"] < part:
                break
            words = f"{part:.0%} of the budget of {month} is spent: {budget['arithmetic']}"
            evidence = {"month": month, "threshold": part, "arithmetic": total.arithmetic(self.prices), **budget}
            made.append(Decision(Outcome.HOLD if budget["share"] < 1 else Outcome.FAIL, (words,), evidence))
            self.store.add_decision(self.models[0], "budget", made[-1], now, id=f"budget-{month}-{part:g}-{limit:g}")
        return made

    def objection(self) -> str | None:
        """Why a retraining that nobody needs at once should wait for the next month; None when it need not."""
        if not self.prices.enforce or self.prices.monthly_budget is None:
            return None
        month = self.month_of(self.clock.now())
        budget = self.budget(self.total(month))
        if budget is None or budget["share"] < 1:
            return None
        return f"the budget of {month} is spent ({budget['arithmetic']}), and neither harm nor a person calls for it"


def answers(row: Cost) -> int:
    """How many users were given in an hour of answering."""
    return int(row.details.get("answers", 0))
