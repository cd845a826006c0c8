"""The class map: what a label of then means now, which changes make no sense, and how one is undone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keepfit.data.classes import ACCEPT, MERGE, RENAME, RETIRE, SPLIT, ClassChange, ClassMap
from keepfit.errors import InvalidInput

NOW = datetime(2026, 5, 1, tzinfo=UTC)
BEFORE, LATER = NOW - timedelta(days=1), NOW + timedelta(days=30)
EXISTING = frozenset({"billing", "other", "shipping"})


def change(
    action: str, *names: str, into: str | None = None, parts: tuple[str, ...] = (), day: float = 0
) -> ClassChange:
    at = NOW + timedelta(days=day)
    return ClassChange(at, "ann", action, names, into, parts, max(at, NOW))


def mapped(*changes: ClassChange) -> ClassMap:
    """Each checked against what there is by then."""
    found = ClassMap()
    for one in changes:
        found = found.checked(one, found.known_beside(sorted(EXISTING)))
    return found


def test_old_labels_of_a_class_that_was_split_are_of_none_of_its_parts() -> None:
    found = mapped(change(SPLIT, "other", parts=("praise", "spam")))
    assert found.read("other", BEFORE) is None
    assert found.read("praise", LATER) == "praise"
    assert found.known_beside(sorted(EXISTING)) == {"billing", "praise", "shipping", "spam"}


def test_a_split_that_undoes_a_merge_gives_labels_back_to_their_classes() -> None:
    found = mapped(
        change(MERGE, "billing", "shipping", into="orders"),
        change(SPLIT, "orders", parts=("billing", "shipping"), day=10),
    )
    assert found.read("billing", BEFORE) == "billing"
    assert found.read("orders", NOW + timedelta(days=5)) is None
    assert found.read("shipping", LATER) == "shipping"
    assert found.given_up() == {"orders"}


def test_as_of_a_moment_later_changes_do_not_count() -> None:
    found = mapped(change(RENAME, "other", into="rest"), change(RETIRE, "billing", day=10))
    then = found.as_of(NOW + timedelta(days=5))
    assert then.read("billing", BEFORE) == "billing"
    assert then.read("other", BEFORE) == "rest"
    assert then.told(NOW) == {"as_of": NOW.isoformat(), "changes": 1, "newest": NOW.isoformat()}
    assert found.told()["changes"] == 2
    assert ClassMap().told() == {"as_of": None, "changes": 0, "newest": None}


def test_labels_of_retired_and_split_classes_are_refused_from_then_on() -> None:
    found = mapped(change(RETIRE, "billing"), change(SPLIT, "other", parts=("praise", "spam"), day=1))
    assert "'billing' is retired since 2026-05-01 00:00 UTC (ann)" in (found.refusal("billing", LATER) or "")
    assert "split into 'praise', 'spam'" in (found.refusal("other", LATER) or "")
    assert found.refusal("billing", BEFORE) is None
    assert found.refusal("shipping", LATER) is None


def test_the_classes_to_choose_from_are_those_of_today() -> None:
    found = mapped(
        change(RENAME, "shipping", into="parcels"), change(RETIRE, "billing"),
        change(SPLIT, "other", parts=("praise", "spam"), day=1),
    )  # fmt: skip
    assert found.offered(("billing", "other", "shipping"), BEFORE) == ("praise", "spam", "parcels")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (change(SPLIT, "nothing", parts=("a", "b")), "there is no class 'nothing'"),
        (change(SPLIT, "other", parts=("a",)), "into two or more"),
        (change(SPLIT, "other", parts=("a", "a")), "into two or more"),
        (change(SPLIT, "other", parts=("other", "a")), "would become itself"),
        (change(SPLIT, "billing", parts=(" ", "a")), "needs a name"),
        (change(RENAME, "other", into="billing"), "is a class already"),
        (change(RENAME, "nothing", into="a"), "there is no class"),
        (change(MERGE, "other", into="a"), "takes two classes"),
        (change(MERGE, "billing", "shipping", into="other"), "two classes must remain"),
        (change(ACCEPT, "other"), "is a class already"),
        (ClassChange(LATER, "ann", RETIRE, ("other",), noted=NOW), "has not come yet"),
    ],
)
def test_changes_that_make_no_sense_are_refused(wrong: ClassChange, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        ClassMap().checked(wrong, EXISTING)


def test_a_name_that_was_given_up_is_not_taken_for_another_class() -> None:
    found = mapped(change(RENAME, "other", into="rest"))
    with pytest.raises(InvalidInput, match="was given up"):
        found.checked(change(SPLIT, "billing", parts=("other", "new"), day=1), found.known_beside(sorted(EXISTING)))


def test_a_change_must_not_hold_before_one_that_it_builds_on() -> None:
    found = mapped(change(RENAME, "other", into="rest"))
    earlier = change(RETIRE, "rest", day=-3)
    with pytest.raises(InvalidInput, match="an earlier change of these classes"):
        found.checked(earlier, found.known_beside(sorted(EXISTING)))
    elsewhere = change(RENAME, "billing", into="bills", day=-3)
    assert found.checked(elsewhere, found.known_beside(sorted(EXISTING))).changes[0] is elsewhere


def test_the_change_that_was_noted_last_is_undone_whenever_it_holds() -> None:
    first = change(RENAME, "other", into="rest")
    second = ClassChange(NOW - timedelta(days=3), "ann", RENAME, ("billing",), "bills", (), NOW + timedelta(days=1))
    last, left = mapped(first, second).undone(sorted(EXISTING))
    assert last is second
    assert left.changes == (first,)
    with pytest.raises(InvalidInput, match="nothing to undo"):
        ClassMap().undone(())


@pytest.mark.parametrize(
    ("made", "learnt", "words"),
    [
        (change(RENAME, "other", into="rest"), ("billing", "rest", "shipping"), "rename it back instead"),
        (change(MERGE, "billing", "other", into="rest"), ("rest", "shipping"), "split it again"),
        (change(ACCEPT, "new"), ("billing", "new", "other", "shipping"), "retire the class instead"),
    ],
)
def test_what_the_answering_version_has_learnt_is_not_undone(
    made: ClassChange, learnt: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        mapped(made).undone(learnt)


def test_changes_are_kept_as_they_were_and_those_of_earlier_releases_are_read() -> None:
    made = change(SPLIT, "other", parts=("praise", "spam"))
    assert ClassChange.from_json(made.to_json()) == made
    old = {"at": NOW.isoformat(), "actor": "ann", "action": "rename", "names": ["a"], "into": "b"}
    assert ClassChange.from_json(old).told == NOW
