"""What the watch makes of the drawn answers: rare false alarms, a soon true one, and honest second choices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.comparing import Brief
from keepfit.data.records import (
    CONTROL,
    FIRST,
    FIRST_AGREED,
    FIRST_SURE,
    Cause,
    Example,
    Label,
    Prediction,
    Source,
    Traffic,
    Window,
)
from keepfit.data.store import RecordStore
from keepfit.decision import Outcome
from keepfit.pipelines.cascading import BEATS, FEWEST, NONE, Cascading, Kept, counted, wagered
from keepfit.sequential import LARGE_ODDS
from keepfit.serving.cascade import CASCADE, CascadePlan
from keepfit.tasks.trade import Point, Terms, Trade

NAME = "toy"
TRADE = Trade(
    5000, 4500, 4400, (Point(0.95, 2500, 10, 5, 20), Point(0.8, 3500, 10, 12, 30), Point(0.5, 5000, 0, 900, 900))
)
PLAN = CascadePlan(Terms("agreement", differing=0.02), 0.02, 0.05)
LOOK = max(FEWEST, 2 * PLAN.terms.rows)
"""Drawn answers before the first look at a new threshold."""


@pytest.fixture
def store(store_url: str, clock: ManualClock) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        opened.deploy(NAME, Traffic({1: 1.0}), Cause("me", "a test"), clock.now())
        yield opened


def cascading(
    store: RecordStore, clock: ManualClock, trade: Trade | None = TRADE, plan: CascadePlan = PLAN
) -> Cascading:
    return Cascading(NAME, store, plan, lambda number: trade, clock)


def answered(
    store: RecordStore,
    clock: ManualClock,
    *,
    first: int = 0,
    plain: int = 0,
    drawn: tuple[tuple[float, bool], ...] = (),
) -> None:
    """One beat's answers: of the first stage, of the model, and drawn ones with (first's score, it agreed)."""
    clock.advance(timedelta(minutes=1))
    pairs = []
    kinds = [(FIRST, {})] * first + [("model", {CONTROL: 0.0})] * plain
    kinds += [("model", {CONTROL: 1.0, FIRST_SURE: s, FIRST_AGREED: float(a)}) for s, a in drawn]
    for stage, measures in kinds:
        example = Example("text", clock.now())
        scores, width = np.array([0.1, 0.9], np.float32), 0 if stage == FIRST else 3
        empty = np.zeros(width, np.float32)
        said = Prediction(
            example.id, 1, ("no", "yes"), scores, empty, clock.now(), measures=measures, stage=stage
        )  # fmt: skip
        pairs.append((example, said))
    store.add_predictions(NAME, pairs)
    clock.advance(timedelta(minutes=1))


def kept_now(store: RecordStore) -> Kept:
    return Kept.from_json(store.get(NAME, CASCADE))


def judgements(store: RecordStore) -> list[str]:
    return [one.decision.outcome.value for one in reversed(store.decisions(NAME, "cascade"))]


def test_a_new_version_begins_with_what_its_held_out_rows_have_proven(store: RecordStore, clock: ManualClock) -> None:
    cascading(store, clock).tick()
    kept = kept_now(store)
    assert (kept.on, kept.threshold, kept.allowed) == (True, 0.8, 0.02)
    (stored,) = store.decisions(NAME, "cascade")
    assert stored.decision.outcome is Outcome.PASS
    assert "70%" in stored.decision.because[0]
    cascading(store, clock).tick()
    assert len(store.decisions(NAME, "cascade")) == 1, "a second beat has nothing to add"


def test_a_version_without_a_first_stage_is_said_to_have_none_once(store: RecordStore, clock: ManualClock) -> None:
    for _ in range(2):
        clock.advance(timedelta(minutes=5))
        cascading(store, clock, None).tick()
    (stored,) = store.decisions(NAME, "cascade")
    assert stored.decision.outcome is Outcome.FAIL
    assert NONE in stored.decision.because[0]


def test_other_terms_are_judged_anew(store: RecordStore, clock: ManualClock) -> None:
    cascading(store, clock).tick()
    strict = CascadePlan(Terms("agreement", differing=0.007), 0.02, 0.05)
    cascading(store, clock, plan=strict).tick()
    assert kept_now(store).threshold == 0.95


def test_many_other_answers_switch_it_off_and_later_ones_may_switch_on_a_stricter_threshold(
    store: RecordStore, clock: ManualClock
) -> None:
    watch = cascading(store, clock)
    watch.tick()
    for _ in range(10):  # all is well
        answered(store, clock, first=70, plain=30, drawn=((0.9, True),) * 20 + ((0.6, False),) * 5)
        watch.tick()
    assert kept_now(store).on
    for _ in range(6):  # sure of a fifth otherwise
        answered(store, clock, first=70, plain=30, drawn=((0.9, True),) * 16 + ((0.9, False),) * 4)
        watch.tick()
    off = kept_now(store)
    assert (off.on, off.threshold) == (False, None)
    told = store.decisions(NAME, "cascade")[0].decision
    assert told.outcome is Outcome.FAIL
    assert "otherwise than the full model" in told.because[0]
    assert told.evidence["differing"][1] >= 4
    for _ in range(FEWEST // 20):
        answered(store, clock, plain=0, drawn=((0.97, True),) * 14 + ((0.9, False),) * 6)
        watch.tick()
    again = kept_now(store)
    assert again.drawn < LOOK or again.on
    answered(store, clock, drawn=((0.97, True),) * 20)
    watch.tick()
    again = kept_now(store)
    assert (again.on, again.threshold) == (True, 0.95)
    assert judgements(store) == ["pass", "fail", "pass"]


def test_where_no_threshold_is_proven_it_stays_silent_and_looks_again_at_twice_as_many(
    store: RecordStore, clock: ManualClock
) -> None:
    bad = Trade(100, 90, 80, TRADE.points)
    watch = cascading(store, clock, bad)
    for half in (LOOK // 2, LOOK):
        watch.tick()
        answered(store, clock, drawn=((0.99, True),) * half + ((0.99, False),) * half)
        watch.tick()
    kept = kept_now(store)
    assert (kept.on, kept.looks, kept.drawn) == (False, 2, 0)
    assert "stays silent" in kept.because
    assert judgements(store) == ["fail"] * 3


def test_a_first_stage_that_answers_next_to_nothing_is_switched_off(store: RecordStore, clock: ManualClock) -> None:
    watch = cascading(store, clock)
    watch.tick()
    answered(store, clock, first=8, plain=900)
    watch.tick()
    kept = kept_now(store)
    assert not kept.on
    assert "it pays from 5% on" in kept.because


def test_a_beat_that_is_repeated_changes_nothing(store: RecordStore, clock: ManualClock) -> None:
    watch = cascading(store, clock)
    watch.tick()
    answered(store, clock, first=10, drawn=((0.9, True),) * 5)
    watch.tick()
    before = kept_now(store)
    watch.tick()
    assert kept_now(store) == before
    assert (before.answers, before.first, before.drawn, before.sure) == (10, 10, 5, (0, 5, 5))


def test_shadows_and_unmarked_answers_are_not_counted(clock: ManualClock) -> None:
    blank = Kept(1, PLAN.to_json(), "", True, 0.8, "", "").turned(True, 0.8, "", "", 0.02, 3)
    shadow = Brief(1, "yes", 0.9, clock.now(), shadow=True, measures={CONTROL: 1.0, FIRST_SURE: 0.9, FIRST_AGREED: 0.0})
    after = counted(blank, [shadow, Brief(1, "yes", 0.9, clock.now())], TRADE)
    assert (after.answers, after.drawn) == (0, 0)


def capitals(rng: np.random.Generator, chance: float, streams: int, beats: int, cases: int) -> np.ndarray:
    """At each beat the e-detector's mean capital for an allowed share of 0.02, shape (beats, streams)."""
    logs: list[tuple[float, ...]] = [()] * streams
    found = np.zeros((beats, streams))
    for beat in range(beats):
        hits = rng.binomial(cases, chance, streams)
        for i in range(streams):
            logs[i] = wagered(logs[i], int(hits[i]), cases, 0.02)
            found[beat, i] = np.exp(np.minimum(logs[i], 600)).mean()
    return found


