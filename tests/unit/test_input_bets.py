"""Wagers on the inputs: cannot be expected to win while nothing changed, see a change soon, survive a restart."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.errors import InvalidInput
from keepfit.evaluation.evaluator import Reference
from keepfit.monitoring.betting import STAKES, Bounds, InputBets
from keepfit.monitoring.blocks import BlockLength
from keepfit.monitoring.gathering import gathered
from keepfit.monitoring.packing import packed, unpacked
from keepfit.monitoring.ranks import Ranks, Rows
from keepfit.monitoring.seasons import UNKNOWN, Seasons, bin_of

WIDTH = 6


def rows_of(rng: np.random.Generator, n: int, shift: float = 0.0, first: float = 0.5) -> Rows:
    latent = rng.normal(shift, 1, (n, WIDTH))
    top = 0.5 + 0.5 * rng.beta(4, 2, n)
    said = rng.random(n) < first
    scores = np.where(said[:, None], np.stack([top, 1 - top], 1), np.stack([1 - top, top], 1)).astype(np.float32)
    measures = {"length": np.round(np.exp(2 + latent[:, 0])), "unknown": np.zeros(n)}
    return Rows(scores, latent.astype(np.float32), measures, rng.random(n))


def reference_of(n: int, seed: int = 0) -> Reference:
    rows = rows_of(np.random.default_rng(seed), n)
    measures = {name: column.astype(np.float32) for name, column in rows.measures.items()}
    return Reference(rows.scores, rows.embeddings, np.zeros(n, np.int64), measures)


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return Ranks(reference_of(2000))


def bets_of(ranks: Ranks, run_length: float = 1e5) -> InputBets:
    return InputBets(Bounds(ranks.low, ranks.high, ranks.deviation, ranks.feature), run_length)


def play(ranks: Ranks, bets: InputBets, rows: Rows, chunk: int = 200, bin_: int = 0) -> list[int]:
    found = []
    values = ranks.values(rows)
    for start in range(0, len(values), chunk):
        some = values[start : start + chunk]
        alarms = bets.update(some, np.ones(len(some)), np.full(len(some), bin_))
        found += [start + alarm.place for alarm in alarms]
    return found


def known(bets: InputBets, ranks: Ranks, bin_: int = 0) -> None:
    """As if an hour had been learnt from a quiet day."""
    rng = np.random.default_rng(99)
    bets.seasons.begin("a")
    bets.seasons.begin("b")
    bets.seasons.add(ranks.values(rows_of(rng, 5000)), np.full(5000, bin_))
    bets.seasons.begin("c")


# ranks


def test_ranks_are_uniform_when_nothing_has_changed_and_stay_within_their_bounds(ranks: Ranks) -> None:
    means = ranks.values(rows_of(np.random.default_rng(1), 20_000)).mean(axis=0)
    assert (means < ranks.high).all()
    assert (means > ranks.low).all()


def test_small_references_keep_their_bounds_too() -> None:
    outside = 0
    for seed in range(40):
        small = Ranks(reference_of(200, seed))
        means = small.values(rows_of(np.random.default_rng(1000 + seed), 4000)).mean(axis=0)
        outside += not ((means < small.high) & (means > small.low)).all()
    assert outside <= 1


def test_a_missing_number_speaks_neither_for_nor_against_a_change(ranks: Ranks) -> None:
    rows = rows_of(np.random.default_rng(2), 3)
    values = ranks.values(Rows(rows.scores, rows.embeddings, {"length": np.full(3, np.nan)}, rows.lots))
    names = [ranks.features[f] for f in ranks.feature]
    assert (values[:, [n in ("length", "unknown") for n in names]] == 0.5).all()


def test_rows_of_another_model_are_refused(ranks: Ranks) -> None:
    rows = rows_of(np.random.default_rng(3), 2)
    with pytest.raises(InvalidInput, match="own reference"):
        ranks.values(Rows(np.ones((2, 3), np.float32), rows.embeddings, rows.measures, rows.lots))
    with pytest.raises(InvalidInput, match="no rows"):
        Ranks(reference_of(0))


def test_many_classes_are_counted_by_the_common_ones_and_the_rest() -> None:
    rng = np.random.default_rng(4)
    scores = rng.dirichlet(np.ones(40), 600).astype(np.float32)
    found = Ranks(Reference(scores, rng.normal(size=(600, 3)).astype(np.float32), np.zeros(600, np.int64)))
    labels = [f"c{i}" for i in range(40)]
    assert found.words(found.columns - 1, labels) == "share of other classes"
    values = found.values(Rows(scores, rng.normal(size=(600, 3)).astype(np.float32), {}, rng.random(600)))
    assert values[:, found.feature == len(found.features) - 1].sum(axis=1) == pytest.approx(1.0)


# wagers


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6),
    st.floats(0.05, 0.95),
    st.floats(0, 0.04),
)
def test_no_wager_is_expected_to_win_while_the_mean_is_within_its_bounds(
    points: list[float], mean: float, slack: float
) -> None:
    # any distribution on these points, tilted so that its mean is the given one, or as near as the points allow
    values = np.array([0.0, 1.0, *points])
    weights = np.ones(len(values)) / len(values)
    centre = float(weights @ values)
    share = min(1.0, (1 - mean) / (1 - centre) if mean > centre else mean / max(centre, 1e-12))
    weights = share * weights
    weights[1 if mean > centre else 0] += 1 - share
    actual = float(weights @ values)
    bounds = Bounds(np.array([actual - slack]), np.array([actual + slack]), np.array([0.29]), np.array([0]))
    bets = InputBets(bounds, 1e6)
    factors = bets._factors(values[:, None], np.zeros(len(values), np.int64))
    assert (factors > 0).all()
    assert (weights @ factors <= 1 + 1e-9).all()


def test_the_weights_of_all_wagers_are_one_and_every_feature_has_the_same(ranks: Ranks) -> None:
    bets = bets_of(ranks)
    share = np.bincount(ranks.feature, bets._weights.reshape(2 * len(STAKES), -1).sum(axis=0))
    assert share == pytest.approx(np.full(len(ranks.features), 1 / len(ranks.features)))


def test_the_run_length_is_what_the_user_asked_for_even_at_the_very_bound() -> None:
    middle = np.array([0.5, 0.5])
    # no dead-band, no allowance for unknown hours: the null holds with nothing to spare
    bets = InputBets(Bounds(middle, middle, np.zeros(2), np.array([0, 1])), 200.0)
    alarms, rng = 0, np.random.default_rng(13)
    for _ in range(40):
        alarms += len(bets.update(rng.random((1000, 2)), np.ones(1000), np.zeros(1000, np.int64)))
    assert 0 < alarms <= 40_000 / 200


def test_quiet_streams_raise_no_alarm(ranks: Ranks) -> None:
    bets = bets_of(ranks)
    assert play(ranks, bets, rows_of(np.random.default_rng(5), 30_000)) == []
    assert bets.block == 1


def test_a_shift_is_found_soon_once_the_hour_is_known_and_named(ranks: Ranks) -> None:
    bets = bets_of(ranks)
    known(bets, ranks)
    rng = np.random.default_rng(6)
    assert play(ranks, bets, rows_of(rng, 3000)) == []
    moved = rows_of(rng, 3000)
    longer = {**moved.measures, "length": moved.measures["length"] * 3}
    values = ranks.values(Rows(moved.scores, moved.embeddings, longer, moved.lots))
    alarms = bets.update(values, np.ones(3000), np.zeros(3000, np.int64))
    assert alarms
    assert alarms[0].place < 400
    words = [ranks.words(c, ("bad", "good")) for c in alarms[0].evidence]
    assert words[0] == "level of length"
    assert alarms[0].more[next(iter(alarms[0].evidence))]


def test_a_change_of_the_answers_is_found(ranks: Ranks) -> None:
    bets = bets_of(ranks)
    known(bets, ranks)
    rng = np.random.default_rng(7)
    play(ranks, bets, rows_of(rng, 3000))
    found = play(ranks, bets, rows_of(rng, 3000, first=0.8))
    assert found
    assert found[0] < 500


def test_before_anything_is_known_of_an_hour_only_large_changes_count(ranks: Ranks) -> None:
    rng, bets = np.random.default_rng(8), bets_of(ranks)
    play(ranks, bets, rows_of(rng, 2000))
    assert play(ranks, bets, rows_of(rng, 8000, shift=0.3)) == []
    assert play(ranks, bets, rows_of(rng, 3000, shift=1.5))


def test_repeats_of_one_text_are_one_observation() -> None:
    values = np.arange(12, dtype=np.float64)[:, None] / 12
    seen = gathered(values, ["a", "b", "a", "a", *"cdefghij"], [None] * 12)
    assert len(seen.values) == 10
    assert seen.counts.tolist() == [3, *[1] * 9]
    assert seen.places.tolist()[:3] == [0, 1, 4]


def test_a_user_who_sends_many_texts_is_one_observation_but_a_queue_is_not() -> None:
    values = np.linspace(0, 1, 40)[:, None]
    keys = ["loud" if i % 2 else f"user {i}" for i in range(40)]
    seen = gathered(values, list(range(40)), keys)
    assert len(seen.values) == 21
    assert seen.counts.max() == 20
    few = gathered(values, list(range(40)), ["north" if i % 2 else "south" for i in range(40)])
    assert len(few.values) == 40


# alike neighbours


def test_alike_neighbours_are_averaged_over_long_blocks_and_raise_no_alarm(ranks: Ranks) -> None:
    rng, bets = np.random.default_rng(9), bets_of(ranks, 1e4)
    rows = rows_of(rng, 40_000)
    latent, rho = rng.normal(size=(40_000, WIDTH)), 0.9
    for i in range(1, len(latent)):
        latent[i] = rho * latent[i - 1] + (1 - rho**2) ** 0.5 * latent[i]
    measures = {"length": np.round(np.exp(2 + latent[:, 0])), "unknown": rows.measures["unknown"]}
    alike = Rows(rows.scores, latent.astype(np.float32), measures, rows.lots)
    assert play(ranks, bets, alike) == []
    assert bets.block is not None
    assert bets.block >= 32


def test_a_lasting_change_is_not_taken_for_alike_neighbours() -> None:
    rng, found = np.random.default_rng(10), BlockLength(1)
    found.update(rng.random((3000, 1)) * 0.5)
    found.update(rng.random((3000, 1)) * 0.5 + 0.5)
    assert found.length() == 1


def test_the_length_is_unknown_until_enough_was_seen() -> None:
    found = BlockLength(2)
    found.update(np.random.default_rng(0).random((50, 2)))
    assert found.length() is None


# seasons


def test_a_daily_wave_is_learnt_and_raises_no_alarm(ranks: Ranks) -> None:
    rng, bets = np.random.default_rng(11), bets_of(ranks, 1e4)
    for day in range(5):
        bets.seasons.begin(str(day))
        for hour in range(24):
            shift = 0.3 * np.sin(2 * np.pi * hour / 24)
            assert play(ranks, bets, rows_of(rng, 400, shift=shift), 400, hour) == []
    assert bets.seasons.hours == 24


def test_a_day_that_was_not_watched_whole_or_raised_an_alarm_teaches_nothing() -> None:
    seasons, values = Seasons(np.array([0.29])), np.full((50, 1), 0.5)
    seasons.begin("first")
    seasons.add(values, np.zeros(50, np.int64))
    seasons.begin("second")
    assert seasons.hours == 0, "watching began in the middle of the first day"
    seasons.add(values, np.zeros(50, np.int64))
    seasons.disturbed()
    seasons.begin("third")
    assert seasons.hours == 0
    seasons.add(values, np.zeros(50, np.int64))
    seasons.begin("fourth")
    assert seasons.hours == 1
    offset, slack = seasons.table()
    assert slack[1, 0] == pytest.approx(UNKNOWN * 0.29)
    assert slack[0, 0] < 0.05
    assert offset[0, 0] == pytest.approx(0.0)


def test_what_was_learnt_is_the_shape_of_a_day_and_never_its_level() -> None:
    seasons = Seasons(np.array([0.29]))
    for day in "abc":
        seasons.begin(day)
        seasons.add(np.full((50, 1), 0.9), np.zeros(50, np.int64))
        seasons.add(np.full((50, 1), 0.7), np.ones(50, np.int64))
    offset, _ = seasons.table()
    assert offset[:2, 0] == pytest.approx([0.1, -0.1])


@pytest.mark.parametrize(("zone", "hour"), [("UTC", 30), ("Europe/Berlin", 31), ("America/New_York", 26)])
def test_an_hour_is_that_of_the_settings_also_when_the_clocks_change(zone: str, hour: int) -> None:
    moment = datetime(2025, 3, 30, 0, 30, tzinfo=UTC) + timedelta(hours=6)  # a Sunday; Berlin's clocks went forward
    assert bin_of(moment, ZoneInfo(zone)) == hour + (1 if zone == "Europe/Berlin" else 0)


# restarts


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(0, 5))
def test_a_restart_changes_not_a_bit(ranks: Ranks, seed: int, sizes: list[int], restart: int) -> None:
    rng = np.random.default_rng(seed)
    steady, woken = bets_of(ranks, 500.0), bets_of(ranks, 500.0)
    for number, size in enumerate(sizes):
        rows = rows_of(rng, size, shift=0.4)
        values, counts, bins = ranks.values(rows), np.ones(size), rng.integers(0, 48, size)
        if number == restart:
            woken = InputBets.from_json(json.loads(json.dumps(woken.to_json())), woken.bounds, 500.0)
        for bets in (steady, woken):
            bets.seasons.begin(str(number // 2))
        assert steady.update(values, counts, bins) == woken.update(values, counts, bins)
    assert json.dumps(steady.to_json()) == json.dumps(woken.to_json())


def test_the_state_does_not_grow(ranks: Ranks) -> None:
    rng, bets = np.random.default_rng(12), bets_of(ranks)
    play(ranks, bets, rows_of(rng, 2000))
    early = len(json.dumps(bets.to_json()))
    play(ranks, bets, rows_of(rng, 20_000))
    assert len(json.dumps(bets.to_json())) < early * 1.02


def test_the_state_of_another_reference_is_refused(ranks: Ranks) -> None:
    scores, embeddings = np.eye(3, dtype=np.float32)[np.arange(300) % 3], np.random.default_rng(0).normal(size=(300, 2))
    other = Ranks(Reference(scores, embeddings.astype(np.float32), np.zeros(300, np.int64)))
    with pytest.raises(ValueError, match="another reference"):
        InputBets.from_json(bets_of(ranks).to_json(), bets_of(other).bounds, 1e5)
    with pytest.raises(ValueError, match="run length"):
        bets_of(ranks, 0.0)


def test_arrays_come_back_bit_for_bit() -> None:
    array = np.array([[0.1, -0.0, 1e-320], [np.pi, 1e300, 5.0]])
    assert unpacked(json.loads(json.dumps(packed(array)))).tobytes() == array.tobytes()
