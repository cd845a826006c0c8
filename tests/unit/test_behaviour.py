"""Must-hold examples and invariances are tried, counted and explained."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from keepfit.errors import SettingsError
from keepfit.evaluation.behaviour import (
    BehaviourPlan,
    BehaviourResult,
    Change,
    check_behaviour,
    other_case,
    other_names,
    other_spaces,
    typos,
)
from keepfit.tasks.task import Output, Prepared
from keepfit.tasks.toy import ToyModel

MODEL = ToyModel(["neg", "pos"], {"good": "pos", "bad": "neg", "john": "pos"}, [0.6, 0.4])
TEXTS = [f"{word} wonderful product number {i}" for i in range(50) for word in ("good", "bad")]
STANDARD = BehaviourPlan()


class Shouting(ToyModel):
    """Says pos to whatever is written in capital letters: not invariant to case."""

    def prepare(self, contents: Sequence[str]) -> Prepared:
        return Prepared(["good" if c.isupper() else "bad" for c in contents], [1] * len(contents), [{}] * len(contents))


class Pairs(ToyModel):
    """Reads two columns, and only the first word of the second."""

    def prepare(self, contents: Sequence[tuple[str, str]]) -> Prepared:  # type: ignore[override]
        return super().prepare([body for _, body in contents])

    def infer(self, prepared: Prepared) -> Output:
        return super().infer(prepared)


def check(model: ToyModel, texts: Sequence[object], plan: BehaviourPlan = STANDARD) -> BehaviourResult:
    return check_behaviour(model, texts, plan, np.random.default_rng(0))


def test_a_model_that_reads_over_case_and_spaces_holds() -> None:
    result = check(MODEL, TEXTS)
    assert {c.name: (c.failed.value, c.holds) for c in result.checks}["case"] == (0.0, True)
    assert {c.name: (c.failed.value, c.holds) for c in result.checks}["spaces"] == (0.0, True)
    assert json.dumps(result.to_json(), allow_nan=False)


def test_a_model_that_hangs_on_capitals_does_not_hold_and_shows_where() -> None:
    model = Shouting(["neg", "pos"], {"good": "pos", "bad": "neg"}, [0.6, 0.4])
    found = check(model, TEXTS).check("case")
    assert found is not None
    assert (found.failed.value, found.holds) == (1.0, False)
    assert found.slips[0].before.startswith(("good", "bad"))
    assert (found.slips[0].expected, found.slips[0].said) == ("neg", "pos")
    assert len(found.slips) == 5


def test_one_slip_among_few_texts_is_not_held_against_an_invariance() -> None:
    model = Shouting(["neg", "pos"], {"good": "pos", "bad": "neg"}, [0.6, 0.4])
    found = check(model, ["one"], BehaviourPlan(tolerances={"case": 0.3})).check("case")
    assert found is not None
    assert (found.failed.value, found.failed.n, found.holds) == (1.0, 1, True)


def test_must_hold_examples_are_counted_exactly() -> None:
    plan = BehaviourPlan(must_hold=(("good thing", "pos"), ("bad thing", "pos")), tolerances={})
    (found,) = check(MODEL, TEXTS, plan).checks
    assert (found.name, found.failed.value, found.holds) == ("must_hold", 0.5, False)
    assert str(found) == "1 of 2 must-hold examples fail (0% allowed)"
    (tolerant,) = check(MODEL, TEXTS, BehaviourPlan(plan.must_hold, 0.5, {})).checks
    assert tolerant.holds


def test_names_are_tried_only_on_texts_that_have_one() -> None:
    plan = BehaviourPlan(tolerances={"names": 0.05}, names=("John", "Olga"))
    found = check(
        MODEL,
        [*TEXTS, "John likes it", "Johnny does not"],
        BehaviourPlan(plan.must_hold, 0, plan.tolerances, plan.names),
    ).check("names")
    assert found is not None
    assert found.failed.n == 1
    assert found.slips[0].after == "Olga likes it"


def test_every_column_of_a_content_is_changed() -> None:
    model = Pairs(["neg", "pos"], {"good": "pos", "bad": "neg"}, [0.6, 0.4])
    result = check(model, [("Subject", text) for text in TEXTS], BehaviourPlan(tolerances={"case": 0.05}))
    assert result.checks[0].failed.n == len(TEXTS)


def test_contents_that_are_no_texts_are_passed_over() -> None:
    assert check(MODEL, [b"frames", 3, ()]).checks == ()


def test_the_same_generator_gives_the_same_result() -> None:
    assert check(MODEL, TEXTS).to_json() == check(MODEL, TEXTS).to_json()


@pytest.mark.parametrize("change", [other_case, other_spaces, typos, other_names(("Anna", "Ivan"))])
@pytest.mark.parametrize(
    "text", ["", " ", "a", "Anna met Ivan in the garden", "日本語のテキスト", "\x00\ud800 odd", "aaaa"]
)
def test_any_text_can_be_changed(change: Change, text: str) -> None:
    changed = change(text, np.random.default_rng(0))
    assert sorted(changed.lower().split()) or not text.strip()


def test_a_typo_keeps_the_letters_and_the_length() -> None:
    text = "this wonderful product exceeded every expectation that anybody could have had about it"
    changed = typos(text, np.random.default_rng(0))
    assert changed != text
    assert sorted(changed) == sorted(text)
    assert sum(a != b for a, b in zip(text, changed, strict=True)) == 2


def test_an_unknown_invariance_is_refused() -> None:
    with pytest.raises(SettingsError, match="no invariance 'weather'; known are case, spaces, typos, names"):
        BehaviourPlan(tolerances={"weather": 0.1})


def test_one_name_is_not_enough_to_swap() -> None:
    with pytest.raises(SettingsError, match="two names or more"):
        BehaviourPlan(tolerances={"names": 0.1}, names=("Anna",))
    assert other_names(("Anna",))("Anna", np.random.default_rng(0)) == "Anna"