def test_false_alarms_are_as_rare_as_stated_and_a_fivefold_disagreement_is_soon_seen() -> None:
    rng = np.random.default_rng(11)
    null = capitals(rng, 0.02, 40, 250, 20)
    # at most one alarm in BEATS beats on average: 40 streams of 250 beats may expect one
    assert (null.max(axis=0) >= BEATS).sum() <= 3
    assert len(LARGE_ODDS) == len(wagered((), 0, 1, 0.02))
    bad = capitals(rng, 0.1, 20, 60, 20)
    delays = (bad >= BEATS).argmax(axis=0)
    assert (bad >= BEATS).any(axis=0).all()
    assert np.median(delays) * 20 < 300, "drawn answers"


def test_a_second_choice_is_wrong_in_at_most_the_stated_share_over_all_its_looks() -> None:
    rng, runs, wrong = np.random.default_rng(2), 300, 0
    watch = Cascading(NAME, None, PLAN, lambda number: TRADE, ManualClock(None))  # type: ignore[arg-type]
    silent = Quiet(watch)
    for _ in range(runs):
        kept = Kept(1, PLAN.to_json(), "u", False, None, "", "").turned(False, None, "", "", 0.02, 3)
        for look in range(4):
            n = FEWEST * 2**look
            differing = np.array(kept.differing) + rng.binomial(n, 0.021)  # just more than is allowed
            kept = Kept(**{**kept.__dict__, "drawn": kept.drawn + n, "differing": tuple(int(d) for d in differing),
                           "sure": tuple(int(s) + n for s in kept.sure)})  # fmt: skip
            kept = silent.chosen_anew(kept, TRADE)
            if kept.on:
                wrong += 1
                break
    assert wrong / runs <= 0.05


