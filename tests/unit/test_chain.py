"""The chain as values: what is sealed, and what a walk finds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keepfit.data.chain import BEGIN, AuditEntry, Head, broken_links, moved
from keepfit.errors import InvalidInput

START = datetime(2025, 1, 1, tzinfo=UTC)


def chain(count: int) -> list[AuditEntry]:
    made: list[AuditEntry] = []
    for seq in range(1, count + 1):
        previous = made[-1].hash if made else ""
        action = "deploy" if made else BEGIN
        at, details = START + timedelta(seconds=seq), {"b": 0.1, "a": "ä"}
        made.append(AuditEntry(seq, "m", at, "ann", action, f"deployment {seq}", details, previous).sealed())
    return made


def kinds(entries: list[AuditEntry]) -> list[tuple[str, int | None]]:
    return [(flaw.kind, flaw.seq) for flaw, _ in broken_links(entries)]


def test_the_form_of_the_hash_never_changes() -> None:
    """Chains that were written by earlier releases must still fit."""
    entry = AuditEntry(2, "m", START, "ann", "deploy", "deployment 1", {"b": [1, 0.1, None], "a": "ä"}, "00")
    assert entry.seal() == "0621027db52f3367c96b3656984444d381c91e62d8658d8e3abe0af0318992f9"


def test_a_whole_chain_has_no_flaw() -> None:
    assert kinds(chain(5)) == []
    assert kinds([]) == []


def test_the_order_of_names_in_the_details_does_not_matter() -> None:
    one = chain(1)[0]
    assert replace(one, details={"a": "ä", "b": 0.1}).seal() == one.hash


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 9}, {"model": "n"}, {"at": START}, {"actor": "eve"}, {"action": "look"}, {"subject": "x"},
        {"details": {"b": 0.1}}, {"previous": "x"},
    ],
)  # fmt: skip
def test_the_hash_covers_every_field(change: dict[str, object]) -> None:
    one = chain(2)[1]
    assert replace(one, **change).seal() != one.hash  # type: ignore[arg-type]


def test_an_edit_a_gap_and_a_swap_are_told_apart() -> None:
    whole = chain(6)
    assert kinds([*whole[:2], replace(whole[2], actor="eve"), *whole[3:]]) == [("edited", 3)]
    assert kinds([*whole[:2], *whole[4:]]) == [("removed", 3)]
    assert kinds(whole[1:]) == [("removed", 1)]
    assert kinds([*whole[:2], replace(whole[2], actor="eve").sealed(), *whole[3:]]) == [("relinked", 4)]
    swapped = [replace(whole[3], seq=3), replace(whole[2], seq=4)]
    assert kinds([*whole[:2], *swapped, *whole[4:]])[:2] == [("edited", 3), ("edited", 4)]
    assert moved(swapped) == {3: 4, 4: 3}
    assert moved([replace(whole[2], actor="eve"), whole[3]]) == {}


def test_a_chain_begins_with_its_beginning() -> None:
    forged = replace(chain(2)[1], seq=1, previous="").sealed()
    assert kinds([forged]) == [("removed", 1)]


def test_a_head_is_read_as_it_was_printed_and_nothing_else_is() -> None:
    head = chain(3)[-1].head
    assert Head.read(f" {head}\n") == head
    for wrong in ("", "3", "3:abc", f"0:{'a' * 64}", f"-1:{'a' * 64}", f"3:{'A' * 64}", f"3:{'a' * 64} 4"):
        with pytest.raises(InvalidInput, match="NUMBER:HASH"):
            Head.read(wrong)
