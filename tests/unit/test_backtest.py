"""The parts of a backtest: the matrix of heads, the replay, the bounds, the policies by name, the noise."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from keepfit.decision import Outcome
from keepfit.errors import InvalidInput
from keepfit.pipelines.backtest.bounds import causal, clairvoyant
from keepfit.pipelines.backtest.matrix import Plan, fitted, make, weights_of
from keepfit.pipelines.backtest.outcome import compare, difference
from keepfit.pipelines.backtest.picture import write
from keepfit.pipelines.backtest.policies import in_toml, policy_of, usual
from keepfit.pipelines.backtest.replay import Replay
from keepfit.pipelines.backtest.traffic import Traffic
from keepfit.triggers.facts import Price
from keepfit.triggers.policies import built

START = datetime(2026, 1, 1, tzinfo=UTC)


def traffic(n: int = 1200, turn: int | None = 800, seed: int = 0, scale: float = 1.0) -> Traffic:
    """Two classes that one column tells; from `turn` on it falls silent and another column speaks."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(n, 6)).astype(np.float32)
    late = np.arange(n) >= (n if turn is None else turn)
    truth = (np.where(late, inputs[:, 1], inputs[:, 0]) > 0).astype(np.int64)
    inputs[late, 0] *= 0.05
    inputs[~late, 1] *= 0.05
    truth = np.where(rng.random(n) < 0.08, 1 - truth, truth)
    times = tuple(START + timedelta(hours=i) for i in range(n))
    return Traffic(times, inputs, truth, ("no", "yes"), {"length": np.ones(n, np.float32)}, scale)


PLAN = Plan(steps=16, first=0.3)


@pytest.fixture(scope="module")
def replay() -> Replay:
    return Replay(make(traffic(scale=10.0), PLAN), Price(60.0, "as the test sets it", 1))


def test_a_head_knows_only_labels_that_had_come_in() -> None:
    late = make(traffic(), Plan(steps=16, first=0.3, label_delay=timedelta(hours=120), label_rate=0.5, seed=1))
    for step in range(late.steps):
        rows = np.flatnonzero(late.known(step)[late.start :]) + late.start
        begun = late.cuts[step]
        assert all(late.traffic.times[row] + timedelta(hours=120) <= late.traffic.times[begun - 1] for row in rows)
    assert 0.4 < late.labelled.mean() < 0.6
    assert (late.heads[1] == late.heads[0]).all()  # nothing new had come in
    assert (late.heads[-1] != late.heads[0]).any()


def test_a_head_that_was_trained_after_the_change_is_better_there(replay: Replay) -> None:
    right, cuts = replay.right, replay.matrix.cuts
    assert right[0, cuts[-3] :].mean() < 0.7
    assert right[-1, cuts[-3] :].mean() > 0.8
    assert replay.mistakes.sum(axis=1)[0] == pytest.approx(10 * (~right[0, replay.matrix.start :]).sum())


def test_the_heads_are_kept_under_the_hash_of_data_and_plan(tmp_path: Path) -> None:
    first = make(traffic(), PLAN, tmp_path)
    told: list[int] = []
    again = make(traffic(), PLAN, tmp_path, lambda done, of: told.append(done))
    assert not told
    assert (first.heads == again.heads).all()
    make(traffic(seed=2), PLAN, tmp_path, lambda done, of: told.append(done))
    assert told
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("left", [0, 5, 100, -8])
def test_damaged_heads_are_computed_anew(tmp_path: Path, left: int) -> None:
    first = make(traffic(), PLAN, tmp_path)
    (file,) = tmp_path.glob("*.npy")
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    again = make(traffic(), PLAN, tmp_path)
    assert (first.heads == again.heads).all()
    assert file.read_bytes() == whole


def test_the_head_finds_what_the_weights_say() -> None:
    inputs = np.array([[1.0], [-1.0], [1.0], [-1.0]], np.float32)
    truth = np.array([1, 0, 0, 1])  # the first two against the last two
    head = fitted(inputs, truth, np.array([3.0, 3.0, 1.0, 1.0]), np.zeros((2, 2)))
    assert ((inputs @ head[:-1] + head[-1]).argmax(axis=1) == [1, 0, 1, 0]).all()


def test_new_labels_share_the_weight_that_a_retraining_gives_them() -> None:
    rows = np.array([True] * 90 + [True] * 10)
    weights = weights_of(rows, 90, 0.5)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())
    assert weights.mean() == pytest.approx(1.0)


@pytest.mark.parametrize("price", [0.0, 1.0, 4.0, 100.0])
def test_the_clairvoyant_bound_is_the_cheapest_of_all_sequences(price: float) -> None:
    mistakes = np.random.default_rng(3).integers(0, 10, (7, 7)).astype(float)

    def cost(chosen: tuple[int, ...]) -> float:
        head, total = 0, 0.0
        for step in range(7):
            head = step if step in chosen else head
            total += mistakes[head, step]
        return total + price * len(chosen)

    everything = [c for r in range(7) for c in itertools.combinations(range(1, 7), r)]
    found = clairvoyant(mistakes, price)
    assert found.cost == min(map(cost, everything))
    assert cost(tuple(step + 1 for step in found.attempts)) == found.cost


