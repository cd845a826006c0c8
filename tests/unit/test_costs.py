"""A month's costs: every sum can be checked by its arithmetic, and what is not known is said to be not known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from keepfit.clock import ManualClock
from keepfit.data.costs import Cost
from keepfit.data.records import Example, Job, JobState, Label, Prediction, Source, Window, new_id
from keepfit.data.store import RecordStore
from keepfit.errors import InvalidInput
from keepfit.pipelines.costs import Amounts, Ledger, Prices

PRICES = Prices("EUR", per_cpu_hour=3.6, monthly_budget=10.0)  # a thousandth for a CPU second


@dataclass
class Books:
    """A ledger, and what is entered."""

    ledger: Ledger
    clock: ManualClock

    def enter(self, kind: str, cpu: float, version: int | None = None, **details: Any) -> None:
        cost = Cost(new_id(), "m", self.clock.now(), kind, cpu, cpu, version=version, details=details)
        self.ledger.store.put_cost(cost)

    def priced(self, **prices: Any) -> Ledger:
        return replace(self.ledger, prices=replace(PRICES, **prices))

    @property
    def model(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ledger.report()["models"]["m"]
        return found

    def saved(self, by: str) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.model["saved"] if one["by"] == by)
        return found


@pytest.fixture
def books(store_url: str) -> Iterator[Books]:
    clock = ManualClock(datetime(2026, 11, 11, 12, tzinfo=UTC))
    with RecordStore.open(store_url) as store:
        yield Books(Ledger(store, ("m",), PRICES, "UTC", clock), clock)


def test_a_month_begins_and_ends_at_local_midnight(books: Books) -> None:
    berlin = replace(books.ledger, timezone="Europe/Berlin")
    assert berlin.window("2026-03") == Window(
        datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)
    )
    assert berlin.month_of(datetime(2026, 12, 31, 23, 30, tzinfo=UTC)) == "2027-01"
    assert books.ledger.window("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("month", ["2026", "2026-13", "november", "2026-11-01"])
def test_what_is_no_month_is_refused(books: Books, month: str) -> None:
    with pytest.raises(InvalidInput, match="2026-11"):
        books.ledger.report(month)


def test_the_total_is_what_the_arithmetic_says(books: Books) -> None:
    books.enter("batch", 1800.0)
    books.enter("tune", 1800.0)
    total = books.ledger.report()["total"]
    assert total["money"] == pytest.approx(3.6)
    assert total["arithmetic"] == "1.0000 CPU h x 3.6 = 3.6000 EUR"
    assert total["kwh"] is None
    assert books.ledger.report("2026-10")["total"]["money"] == 0


def test_without_prices_amounts_are_told_in_seconds_only(books: Books) -> None:
    books.enter("batch", 5.0)
    report = replace(books.ledger, prices=Prices()).report()
    assert (report["currency"], report["budget"], report["total"]["money"]) == (None, None, None)
    assert report["total"]["arithmetic"] == "5.0 CPU s, 0.0 GPU s; no price is set"


def test_energy_counts_where_it_is_told(books: Books) -> None:
    prices = Prices(per_kwh=0.4)
    amounts = Amounts.of([Cost("a", "m", books.clock.now(), "tune", 1, 1, joules=7.2e6)])
    assert amounts.arithmetic(prices) == "2.0000 kWh x 0.4 = 0.8000 EUR"
    assert Amounts.of([Cost("a", "m", books.clock.now(), "tune", 1, 1)]).joules is None


def test_a_retraining_is_told_by_its_steps_and_a_repeated_step_counts_each_time(books: Books) -> None:
    books.enter("retrain", 1.0, job="j", step="snapshot", labels=40)
    books.enter("retrain", 10.0, job="j", step="fit")
    books.enter("retrain", 20.0, job="j", step="fit")
    books.enter("retrain", 2.0, version=3, job="j", step="register")
    (made,) = books.model["retrainings"]
    assert (made["job"], made["version"], made["labels_used"]) == ("j", 3, 40)
    assert made["cpu_seconds_by_step"] == {"snapshot": 1.0, "fit": 30.0, "register": 2.0}
    assert made["money"] == pytest.approx(0.033)
    assert books.model["versions"]["3"]["training"]["cpu_seconds"] == 33.0


def test_a_thousand_answers_cost_the_engine_s_part_and_a_share_of_the_rest(books: Books) -> None:
    books.enter("serve", 8.0, version=1, answers=2000, contents=1000, cached=1000)
    books.enter("serve", 6.0, version=2, answers=1000, contents=1000)
    books.enter("serve", 3.0)
    first, second = (books.model["versions"][number]["per_1000"] for number in ("1", "2"))
    assert first["cpu_seconds"] == pytest.approx(1000 * (8 / 2000 + 3 / 3000))
    assert second["cpu_seconds"] == pytest.approx(7.0)
    assert first["arithmetic"].startswith("1000 x (8.00 engine CPU s / 2000 answers + 3.00 other CPU s")
    given = sum(books.model["versions"][n]["per_1000"]["cpu_seconds"] * k for n, k in (("1", 2), ("2", 1)))
    assert given == pytest.approx(17.0)  # all that was spent, and nothing twice


def test_a_version_that_answered_nothing_has_no_cost_of_answers(books: Books) -> None:
    books.enter("retrain", 2.0, version=3, job="j", step="register")
    assert books.model["versions"]["3"]["per_1000"] is None


def test_the_cache_saved_what_its_answers_would_have_taken(books: Books) -> None:
    books.enter("serve", 4.0, version=1, answers=300, contents=200, cached=100)
    saved = books.saved("cache")
    assert saved["cpu_seconds"] == pytest.approx(2.0)
    assert saved["money"] == pytest.approx(0.002)
    assert "100 answers given again x (4.000 engine CPU s / 200 contents) = 2.00 CPU s" in saved["arithmetic"]


def test_compression_is_stated_only_where_it_was_measured(books: Books) -> None:
    books.enter("serve", 4.0, version=2, answers=10, contents=10)
    assert "holds no time of fp32" in books.saved("compression")["not_stated"]
    measured = replace(books.ledger, ratio=lambda model, version: 3.0)
    saved = next(one for one in measured.report()["models"]["m"]["saved"] if one["by"] == "compression")
    assert saved["cpu_seconds"] == pytest.approx(8.0)


def test_a_retraining_costs_the_labels_that_were_asked_for_since_the_one_before(books: Books) -> None:
    store, hour = books.ledger.store, timedelta(hours=1)

    def label(n: int, source: Source) -> None:
        for number in range(n):
            example = Example(f"{source} {number} {books.clock.now()}", books.clock.now(), id=new_id())
            scores, nothing = np.array([0.1, 0.9], np.float32), np.zeros(2, np.float32)
            said = Prediction(example.id, 1, ("bad", "good"), scores, nothing, books.clock.now())
            store.add_predictions("m", [(example, said)])
            store.add_labels("m", [Label(example.id, "good", books.clock.now(), source, "ann")])

    for job, asked in (("first", 3), ("second", 5)):
        label(asked, Source.ASKED)
        label(2, Source.VOLUNTEERED)
        books.clock.advance(hour)
        store.join_or_add_job(Job(job, "m", "retrain", books.clock.now()))
        store.update_job(job, state=JobState.DONE)
        books.clock.advance(hour)
        books.enter("retrain", 1000.0, 1, job=job, step="fit")
    looks: list[str] = []

    def counted(conn: object, cursor: object, statement: str, *rest: object) -> None:
        if "FROM keepfit_jobs" in statement:
            looks.append(statement)

    event.listen(store.database.engine, "before_cursor_execute", counted)
    made = books.priced(per_label=0.5).report()["models"]["m"]
    event.remove(store.database.engine, "before_cursor_execute", counted)
    assert len(looks) == 1, "all retrainings are read once, not for each of them"
    assert [one["labels_asked"] for one in made["retrainings"]] == [3, 5]
    assert made["retrainings"][1]["arithmetic"] == "0.2778 CPU h x 3.6 + 5 labels x 0.5 = 3.5000 EUR"
    assert made["versions"]["1"]["training"]["money"] == pytest.approx(2 + 8 * 0.5)
    assert made["total"]["money"] == pytest.approx(2 + 8 * 0.5), "counted once"


def test_skipped_retrainings_are_compared_with_a_nightly_job_and_say_so(books: Books) -> None:
    assert "not known" in books.saved("skipped retrainings")["not_stated"]
    books.enter("retrain", 5.0, job="j", step="fit")
    saved = books.saved("skipped retrainings")
    assert saved["cpu_seconds"] == pytest.approx(9 * 5.0)  # ten whole days, one retraining
    assert "had a nightly job retrained: (10 days - 1 retrainings)" in saved["arithmetic"]


def test_the_budget_warns_once_a_month_and_threshold(books: Books) -> None:
    books.enter("batch", 7000.0)
    books.ledger.warn()
    assert books.ledger.store.decisions("m", "budget") == []
    books.enter("batch", 1500.0)
    for _ in range(3):
        books.ledger.warn()
    books.enter("batch", 2000.0)
    books.ledger.warn()
    said = [d.decision for d in books.ledger.store.decisions("m", "budget")]
    assert [d.outcome.value for d in said] == ["fail", "hold"]
    assert said[1].because == ("80% of the budget of 2026-11 is spent: 8.5000 / 10 EUR = 85.0%",)


def test_a_budget_that_is_not_enforced_objects_to_nothing(books: Books) -> None:
    books.enter("batch", 11_000.0)
    assert books.ledger.objection() is None
    assert "2026-11 is spent" in (books.priced(enforce=True).objection() or "")
    assert books.priced(enforce=True, monthly_budget=100.0).objection() is None
