"""What frozen layers gave is kept by text and cut, within its bytes, and goes when its text goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from keepfit.tasks.text.hidden import MARK, HiddenStates, keep_only

IDS = [2, 7, 8, 3]


def states(value: float = 0.5, tokens: int = 4, width: int = 3) -> np.ndarray:
    return np.full((tokens, width), value, np.float16)


def store(place: Path, stack: str = "stack", most: int = 10_000) -> HiddenStates:
    return HiddenStates(place, stack, 3, most)


def kept(place: Path, *contents: object, stack: str = "stack") -> list[str]:
    """Names under which states of these contents lie."""
    known = store(place, stack)
    names = known.names(contents, [IDS] * len(contents))
    for name in names:
        known.put(name, states())
    return names


def test_what_was_kept_is_found_again_by_another_training(tmp_path: Path) -> None:
    (name,) = kept(tmp_path, "a text")
    found = store(tmp_path).get(name, 4)
    assert found is not None
    assert found.dtype == np.float16
    assert (found == states()).all()


def test_another_text_cut_or_stack_is_another_name(tmp_path: Path) -> None:
    known = store(tmp_path)
    cases = [("a text", IDS), ("another", IDS), (("a", "text"), IDS), ("a text", [*IDS, 3])]
    names = {known.names([content], [ids])[0] for content, ids in cases}
    names |= set(store(tmp_path, "other").names(["a text"], [IDS]))
    assert len(names) == len(cases) + 1


def test_a_torn_file_is_as_good_as_none(tmp_path: Path) -> None:
    (name,) = kept(tmp_path, "a text")
    path = tmp_path / "stack" / name[:2] / name
    path.write_bytes(path.read_bytes()[:-2])
    assert store(tmp_path).get(name, 4) is None


def test_bytes_are_bounded_and_what_finds_no_room_is_counted(tmp_path: Path) -> None:
    known = store(tmp_path, most=2 * states().nbytes)
    for name in known.names(["a", "b", "c"], [IDS] * 3):
        known.put(name, states())
    assert (known.kept, known.refused) == (2, 1)
    again = store(tmp_path, most=2 * states().nbytes)
    again.put("ff-more", states())
    assert again.refused == 1


def test_zero_bytes_keep_nothing_and_make_no_folder(tmp_path: Path) -> None:
    known = store(tmp_path / "hidden", most=0)
    known.put("ab-1", states())
    assert (known.get("ab-1", 4), known.refused) == (None, 1)
    assert not (tmp_path / "hidden").exists()


def test_for_new_layers_those_unused_for_longest_make_room_and_no_more_than_needed(tmp_path: Path) -> None:
    for age, stack in enumerate(("newest", "middle", "oldest")):
        kept(tmp_path, "a", "b", stack=stack)
        os.utime(tmp_path / stack / MARK, (10_000 - age, 10_000 - age))
    size = states().nbytes
    known = store(tmp_path, most=7 * size)
    known.expect(3 * size)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["middle", "newest", "stack"]


def test_a_disk_that_takes_nothing_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "hidden").write_text("a file where the folder should be", "utf-8")
    known = store(tmp_path / "hidden")
    known.put("ab-1", states())
    assert (known.kept, known.refused) == (0, 1)


def test_only_texts_that_are_still_there_stay(tmp_path: Path) -> None:
    gone = kept(tmp_path, "forget me", ("two", "columns")) + kept(tmp_path, "forget me", stack="other")
    here = kept(tmp_path, "stay", ("two", "others"))
    contents = ["stay", ("two", "others"), "never learnt"]
    assert keep_only(tmp_path, contents, change=False) == (3, 3 * states().nbytes)
    assert store(tmp_path).has(gone[0])
    assert keep_only(tmp_path, contents) == (3, 3 * states().nbytes)
    assert all(store(tmp_path).has(name) for name in here)
    assert not any((tmp_path / stack / name[:2] / name).exists() for name in gone for stack in ("stack", "other"))


def test_where_nothing_was_kept_no_text_is_asked_for(tmp_path: Path) -> None:
    def contents():
        pytest.fail("the data was read for nothing")
        yield

    assert keep_only(tmp_path / "hidden", contents()) == (0, 0)


def test_a_stack_that_was_taken_away_meanwhile_is_begun_anew(tmp_path: Path) -> None:
    hidden = HiddenStates(tmp_path, "stack", 4, 10**6)
    shutil.rmtree(hidden.folder)
    hidden.put("ab-cd", np.zeros((3, 4), np.float16))
    assert hidden.get("ab-cd", 3) is not None
