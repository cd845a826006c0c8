"""Whose labels count: honest labellers are almost never set apart, others are, within so many labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from keepfit.data.labellers import Said
from keepfit.decision import Outcome
from keepfit.monitoring.trust import FLOOD, FLOOR, RUN, Hours, Standing, standings

Answer = Callable[[np.random.Generator, int], int]
"""What a labeller says, given the truth (0 or 1)."""


def honest(error: float) -> Answer:
    return lambda rng, truth: truth if rng.random() >= error else 1 - truth


def stream(seed: int, n: int, rare: float, labellers: dict[str, Answer], together: float, bursts: bool) -> list[Said]:
    """Examples of two classes, answered by a model that errs on a tenth of them, and labelled by one, two or three."""
    rng, said, names = np.random.default_rng(seed), [], list(labellers)
    active: str | None = None
    for number in range(n):
        truth = int(rng.random() < rare)
        model = truth if rng.random() >= 0.1 else 1 - truth
        who = list(rng.choice(names, 1 if rng.random() >= together else int(rng.integers(2, 4)), replace=False))
        if bursts and rng.random() < 0.05:  # somebody sits down for some fifty labels, then is gone
            active = None if active is not None else str(rng.choice(names))
        if active is not None and active not in who:
            who[0] = active
        for name in who:
            value = labellers[str(name)](rng, truth)
            said.append(Said(len(said) + 1, str(name), f"e{number}", f"c{number}", str(value), str(model), True))
    return said


def caught_after(
    labellers: dict[str, Answer], rare: float, seed: int, n: int = 2500, together: float = 1.0
) -> int | None:
    """How many labels the one called `bad` could give; None: all of them."""
    said = stream(seed, n, rare, labellers, together, False)
    own = [place for place, one in enumerate(said) if one.actor == "bad"]
    for given in range(RUN, len(own), 10):
        (standing,) = standings(said[: own[given - 1] + 1], about=("bad",))
        if standing.because():
            return given
    return None


def of(found: Sequence[Standing], name: str) -> Standing:
    return next(one for one in found if one.actor == name)


@pytest.mark.parametrize("rare", [0.5, 0.1])
def test_of_two_hundred_honest_labellers_almost_none_is_ever_set_apart(rare: float) -> None:
    """Twenty teams of ten who err on 5 to 20 %, looked at again and again, some in bursts: none of 200."""
    apart = set()
    for team in range(20):
        errors = np.random.default_rng(team).uniform(0.05, 0.2, 10)
        labellers = {f"h{number}": honest(float(error)) for number, error in enumerate(errors)}
        said = stream(team, 1200, rare, labellers, 0.5, bursts=True)
        for upto in range(300, len(said) + 1, 300):
            apart |= {(team, one.actor) for one in standings(said[:upto]) if one.because()}
    assert len(apart) == 0


TEAM = {f"h{number}": honest(error) for number, error in enumerate((0.05, 0.1, 0.15, 0.2))}


@pytest.mark.parametrize(
    ("kind", "rare", "most"),
    [
        ("always the rare class", 0.1, 40), ("always the usual class", 0.1, 250), ("always the rare class", 0.5, 60),
        ("a coin", 0.5, 550), ("a coin", 0.1, 350), ("the opposite", 0.5, 60), ("the opposite", 0.1, 80),
    ],
)  # fmt: skip
def test_who_does_not_look_is_caught_within_so_many_labels(kind: str, rare: float, most: int) -> None:
    bad: dict[str, Answer] = {
        "always the rare class": lambda rng, truth: 1,
        "always the usual class": lambda rng, truth: 0,
        "a coin": lambda rng, truth: int(rng.random() < 0.5),
        "the opposite": lambda rng, truth: 1 - truth,
    }
    found = [caught_after({**TEAM, "bad": bad[kind]}, rare, 1000 + seed) for seed in range(5)]
    assert all(given is not None and given <= most for given in found), found


def test_a_constant_answerer_is_caught_without_anybody_to_compare_with() -> None:
    found = [caught_after({"bad": lambda rng, truth: 1}, 0.1, seed, 400, 0.0) for seed in range(5)]
    assert all(given is not None and given <= 30 for given in found), found


def test_a_single_honest_labeller_is_trusted_even_when_the_model_is_always_wrong() -> None:
    """This is the harm that labels are to show: the model says "good" of everything, and everything is bad."""
    said = [Said(n, "ann", f"e{n}", f"c{n}", "bad", "good", True) for n in range(1, 500)]
    (ann,) = standings(said)
    assert ann.because() == ()


def test_who_reports_errors_only_is_no_constant_answerer() -> None:
    """A button `not spam`: always the other class than the model's, on examples of the sender's choosing."""
    others = stream(1, 400, 0.5, TEAM, 0.5, False)
    said = [*others, *(Said(9000 + n, "button", f"b{n}", f"b{n}", "1", "0", False) for n in range(300))]
    assert of(standings(said), "button").because() == ()


def test_two_who_contradict_each_other_are_both_heard() -> None:
    """Nobody can tell who of them is right."""
    said = [
        Said(2 * n + turn, name, f"e{n}", f"c{n}", str((n + turn) % 2), None, True)
        for n in range(300) for turn, name in enumerate(("ann", "bob"))
    ]  # fmt: skip
    assert [one.because() for one in standings(said)] == [(), ()]


def test_small_numbers_are_not_judged() -> None:
    said = [Said(n, "new", f"e{n}", f"c{n}", "1", "0" if n % 2 else "1", True) for n in range(1, RUN)]
    assert of(standings(said), "new").because() == ()


def test_who_contradicts_oneself_on_the_same_content_is_set_apart_and_a_change_of_mind_is_none() -> None:
    rng = np.random.default_rng(3)
    coin = [Said(n, "ann", f"e{n}", f"c{n // 2}", str(rng.integers(0, 2)), None, True) for n in range(1, 1500)]
    assert "same content" in of(standings(coin), "ann").because()[0]
    minds = [Said(n, "ann", f"e{n // 2}", f"c{n // 2}", str(n % 2), None, True) for n in range(1, 1500)]
    assert of(standings(minds), "ann").because() == ()


def test_one_token_cannot_outvote_somebody_by_inventing_names() -> None:
    said = []
    for n in range(400):
        truth = str(n % 2)
        for name in ("evil:1", "evil:2", "evil:3"):
            said.append(Said(len(said) + 1, name, f"e{n}", f"c{n}", str(1 - n % 2), truth, True))
        said.append(Said(len(said) + 1, "shop:ann", f"e{n}", f"c{n}", truth, truth, True))
    assert of(standings(said), "shop:ann").because() == ()


def test_invented_names_hide_no_constant_answerer() -> None:
    others = stream(1, 400, 0.5, TEAM, 0.5, False)
    said = [*others, *(Said(9000 + n, f"evil:{n}", f"b{n}", f"b{n}", "1", str(n % 2), True) for n in range(80))]
    assert "one class only" in of(standings(said), "evil").because()[0]


def test_what_was_said_before_a_person_cleared_somebody_counts_no_more() -> None:
    others = stream(1, 400, 0.5, TEAM, 0.5, False)
    said = [*others, *(Said(9000 + n, "bad", f"b{n}", f"b{n}", "1", str(n % 2), True) for n in range(80))]
    assert of(standings(said), "bad").because()
    assert of(standings(said, cleared={"bad": 9079}), "bad").because() == ()
    more = [*said, *(Said(9100 + n, "bad", f"d{n}", f"d{n}", "1", str(n % 2), True) for n in range(80))]
    assert of(standings(more, cleared={"bad": 9079}), "bad").because(), "and it is judged anew"


def test_who_is_set_apart_is_nobodys_witness() -> None:
    said = stream(5, 600, 0.5, {**TEAM, "bad": lambda rng, truth: 1 - truth}, 1.0, False)
    before, after = of(standings(said), "h0"), of(standings(said, apart=("bad",)), "h0")
    assert after.others.same / after.others.n > before.others.same / before.others.n + 0.05


# floods


@pytest.mark.parametrize(
    ("hours", "flood"),
    [
        (Hours(5000, (20, 30, 25)), True), (Hours(FLOOR, (1, 1, 1)), False), (Hours(FLOOR + 1, (1, 1, 1)), True),
        (Hours(300 * FLOOD, (300, 10, 10)), False), (Hours(300 * FLOOD + 1, (300, 10, 10)), True),
        (Hours(5000, (20, 30)), False), (Hours(5000), False),
    ],
)  # fmt: skip
def test_a_flood_is_far_more_than_usual_and_more_than_a_floor(hours: Hours, flood: bool) -> None:
    (ann,) = standings([Said(1, "ann", "e", "c", "1", None, True)], hours={"ann": hours})
    assert bool(ann.because()) == flood
    decision = ann.decision()
    assert (decision is not None) == flood
    if decision is not None:
        assert decision.outcome is Outcome.HOLD
        assert decision.evidence["hour"] == hours.now


def test_a_newcomers_flood_is_told_by_what_others_do() -> None:
    said = [Said(1, "new", "e", "c", "1", None, True), Said(2, "ann", "f", "d", "1", None, True)]
    usual = {"ann": Hours(3, (20, 30, 25)), "new": Hours(5000)}
    assert "flood" in of(standings(said, hours=usual), "new").because()[0]
    assert of(standings(said, hours=usual), "ann").because() == ()
    busy = {**usual, "ann": replace(usual["ann"], earlier=(20, 900, 25))}
    assert of(standings(said, hours=busy), "new").because() == ()


def test_a_labeller_of_disagreements_that_are_all_of_one_class_is_trusted_and_one_who_never_looks_is_not() -> None:
    """The champion has a bias that the challenger mended: nearly all of what they disagree about is of one class."""

    def run(picked: bool) -> list[Said]:
        answers = ["1" if n % 10 == 0 else "0" for n in range(60)]
        return [
            Said(n + 1, "ann", f"e{n}", f"c{n}", "1", said, True, picked and n % 3 > 0)
            for n, said in enumerate(answers * 2)
        ]

    (trusted,) = standings([replace(one, picked=True) for one in run(True)], about=("ann",))
    assert not trusted.because()
    (caught,) = standings(run(True), about=("ann",))  # a third is drawn from all answers alike
    assert caught.because()
