"""The label queue: every prediction has the stated chance, and the same draw twice is the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepfit.data.records import STREAM, Label, Prediction, Source
from keepfit.errors import InvalidInput
from keepfit.monitoring.allowance import Allowance
from keepfit.monitoring.asking import Parts, chances, draw, lot, of_any, rate_within, salted
from keepfit.monitoring.performance import SMALLEST_PROPENSITY, arrays, weight, weighted_share
from keepfit.monitoring.unsure import Unsure


def predictions(n: int, shadow: bool = False) -> list[Prediction]:
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    scores, embedding = np.array([1.0], np.float32), np.zeros(1, np.float32)
    return [Prediction(f"e{i}", 1, ("a",), scores, embedding, moment, id=f"p{i}", shadow=shadow) for i in range(n)]


def test_about_the_wanted_share_is_drawn_with_its_chance() -> None:
    drawn = draw(predictions(20_000), 0.05, "m")
    assert 880 <= len(drawn) <= 1120  # four standard deviations around 1,000
    assert {d.propensity for d in drawn} == {0.05}


def test_drawing_again_or_in_parts_gives_the_same() -> None:
    every = predictions(1000)
    ids = [d.prediction.id for d in draw(every, 0.1, "m")]
    parts = draw(every[:300], 0.1, "m") + draw(every[300:], 0.1, "m")
    assert [d.prediction.id for d in parts] == ids
    assert [d.prediction.id for d in draw(every, 0.1, "other")] != ids


@pytest.mark.parametrize(("rate", "expected"), [(0.0, 0), (1.0, 500)])
def test_nothing_and_everything_can_be_asked(rate: float, expected: int) -> None:
    assert len(draw(predictions(500), rate, "m")) == expected


def test_answers_in_the_shadow_are_not_asked_about() -> None:
    assert draw(predictions(100, shadow=True), 1.0, "m") == []


def test_nobody_is_asked_what_a_live_stream_showed() -> None:
    gone = [replace(prediction, stage=STREAM) for prediction in predictions(100)]
    assert draw(gone, 1.0, "m") == []


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        draw(predictions(1), rate, "m")


def test_the_budget_lowers_the_rate_of_the_next_stretch() -> None:
    assert rate_within(0.05, 200, 1000) == 0.05
    assert rate_within(0.05, 10, 1000) == 0.01
    assert rate_within(0.05, 0, 1000) == 0.0
    assert rate_within(0.05, -3, 0) == 0.0
    assert rate_within(1.0, 5, 0) == 1.0


@pytest.mark.parametrize("each", [5, 14, 100])
def test_every_answer_of_a_day_has_a_chance_and_all_together_stay_within_the_budget(each: int) -> None:
    rng, minute = np.random.default_rng(each), timedelta(minutes=1)
    now, kept, beats = datetime(2025, 1, 1, tzinfo=UTC), Allowance(), []
    for number in range(2 * 1440):  # a beat a minute; before six there is a tenth of the traffic
        n, day, elapsed = (
            int(rng.poisson(each * (0.1 if number % 1440 < 360 else 1.0))),
            str(number // 1440),
            number % 1440 / 1440,
        )
        now += minute
        kept = kept.met(n, now)
        rate = rate_within(0.05, kept.left(200, day, elapsed, minute), kept.near)
        kept, beats = kept.paid(day, rate * n), [*beats, (n, rate)]
    assert min(rate for _, rate in beats) > 0
    for day in ("0", "1"):
        assert 0.8 * 200 < kept.spent[day] <= 200
    evening = [rate for _, rate in beats[1440 + 720 :]]
    assert max(evening) < 2 * min(evening), "no label weighs much more than another"


def test_a_burst_after_the_budget_is_spent_has_a_chance_too_and_goes_over_it_by_little() -> None:
    now, minute, kept = datetime(2025, 1, 1, tzinfo=UTC), timedelta(minutes=1), Allowance({"a": 250.0})
    for number in range(1440):
        kept = kept.met(1000, now + number * minute)
        rate = rate_within(0.05, kept.left(200, "a", number / 1440, minute), kept.near)
        assert rate > 0
        kept = kept.paid("a", rate * 1000)
    assert kept.spent["a"] < 250 + 0.1 * 200


# the parts of the queue


def answers(n: int, seed: int = 0, new: int = 0) -> list[Prediction]:
    """Of two classes and two kinds of input, sure and unsure alike; the last `new` are of a kind of their own."""
    rng = np.random.default_rng(seed)
    top = rng.uniform(0.5, 1.0, n)
    where = np.repeat(rng.choice([-5.0, 5.0], n)[:, None], 4, axis=1)
    where[n - new :] = 40.0
    embeddings = (where + rng.normal(size=(n, 4))).astype(np.float32)
    moment = datetime(2025, 1, 1, tzinfo=UTC)
    return [
        Prediction(f"e{i}", 1, ("a", "b"), np.array([p, 1 - p], np.float32), e, moment, id=f"p{seed}-{i}")
        for i, (p, e) in enumerate(zip(top, embeddings, strict=True))
    ]


def fitted() -> Unsure:
    known = answers(2000, seed=99)
    found = Unsure.fit(np.stack([p.scores for p in known]), np.stack([p.embedding for p in known]))
    assert found is not None
    return found


MIXED = Parts(0.4, 0.2, 0.4)


@pytest.mark.parametrize("wrong", [(0.5, 0.2, 0.2), (0.0, 0.5, 0.5), (1.2, -0.2, 0.0), (float("nan"), 0.5, 0.5)])
def test_parts_that_do_not_add_up_or_measure_nothing_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInput):
        Parts(*wrong)


def test_without_a_rollout_its_share_is_uniform_and_with_one_it_gets_what_is_not() -> None:
    assert MIXED.during(rollout=False) == Parts(0.4 + 0.2, 0.0, 0.4)
    assert MIXED.during(rollout=True) == Parts(0.4, 0.2 + 0.4, 0.0)
    assert Parts(0.6, 0.0, 0.4).during(rollout=True) == Parts(0.6, 0.0, 0.4)


def test_no_more_is_expected_than_the_rate_however_unsure_and_however_split() -> None:
    for new in (0, 500, 2000):
        every = answers(2000, new=new)
        differing = {p.id for p in every[:160]}
        of = chances(every, 0.05, MIXED, differing, fitted())
        assert sum(of_any(one) for one in of) <= 0.05 * 2000 + 1e-6
        assert min(of_any(one) for one in of) >= 0.4 * 0.05


def test_the_chance_is_that_of_all_parts_together_and_the_reason_names_those_that_drew() -> None:
    every = answers(4000)
    differing = {p.id for p in every[::10]}
    drawn = draw(every, 0.2, "m", MIXED, differing, fitted())
    of = {p.id: one for p, one in zip(every, chances(every, 0.2, MIXED, differing, fitted()), strict=True)}
    for one in drawn:
        mine = of[one.prediction.id]
        assert one.propensity == pytest.approx(1 - np.prod([1 - p for p in mine.values()]))
        assert set(one.parts) <= set(mine)
    reasons = {one.reason for one in drawn}
    assert {"drawn at random", "the model is unsure", "the two versions of the rollout disagree"} <= reasons
    assert "drawn at random; the model is unsure" in reasons
    expected = sum(of_any(one) for one in of.values())
    assert len(drawn) == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_the_lots_of_two_parts_know_nothing_of_each_other() -> None:
    ids = [f"p{n}" for n in range(5000)]
    first = np.array([lot(id_, salted("m", "uniform")) for id_ in ids])
    second = np.array([lot(id_, salted("m", "uncertain")) for id_ in ids])
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_unsure_answers_and_new_kinds_of_input_are_favoured_and_every_kind_gets_its_part() -> None:
    every = answers(2000, new=200)
    weights = fitted().weights(np.stack([p.scores for p in every]), np.stack([p.embedding for p in every]))
    sure = np.array([p.confidence > 0.9 for p in every[:1800]])
    assert weights[:1800][~sure].mean() > 10 * weights[:1800][sure].mean()
    assert weights[1800:].mean() > 2 * weights[:1800].mean()
    left = np.array([p.embedding[0] < 0 for p in every[:1800]])
    assert weights[:1800][left].sum() == pytest.approx(weights[:1800][~left].sum(), rel=0.25)


def test_answers_with_other_classes_and_embeddings_are_drawn_alike_beside_those_that_are_known() -> None:
    before, now = answers(300), [replace(p, id=f"n{p.id}", model_version=2) for p in answers(300, seed=1)]
    other = [replace(p, scores=np.full(3, 1 / 3, np.float32), embedding=np.zeros(7, np.float32)) for p in before]
    for strangers in (before, other):
        of = chances([*strangers, *now], 0.1, Parts(0.6, 0.0, 0.4), (), fitted(), 2)
        assert all(one == {"uniform": pytest.approx(0.1)} for one in of[:300])
        assert all(one["uniform"] == pytest.approx(0.06) for one in of[300:])
        assert len({one.get("uncertain") for one in of[300:]}) > 20
        assert sum(of_any(one) for one in of) <= 0.1 * 600 + 1e-6


def test_a_reference_of_a_few_rows_knows_no_normal_and_identical_rows_are_no_trouble() -> None:
    assert Unsure.fit(np.ones((10, 2), np.float32), np.zeros((10, 4), np.float32)) is None
    same = Unsure.fit(np.full((100, 2), 0.5, np.float32), np.zeros((100, 4), np.float32))
    assert same is not None
    assert np.isfinite(same.weights(np.full((5, 2), 0.5, np.float32), np.ones((5, 4), np.float32))).all()


def test_where_everything_is_asked_for_everything_is_uniform() -> None:
    drawn = draw(answers(300), 1.0, "m", MIXED, (), fitted())
    assert len(drawn) == 300
    assert {d.propensity for d in drawn} == {1.0}


def test_the_weighted_accuracy_is_unbiased_and_covered_though_mistakes_are_asked_for_more_often() -> None:
    rng, unsure, found, covered = np.random.default_rng(5), fitted(), [], 0
    for run in range(60):
        every = answers(1500, seed=1000 + run)
        wrong = rng.random(1500) < 0.4 * np.array([1 - p.confidence for p in every]) / 0.25
        asked = draw(every, 0.2, "m", MIXED.during(rollout=False), (), unsure)
        place = {p.id: i for i, p in enumerate(every)}
        pairs = [
            (d.prediction, Label(d.prediction.example_id, "b" if wrong[place[d.prediction.id]] else "a",
                                 d.prediction.time, Source.ASKED, "ann", d.propensity))
            for d in asked
        ]  # fmt: skip
        answered = arrays(pairs)
        interval, _ = weighted_share(answered.right, answered.weights)
        found.append(interval.value - (1 - 0.4))
        covered += interval.low <= 0.6 <= interval.high
        naive = answered.right.mean()
        assert naive < interval.value + 0.02
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)
    assert covered >= 53


def test_the_smallest_chance_of_a_busy_day_is_not_cut() -> None:
    busiest = 0.4 * rate_within(0.05, 200, 1e9)
    assert busiest > SMALLEST_PROPENSITY
    label = Label("e", "a", datetime(2025, 1, 1, tzinfo=UTC), Source.ASKED, "ann", busiest)
    assert weight(label) == pytest.approx(1 / busiest)


@given(st.floats(0, 0.99), st.floats(0.01, 1), st.floats(0, 1), st.integers(1, 60), st.integers(0, 60))
def test_every_chance_is_a_chance_above_the_uniform_floor_and_the_budget_holds(
    rate: float, uniform: float, split: float, n: int, apart: int
) -> None:
    parts = Parts(uniform, (1 - uniform) * split, (1 - uniform) * (1 - split))
    some = answers(n, seed=n)
    of = chances(some, rate, parts, {p.id for p in some[:apart]}, UNSURE)
    assert all(0 <= p <= 1 for one in of for p in one.values())
    assert all(of_any(one) >= uniform * rate - 1e-12 for one in of if one)
    assert sum(of_any(one) for one in of) <= rate * n + 1e-9


UNSURE = fitted()