class Quiet(Cascading):
    """Judges, and keeps nothing."""

    def __init__(self, other: Cascading) -> None:
        super().__init__(other.model, other.store, other.plan, other.trade, other.clock)

    def keep(self, kept: Kept, decision: object) -> None:
        """Nothing."""


def test_what_no_longer_held_does_not_come_back_with_a_rollback(store: RecordStore, clock: ManualClock) -> None:
    watch = cascading(store, clock)
    watch.tick()
    for _ in range(8):
        answered(store, clock, first=70, plain=30, drawn=((0.9, True),) * 16 + ((0.9, False),) * 4)
        watch.tick()
    assert not kept_now(store).on
    for version in (2, 1):
        store.deploy(NAME, Traffic({version: 1.0}), Cause("me", "a test"), clock.now())
        clock.advance(timedelta(minutes=1))
        watch.tick()
        assert (kept_now(store).version, kept_now(store).on) == (version, version == 2)
    lost = store.decisions(NAME, "cascade")[0].decision
    assert lost.evidence["switched"], "version 2 answered with its own until then"
    assert "no longer kept these terms" in kept_now(store).because


def test_what_is_below_the_score_that_is_answered_at_all_does_not_refute_the_first_stage(
    store: RecordStore, clock: ManualClock
) -> None:
    watch = cascading(store, clock, TRADE.above(0.9))
    watch.tick()
    assert kept_now(store).threshold == 0.9
    for _ in range(10):  # a third otherwise, of what nobody hears from it
        answered(store, clock, first=70, plain=30, drawn=((0.95, True),) * 20 + ((0.85, False),) * 10)
        watch.tick()
    kept = kept_now(store)
    assert (kept.on, kept.differing) == (True, (0, 0))
    assert judgements(store) == ["pass"]


def test_what_an_earlier_release_counted_at_other_thresholds_is_begun_anew(
    store: RecordStore, clock: ManualClock
) -> None:
    cascading(store, clock).tick()
    assert kept_now(store).threshold == 0.8
    clock.advance(timedelta(minutes=1))
    cascading(store, clock, TRADE.above(0.9)).tick()
    assert (kept_now(store).threshold, kept_now(store).sure) == (0.9, (0, 0))


@pytest.mark.parametrize("labels", [0, 40])
def test_labels_redeem_what_the_full_model_got_wrong(store: RecordStore, clock: ManualClock, labels: int) -> None:
    terms = Terms("accuracy", loss=0.02)
    watch = cascading(store, clock, plan=CascadePlan(terms, 0.02, 0.05))
    watch.tick()
    for _ in range(4):
        answered(store, clock, first=70, plain=30, drawn=((0.9, False),) * 40)
        watch.tick()
    off = kept_now(store)
    assert not off.on
    answered(store, clock, drawn=((0.97, True),) * 500 + ((0.97, False),) * 40)  # 7 % differ
    others = [one for one in store.predictions(NAME, Window(clock.now() - timedelta(minutes=2), clock.now()))
              if one.measures.get(FIRST_AGREED) == 0.0]  # fmt: skip
    assert {one.label for one in others} == {"yes"}
    store.add_labels(NAME, [Label(one.example_id, "no", clock.now(), Source.COMPLETE, prediction_id=one.id)
                            for one in others[:labels]])  # fmt: skip
    watch.tick()
    assert kept_now(store).on == bool(labels)
    told = store.decisions(NAME, "cascade")[0].decision
    assert told.evidence["redeemed"] == [labels, labels, labels]
