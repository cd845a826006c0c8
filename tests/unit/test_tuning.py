"""The search for a recipe: what is tried, what is remembered over a kill, what is given up, and what is said of it."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import pytest
from optuna import load_study
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial

from keepfit.app.wiring import traits
from keepfit.errors import BackendError, InvalidInput, SettingsError
from keepfit.training.recipe import Recipe
from keepfit.training.space import Space
from keepfit.training.trials import Tuned
from keepfit.training.tuning import KINDS, Objective, Report, Search, tune

FIELDS = ("learning_rate", "epochs", "batch_size", "weight_decay", "max_tokens", "truncation")
BASE = Recipe()


def silent(metrics: Mapping[str, float], step: int) -> None:
    """Report to nobody."""


def bowl(recipe: Recipe) -> float:
    """A loss that is lowest at a learning rate of 5e-5, and higher for few passes."""
    return 0.2 + math.log(recipe.learning_rate / 5e-5) ** 2 + 0.1 * math.exp(-recipe.epochs)


@dataclass
class Tried:
    """An objective that remembers what it was asked, and can fail or be killed in a turn (counted from 0)."""

    killed_in: int | None = None
    failed_in: tuple[int, ...] = ()
    recipes: list[Recipe] = field(default_factory=list)

    def __call__(self, recipe: Recipe, report: Report) -> float:
        turn = len(self.recipes)
        if turn == self.killed_in:
            raise KeyboardInterrupt
        self.recipes.append(recipe)
        if turn in self.failed_in:
            raise InvalidInput("this recipe cannot be learnt")
        return bowl(recipe)


Place = tuple[str, str]
"""The database, and the name of the study."""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """In memory, for all searches of these tests: making its tables takes longer than a search."""
    file = f"file:/{uuid4().hex}?vfs=memdb"
    with closing(sqlite3.connect(file, uri=True)):
        yield f"sqlite:///{file}&uri=true"


@pytest.fixture
def place(database: str) -> Place:
    """A study of this test's own."""
    return database, uuid4().hex


def search(objective: Objective, place: Place, kind: str = "random", trials: int = 6) -> Tuned:
    space = Space.around(BASE, kind, FIELDS, passes=4.0)
    return tune(objective, space, Search(kind, trials), *place, silent)


# what is tried


