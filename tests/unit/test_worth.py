"""Triggers that weigh harm against cost, on labels that are simulated, and their facts from a store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.clock import ManualClock
from keepfit.data.costs import RETRAIN, Cost
from keepfit.data.records import Cause, Example, Job, JobState, Label, Prediction, Source, Traffic
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.errors import SettingsError
from keepfit.intervals import wilson
from keepfit.pipelines.costs import Prices
from keepfit.pipelines.worth import Valued, Worth, needed
from keepfit.sequential import sum_low
from keepfit.triggers.facts import Attempt, Losses, Price
from keepfit.triggers.growth import Growth, missed
from keepfit.triggers.policies import built
from keepfit.triggers.trigger import Situation
from keepfit.triggers.worth import Benefit, Excess, SkiRental, WorthIt, recovers

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REFERENCE = wilson(1800, 2000)
ALWAYS = {"kind": "new_labels", "amount": 1}
"""An alarm that is always on."""


def situation(wrong: np.ndarray, answers: int = 100_000, price: float = 1000.0, days: int = 30) -> Situation:
    """Labels in order, each standing for as many answers."""
    losses = Losses.of(NOW - days * DAY, NOW, answers, wrong, np.full(len(wrong), answers / len(wrong)))
    return Situation(
        NOW, "reviews", 2, deployed_at=NOW - days * DAY, reference_accuracy=REFERENCE, new_labels=len(wrong),
        losses=losses, price=Price(price, "as the test sets it", 3), predictions=answers,
    )  # fmt: skip


def turned(before: float, after: float, labels: int = 1000, at: float = 0.8) -> np.ndarray:
    """Mistakes at one rate, then at another, spread evenly."""
    first = int(labels * at)
    rates = np.concatenate([np.full(first, before), np.full(labels - first, after)])
    return (np.floor(np.cumsum(rates)) > np.floor(np.concatenate([[0], np.cumsum(rates)[:-1]]))).astype(float)


def test_the_lower_bound_of_a_sum_is_hardly_ever_above_it_however_often_one_looks() -> None:
    rng = np.random.default_rng(3)
    rates = 0.05 + 0.15 * (np.arange(2000) % 500) / 500  # the error changes all the time
    asked, weight = 0.2, 5.0
    broken = 0
    for _ in range(200):
        seen = np.cumsum((rng.random(2000) < rates) * (rng.random(2000) < asked) * weight)
        looks = np.arange(50, 2000, 50)
        broken += any(sum_low(seen[i], weight, 0.1) > rates[: i + 1].sum() for i in looks)
    assert broken / 200 <= 0.1


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e5), st.floats(0.5, 100), st.floats(0.01, 0.4))
def test_the_lower_bound_is_between_nothing_and_what_was_seen_and_grows_with_it(
    total: float, largest: float, alpha: float
) -> None:
    low = sum_low(total, largest, alpha)
    assert 0 <= low <= total
    assert sum_low(total + largest, largest, alpha) >= low
    assert sum_low(total, largest, alpha / 2) <= low


def test_ski_rental_waits_until_the_harm_has_paid_and_says_both_numbers() -> None:
    harmed = situation(turned(0.10, 0.20, at=0.0))  # 10,000 more mistakes
    assert SkiRental().decide(harmed).outcome is Outcome.FIRE
    dear = SkiRental().decide(replace(harmed, price=Price(50_000.0, "dear", 1)))
    assert dear.outcome is Outcome.WAIT
    assert "not worth it yet" in dear.because[0]
    assert "5e+04 mistakes" in dear.because[0]
    assert dear.evidence["excess_so_far"] == pytest.approx(10_000, rel=0.02)
    assert 0 < dear.evidence["excess_proven"] < dear.evidence["excess_so_far"]


def test_without_harm_ski_rental_never_pays_however_cheap_a_retraining_is() -> None:
    fires = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        reference = wilson(int(rng.binomial(2000, 0.9)), 2000)
        wrong = (rng.random(4000) < 0.1).astype(float)
        for end in range(200, 4001, 200):
            seen = replace(situation(wrong[:end], 20 * end, price=1.0), reference_accuracy=reference)
            if SkiRental().decide(seen).outcome is Outcome.FIRE:
                fires += 1
                break
    assert fires <= 2


def test_unequal_propensities_do_not_bias_the_excess() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(200):
        wrong = rng.random(5000) < 0.2
        chance = np.where(rng.random(5000) < 0.5, 0.5, 0.05)
        asked = rng.random(5000) < chance
        losses = Losses.of(NOW - DAY, NOW, 5000, wrong[asked], 1 / chance[asked])
        found.append(Excess.of(losses, REFERENCE, 0.05))
    assert np.mean([one.paid for one in found]) == pytest.approx(500, abs=30)
    assert np.mean([one.proven > 5000 * (0.2 - 0.1) for one in found]) <= 0.05


def test_benefit_looks_ahead_as_far_as_the_champion_was_calm() -> None:
    seen = situation(turned(0.10, 0.30, at=0.8), price=5000.0)
    decision = built({"kind": "benefit", "triggers": [ALWAYS]}).decide(seen)
    assert decision.outcome is Outcome.FIRE
    assert decision.evidence["calm_answers"] == pytest.approx(80_000, rel=0.05)
    assert decision.evidence["expected"] == pytest.approx(0.2 * 80_000 * 0.8, rel=0.25)
    soon = situation(turned(0.10, 0.30, at=0.1), price=5000.0)
    assert built({"kind": "benefit", "triggers": [ALWAYS]}).decide(soon).outcome is Outcome.WAIT


def test_benefit_needs_an_alarm() -> None:
    quiet = built({"kind": "benefit", "triggers": [{"kind": "new_labels", "amount": 10**6}]})
    decision = quiet.decide(situation(turned(0.10, 0.30)))
    assert decision.outcome is Outcome.WAIT
    assert decision.because[0].startswith("no alarm")


def test_a_horizon_that_is_set_counts_days_of_answers() -> None:
    seen = situation(turned(0.10, 0.30), days=10)
    decision = built({"kind": "benefit", "triggers": [ALWAYS], "horizon_days": 3}).decide(seen)
    assert decision.evidence["horizon_answers"] == pytest.approx(30_000)


def test_refused_candidates_lower_the_chance_and_end_looking_ahead() -> None:
    seen = situation(turned(0.10, 0.30), price=5000.0)
    refused = replace(seen, attempts=(Attempt(NOW - DAY, False),))
    assert recovers(refused) < recovers(seen)
    decision = built({"kind": "benefit", "triggers": [ALWAYS]}).decide(refused)
    assert decision.outcome is Outcome.WAIT
    assert "was refused" in decision.because[0]


def test_a_retraining_that_could_not_be_judged_is_no_refusal() -> None:
    seen = situation(turned(0.10, 0.30), price=5000.0)
    crashed = replace(seen, attempts=(Attempt(NOW - DAY, False, judged=False),))
    assert recovers(crashed) == recovers(seen)
    assert built({"kind": "benefit", "triggers": [ALWAYS]}).decide(crashed).outcome is Outcome.FIRE
    assert SkiRental(0.3, False).decide(crashed).evidence["refusals"] == 0


def test_harm_that_no_retraining_mends_is_paid_for_ever_more_rarely() -> None:
    harmed = situation(turned(0.10, 0.20, at=0.0), price=3000.0)  # 10,000 more mistakes, 7,000 and more for sure
    once, twice = (replace(harmed, attempts=(Attempt(NOW - DAY, False),) * n) for n in (1, 2))
    assert SkiRental(0.3, False).decide(once).outcome is Outcome.FIRE
    held = SkiRental(0.3, False).decide(twice)
    assert held.outcome is Outcome.WAIT
    assert "counted 4-fold after 2 refused candidates" in held.because[0]


def test_worth_it_fires_for_either_and_says_which() -> None:
    gradual = situation(turned(0.10, 0.16, at=0.0), price=3000.0)
    abrupt = situation(turned(0.10, 0.30, at=0.8), price=5000.0)
    always = built({"kind": "worth_it", "triggers": [ALWAYS]})
    assert always.decide(gradual).evidence["by"] == "ski_rental"
    assert always.decide(abrupt).evidence["by"] == "benefit"
    nothing = always.decide(situation(turned(0.10, 0.10)))
    assert nothing.outcome is Outcome.WAIT
    assert {"excess_so_far", "horizon_answers", "price", "expected"} <= set(nothing.evidence)


@pytest.mark.parametrize(
    ("rule", "words"),
    [({"gap_days": 3}, "gap_days"), ({"most_per_month": 1}, "most_per_month")],
)
def test_what_would_pay_is_skipped_for_the_gap_and_the_cap_and_keeps_its_numbers(rule: dict, words: str) -> None:
    abrupt = situation(turned(0.10, 0.30, at=0.8), price=5000.0)
    seen = replace(abrupt, trained_at=NOW - 2 * DAY, attempts=(Attempt(NOW - 2 * DAY, True),))
    always = {"kind": "worth_it", "triggers": [ALWAYS]}
    assert built(always).decide(seen).outcome is Outcome.FIRE
    held = built(always | rule).decide(seen)
    assert held.outcome is Outcome.WAIT
    assert held.because[0].startswith("skipped")
    assert words in held.because[0]
    assert held.evidence["skipped"]
    assert held.evidence["expected"] > held.evidence["price"]["mistakes"]


def test_the_cap_counts_months_of_the_settings_time_zone() -> None:
    last_month = Attempt(datetime(2026, 2, 28, 23, 30, tzinfo=UTC), True)  # 1 March in Berlin
    trigger = built({"kind": "worth_it", "triggers": [ALWAYS], "most_per_month": 1})
    seen = replace(situation(turned(0.10, 0.30, at=0.8), price=5000.0), attempts=(last_month,))
    assert trigger.decide(seen).outcome is Outcome.FIRE
    assert trigger.decide(replace(seen, timezone="Europe/Berlin")).outcome is Outcome.WAIT


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "ski_rental", "alpha": 0.9}, {"kind": "benefit", "triggers": []},
        {"kind": "benefit", "horizon_days": 0},
        {"kind": "worth_it", "most_per_month": 1.5}, {"kind": "worth_it", "gap_days": -1},
        {"kind": "growth", "power": 2},
        {"kind": "period", "days": 0}, {"kind": "worth_it", "gap": 1},
    ],
)  # fmt: skip
def test_wrong_values_are_refused(rule: dict) -> None:
    with pytest.raises(SettingsError):
        built(rule)


def test_growth_fires_when_more_data_would_have_paid_and_learns_that_it_does_not_help() -> None:
    seen = replace(situation(turned(0.1, 0.1, 1000), price=100.0), learnt=1000)
    assert Growth().decide(seen).outcome is Outcome.FIRE
    in_vain = tuple(Attempt(NOW - n * DAY, True, False, True, 0.0, 2.0) for n in range(60, 50, -1))
    assert Growth().decide(replace(seen, attempts=in_vain)).outcome is Outcome.WAIT
    assert 0 < missed(1.0, 0.1) < missed(1.0, 0.3) < 1


def test_facts_are_missing_means_wait() -> None:
    seen = situation(turned(0.1, 0.3))
    for part in ("losses", "price", "reference_accuracy"):
        blank = replace(seen, **{part: None})
        for trigger in (SkiRental(), Benefit(), WorthIt(), Growth()):
            assert trigger.decide(blank).outcome is Outcome.WAIT


# what the record says


@pytest.fixture
def store(store_url: str):  # type: ignore[no-untyped-def]
    with RecordStore.open(store_url) as opened:
        yield opened


def cost(job: str, seconds: float, at: datetime, step: str = "fit") -> Cost:
    return Cost(f"{job}-{step}", "m", at, RETRAIN, seconds, 2 * seconds, details={"job": job, "step": step})


def test_the_price_is_the_median_of_the_newest_retrainings_with_its_arithmetic(store: RecordStore) -> None:
    for n, seconds in enumerate((10_000, 360, 720, 360, 360, 1080)):
        store.put_cost(cost(f"job {n}", seconds, NOW - (10 - n) * DAY))
    found = Worth("m", store, Valued(hour=100.0, label=2.0, labels=5, fixed=1.0)).price(NOW)
    assert found.mistakes == pytest.approx(10 + 10 + 1)
    assert found.measured == 5
    assert "median of the last 5" in found.words
    money = Worth("m", store, Valued("money", 0.5, None, 0.0, money=Prices(per_cpu_hour=1.0))).price(NOW)
    assert money.money == pytest.approx(0.2)
    assert money.mistakes == pytest.approx(0.4)
    seconds_ = Worth("m", store, Valued("seconds", 10.0, None)).price(NOW)
    assert seconds_.mistakes == pytest.approx(36)


def test_harm_and_attempts_are_read_from_the_store(store: RecordStore, clock: ManualClock) -> None:
    began = clock.now()
    store.deploy("m", Traffic({1: 1.0}), Cause("test", "first"), began)
    for n in range(40):
        example = Example(f"text {n}", began + timedelta(minutes=n), f"e{n}")
        scores = np.array([0.9, 0.1], np.float32)
        said = Prediction(f"e{n}", 1, ("a", "b"), scores, np.zeros(2, np.float32), example.time, f"p{n}")
        store.add_predictions("m", [(example, said)])
        if n % 2:
            value = "b" if n % 4 == 1 else "a"
            store.add_labels("m", [Label(f"e{n}", value, example.time, Source.ASKED, "t", 0.5, f"p{n}")])
    gate = {"rules": {"better": {"difference": {"value": 0.04}}}}
    store.add_decision("m", "gate v2", Decision(Outcome.FAIL, ("no",), gate), began, id="g")
    store.add_job(Job("first", "m", "retrain", began - DAY, JobState.DONE, {"reason": "first"}, {"snapshot": "s1"}))
    store.add_job(
        Job("second", "m", "retrain", began + timedelta(minutes=20), JobState.DONE, {"reason": "harm"},
            {"verdict": "fail", "decision": "g", "snapshot": "s2"})
    )  # fmt: skip
    rows = {"s1": 100, "s2": 150}
    worth = Worth("m", store, Valued(), lambda id_: rows.get(id_, 0))
    facts = worth.facts(1, began, began + timedelta(minutes=60))
    assert facts["attempts"] == (Attempt(began + timedelta(minutes=20), False, False, False, 0.04, 1.5),)
    assert facts["learnt"] == 150
    losses = facts["losses"]
    assert losses.since == began + timedelta(minutes=20)  # what came before was settled by the attempt
    assert losses.predictions == 20
    assert losses.labels == 10
    assert losses.largest == 2.0


def test_only_a_gate_that_could_tell_or_a_rollout_refuses(store: RecordStore) -> None:
    began = NOW - 2 * DAY
    store.deploy("m", Traffic({1: 1.0}), Cause("test", "first"), began)

    def ended(name: str, state: JobState, result: dict, gate: Decision | None = None) -> None:
        at = began + timedelta(minutes=len(store.jobs("m", kind="retrain")) + 1)
        if gate is not None:
            store.add_decision("m", "gate", gate, at, id=name)
        store.add_job(Job(name, "m", "retrain", at, state, {"reason": "harm"}, {**result, "decision": name}))

    def refusing(n: int) -> Decision:
        better = {"holds": False, "n": n, "min_labels": 30}
        return Decision(Outcome.FAIL, ("no",), {"objections": ["better"], "rules": {"better": better}})

    ended("crashed", JobState.FAILED, {"error": "the disk is full"})
    ended("few", JobState.DONE, {"verdict": "fail", "version": 2}, refusing(12))
    ended("worse", JobState.DONE, {"verdict": "fail", "version": 3}, refusing(50))
    for version, outcome in ((4, Outcome.ROLL_BACK), (5, Outcome.UNDECIDED), (6, Outcome.ADVANCE)):
        ended(f"v{version}", JobState.DONE, {"verdict": "pass", "version": version}, Decision(Outcome.PASS, ("yes",)))
        store.add_decision("m", f"rollout v{version}", Decision(outcome, ("so it ended",)), began + DAY)
    attempts = Worth("m", store, Valued()).facts(1, began, NOW)["attempts"]
    assert [(one.judged, one.passed) for one in reversed(attempts)] == [
        (False, False), (False, False), (True, False), (True, False), (True, False), (True, True)
    ]  # fmt: skip


def test_of_many_attempts_only_the_newest_are_looked_at_but_all_of_a_month(store: RecordStore) -> None:
    store.deploy("m", Traffic({1: 1.0}), Cause("test", "first"), NOW - 400 * DAY)
    for n in range(120):
        store.add_job(Job(f"j{n}", "m", "retrain", NOW - (150 - n) * DAY, JobState.FAILED, {"reason": "harm"}))
    worth = Worth("m", store, Valued())
    assert len(worth.facts(1, NOW - 400 * DAY, NOW)["attempts"]) == 100
    assert len(worth.facts(1, NOW - 400 * DAY, NOW - 110 * DAY)["attempts"]) == 120, "then these are of this month"


def test_facts_are_gathered_only_where_a_trigger_weighs_them() -> None:
    assert not needed([{"kind": "accuracy_floor"}, {"kind": "any_of", "triggers": [{"kind": "ks"}]}])
    assert needed([{"kind": "any_of", "triggers": [{"kind": "worth_it"}]}])
