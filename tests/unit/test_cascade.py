"""The cascade answers what the first stage is sure of, asks a random part in full, and heeds how the watch judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from keepfit.clock import ManualClock
from keepfit.data.records import CONTROL, FIRST, FIRST_AGREED, FIRST_SURE, Cause, Prediction, Traffic, Window
from keepfit.data.store import RecordStore
from keepfit.serving.cascade import CASCADE, Cascade, CascadePlan, standing, threshold_of
from keepfit.serving.limits import ServingLimits
from keepfit.serving.predictor import Predictor, Request
from keepfit.serving.writer import RecordWriter
from keepfit.tasks.task import first_of
from keepfit.tasks.toy import ToyFirst, ToyModel
from keepfit.tasks.trade import Point, Terms, Trade

NAME = "toy"
LABELS = ("no", "yes")
GOOD = Trade(5000, 4500, 4400, (Point(0.95, 3000), Point(0.6, 4000, losses=900, differing=900)))
"""Its first threshold is proven, its second refuted."""
PLAN = CascadePlan(Terms(), control=0.0, least_share=0.05)


def toy(trade: Trade = GOOD) -> ToyModel:
    """It knows yonder and nope; its first stage is sure of y (wrongly of yet) and undecided about n."""
    first = ToyFirst({"y": [0.02, 0.98], "n": [0.6, 0.4]}, 2, trade)
    return ToyModel(LABELS, {"yonder": "yes", "nope": "no", "yet": "no"}, [0.5, 0.5], first=first)


@pytest.fixture
def store(store_url: str, clock: ManualClock) -> Iterator[RecordStore]:
    with RecordStore.open(store_url) as opened:
        opened.deploy(NAME, Traffic({1: 1.0}), Cause("me", "a test"), clock.now())
        yield opened


@pytest.fixture
def writer(store: RecordStore) -> Iterator[RecordWriter]:
    made = RecordWriter(store)
    yield made
    made.close()


Say = Callable[..., Prediction]


@pytest.fixture
def say(store: RecordStore, writer: RecordWriter, clock: ManualClock) -> Iterator[Callable[..., Say]]:
    made: list[Predictor] = []

    def build(plan: CascadePlan | None = PLAN, model: ToyModel | None = None, drawn: bool = False) -> Say:
        cascade = Cascade(store, NAME, plan, lot=lambda: -1.0 if drawn else 0.5)
        predictor = Predictor(
            NAME, store, lambda number: model or toy(), writer, clock, "here", ServingLimits(), cascade=cascade
        )
        predictor.refresh()
        made.append(predictor)

        def ask(content: str) -> Prediction:
            cascade.refresh()
            (answer,) = predictor.predict([Request(content)])
            return answer.prediction

        return ask

    yield build
    for one in made:
        one.close()


def test_what_the_first_stage_is_sure_of_it_answers_and_the_rest_goes_on(say: Callable[..., Say]) -> None:
    ask = say()
    sure, unsure = ask("yonder hill"), ask("nope")
    assert (sure.stage, sure.label, sure.embedding.shape) == (FIRST, "yes", (0,))
    assert sure.confidence == pytest.approx(0.98)
    assert (unsure.stage, unsure.label, unsure.embedding.shape) == ("model", "no", (8,))
    assert unsure.measures[CONTROL] == 0.0
    assert not sure.stands_for_all
    assert not unsure.stands_for_all


def test_without_a_plan_or_without_a_first_stage_every_answer_is_the_full_models_and_carries_no_mark(
    say: Callable[..., Say],
) -> None:
    for ask in (say(None), say(PLAN, ToyModel(LABELS, {"yonder": "yes"}, [0.5, 0.5]))):
        said = ask("yonder hill")
        assert said.stage == "model"
        assert not {CONTROL, FIRST_SURE} & said.measures.keys()
        assert said.stands_for_all


def test_a_drawn_content_is_answered_in_full_and_the_record_says_whether_the_first_stage_agrees(
    say: Callable[..., Say], store: RecordStore, writer: RecordWriter
) -> None:
    ask = say(drawn=True)
    same, other = ask("yonder hill"), ask("yet again")
    assert [one.stage for one in (same, other)] == ["model", "model"]
    assert (same.label, other.label) == ("yes", "no"), "the full model is heard"
    assert [one.measures[FIRST_AGREED] for one in (same, other)] == [1.0, 0.0]
    assert other.measures[FIRST_SURE] == pytest.approx(0.98)
    assert same.stands_for_all
    writer.flush()
    stored = store.prediction(NAME, other.id)[1]
    assert (stored.measures[CONTROL], stored.measures[FIRST_AGREED]) == (1.0, 0.0)


def test_marks_are_of_one_answer_and_never_kept_in_the_cache(say: Callable[..., Say]) -> None:
    ask = say(drawn=True)
    first, second = ask("nope"), ask("nope")
    assert (first.stage, second.stage) == ("model", "cache")
    assert second.measures[CONTROL] == 1.0
    plain = say(CascadePlan(Terms(), 0.0))
    assert plain("nope").measures[CONTROL] == 0.0
    cached = plain("nope")
    assert (cached.stage, cached.measures[CONTROL]) == ("cache", 0.0)
    assert FIRST_SURE not in cached.measures


def test_the_judgement_of_the_watch_comes_before_the_curve_of_the_training(
    say: Callable[..., Say], store: RecordStore
) -> None:
    ask = say()
    assert ask("yonder a").stage == FIRST
    kept = {"version": 1, "plan": PLAN.to_json(), "on": False, "threshold": None}
    store.put(NAME, CASCADE, kept)
    assert ask("yonder b").stage == "model"
    store.put(NAME, CASCADE, kept | {"on": True, "threshold": 0.55})
    assert ask("never c").stage == FIRST
    store.put(NAME, CASCADE, kept | {"version": 2})
    assert ask("yonder d").stage == FIRST, "another version's judgement says nothing"
    store.put(NAME, CASCADE, kept | {"version": 2, "off": [1]})
    assert ask("yonder e").stage == "model", "but what was refuted in life does not come back by an old curve"
    store.put(NAME, CASCADE, kept | {"plan": {**PLAN.to_json(), "control": 0.5}})
    assert ask("yonder f").stage == "model", "how much is drawn changes no judgement"
    other = {**PLAN.to_json(), "terms": {**PLAN.terms.to_json(), "confidence": 0.5}}
    store.put(NAME, CASCADE, kept | {"plan": other})
    assert ask("yonder g").stage == FIRST, "one under other terms says nothing"


def test_while_it_is_silent_what_is_drawn_says_what_it_would_have_said_and_all_stand_for_all(
    say: Callable[..., Say], store: RecordStore
) -> None:
    store.put(NAME, CASCADE, {"version": 1, "plan": PLAN.to_json(), "on": False, "threshold": None})
    said = say(drawn=True)("yet again")
    assert said.stage == "model"
    assert said.measures[FIRST_AGREED] == 0.0
    assert CONTROL not in said.measures
    assert said.stands_for_all
    assert say()("yet again").stands_for_all


def test_nothing_that_the_model_would_abstain_from_is_answered_by_the_first_stage(say: Callable[..., Say]) -> None:
    class Careful(ToyModel):
        abstain_below = 0.99  # type: ignore[assignment]

    ask = say(PLAN, Careful(LABELS, {"yonder": "yes"}, [0.5, 0.5], first=toy().first))
    assert ask("yonder hill").stage == "model"


def test_answers_of_a_first_stage_are_left_out_where_embeddings_are_read(
    say: Callable[..., Say], store: RecordStore, writer: RecordWriter, clock: ManualClock
) -> None:
    rng = np.random.default_rng(3)
    cascade = Cascade(store, NAME, CascadePlan(Terms(), 0.2), lot=lambda: float(rng.random()))
    predictor = Predictor(NAME, store, lambda number: toy(), writer, clock, "here", cascade=cascade)
    predictor.refresh()
    for i in range(600):
        predictor.predict([Request(f"{'yonder' if i % 3 else 'nope'} {i}")])
    predictor.close()
    writer.flush()
    window = Window(clock.now(), clock.now().replace(year=2030))
    fair = store.fair_predictions(NAME, window, 1, 1000)
    assert {one.embedding.shape for one in fair} == {(8,)}
    assert len(fair) == pytest.approx(120, abs=30)
    yes = np.mean([one.label == "yes" for one in fair])
    assert yes == pytest.approx(2 / 3, abs=0.13), "what was drawn has the mix of all the traffic"
    assert len(store.fair_predictions(NAME, window, 1, 50)) == 50, "it reads further to find enough"


def test_the_same_threshold_holds_for_files() -> None:
    first = first_of(toy())
    assert threshold_of(first, None, 1, PLAN) == 0.95
    assert threshold_of(first, None, 1, None) is None
    assert threshold_of(None, None, 1, PLAN) is None
    off = {"version": 1, "plan": PLAN.to_json(), "on": False, "threshold": None}
    assert threshold_of(first, off, 1, PLAN) is None


def test_the_status_says_whether_it_answers_and_why() -> None:
    assert standing(None, None, 1)["keeps"] == "off"
    assert standing(None, PLAN, 1)["on"] is None
    kept = {"version": 1, "plan": PLAN.to_json(), "on": True, "threshold": 0.9, "first": 30, "answers": 40}
    said = standing(kept | {"because": "it is good"}, PLAN, 1)
    assert (said["on"], said["threshold"], said["share"], said["because"]) == (True, 0.9, 0.75, "it is good")