@pytest.mark.parametrize("kind", KINDS)
def test_the_recipe_as_set_is_tried_first_and_the_best_is_given(place: Place, kind: str) -> None:
    tried = Tried()
    tuned = search(tried, place, kind)
    assert tried.recipes[0] == BASE
    assert [t.recipe for t in tuned.trials] == tried.recipes
    assert len(set(tried.recipes)) == 6
    assert bowl(tuned.best) == min(map(bowl, tried.recipes))
    assert tuned.best.learning_rate < BASE.learning_rate
    assert f"{bowl(tuned.best):.4f}" in tuned.because[0]
    assert f"{bowl(BASE):.4f}" in tuned.because[0]
    assert f"learning_rate {tuned.best.learning_rate}" in tuned.because[0]
    assert "optimistic" in tuned.because[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_tries_the_same_recipes_and_another_seed_others(database: str, kind: str) -> None:
    found = []
    space = Space.around(BASE, kind, FIELDS, 4.0)
    for seed in (-1, -1, 2):
        tried = Tried()
        tune(tried, space, Search(kind, 4, seed=seed), database, uuid4().hex, silent)
        found.append(tried.recipes)
    assert found[0] == found[1] != found[2]


def test_a_grid_is_tried_whole_and_each_point_once(place: Place) -> None:
    tried = Tried()
    tuned = search(tried, place, "grid", 50)
    assert len(tried.recipes) == len(set(tried.recipes)) == 18
    rates, passes, sizes = (
        {getattr(r, name) for r in tried.recipes} for name in ("learning_rate", "epochs", "batch_size")
    )
    assert rates == {5e-5, 1e-4, 2e-4}
    assert passes == {0.0, 2.0, 8.0}
    assert sizes == {16, 32}
    assert "the grid has 18 points" in tuned.because


def test_on_a_tie_the_recipe_as_set_stays(place: Place) -> None:
    tuned = tune(lambda recipe, report: 0.5, Space.around(BASE, "random", FIELDS), Search("random", 3), *place, silent)
    assert tuned.best == BASE
    assert "the recipe as set is the best of 3 trials" in tuned.because[0]


def test_tpe_learns_from_its_trials(place: Place) -> None:
    tuned = search(Tried(), place, "tpe", 16)
    first, second = (
        [abs(math.log(t.recipe.learning_rate / 5e-5)) for t in half] for half in (tuned.trials[:8], tuned.trials[8:])
    )
    assert sum(second) < sum(first)
    assert max(tuned.importance, key=lambda name: tuned.importance[name]) == "learning_rate"


# the space


def test_no_recipe_is_learnt_twice_while_there_are_others(place: Place) -> None:
    """Learning rates have two digits, so some thirty draws would come to one of them twice."""
    tried = Tried()
    tune(tried, Space.around(BASE, "random", ("learning_rate",)), Search("random", 30), *place, silent)
    assert len({recipe.hash for recipe in tried.recipes}) == len(tried.recipes) == 30


def test_the_recipe_as_set_is_part_of_its_space_however_unusual_it_is() -> None:
    odd = Recipe(learning_rate=1e-2, batch_size=7, max_tokens=300, short_tokens=200, weight_decay=0.5, epochs=0.5)
    for kind in KINDS:
        space = Space.around(odd, kind, (*FIELDS, "warmup", "label_smoothing"))
        assert space.recipe(space.start) == odd
        create_trial(params=space.start, distributions=dict(space.ranges), value=0.0)  # refuses what is out of range


@pytest.mark.parametrize(("passes", "low", "high"), [(1.0, 1.0, 2.0), (4.0, 2.0, 8.0), (8.0, 4.0, 8.0)])
def test_passes_vary_around_those_that_the_size_asks_for(passes: float, low: float, high: float) -> None:
    space = Space.around(BASE, "tpe", FIELDS, passes)
    assert space.ranges["epochs"] == FloatDistribution(low, high, log=True)
    assert space.start["epochs"] == passes
    assert space.recipe(space.start) == BASE
    assert space.recipe({**space.start, "epochs": low + 0.5}).epochs == low + 0.5


def test_frozen_layers_adapters_and_the_cut_are_searched_over_as_the_text_task_is_wired() -> None:
    ranges = Space.around(BASE.with_(frozen_layers=1), "tpe", traits("text").tunable).ranges
    assert {"frozen_layers", "lora_rank", "max_tokens", "truncation"} <= set(ranges)
    assert ranges["frozen_layers"] == CategoricalDistribution((0, 1, 2, 4))


def test_no_cut_is_tried_that_the_recipe_does_not_allow() -> None:
    ranges = Space.around(BASE.with_(max_tokens=150, tokens_per_batch=200, short_tokens=130), "tpe", FIELDS).ranges
    assert ranges["max_tokens"] == CategoricalDistribution((150,))


def test_where_nobody_knows_what_no_passes_mean_they_do_not_vary() -> None:
    assert "epochs" not in Space.around(BASE, "tpe", FIELDS).ranges
    assert "epochs" in Space.around(BASE.with_(epochs=2.0), "tpe", FIELDS).ranges


def test_a_space_is_known_by_all_that_it_depends_on() -> None:
    made = [
        Space.around(BASE, "tpe", FIELDS), Space.around(BASE, "tpe", FIELDS, 4.0), Space.around(BASE, "grid", FIELDS),
        Space.around(BASE.with_(patience=9), "tpe", FIELDS), Space.around(BASE, "tpe", FIELDS[:3]),
    ]  # fmt: skip
    assert len({space.hash for space in made}) == len(made)
    assert Space.around(BASE, "tpe", FIELDS).hash == made[0].hash


def test_what_makes_no_sense_is_refused() -> None:
    wrongs: tuple[tuple[str, int, float], ...] = (
        ("annealing", 5, 0.0), ("tpe", 0, 0.0), ("tpe", -3, 0.0), ("tpe", 5, -1.0), ("tpe", 5, math.nan),
    )  # fmt: skip
    for kind, trials, seconds in wrongs:
        with pytest.raises(SettingsError):
            Search(kind, trials, seconds)
    with pytest.raises(SettingsError, match="nothing to tune"):
        Space.around(BASE, "tpe", ())


# going on


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("killed_in", [0, 2])
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(place: Place, kind: str, killed_in: int) -> None:
    whole, first, second = Tried(), Tried(killed_in=killed_in), Tried()
    expected = search(whole, (place[0], f"whole {place[1]}"), kind, 5)
    with pytest.raises(KeyboardInterrupt):
        search(first, place, kind, 5)
    tuned = search(second, place, kind, 5)
    assert first.recipes + second.recipes == whole.recipes
    states = [t.state.name for t in load_study(study_name=place[1], storage=place[0]).trials]
    assert sorted(states) == ["COMPLETE"] * 5 + ["FAIL"]
    assert tuned.best == expected.best
    assert [t.number for t in tuned.trials] == [1, 2, 3, 4, 5]
    assert any("had been done by an earlier run" in said for said in tuned.because) == bool(killed_in)


def test_a_search_that_has_ended_tries_nothing_again_but_more_when_asked(place: Place) -> None:
    search(Tried(), place)
    again, more, fewer = Tried(), Tried(), Tried()
    assert len(search(again, place).trials) == 6
    assert len(search(more, place, trials=8).trials) == 8
    assert len(search(fewer, place, trials=2).trials) == 2
    assert (len(again.recipes), len(more.recipes), len(fewer.recipes)) == (0, 2, 0)
    other = Tried()
    search(other, (place[0], "another"), trials=1)
    assert other.recipes == [BASE]


def test_no_trial_begins_when_the_time_is_used_up(place: Place) -> None:
    tuned = tune(lambda r, _: bowl(r), Space.around(BASE, "tpe", FIELDS), Search("tpe", 9, 1e-9), *place, silent)
    assert len(tuned.trials) == 1
    assert "the time was used up after 1 of 9 trials" in tuned.because


# giving up


def test_a_recipe_that_fails_is_on_record_and_the_search_goes_on(place: Place) -> None:
    tuned = search(Tried(failed_in=(2,)), place)
    assert [t.state for t in tuned.trials] == ["finished", "finished", "failed", "finished", "finished", "finished"]
    assert tuned.trials[2].error == "this recipe cannot be learnt"
    assert tuned.trials[2].loss is None
    assert "1 trial failed" in tuned.because
    assert len(search(Tried(), place).trials) == 6


def test_when_the_recipe_as_set_fails_that_is_said_and_it_is_tried_again(place: Place) -> None:
    with pytest.raises(InvalidInput, match="cannot be learnt"):
        search(Tried(failed_in=(0,)), place)
    again = Tried()
    search(again, place, trials=2)
    assert again.recipes[0] == BASE


def test_a_loss_that_is_no_number_is_a_failure(place: Place) -> None:
    losses = iter((0.5, math.nan, math.inf))
    tuned = tune(lambda *_: next(losses), Space.around(BASE, "random", FIELDS), Search("random", 3), *place, silent)
    assert [t.state for t in tuned.trials] == ["finished", "failed", "failed"]
    with pytest.raises(InvalidInput, match="not a number"):
        tune(lambda *_: math.nan, Space.around(BASE, "grid", FIELDS), Search("grid"), place[0], "nan", silent)


def test_a_trial_behind_the_median_of_the_others_is_stopped_early(place: Place) -> None:
    last: list[float] = []

    def learn(recipe: Recipe, report: Report) -> float:
        level = 2.0 if len(last) == 5 else 0.5 - 0.01 * len(last)
        last.append(0.0)
        for step in range(1, 11):
            report({"loss": 1.0, "progress": step / 10 - 0.05}, 2 * step - 1)
            report({"eval_loss": level + 1 / step, "progress": step / 10}, 2 * step)
            last[-1] = step / 10
        return level

    tuned = tune(learn, Space.around(BASE, "random", FIELDS), Search("random", 7), *place, silent)
    assert [t.state for t in tuned.trials] == ["finished"] * 5 + ["stopped early", "finished"]
    assert last[5] == 0.2
    assert tuned.trials[5].loss is None
    assert "1 trial ended early, behind the median of the others" in tuned.because


def test_losses_with_other_label_smoothing_are_not_compared(place: Place) -> None:
    """They are higher by their nature, however good the recipe is."""

    def learn(recipe: Recipe, report: Report) -> float:
        for step in range(1, 11):
            report({"eval_loss": 0.5 + recipe.label_smoothing, "progress": step / 10}, step)
        return 0.5

    tuned = tune(learn, Space.around(BASE, "random", ("label_smoothing",)), Search("random", 9), *place, silent)
    assert {t.recipe.label_smoothing for t in tuned.trials} == {0.0, 0.1}
    assert {t.state for t in tuned.trials} == {"finished"}


def test_trials_that_look_at_other_places_or_stop_by_themselves_are_compared_all_the_same(place: Place) -> None:
    """Few looks, and early stopping by patience, leave tenths without a look of their own."""
    reached = []

    def learn(recipe: Recipe, report: Report) -> float:
        looks = [(0.33, 0.4), (0.66, 0.3)] if len(reached) < 5 else [(0.25, 0.9), (0.5, 0.8), (1.0, 0.7)]
        reached.append(0.0)
        for progress, loss in looks:
            report({"eval_loss": loss, "progress": progress}, round(100 * progress))
            reached[-1] = progress
        return looks[-1][1]

    tuned = tune(learn, Space.around(BASE, "random", FIELDS), Search("random", 6), *place, silent)
    assert tuned.trials[5].state == "stopped early"
    assert reached[5] == 0.25


def test_of_the_trials_that_come_to_a_rung_the_better_half_goes_on(place: Place) -> None:
    levels, reached = [0.5, 0.6, 0.4, 0.9, 0.3, 0.55], []

    def learn(recipe: Recipe, report: Report) -> float:
        level = levels[len(reached)]
        reached.append(0.0)
        for step in range(1, 11):
            reached[-1] = step / 10
            report({"eval_loss": level, "progress": step / 10}, step)
        return level

    tuned = tune(learn, Space.around(BASE, "random", FIELDS), Search("random", 6, pruner="halving"), *place, silent)
    # the first three find too few to be compared with; the fourth and the last are beyond the median of all till then
    assert [t.state == "finished" for t in tuned.trials] == [True, True, True, False, True, False]
    assert reached == [1.0, 1.0, 1.0, 0.3, 1.0, 0.3]
    assert "2 trials ended early, behind the better half of the others" in tuned.because


# money


def test_no_trial_begins_when_the_money_is_used_up(place: Place) -> None:
    def dear(recipe: Recipe, report: Report) -> float:
        began = time.process_time()
        while time.process_time() - began < 0.02:
            pass
        return bowl(recipe)

    price = Search("random", 9, money=0.05, per_cpu_hour=3600.0)  # 0.02 s cost 0.02
    tuned = tune(dear, Space.around(BASE, "random", FIELDS), price, *place, silent)
    assert 1 <= len(tuned.trials) <= 3
    assert any("the money was used up (" in said and "of 0.05" in said for said in tuned.because)


def test_a_limit_in_money_needs_a_price() -> None:
    with pytest.raises(SettingsError, match=r"set per_cpu_hour below \[costs\]"):
        Search(money=5.0)
    assert Search(money=5.0, per_cpu_hour=0.04).money == 5.0
    with pytest.raises(SettingsError, match="known are median, halving"):
        Search(pruner="hyperband")
    with pytest.raises(SettingsError, match="may cost zero"):
        Search(money=-1.0, per_cpu_hour=1.0)


# what a backbone refuses


def refuse_much(recipe: Recipe) -> str | None:
    """A backbone of three layers whose adapters need one that learns."""
    if recipe.frozen_layers > 3:
        return "it has 3 layers"
    return "no layer learns" if recipe.lora_rank and recipe.frozen_layers == 3 else None


def test_what_the_backbone_refuses_is_not_tried_and_is_said() -> None:
    fields = ("learning_rate", "frozen_layers", "lora_rank")
    space = Space.around(BASE, "tpe", fields, refuses=refuse_much)
    assert space.ranges["frozen_layers"] == CategoricalDistribution((0, 2))
    assert space.ranges["lora_rank"] == CategoricalDistribution((0, 8))
    assert space.left_out == ("frozen_layers 4 is not tried: it has 3 layers",)
    deep = Space.around(BASE.with_(frozen_layers=3), "tpe", fields, refuses=refuse_much)
    assert deep.ranges["frozen_layers"] == CategoricalDistribution((0, 2, 3))
    assert deep.ranges["lora_rank"] == CategoricalDistribution((0,)), "not beside three frozen layers, which are set"
    plain = Space.around(BASE, "tpe", fields, refuses=lambda recipe: None)
    assert plain.hash == Space.around(BASE, "tpe", fields).hash, "an earlier search goes on"


# what is told


def test_what_a_trial_reports_comes_with_its_number_and_the_best_so_far(place: Place) -> None:
    heard: list[Mapping[str, float]] = []

    def learn(recipe: Recipe, report: Report) -> float:
        report({"loss": 1.0, "progress": 0.5}, 3)
        return bowl(recipe)

    space = Space.around(BASE, "random", FIELDS)
    tune(learn, space, Search("random", 3), *place, lambda metrics, step: heard.append(metrics))
    assert [m["trial"] for m in heard] == [1, 1, 2, 2, 3, 3]
    assert {m["trials"] for m in heard} == {3}
    assert [m.get("loss") for m in heard] == [None, 1.0] * 3
    assert "best" not in heard[1]
    assert heard[2]["best"] == heard[3]["best"] == bowl(BASE)
    assert all(later["best"] <= sooner["best"] for sooner, later in pairwise(heard[2:]))


def test_what_was_found_is_plain_json(place: Place) -> None:
    found = search(Tried(failed_in=(1,)), place).to_json()
    assert json.loads(json.dumps(found)) == found
    assert found["trials"][0]["recipe"]["learning_rate"] == BASE.learning_rate
    assert Recipe.from_json(found["best"]) == BASE.with_(**found["changes"])


def test_a_database_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="start again"):
        search(Tried(), (f"sqlite:///{tmp_path / 'no' / 'such' / 'tuning.db'}", "study"))
