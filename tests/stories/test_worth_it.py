"""Retraining when it pays, told in the loop: harm that pays, harm that does not, and the numbers that are stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from keepfit.decision import Outcome
from keepfit.pipelines.worth import Valued, Worth
from keepfit.triggers.policies import trigger_from

MODEL = "toy"


@pytest.fixture
def weighing(world):  # type: ignore[no-untyped-def]
    """The world, whose watch asks whether a retraining is worth it at a price of 40 mistakes."""

    def at(price: float, **keys: float) -> None:
        world.watch = replace(
            world.watch,
            trigger=trigger_from([{"kind": "worth_it", **keys}], cool_down=timedelta(minutes=15)),
            worth=Worth(MODEL, world.store, Valued(hour=0.0, fixed=price)),
        )

    world.weigh = at
    at(40.0)
    return world


def drifted(world) -> None:  # type: ignore[no-untyped-def]
    world.train(("good", "pos"), ("fine", "pos"), ("bad", "neg"))
    world.live(60, "good", "pos")
    assert set(world.live(80, "awful", "neg")) == {"pos"}


def test_harm_that_pays_for_a_retraining_brings_one(weighing) -> None:
    drifted(weighing)
    decision = weighing.watch.tick()
    assert decision.outcome is Outcome.FIRE, decision.because
    assert decision.evidence["reason"] == "harm"
    result = weighing.work(weighing.waiting_job())
    assert result["deployed"], result["because"]
    assert set(weighing.live(20, "awful", "neg")) == {"neg"}
    weighing.clock.advance(timedelta(minutes=20))
    after = weighing.watch.situation()
    assert after.attempts[0].passed
    assert after.attempts[0].gain > 0
    assert after.losses.predictions == 20  # of the new version
    assert weighing.watch.tick().outcome is Outcome.WAIT


def test_harm_that_does_not_pay_is_stored_with_all_its_numbers(weighing) -> None:
    weighing.weigh(10_000.0)
    drifted(weighing)
    weighing.watch.tick()
    stored = weighing.store.decisions(MODEL, subject="trigger")[0].decision
    assert stored.outcome is Outcome.WAIT
    assert stored.because[0].startswith("not worth it")
    assert stored.evidence["triggers"][0]["price"]["mistakes"] == 10_000
    assert stored.evidence["triggers"][0]["excess_so_far"] > 50


def test_the_cap_of_the_month_is_kept(weighing) -> None:
    weighing.weigh(40.0, most_per_month=1)
    drifted(weighing)
    weighing.work_first = weighing.watch.tick()
    weighing.work(weighing.waiting_job())
    assert set(weighing.live(80, "dreadful", "neg")) == {"pos"}
    weighing.clock.advance(timedelta(minutes=20))
    decision = weighing.watch.tick()
    assert decision.outcome is Outcome.WAIT
    assert decision.because[0].startswith("skipped: 1 retrainings")
