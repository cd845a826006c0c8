"""What every rollout strategy keeps to."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from keepfit.app.life_settings import RolloutSettings
from keepfit.app.wiring import STRATEGIES
from keepfit.decision import Outcome
from keepfit.monitoring.comparison import Comparison, Paired, Sign
from keepfit.rollout.strategies import Ages, Step, Strategy
from keepfit.sequential import Tally

HOUR = timedelta(hours=1)
HEALTHY = Paired(2000, 90, 80)
WORSE = Paired(500, 10, 90)


@pytest.fixture(params=sorted(STRATEGIES))
def strategy(request: pytest.FixtureRequest) -> Strategy:
    return STRATEGIES[request.param](RolloutSettings(strategy=request.param))


def ages(step: timedelta, total: timedelta | None = None) -> Ages:
    return Ages(step, step if total is None else total)


def test_it_has_steps_whose_shares_grow_and_its_name(strategy: Strategy) -> None:
    shares = [step.share for step in strategy.steps]
    assert shares
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert strategy.name in STRATEGIES


def test_it_never_advances_before_a_step_has_baked(strategy: Strategy) -> None:
    for number, step in enumerate(strategy.steps):
        if step.bake:
            early = ages(step.bake - timedelta(seconds=1))
            assert strategy.judge(number, early, Comparison(HEALTHY)).outcome is Outcome.HOLD


def test_what_is_healthy_gets_to_its_end(strategy: Strategy) -> None:
    better = Paired(2000, 200, 80)
    for number, step in enumerate(strategy.steps):
        decision = strategy.judge(number, ages(step.bake + HOUR), Comparison(better))
        assert decision.outcome is Outcome.ADVANCE, decision


@pytest.mark.parametrize(
    "seen",
    [
        Comparison(WORSE),
        Comparison(HEALTHY, {"source=app": WORSE}),
        Comparison(HEALTHY, signs=(Sign("failures", (Tally(9, 100, 0.01),), True, "it failed"),)),
        Comparison(out="version 2 cannot serve"),
    ],
    ids=["labels", "slice", "failures", "out"],
)
def test_harm_is_taken_back_in_every_step_however_young_or_old(strategy: Strategy, seen: Comparison) -> None:
    for number in range(len(strategy.steps)):
        for age in (timedelta(0), HOUR, timedelta(days=30)):
            decision = strategy.judge(number, ages(age), seen)
            assert decision.outcome is Outcome.ROLL_BACK
            assert decision.because


def test_every_judgement_has_a_reason_and_numbers_that_can_be_stored(strategy: Strategy) -> None:
    signs = (Sign("class a", (Tally(500, 600, 0.05),), False, "it says 'a' more often"),)
    for seen in (Comparison(), Comparison(HEALTHY, {"x=y": HEALTHY}, signs), Comparison(served=False)):
        decision = strategy.judge(0, ages(HOUR), seen)
        assert decision.because
        json.dumps(dict(decision.evidence), allow_nan=False)


def test_an_unanswered_question_ends_after_the_longest_time_where_a_proof_is_asked_for(strategy: Strategy) -> None:
    decision = strategy.judge(0, ages(timedelta(days=8)), Comparison(Paired(5, 1, 1)))
    assert decision.outcome is (Outcome.UNDECIDED if strategy.proof else Outcome.ADVANCE)


@pytest.mark.parametrize("name", ["shadow", "canary", "ab"])
def test_what_was_never_tried_in_life_is_never_taken_whoever_stays_when_nothing_is_proven(name: str) -> None:
    strategy = STRATEGIES[name](RolloutSettings(strategy=name, undecided="challenger"))
    unserved = strategy.judge(0, ages(timedelta(days=30)), Comparison(served=False))
    young = strategy.judge(0, ages(strategy.steps[0].bake / 2, timedelta(days=30)), Comparison())
    assert unserved.outcome is Outcome.UNDECIDED
    assert young.outcome is (Outcome.HOLD if name == "ab" else Outcome.UNDECIDED)
    assert strategy.judge(0, ages(timedelta(days=30)), Comparison()).outcome is Outcome.ADVANCE


def test_it_can_go_on_with_the_steps_that_it_began_with(strategy: Strategy) -> None:
    steps = (Step(0.3, False, HOUR), Step(1.0, False, HOUR))
    assert strategy.begun_with(steps).steps[0].share == 0.3


def test_how_long_it_took_is_told_in_whole_seconds(strategy: Strategy) -> None:
    odd = timedelta(seconds=7, microseconds=123_456)
    for number, step in enumerate(strategy.steps):
        for seen in (Comparison(HEALTHY), Comparison(Paired(5, 1, 1))):
            told = " ".join(strategy.judge(number, ages(step.bake + odd), seen).because)
            assert "123" not in told
            assert "0:00" not in told