def test_no_policy_without_a_gate_is_below_the_clairvoyant_bound(replay: Replay) -> None:
    free = Replay(replay.matrix, replay.price, with_gate=False)
    least = clairvoyant(replay.mistakes, replay.price.mistakes).cost
    for policy in usual(replay.matrix):
        life = free.play(policy.trigger())
        assert life.mistakes.sum() + replay.price.mistakes * len(life.tried) >= least - 1e-9
    assert least <= causal(replay, replay.price.mistakes).cost <= replay.mistakes[0].sum()


def test_worth_it_acts_after_the_change_and_period_by_the_clock(replay: Replay) -> None:
    change = int(np.searchsorted(replay.matrix.cuts, 800, side="right")) - 1
    ours = replay.play(built({"kind": "worth_it"}))
    assert ours.tried
    assert change <= ours.tried[0].step <= change + 3
    clock = replay.play(built({"kind": "period", "days": 8}))
    gaps = np.diff([one.step for one in clock.tried])
    assert set(gaps.tolist()) <= {3, 4, 5}


def test_a_refused_candidate_leaves_the_champion(replay: Replay) -> None:
    life = replay.play(built({"kind": "period", "days": 1e-4}))
    head = 0
    tried = {one.step: one for one in life.tried}
    for step in range(replay.matrix.steps):
        assert life.serving[step] == head
        if step in tried and tried[step].passed:
            head = tried[step].head


def test_what_a_trigger_sees_is_as_the_watch_sees_it(replay: Replay) -> None:
    seen = replay.situation(0, 0, 5, [])
    assert seen.labels_since_deployment
    assert seen.predictions == 10 * (replay.matrix.cuts[6] - replay.matrix.cuts[0])
    assert seen.measured("accuracy").n == seen.losses.labels
    assert {m.name for m in seen.measurements} >= {"ks:confidence", "embedding_drift", "accuracy:last64"}
    assert seen.price.mistakes == 60


def test_false_alarms_are_retrainings_that_changed_nothing() -> None:
    calm = make(traffic(turn=None), PLAN)
    found = compare(calm, Price(5.0, "", 1), [policy_of("never"), policy_of("every_step"), policy_of("worth_it")])
    assert found.named("worth_it").attempts == 0
    assert found.named("every_step").false_alarms >= 5
    assert found.best.policy.name != "every_step"
    assert any("not shown" in reason for reason in found.because)


def test_a_difference_is_noise_only_while_blocks_of_time_say_so() -> None:
    rng = np.random.default_rng(0)
    low, high = difference(np.full(40, 1.0), rng)
    assert low == high == 40.0
    low, high = difference(rng.normal(0.0, 1.0, 40), rng)
    assert low < 0 < high


def test_policies_are_read_by_name_and_written_as_settings() -> None:
    nested = policy_of('any_of:triggers=[{"kind": "ks"}, {"kind": "new_labels", "amount": 5}]')
    assert nested.trigger().kind == "any_of"
    assert nested.looks_at_inputs
    assert not policy_of("worth_it").looks_at_inputs
    assert policy_of("schedule:cron=0 3 * * 1").rules[0]["cron"] == "0 3 * * 1"
    assert in_toml(policy_of("never")) == '[{kind = "on_demand"}, {kind = "on_event"}]'
    assert policy_of("settings", [{"kind": "ks"}, {"kind": "on_demand"}]).rules == ({"kind": "ks"},)


@pytest.mark.parametrize(
    "change",
    [{"steps": 2}, {"first": 0.99}, {"label_rate": 0.0}, {"label_delay": timedelta(seconds=-1)}, {"steps": 400}],
)
def test_plans_that_make_no_sense_are_refused(change: dict) -> None:
    with pytest.raises(InvalidInput):
        make(traffic(), Plan(**({"steps": 16} | change)))


def test_one_class_in_the_first_part_is_refused() -> None:
    made = traffic()
    truth = made.truth.copy()
    truth[:400] = 0
    with pytest.raises(InvalidInput, match="one class only"):
        make(Traffic(made.times, made.embeddings, truth, made.classes), PLAN)


def test_the_objection_to_a_senseless_floor_is_told() -> None:
    found = compare(make(traffic(), PLAN), Price(5.0, "", 1), [policy_of("accuracy_floor:floor=0.99")])
    assert "cannot work" in (found.outcomes[0].life.refused or "")
    assert found.outcomes[0].life.last.outcome is Outcome.WAIT


def test_a_policy_with_dollar_signs_is_drawn(replay: Replay, tmp_path: Path) -> None:
    odd = replace(policy_of("period:days=7"), name="period:note=$_{$")
    found = compare(replay.matrix, Price(60.0, "as the test sets it", 1), [policy_of("never"), odd], "UTC")
    write(found, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").stat().st_size > 1000
