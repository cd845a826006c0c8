"""New classes are proposed from the labels since the last look, at a cost that does not grow with the history."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.test_losses import BEGAN, DAY, answers, store, tell, work_of

from keepfit.clock import ManualClock
from keepfit.data.labellers import Labeller
from keepfit.data.records import Label, Source
from keepfit.data.store import RecordStore
from keepfit.decision import Decision, Outcome
from keepfit.pipelines.known import MOST_CLASSES, SPOKEN, Proposals, last_held_back

__all__ = ["store"]


@pytest.fixture
def proposals(store: RecordStore, clock: ManualClock) -> Proposals:
    return Proposals("m", store, "propose", lambda: ("a", "b"), clock)


def test_a_look_reads_only_the_labels_since_the_last_one(store: RecordStore, proposals: Proposals) -> None:
    taken = []
    for day in range(15):
        said = answers(store, 101, 101 * day, timedelta(minutes=5))
        tell(store, said[:100], "a", BEGAN + DAY)
        proposals.propose()
        tell(store, said[100:], "new", BEGAN + DAY)
        with work_of(store) as steps:
            proposals.propose()
        taken.append(steps[0])
    assert 0 < max(taken[10:]) <= 1.5 * max(taken[1:4]), taken
    stored = store.decisions("m", "class")
    assert [one.decision.evidence["labels"] for one in stored] == [8, 4, 3], "at three, then at each doubling"
    assert proposals.propose() == []


def test_who_is_set_apart_proposes_nothing(store: RecordStore, proposals: Proposals) -> None:
    said = answers(store, 12)
    tell(store, said[:5], "new", BEGAN)
    store.set_labeller(Labeller("m", "t", True, BEGAN, "ann"))
    assert proposals.propose() == []
    for one in said[5:8]:
        store.add_labels("m", [Label(one.example_id, "new", BEGAN, Source.ASKED, "bob", 1.0, one.id)])
    (found,) = proposals.propose()
    assert (found.evidence["labels"], found.evidence["people"]) == (3, 1)


def test_only_so_many_unknown_classes_are_remembered(store: RecordStore, proposals: Proposals) -> None:
    for number, one in enumerate(answers(store, MOST_CLASSES + 20)):
        tell(store, [one], f"class {number}", one.time)
    proposals.propose()
    kept = store.get("m", SPOKEN)["classes"]
    assert len(kept) == MOST_CLASSES
    assert f"class {MOST_CLASSES + 19}" in kept


def test_what_the_newest_training_left_out_is_known_until_it_is_accepted(store: RecordStore) -> None:
    assert last_held_back(store, "m") == {}
    for at, unaccepted in ((1, {"old": 2}), (2, {"odd": 3})):
        store.add_decision("m", "class", Decision(Outcome.HOLD, ("no",), {"unaccepted": unaccepted}), BEGAN + at * DAY)
    store.add_decision("m", "class", Decision(Outcome.HOLD, ("new",), {"class": "x"}), BEGAN + 3 * DAY)
    assert last_held_back(store, "m") == {"odd": 3}
